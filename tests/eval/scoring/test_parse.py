"""The answer parser: a table of answers of real kinds, and what must hold for any text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.scoring.parse import Parsed, parse_answer

SENTIMENT = ("正面", "负面")
SYNONYMS = {"正面": ["积极", "positive", "正向", "好评"], "负面": ["消极", "negative", "负向", "差评"]}
RATINGS = ("好评", "中评", "差评")
TOPICS = ("体育", "财经", "房产", "家居", "教育", "科技", "时尚", "时政", "游戏", "娱乐")

# (answer, label, strict), two classes with synonyms. "real": an untuned 26M model said it of a hotel review.
BARE = [
    ("正面", "正面", True),
    ("负面", "负面", True),
    (" 正面\n", "正面", True),
    ("正面。", "正面", True),
    ("负面.", "负面", True),
    ("正面！！！", "正面", True),
    ("“正面”", "正面", True),
    ("「负面」。", "负面", True),
    ('"正面"', "正面", True),
    ("'负面'", "负面", True),
    ("**正面**", "正面", True),
    ("`负面`", "负面", True),
    ("负\u200b面", "负面", True),
    ("负 面", "负面", True),
    ("负面<|im_end|>", "负面", True),
    ("<|im_start|>assistant\n正面<|im_end|>\n", "正面", True),
    ("<answer>正面</answer>", "正面", True),
    ("正面的", "正面", False),
    ("【负面】", "负面", False),
    ("积极", "正面", False),
    ("正面😊", "正面", False),
    ("- 负面", "负面", False),
    ("1. 正面", "正面", False),
    ("# 正面", "正面", False),
]
IN_A_SENTENCE = [
    ("这条评论是正面的。", "正面", False),
    ("这条评论是负面评论。", "负面", False),
    ("正面评价", "正面", False),
    ("答案：正面", "正面", False),
    ("答案是：“负面”。", "负面", False),
    ("情感倾向：负面。理由：房间太小。", "负面", False),
    ("我认为这条评论偏负面", "负面", False),
    ("这条评论更偏向于负面", "负面", False),
    ("这是一条正面评论，因为客人对服务很满意。", "正面", False),
    ("这条评论的情感倾向是正面的（Positive）。", "正面", False),
    ("根据评论内容，该评论表达了对酒店的赞赏，因此是正面的", "正面", False),
    ("该评论表达了作者的不满，属于负面评价。", "负面", False),
    ("好的，这条评论是负面的！", "负面", False),
    ("以正面为主，夹杂一点抱怨", "正面", False),
    ("这条评论不得不说是正面的", "正面", False),
    ("不可否认这条评论是正面的", "正面", False),
    ("无论从哪个角度看都是正面的", "正面", False),
    ("不仅是正面的，而且非常好", "正面", False),
    ("非常负面", "负面", False),
    ("中性偏正面", "正面", False),
    ("负面：房间太小", "负面", False),
    ('{"label": "正面", "reason": "房间干净"}', "正面", False),
    ("\\boxed{负面}", "负面", False),
    ("服务员态度可以，这是一个正面的评价，可以提高服务质量和效率。", "正面", False),  # real
    ("您对房间的评价是正面的。\n\n1. **房间视个人喜好而定**：房间的客房通常提供舒适的环境", "正面", False),  # real
    ("在预定时间到前台进行登记时，服务人员告诉我们：XC没有进行预定，这条评论是正面的。", "正面", False),  # real
    ("这条评论表达了对酒店卫生和设施的积极评价，认为它对酒店的良好评价是积极的。", "正面", False),  # real
    ("这条评论表达了对酒店的不满，并表达了对卫生间马桶的不满。", None, False),  # real: names no label
]
BOTH_WORDS = [
    ("既有正面也有负面", None, False),
    ("正面和负面都有", None, False),
    ("正面、负面", None, False),
    ("正面 负面", None, False),
    ("正面，负面", None, False),
    ("正面\n负面", None, False),
    ("正面多于负面", None, False),
    ("一方面正面，另一方面负面", None, False),
    ("这条评论是正面的。因此，这条评论是负面的。", None, False),
    ("正面：位置好\n负面：房间吵", None, False),
    ("正面：位置好\n负面：房间吵\n总的来说，这条评论是负面的。", "负面", False),
    ('{"正面": 0.9, "负面": 0.1}', None, False),
    ("正面。虽然有一些负面的描述，但总体不错。", "正面", False),
    ("这条评论整体上是正面的，但也有一些负面的地方。", "正面", False),
    ("评论中既有正面评价也有负面评价，但总体而言是负面的。", "负面", False),
    ("虽然有负面，还是正面的", "正面", False),
    ("这条评论既有正面的元素，也有负面的元素。首先，评论中提到毛巾挺旧的", None, False),  # real
    ("这条评论是正面的。房间非常干净，但也可能引起一些负面的反应。因此，这条评论是正面的。", "正面", False),  # real
]
NEGATION = [
    ("不是正面", None, False),
    ("并非负面", None, False),
    ("谈不上正面", None, False),
    ("正面谈不上", None, False),
    ("没有负面", None, False),
    ("毫无负面情绪", None, False),
    ("不属于正面评论", None, False),
    ("不算正面", None, False),
    ("非正面", None, False),
    ("不太负面", None, False),
    ("并不完全是正面", None, False),
    ("我不认为这条评论是正面的", None, False),
    ("既不是正面也不是负面", None, False),
    ("没有体现出正面或负面的倾向", None, False),
    ("没有抱怨或负面评价", None, False),
    ("难以归类为正面", None, False),
    ("不是正面而是负面", "负面", False),
    ("不是正面，是负面。", "负面", False),
    ("是正面，不是负面", "正面", False),
    ("是正面而不是负面", "正面", False),
    ("与其说是正面，不如说是负面", "负面", False),
    ("这不是一条负面评论，而是一条正面评论", "正面", False),
    ("没有提到任何负面的内容，总体是正面的", "正面", False),
    ("表达了不满和负面情绪", "负面", False),
    ("说得不明确但偏正面", "正面", False),
    ("这条评论提到了房间很小，但没有提到任何负面或负面的方面。", None, False),  # real
    ("这条评论是正面的，并且没有任何负面的评价。", "正面", False),  # real
]
QUESTION = [
    ("这条评论是正面还是负面？", None, False),
    ("这条评论是正面还是负面？负面", "负面", False),
    ("正面还是负面：正面", "正面", False),
    ("是正面，还是负面？", None, False),
    ("正面/负面", None, False),
    ("无法判断这条评论是正面还是负面。", None, False),
    ("难以判断这条评论是正面的还是负面的", None, False),
    ("正面？", None, False),
    ("这条评论是正面的吗？负面。", "负面", False),
    ("评论内容: 房间负面的东西太多 这条评论是正面还是负面？正面", "正面", False),
    ("正面\n\n评论内容: 太差了 这条评论是正面还是负面？\n负面", "正面", False),
    ("不像个四星Hotel这条评论是正面还是负面。\n\n地理位置和环境不错", None, False),  # real
    ("如果这条评论是正面的，那么它可能反映了对食物的喜爱", None, False),  # real
    ("如果“设施旧”是正面的，那么这条评论是正面的。", None, False),  # real
    ("如果房间是正面的，评论也是正面的。", None, False),
    ("如果房间干净，那么这条评论是正面的", None, False),
    ("是正面的吗", None, False),
    ("是积极的或者正面的", "正面", False),
    ("评论内容: 负面的东西太多，这条评论是正面还是负面？房客作出正面的评价", "正面", False),
    ("如果让我判断，这条评论是正面的", "正面", False),
]
SCRIPT_AND_WIDTH = [
    ("負面", "负面", True),
    ("負面。", "负面", True),
    ("這條評論是負面的。", "负面", False),
    ("這則評論屬於正面評價", "正面", False),
    ("這條評論談不上正面", None, False),
    ("並非負面，而是正面", "正面", False),
    ("答案：正面！", "正面", False),
    ("ＰＯＳＩＴＩＶＥ", "正面", False),
    ("＊＊正面＊＊", "正面", True),
]
NOTHING = [
    ("", None, False),
    (" \n\t", None, False),
    ("。。。", None, False),
    ("无法判断", None, False),
    ("中性", None, False),
    ("中性。虽有一些负面描述", None, False),
    ("作为一个AI语言模型，我无法判断", None, False),
    ("反面", None, False),
    ("是的。", None, False),
]
ENGLISH = [
    ("The review is positive.", "正面", False),
    ("Negative", "负面", False),
    ("Answer: **Negative**", "负面", False),
    ("This comment is negative because the room is dirty.", "负面", False),
    ("not positive", None, False),
    ("It isn't positive.", None, False),
    ("It isn’t negative.", None, False),
    ("neither positive nor negative", None, False),
    ("The review isn’t negative, it is positive.", "正面", False),
    ("positive rather than negative", "正面", False),
    ("It's hard to say whether it is positive or negative.", None, False),
    ("positive, negative, or neutral? Positive.", "正面", False),
    ("Positively surprised", None, False),
]
QUOTATION = [
    ("“房间正面都是墙，太负面了”，这条评论是负面的。", "负面", False),
    ("评论说“服务太负面了”。", None, False),
    ("评论说「除了正面的早餐都很差」，因此是负面的", "负面", False),
    ("这条评论属于“正面评价”。", "正面", False),
    ("“这条评论是正面的。”", "正面", False),
    ("评论内容中提到的“这条评论是正面还是负面”可能是在表达某种看法", None, False),  # real
]
THINKING = [
    ("<think>先看是不是负面</think>正面", "正面", True),
    ("<think>\n\n</think>\n\n负面", "负面", True),
    ("<think>正面，应该是正面", None, False),
    ("也许是正面</think>\n\n负面", "负面", True),
    ("正面<|im_end|>\n<|im_start|>user\n负面", "正面", True),
]
OTHER_WORDS = [
    ("酒店正面临倒闭", None, False),
    ("真正面对的是噪音", None, False),
    ("房间正面朝海", None, False),
    ("反正面对大街，睡不着", None, False),
    ("噪音有负面影响", None, False),
    ("评论者做好评估再入住", None, False),
]
TABLE = [
    *BARE,
    *IN_A_SENTENCE,
    *BOTH_WORDS,
    *NEGATION,
    *QUESTION,
    *SCRIPT_AND_WIDTH,
    *NOTHING,
    *ENGLISH,
    *QUOTATION,
    *THINKING,
    *OTHER_WORDS,
]

# (labels, answer, label, strict), without synonyms
OTHER_TASKS = [
    (RATINGS, "中评", "中评", True),
    (RATINGS, "这是一条差评。", "差评", False),
    (RATINGS, "好评、中评还是差评？", None, False),
    (RATINGS, "好评、中评还是差评？中评。", "中评", False),
    (RATINGS, "不是好评，也不是差评，是中评", "中评", False),
    (RATINGS, "评论中评论者很满意", None, False),
    (TOPICS, "科技", "科技", True),
    (TOPICS, "这条新闻属于体育类，不是财经类。", "体育", False),
    (TOPICS, "房产和家居", None, False),
    (TOPICS, "娛樂", "娱乐", True),
    (("A", "B", "C"), "A", "A", True),
    (("A", "B", "C"), "b.", "B", True),
    (("A", "B", "C"), "（C）", "C", False),
    (("A", "B", "C"), "我选择B选项", "B", False),
    (("A", "B", "C"), "The answer is C because the room is clean.", "C", False),
    (("A", "B", "C"), "A、正面", "A", False),
    (("A", "B", "C"), "A或B", None, False),
    (("A", "B", "C"), "A, B or C? B", "B", False),
    (("A", "B", "C"), "This is a good hotel", None, False),
    (("A", "B", "C"), "It is a review, B", "B", False),
    (("A", "B", "C"), "ABC", None, False),
    (("a", "b"), "B", "b", True),
    (("1", "0"), "标签：1", "1", False),
    (("1", "0"), "1. 位置好", None, False),
    (("1", "0"), "10", None, False),
    (("1", "0"), "答案是1.5", None, False),
    (("5星", "15星"), "给15星", "15星", False),
    (("非常好评", "好评", "差评"), "非常好评！", "非常好评", True),
    (("非常好评", "好评", "差评"), "属于非常好评", "非常好评", False),
    (("非常好评", "好评", "差评"), "很好的好评", "好评", False),
    (("非常好评", "好评", "差评"), "好评还是非常好评？", None, False),
    (("正面", "非正面"), "非正面", "非正面", True),
    (("正面", "非正面"), "这条评论是非正面的", "非正面", False),
    (("正面", "非正面"), "是正面的", "正面", False),
    (("正面", "非正面"), "正面还是非正面", None, False),
    (("推荐", "不推荐"), "我不推荐这家酒店", "不推荐", False),
    (("推荐", "不推荐"), "强烈推荐", "推荐", False),
    (("very positive", "positive", "negative"), "It is VERY  positive.", "very positive", False),
    (("very positive", "positive", "negative"), "not very positive", None, False),
    (("positive", "negative", "neutral"), "Neutral.", "neutral", True),
    (("正面", "中性", "负面"), "中性。虽有一些负面描述", "中性", False),
    (("正面", "负面"), "The review is positive.", None, False),
    (("好", "坏"), "房间好", None, False),
    (("好", "坏"), "这条评论是好的", "好", False),
    (("好", "坏"), "好的，这条评论是坏的", "坏", False),
    (("👍", "👎"), "👍", "👍", True),
    (("負面", "正面"), "负面的评论", "負面", False),
]


@pytest.mark.parametrize(("answer", "label", "strict"), TABLE)
def test_two_classes(answer: str, label: str | None, strict: bool) -> None:
    assert parse_answer(answer, SENTIMENT, SYNONYMS) == Parsed(label, strict)


@pytest.mark.parametrize(("labels", "answer", "label", "strict"), OTHER_TASKS)
def test_other_tasks(labels: tuple[str, ...], answer: str, label: str | None, strict: bool) -> None:
    assert parse_answer(answer, labels) == Parsed(label, strict)


@pytest.mark.parametrize(
    ("labels", "answers"),
    [
        (
            ("推荐", "不推荐"),
            """这家店不值得推荐 不建议推荐 不太推荐 非推荐 我不会推荐这家店 不想推荐 不敢推荐 不予推荐 谁会推荐 没法推荐
            推荐不了 不值得向任何人推荐 不便推荐 不好推荐 不适合推荐 不足以推荐 不同意推荐""",
        ),
        (
            ("满意", "不满意"),
            """未能令客户满意 不太满意 不甚满意 没有让我满意 不能令人满意 不尽满意 难令人满意 满意度低 不太令人满意""",
        ),
        (
            ("正面", "负面"),
            """不正面 非正面 不值得正面评价 不建议给正面评价 不见得是正面 未必正面 怎能说是正面 不像正面 不倾向于正面""",
        ),
        (
            ("positive", "negative"),
            """isn't·really·what·I'd·call·positive far·from·positive anything·but·positive not·so·positive
            non-positive less·than·positive not·exactly·what·one·would·call·positive""",
        ),
        (("spam", "not spam"), "definitely·not·any·kind·of·spam isn't·spam non-spam"),
        (("好评", "差评"), "不给好评 不配好评 不值得好评 非好评 给不了好评"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_what_is_negated_in_unknown_words_is_never_the_label(labels: tuple[str, ...], answers: str) -> None:
    for answer in answers.split():
        assert parse_answer(answer.replace("·", " "), labels).label in (None, labels[1]), answer
        assert parse_answer(answer.replace("·", " "), labels[:1] + ("其他",)).label is None, answer


@pytest.mark.parametrize(("label", "no"), [("推荐", "不推荐"), ("合格", "非合格"), ("spam", "not spam")])
def test_a_negation_that_is_a_label_is_read_as_it(label: str, no: str) -> None:
    assert parse_answer(no, (label, no)) == Parsed(no, True)
    assert parse_answer(no, (label, "其他")).label is None


def test_the_table_is_large_and_has_no_answer_twice() -> None:
    assert len(TABLE) >= 100
    assert len({answer for answer, _, _ in TABLE}) == len(TABLE)


def test_both_classes_are_read_alike() -> None:
    swap = str.maketrans("正负正負", "负正负正")
    other = {"正面": "负面", "负面": "正面", None: None}
    for answer, label, strict in [*IN_A_SENTENCE, *BOTH_WORDS, *NEGATION, *QUESTION]:
        if "正" in answer and not any(char in answer for char in "积极消"):
            assert parse_answer(answer.translate(swap), SENTIMENT) == Parsed(other[label], strict), answer


@pytest.mark.parametrize(
    ("labels", "synonyms"),
    [
        (["正面"], {}),
        (["正面", "正面"], {}),
        (["负面", "負面"], {}),
        (["正面", "。"], {}),
        (["正面", ""], {}),
        (["正面", "负面"], {"中性": ["一般"]}),
        (["正面", "负面"], {"正面": ["positive"], "负面": ["Positive"]}),
    ],
)
def test_words_that_define_no_task_are_refused(labels: list[str], synonyms: dict[str, list[str]]) -> None:
    with pytest.raises(ValueError):
        parse_answer("正面", labels, synonyms)


LONG = 100_000


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("正面" + " " * LONG + "x", "正面"),
        ("房间很好，" * (LONG // 5) + "因此这条评论是负面的", "负面"),
        ("正面、负面、" * (LONG // 6), None),
        ("正面还是负面" * (LONG // 6), None),
        ("不" * LONG + "正面", None),
        ("“" * LONG + "是正面", "正面"),
        ("<think>" * (LONG // 7) + "正面", None),
        ("<|" * (LONG // 2) + "负面", "负面"),
        ("a " * (LONG // 2), None),
        ("\n评论:" * (LONG // 4) + "正面", "正面"),
        ("9.9" * (LONG // 3) + "负面", "负面"),
    ],
)
def test_long_answers(answer: str, label: str | None) -> None:
    assert parse_answer(answer, SENTIMENT, SYNONYMS) == Parsed(label, False)


NO_DEADLINE = settings(deadline=None)

# Texts in which the parser's own words are frequent, beside any text at all.
PIECES = [
    *"正负面不非没是的或和、，。？：“”「」\"' \n<>|/Aa1",
    "还是",
    "评论",
    "如果",
    "<think>",
    "</think>",
    "<|im_end|>",
]
texts = st.one_of(
    st.text(st.characters(), max_size=80),
    st.lists(st.sampled_from([*PIECES, "正面", "负面", "positive", "not ", "負面"]), max_size=30).map("".join),
)
tasks = st.sampled_from([SENTIMENT, RATINGS, TOPICS, ("A", "B", "C"), ("正面", "非正面"), ("1", "0"), ("yes", "no")])
any_labels = st.lists(
    st.text(st.characters(categories=("L", "N"), max_codepoint=0x9FFF), min_size=1, max_size=6), min_size=2, max_size=20
)


@NO_DEADLINE
@given(texts, tasks)
def test_any_text_gives_a_label_or_none(text: str, labels: tuple[str, ...]) -> None:
    parsed = parse_answer(text, labels)
    assert parsed.label is None or parsed.label in labels
    assert parsed.label is not None or not parsed.strict


@NO_DEADLINE
@given(texts, tasks, st.text(" \t\r\n\u3000\u00a0", max_size=5), st.text(" \t\r\n\u3000\u00a0", max_size=5))
def test_white_space_around_changes_nothing(text: str, labels: tuple[str, ...], before: str, after: str) -> None:
    assert parse_answer(before + text + after, labels) == parse_answer(text, labels)


@NO_DEADLINE
@given(st.sampled_from(["这条评论是负面的。", "不是正面而是负面", "正面还是负面？负面", "並非正面"]), st.data())
def test_white_space_between_chinese_changes_nothing(text: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(text)))
    spaced = text[:place] + data.draw(st.text(" \t\u3000", max_size=3)) + text[place:]
    assert parse_answer(spaced, SENTIMENT) == parse_answer(text, SENTIMENT)


@NO_DEADLINE
@given(any_labels, st.text(" \n\u3000", max_size=3), st.sampled_from(["", "。", ".", "！", "\n"]))
def test_a_bare_label_is_always_strict(labels: list[str], space: str, mark: str) -> None:
    try:
        parse_answer("", labels)
    except ValueError:  # no task: words that are the same after normalisation
        return
    for label in labels:
        assert parse_answer(space + label + mark + space, labels) == Parsed(label, True)


@NO_DEADLINE
@given(texts)
def test_the_order_of_the_labels_does_not_matter(text: str) -> None:
    assert parse_answer(text, ("正面", "负面")) == parse_answer(text, ("负面", "正面"))


@NO_DEADLINE
@given(texts)
def test_a_synonym_never_makes_an_answer_strict(text: str) -> None:
    with_synonyms, without = parse_answer(text, SENTIMENT, SYNONYMS), parse_answer(text, SENTIMENT)
    assert with_synonyms.strict == without.strict
