"""Whether decoded text is text of a language: bytes read in the wrong encoding have none of its common characters.

In Chinese the commonest 500 characters or so are more than half of any text, and 3 % of what another encoding makes of
its bytes. Each measure is a share from 0 to 1 of the characters beyond ASCII.
"""

import re
from collections.abc import Callable

SIMPLIFIED = (
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家"
    "种事成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日军者意无力它与长把机十"
    "民第公此已工使情明性知全三又关点正业外将两高间由问很最重并物手应战向头文体政美相见被利什二等产或新己制身果加西斯"
    "月话合回特代内信表化老给世位次度门任常先海通教儿原东声提立及比员解水名真论处走义各入几口认条平系气题活尔更别打女"
    "变四神总何电数安少报才结反受目太量再感建务做接必场件计管期市直德资命山金指克许统区保至队形社便空决治展马科司五基"
    "眼书非则听白却界达光放强即像难且权思王象完设式色路记南品住告类求据程北边该交规万取望觉共确传师观清今切院让识候带"
    "酒店房服务早餐差错吃价格宜环境干净态满意不推荐味质买影喜欢客订送货钱太吧呢吗啊哦呀嗯您谢请级旧吵"
)
TRADITIONAL = (
    "這個們來為國說時會對發後過種經學現當沒動還進樣開從實軍與長機無點業將兩間問戰產體見爾東聲員論處義幾條氣題變總電數"
    "報結給兒門務場計資許統區隊決馬書則聽達難權設記類據邊該規萬覺確傳師觀讓識帶錯價環淨態滿薦質買歡訂貨錢嗎謝請級舊"
    "於裡裏麼關頭應話認別廳廚衛飯點選換號貴賣貨髒"
)
COMMON = frozenset(SIMPLIFIED + TRADITIONAL)
CHINESE_MARKS = frozenset("，。！？、；：（）《》【】～")
SHARED_MARKS = frozenset("“”‘’…—–·\u3000\u00a0￥￡")  # in texts of several languages and encodings: they tell nothing
HANGUL = frozenset(
    "이다는가을에의고하지은도를한로서사자리기나라어정시인아그대으전보일해주부만없있습니요좋았너무음안게점"
)
ACCENTED = frozenset("àâäãåáæçéèêëíîïìñóôöòõøœúùûüÿßÀÂÄÃÅÁÆÇÉÈÊËÍÎÏÌÑÓÔÖÒÕØŒÚÙÛÜŸ")
LANGUAGES = {
    "English": "the a i and was for with you this that not but have are they very had from all were our be it to of in",
    "French": "le la les des est et une un que dans pour pas qui sur avec très nous vous ce il je ne plus mais",
    "German": "der die das und ist nicht ein eine ich wir war mit auf für den von dem sehr auch es sie zu im",
    "Spanish": "el la los las que una un por con para muy pero es en del se no su lo al como más hay",
    "Italian": "il la che di un una per con non è molto sono del della gli le ma più come questo anche nel si",
    "Portuguese": "o que não uma um para com muito mas os as do da em por mais foi como é no na se ao",
    "Nordic and Dutch": "och det att som är på för inte med den er ikke og til af van het een niet voor zijn ja on ei",
}
WORDS = {name: frozenset(words.split()) for name, words in LANGUAGES.items()}
COMMON_WORDS = 0.12  # of a text's words, at least: those of one language
# A letter beside letters, a quote or dash where one may stand, a currency beside its amount.
BETWEEN = re.compile(
    r"(?<=[A-Za-z])[’‘´](?=[A-Za-z])|[“‘«](?=[\w“‘«\s.…£€$¡¿])|(?<=[\w.,!?…%)’”»\s:;*-])[”’»…]|[–—•·°®™©\u00a0½¼¾²³×§¡¿ªº]"
    r"|[£€¥¢](?=\s?\d)|(?<=\d)\s?[£€¥¢]|(?<=[\s(])[£€¥¢](?=[\s/)])"
)


def chinese(text: str) -> float:
    """The share of common characters; kana and other scripts count as strange."""
    beyond = _beyond_ascii(text)
    return sum(one in COMMON or one in CHINESE_MARKS for one in beyond) / max(1, len(beyond))


def japanese(text: str) -> float:
    """The share of hiragana and katakana (not of half width, which is what other encodings' bytes become)."""
    beyond = _beyond_ascii(text)
    return sum("\u3041" <= one <= "\u30fc" for one in beyond) / max(1, len(beyond))


def korean(text: str) -> float:
    """The share of the commonest syllables."""
    beyond = _beyond_ascii(text)
    return sum(one in HANGUL for one in beyond) / max(1, len(beyond))


def western(text: str) -> float:
    """The share of letters and marks that stand where they may, in a text with the common words of one language."""
    beyond = sum(one >= "\x80" for one in text)
    words = re.findall(r"[^\W\d_]+", text.lower())
    if not words or max(sum(word in known for word in words) for known in WORDS.values()) < COMMON_WORDS * len(words):
        return 0.0
    letters = sum(
        one in ACCENTED and (text[at - 1 : at].isalpha() or text[at + 1 : at + 2].isalpha())
        for at, one in enumerate(text)
        if one >= "\x80"
    )
    runs = sum(len(run) for run in re.findall(r"[^\x00-\x7f]{4,}", text))
    return max(0, letters + len(BETWEEN.findall(text)) - runs) / max(1, beyond)


Measure = Callable[[str], float]


def _beyond_ascii(text: str) -> list[str]:
    return [one for one in text if one >= "\x80" and one not in SHARED_MARKS]
