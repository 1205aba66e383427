import json

import numpy as np
import pytest

from eval.scoring.responses import load_answers, load_split
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
    got = load_answers(folder / "answers.jsonl", split, BINARY)
    rows = read_jsonl(folder / "answers.jsonl")
    assert got.texts == tuple(row["answer"] for row in rows)
    assert np.allclose(got.probabilities, [[row["probabilities"][label] for label in BINARY] for row in rows])
    reverse = load_answers(folder / "answers.jsonl", split, BINARY[::-1])
    assert np.array_equal(reverse.probabilities, got.probabilities[:, ::-1])
    assert load_answers(folder / "nothing.jsonl", split, BINARY) is None


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"answer": None}, "line 3: no answer, which other lines have"),
        ({"probabilities": None}, "line 3: no probabilities"),
        ({"probabilities": {"正面": 1.0}}, "line 3: expected a probability for each of 正面, 负面"),
        ({"probabilities": {"正面": 0.9, "负面": 0.9}}, "line 3: the probabilities are negative or do not sum to 1"),
        ({"probabilities": {"正面": 1.5, "负面": -0.5}}, "line 3: the probabilities are negative or do not sum to 1"),
        ({"probabilities": {"正面": float("nan"), "负面": 0.5}}, "line 3: the probabilities are negative"),
        ({"probabilities": {"正面": "x", "负面": 0.5}}, "a probability is not a number"),
        ({"id": "999"}, "line 3: the answer to row 999"),
    ],
)
def test_a_row_that_does_not_fit_is_named(folder, change, expected):
    rows = read_jsonl(folder / "answers.jsonl")
    rows[2].update(change)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "answers.jsonl").write_text(text)
    with pytest.raises(UserError, match=expected):
        load_answers(folder / "answers.jsonl", load_split(folder, "test", BINARY), BINARY)


@pytest.mark.parametrize("text", ["{", "[1]\n", "1\n", '{"id": "1"\n'])
def test_what_is_no_jsonl_is_named(folder, text):
    (folder / "answers.jsonl").write_text(text)
    with pytest.raises(UserError, match=r"answers\.jsonl is not JSON"):
        load_answers(folder / "answers.jsonl", load_split(folder, "test", BINARY), BINARY)


def test_dataset_rows_that_are_none_are_named(folder):
    rows = read_jsonl(folder / "test.jsonl")
    del rows[1]["review"]
    write_jsonl(folder / "test.jsonl", rows)
    with pytest.raises(UserError, match=r"test\.jsonl, line 2: not a dataset row"):
        load_split(folder, "test", BINARY)
    with pytest.raises(UserError, match=r"val\.jsonl, line \d: the answer '(正面|负面)' is none of the labels 好, 坏"):
        load_split(folder, "val", ("好", "坏"))
    with pytest.raises(UserError, match=r"is missing: build the dataset"):
        load_split(folder / "elsewhere", "test", BINARY)
