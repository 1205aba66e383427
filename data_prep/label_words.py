"""Label words and synonyms: the form in which they and an answer are compared, and the label that each word means."""

import re
import unicodedata
from collections.abc import Mapping, Sequence

from data_prep.settings import SettingError

# The characters of common label words, of the lists below and of the prompt; not a general converter.
TRADITIONAL = str.maketrans(
    "負評價論條還這該對錯極積滿讚贊歡無沒並屬於談稱認為爲應當體總結綜來說個種類別選項標簽籤傾緒態與現顯確實"
    "從語間題問樣謂給見難斷後過會僅強較優壞議薦財經樂娛軍學遊戲車產嗎麼則將視覺點達傳單純臨雖絕決遠帶話級證據",
    "负评价论条还这该对错极积满赞赞欢无没并属于谈称认为为应当体总结综来说个种类别选项标签签倾绪态与现显确实"
    "从语间题问样谓给见难断后过会仅强较优坏议荐财经乐娱军学游戏车产吗么则将视觉点达传单纯临虽绝决远带话级证据",
)

_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe00-\ufe0f\ufeff]")
_ARTICLE = re.compile(r"(?<![A-Za-z])a(?=\s+[A-Za-z])")  # before case-folding: "a good one" is not label A
_TURN_TOKEN = re.compile(r"<\|[^<>|\s]{1,40}\|>(?:\s*(?:system|user|assistant)(?![a-z]))?|</s>|\[/?inst\]")
_THINK_TAG = re.compile(r"(</?think(?:ing)?>)")
_TAG = re.compile(r"</?[a-z][a-z0-9]{0,15} ?/?>")
_SPACE_IN_CHINESE = re.compile(r"(?<=[^\x00-\x7f]) (?=[^\x00-\x7f])")
NEGATIONS = ("不", "非", "没", "无", "未", "not ", "no ", "non-", "non ", "un")
APART = "cannot be told apart in an answer"
_QUOTES = " \n\"'“”‘’「」『』"


def normal(text: str) -> str:
    """Bring a text (an answer or a label word) to the form in which the words are compared."""
    text = _ARTICLE.sub("", unicodedata.normalize("NFKC", _INVISIBLE.sub("", text)))
    text = text.casefold().translate(TRADITIONAL).replace("n’t", "n't").replace("it’s", "it's")
    text = next((turn for turn in _TURN_TOKEN.split(text) if turn.strip()), "")
    text = _TAG.sub(" ", _without_thinking(text)).replace("*", "").replace("`", "")
    lines = (" ".join(line.split()) for line in text.splitlines())
    return _SPACE_IN_CHINESE.sub("", "\n".join(line for line in lines if line))


def _without_thinking(text: str) -> str:
    """Remove `<think>` blocks; a block that is not closed ends the answer."""
    kept: list[str] = []
    thinking = False
    for piece in _THINK_TAG.split(text):
        if not _THINK_TAG.fullmatch(piece):
            kept += [] if thinking else [piece]
        elif piece.startswith("</"):
            if not thinking:  # its opening tag was in the prompt: all before it was thought
                kept.clear()
            thinking = False
        else:
            thinking = True
    return "".join(kept)


def strip_marks(text: str) -> str:
    """Take quotes, white space and closing punctuation off a normalised text."""
    return text.strip(_QUOTES).rstrip(_QUOTES + "。.!,;:、~…")


def alike(labels: Sequence[str]) -> list[str]:
    """The pairs of labels that are easily taken for each other, a sentence for each kind, with what helps.

    A word that begins another is answered where an answer is cut off; of 推荐 and 不推荐 a model that sees 不 too late,
    or a reader who looks for 推荐, has the opposite.
    """
    words = {label: strip_marks(normal(label)) for label in labels}
    begun = [f"{a} and {b}" for a in labels for b in labels if a != b and words[b].startswith(words[a]) and words[a]]
    denied = [f"{a} and {b}" for a in labels for b in labels if any(words[b] == no + words[a] for no in NEGATIONS)]
    kinds = ((begun, "begins the other"), (denied, "is the other with a negation"))
    return [
        f"of the labels {shortened(pairs)} one {what}: words that differ in their first character, put into `labels`, "
        "are told apart more surely"
        for pairs, what in kinds
        if pairs
    ]


def shortened(words: Sequence[str], shown: int = 5) -> str:
    """The words in one line; of many the first, and how many more there are."""
    more = len(words) - shown
    return ", ".join(words) if more <= 0 else f"{', '.join(words[:shown])} and {more} more"


def labels_by_word(labels: Sequence[str], synonyms: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The label that each word means, words in the form in which an answer is compared with them.

    Raises SettingError, a ValueError, for a word without letter, digit or symbol, and for one that means two labels.
    """
    words: dict[str, str] = {}
    pairs = [(label, label) for label in labels] + [(label, word) for label, ws in synonyms.items() for word in ws]
    for label, word in pairs:
        key = strip_marks(normal(word))
        if not key:
            raise SettingError(f"{APART}: the word {word!r} has no letter, digit or symbol to know it by", "labels")
        if words.setdefault(key, label) != label:
            raise SettingError(f"{APART}: the word {word!r} means two labels, {words[key]!r} and {label!r}", "labels")
    return words
