import json

import numpy as np
import pytest

from eval.scoring.responses import Response, load_responses, load_split, write_responses
from tests.scored_runs import BINARY, answer, make_dataset
from workspace.errors import UserError
from workspace.files import read_jsonl, sha256_file, write_jsonl


@pytest.fixture
def folder(tmp_path):
    make_dataset(tmp_path, sizes=(10, 5, 8))
    answer(tmp_path, tmp_path, "answers.jsonl")
    return tmp_path


def test_a_split_in_the_order_of_its_file(folder):
    rows = read_jsonl(folder / "test.jsonl")
    split = load_split(folder, "test", BINARY, sha256_file(folder / "test.jsonl"))
    assert split.ids == tuple(row["id"] for row in rows)
    assert split.reviews == tuple(row["review"] for row in rows)
    assert split.gold == tuple(row["messages"][-1]["content"] for row in rows)
    assert [BINARY[code] for code in split.codes(BINARY)] == list(split.gold)


def test_an_empty_split_has_no_rows(folder):
    (folder / "val.jsonl").write_text("")
    assert len(load_split(folder, "val", BINARY)) == 0
    assert load_split(folder, "val", BINARY).codes(BINARY).shape == (0,)


def test_answers_are_joined_and_probabilities_in_the_order_of_labels(folder):
    split = load_split(folder, "test", BINARY)
    got = load_responses(folder / "answers.jsonl", split, BINARY)
    rows = read_jsonl(folder / "answers.jsonl")
    assert got.texts == tuple(row["answer"] for row in rows)
    assert np.allclose(got.probabilities, [[row["probabilities"][label] for label in BINARY] for row in rows])
    reverse = load_responses(folder / "answers.jsonl", split, BINARY[::-1])
    assert np.array_equal(reverse.probabilities, got.probabilities[:, ::-1])
    assert load_responses(folder / "nothing.jsonl", split, BINARY) is None


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"answer": None}, "line 3: no answer, which other lines have"),
        ({"probabilities": None}, "line 3: no probabilities"),
        ({"probabilities": {"正面": 1.0}}, "line 3: expected a probability for each of 正面, 负面"),
        ({"probabilities": {"正面": 0.9, "负面": 0.9}}, "line 3: the probabilities are negative or do not sum to 1"),
        ({"probabilities": {"正面": 1.5, "负面": -0.5}}, "line 3: the probabilities are negative or do not sum to 1"),
        ({"probabilities": {"正面": float("nan"), "负面": 0.5}}, "line 3: the probabilities are negative"),
        (
            {"probabilities": {"正面": "x", "负面": 0.5}},
            r"line 3 cannot be read \(probabilities\.正面: .* number",
        ),
        ({"id": "999"}, "line 3: the answer to row 999"),
        ({"key": "test/1"}, "line 3: the answer to row"),
    ],
)
def test_a_row_that_does_not_fit_is_named(folder, change, expected):
    rows = read_jsonl(folder / "answers.jsonl")
    rows[2].update(change)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "answers.jsonl").write_text(text)
    with pytest.raises(UserError, match=expected):
        load_responses(folder / "answers.jsonl", load_split(folder, "test", BINARY), BINARY)


def test_responses_in_another_order_are_joined_by_their_row(folder):
    split, rows = load_split(folder, "test", BINARY), read_jsonl(folder / "answers.jsonl")
    expected = load_responses(folder / "answers.jsonl", split, BINARY)
    write_jsonl(folder / "answers.jsonl", rows[::-1])
    got = load_responses(folder / "answers.jsonl", split, BINARY)
    assert got.texts == expected.texts and np.array_equal(got.probabilities, expected.probabilities)
    write_jsonl(folder / "answers.jsonl", [*rows[:-1], rows[0]])
    with pytest.raises(UserError, match=rf"line {len(rows)}: the answer to row {rows[0]['id']} .*or its second"):
        load_responses(folder / "answers.jsonl", split, BINARY)


def test_what_is_written_is_read_and_carries_key_and_prompt(folder):
    split = load_split(folder, "test", BINARY)
    shares = {"正面": 0.25, "负面": 0.75}
    responses = [
        Response(key, gold, "负面", shares, False, 9, f"test/{key}", chat, "ab" * 32, "length")
        for key, gold, chat in zip(split.ids, split.gold, split.chats, strict=True)
    ]
    path = folder / "test" / "test.jsonl"
    write_responses(path, responses)
    got = load_responses(path, split, BINARY)
    assert set(got.finish_reasons) == {"length"}
    assert set(got.texts) == {"负面"} and got.probabilities.tolist() == [[0.25, 0.75]] * len(split)
    rows = read_jsonl(path)
    assert rows[0] == {
        "id": split.ids[0], "gold": split.gold[0], "answer": "负面", "probabilities": shares, "cut": False,
        "prompt_tokens": 9, "key": f"test/{split.ids[0]}", "chat_sha256": split.chats[0], "prompt_sha256": "ab" * 32,
        "finish_reason": "length", "label_mass": None,
    }  # fmt: skip
    write_jsonl(path, [rows[0] | {"chat_sha256": split.chats[1]}, *rows[1:]])  # of another wording
    with pytest.raises(UserError, match=rf"line 1: the answer to row {rows[0]['id']} "):
        load_responses(path, split, BINARY)


@pytest.mark.parametrize("text", ["{", "[1]\n", "1\n", '{"id": "1"\n'])
def test_what_is_no_jsonl_is_named(folder, text):
    (folder / "answers.jsonl").write_text(text)
    with pytest.raises(UserError, match=r"answers\.jsonl, line 1 cannot be read"):
        load_responses(folder / "answers.jsonl", load_split(folder, "test", BINARY), BINARY)


def test_dataset_rows_that_are_none_are_named(folder):
    rows = read_jsonl(folder / "test.jsonl")
    del rows[1]["review"]
    write_jsonl(folder / "test.jsonl", rows)
    with pytest.raises(UserError, match=r"test\.jsonl, line 2 cannot be read"):
        load_split(folder, "test", BINARY)
    with pytest.raises(UserError, match=r"val\.jsonl, line \d: the answer '(正面|负面)' is none of the labels 好, 坏"):
        load_split(folder, "val", ("好", "坏"))
    with pytest.raises(UserError, match=r"is missing: build the dataset"):
        load_split(folder / "elsewhere", "test", BINARY)
