"""What a model is asked: the test rows, a few again one at a time, few-shot prompts, and the validation rows."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workspace.errors import UserError
from workspace.files import read_jsonl

PARITY_ROWS = 6  # test rows asked again alone, to see that the batch makes no difference
SHOTS_PER_CLASS = 2
SHOT_CHARACTERS = (10, 60)  # length of a few-shot example's review

# How plugins/label_scores.py answers each purpose.
MODES = {"test": "generate", "parity": "single", "few_shot": "score", "val": "score", "injection": "score"}


@dataclass(frozen=True)
class Request:
    """One prompt. `messages` ends with the user's turn: no answer is in sight of the model."""

    purpose: str
    id: str
    gold: str
    cut: bool
    messages: tuple[dict[str, str], ...]

    @property
    def key(self) -> str:
        """Names the request and its wording: an answer counts for this prompt alone."""
        text = json.dumps([self.purpose, self.id, self.messages], ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def make_requests(dataset: Path, few_shot: bool, seed: int) -> list[Request]:
    """Every request of one evaluation, in the order in which they are answered.

    Within a purpose the rows are sorted by the length of the prompt: a batch of equal lengths needs no padding.
    Purposes that generate text come first. Raises `UserError` when a row has no answer to hold back.
    """
    test = _rows(dataset / "test.jsonl")
    groups = {"test": [_request("test", row) for row in test]}
    groups["parity"] = [_request("parity", row) for row in _evenly(sorted(test, key=_length), PARITY_ROWS)]
    if few_shot:
        shots = few_shot_turns(_rows(dataset / "train.jsonl"), seed)
        groups["few_shot"] = [_request("few_shot", row, shots) for row in test]
    groups["val"] = [_request("val", row) for row in _rows(dataset / "val.jsonl")]
    for group in groups.values():
        group.sort(key=lambda request: (len(request.messages[-1]["content"]), request.id))
    return [request for group in groups.values() for request in group]


def modes(requests: Sequence[Request]) -> list[list[Any]]:
    """[mode, rows] runs over `requests`, as plugins/label_scores.py reads them."""
    runs: list[list[Any]] = []
    for request in requests:
        mode = MODES[request.purpose]
        if runs and runs[-1][0] == mode:
            runs[-1][1] += 1
        else:
            runs.append([mode, 1])
    return runs


def few_shot_turns(train: Sequence[dict[str, Any]], seed: int) -> list[dict[str, str]]:
    """Earlier turns of the chat with `SHOTS_PER_CLASS` answered train rows a class, classes taking turns.

    The rows are chosen by a hash of seed and id among those of middling length, so that the choice stands when rows
    are added. Test and validation rows are never taken.
    """
    low, high = SHOT_CHARACTERS
    by_class: dict[str, list[dict[str, Any]]] = {}
    for row in train:
        by_class.setdefault(row["messages"][-1]["content"], []).append(row)
    chosen = []
    for label in sorted(by_class):
        rows = [row for row in by_class[label] if low <= len(row["review"]) <= high] or by_class[label]
        chosen.append(sorted(rows, key=lambda row: _draw(seed, row["id"]))[:SHOTS_PER_CLASS])
    rounds = [rows[k] for k in range(SHOTS_PER_CLASS) for rows in chosen if k < len(rows)]
    return [turn for row in rounds for turn in row["messages"] if turn["role"] != "system"]


def _request(purpose: str, row: dict[str, Any], shots: Sequence[dict[str, str]] = ()) -> Request:
    *prompt, answer = row["messages"]
    if answer["role"] != "assistant" or not prompt or prompt[-1]["role"] != "user":
        raise UserError(f"row {row['id']} of the dataset is not question and answer: build the dataset anew")
    system = [turn for turn in prompt if turn["role"] == "system"]
    asked = [turn for turn in prompt if turn["role"] != "system"]
    return Request(purpose, str(row["id"]), answer["content"], row["cut"], (*system, *shots, *asked))


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise UserError(f"{path} is missing: build the dataset with `python -m data_prep.build`")
    return read_jsonl(path)


def _length(row: dict[str, Any]) -> int:
    return len(row["review"])


def _evenly(rows: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """`count` rows spread evenly over `rows`, first and last included."""
    if len(rows) <= count:
        return list(rows)
    return [rows[round(k * (len(rows) - 1) / (count - 1))] for k in range(count)]


def _draw(seed: int, key: str) -> str:
    return hashlib.sha256(f"{seed}:{key}".encode()).hexdigest()
