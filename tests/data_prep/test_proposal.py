"""What is taken from a table that nobody has described: columns, label words, prompt; and what is asked for."""

from pathlib import Path

import pandas as pd
import pytest

from data_prep.proposal.columns import choose_columns
from data_prep.proposal.labels import STARS, propose_labels
from data_prep.proposal.task_file import language_of, prompts_of, slug
from workspace.errors import UserError

GOOD = [f"房间很干净，服务也好，第{at}次入住" for at in range(12)]
ENGLISH = [f"The room was clean and quiet, visit number {at}, we will come again." for at in range(12)]
TITLES = [f"Visit {at}" for at in range(12)]
TWO = ["1", "0"] * 6


def chosen(columns: dict[str, list[str]], **given):
    return choose_columns(pd.DataFrame(columns, dtype="str"), **given)


@pytest.mark.parametrize(
    ("columns", "text", "label", "identity"),
    [
        ({"review": GOOD, "label": TWO}, ("review",), "label", None),
        ({"a": TWO, "b": GOOD}, ("b",), "a", None),
        (
            {"id": [str(at) for at in range(12)], "评论内容": GOOD, "情感": ["好", "坏"] * 6},
            ("评论内容",),
            "情感",
            "id",
        ),
        ({"body": ENGLISH, "title": TITLES, "stars": ["1", "5", "3"] * 4}, ("body",), "stars", None),
        # the same classes as numbers and in words: the words
        ({"text": ENGLISH, "label": ["0", "1"] * 6, "label_text": ["card", "fees"] * 6}, ("text",), "label_text", None),
        # another column with few values, whose name is no label's
        ({"comment": GOOD, "city": ["北京", "上海"] * 6, "rating": ["1", "5"] * 6}, ("comment",), "rating", None),
        ({"text": ENGLISH, "date": ["2020-01-01"] * 12, "label": TWO}, ("text",), "label", None),
    ],
)
def test_columns_that_a_table_tells_of(columns, text, label, identity) -> None:
    found = chosen(columns)
    assert (found.text, found.label, found.id) == (text, label, identity)
    assert found.reasons["text"] and found.reasons["label"]


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"text": ENGLISH, "sentiment": TWO, "topic": ["a", "b", "c"] * 4}, "may be the label: sentiment"),
        ({"q": ENGLISH, "answer": ENGLISH[::-1], "label": TWO}, "several columns may be the text: .*--text COLUMN"),
        ({"text": ENGLISH, "other": GOOD}, "no column looks like a label .*--label COLUMN"),
        ({"label": TWO, "kind": ["x"] * 12}, "no column looks like texts .*--text COLUMN"),
        ({"text": ["a b c"] * 402, "label": [str(at // 2) for at in range(402)]}, "201 distinct values"),
    ],
)
def test_what_a_table_does_not_tell_is_asked_for(columns, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        chosen(columns)


def test_a_column_of_splits_is_no_label() -> None:
    found = chosen({"text": ENGLISH, "split": ["train", "train", "test"] * 4, "kind": TWO})
    assert (found.label, found.split) == ("kind", "split")
    assert chosen({"text": ENGLISH, "split": ["train", "test"] * 6, "kind": TWO}, label="split").split is None


def test_a_remedy_of_the_question_answers_it() -> None:
    columns = {"text": ENGLISH, "sentiment": TWO, "topic": ["a", "b", "c"] * 4}
    assert chosen(columns, label="topic").label == "topic"
    columns = {"q": ENGLISH, "answer": ENGLISH[::-1], "label": TWO}
    assert chosen(columns, text=["q", "answer"]).text == ("q", "answer")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"label": "lable"}, "--label is 'lable', but the columns are text, label: did you mean label"),
        ({"text": ["nothing"]}, "--text is 'nothing'"),
        ({"text": ["label"], "label": "label"}, "two different columns"),
    ],
)
def test_a_column_that_is_not_there_is_one_sentence(given, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence.replace(": did", ".*did")):
        chosen({"text": ENGLISH, "label": TWO}, **given)


def labels(values: list[str], name: str = "label", language: str = "zh"):
    return propose_labels(pd.Series(values, dtype="str"), name, language)


@pytest.mark.parametrize(
    ("values", "name", "language", "expected"),
    [
        (TWO, "label", "zh", {"1": "正面", "0": "负面"}),
        (TWO, "label", "en", {"1": "positive", "0": "negative"}),
        (["1.0", "0"] * 6, "label", "zh", {"1": "正面", "0": "负面"}),
        (["-1", "1"] * 6, "label", "en", {"1": "positive", "-1": "negative"}),
        (["-1", "0", "1"] * 4, "y", "zh", {"1": "正面", "0": "中性", "-1": "负面"}),
        (list("12345") * 4, "stars", "en", dict(zip("12345", STARS["en"], strict=True))),
        (list("1245") * 4, "评分", "zh", {"1": "糟糕", "2": "较差", "4": "良好", "5": "优秀"}),
        # four topics by number are no stars
        (list("1234") * 4, "label", "en", {one: one for one in "1234"}),
        (["fees"] * 5 + ["card"] * 9, "label", "en", {"card": "card", "fees": "fees"}),
        (
            ["Apple"] * 5 + ["apple "] * 4 + ["pear"] * 4,
            "y",
            "en",
            {"Apple": "Apple", "apple": "Apple", "pear": "pear"},
        ),
        (["正面"] * 4 + ["負面"] * 4, "label", "zh", {"正面": "正面", "負面": "負面"}),
        (["a"] * 4 + ["b"] * 4 + ["typo"], "label", "en", {"a": "a", "b": "b", "typo": None}),
        (["a"] * 4 + ["b"] * 4 + [""] * 2, "label", "en", {"a": "a", "b": "b"}),
    ],
)
def test_label_words(values, name: str, language: str, expected) -> None:
    found = labels(values, name, language)
    assert found.labels == expected
    assert found.words == list(dict.fromkeys(word for word in expected.values() if word))


def test_what_is_odd_about_labels_is_told() -> None:
    assert any("2 rows have no label" in line for line in labels(["a"] * 4 + ["b"] * 4 + [""] * 2).odd)
    assert any("fewer than 3 rows each: typo" in line for line in labels(["a"] * 4 + ["b"] * 4 + ["typo"]).odd)
    assert any("apple = Apple" in line for line in labels(["Apple"] * 4 + ["apple"] * 4 + ["b"] * 4).odd)
    alike = [*labels(["推荐"] * 4 + ["不推荐"] * 4).odd, *labels(["card"] * 4 + ["card lost"] * 4).odd]
    assert any("of the labels 推荐 and 不推荐 one is the other with a negation" in line for line in alike)
    assert any("of the labels card and card lost one begins the other" in line for line in alike)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (["food|room"] * 3 + ["food", "room", "room|bed"] * 4, "several labels in a row"),
        ([f"{at / 7:.2f}" for at in range(40) for _ in range(3)], "a quantity and not classes"),
        (["only"] * 20, "1 classes of 3 rows or more"),
        (["!!"] * 4 + ["??"] * 4, "no letter, digit or symbol"),
    ],
)
def test_labels_that_cannot_be_classes_are_one_sentence(values, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        labels(values)


def test_language_and_name() -> None:
    assert language_of(GOOD) == "zh" and language_of(ENGLISH) == "en" and language_of(["123"]) == "en"
    assert language_of(["WiFi 很慢 but OK 的酒店房间服务"]) == "zh"
    names = {"my.csv": "my", "My Reviews (1).csv.gz": "my_reviews_1", "评论.csv": "table", "a-b.c.xlsx": "a-b"}
    assert {name: slug(Path(name)) for name in names} == names


def test_many_labels_are_named_by_a_prompt_of_their_own() -> None:
    words = [f"intent_{at}" for at in range(21)]
    found = chosen({"text": ENGLISH, "label": TWO})
    few, many = prompts_of(found, words[:20], "en"), prompts_of(found, words, "en")
    assert list(few) == ["plain"] and ", ".join(words[:20]) in few["plain"]
    assert list(many) == ["plain", "named"]
    assert "intent" not in many["plain"] and ", ".join(words) in many["named"]
