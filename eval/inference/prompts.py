"""The prompts of an evaluation: the test rows, a few again one at a time, few-shot prompts, and the validation rows."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from plugins.score_lines import chat_sha256
from workspace.errors import UserError
from workspace.files import read_jsonl
from workspace.paths import shown

PARITY_ROWS = 6  # test rows asked again alone, to see that the batch makes no difference
SHOTS_PER_CLASS = 2
SHOT_CHARACTERS = (10, 60)  # length of a few-shot example's review

# How plugins/label_scores.py answers each purpose.
MODES = {"test": "generate", "parity": "single", "few_shot": "score", "val": "score", "injection": "score"}


@dataclass(frozen=True)
class Prompt:
    """One prompt. `messages` ends with the user's turn: the model is shown no answer. `id` is the dataset row's."""

    purpose: str
    id: str
    gold: str
    cut: bool
    messages: tuple[dict[str, str], ...]

    @property
    def key(self) -> str:
        """Names the prompt among those of an evaluation."""
        return f"{self.purpose}/{self.id}"

    @cached_property
    def chat_sha256(self) -> str:
        """The hash of its wording: a response counts for this wording alone."""
        return chat_sha256(self.messages)


def make_prompts(dataset: Path, few_shot: bool, seed: int) -> list[Prompt]:
    """Every prompt of one evaluation, in the order in which they are answered.

    Within a purpose the rows are sorted by the length of the prompt: a batch of equal lengths needs no padding.
    Purposes that generate text come first. Raises `UserError` when a row has no answer to hold back.
    """
    test = _rows(dataset / "test.jsonl")
    groups = {"test": [_prompt("test", row) for row in test]}
    groups["parity"] = [_prompt("parity", row) for row in _evenly(sorted(test, key=_length), PARITY_ROWS)]
    if few_shot:
        shots = few_shot_turns(_rows(dataset / "train.jsonl"), seed)
        groups["few_shot"] = [_prompt("few_shot", row, shots) for row in test]
    groups["val"] = [_prompt("val", row) for row in _rows(dataset / "val.jsonl")]
    return [prompt for group in groups.values() for prompt in by_length(group)]


def by_length(prompts: Iterable[Prompt]) -> list[Prompt]:
    """The prompts, the shortest question first."""
    return sorted(prompts, key=lambda prompt: (len(prompt.messages[-1]["content"]), prompt.id))


def modes(prompts: Sequence[Prompt]) -> dict[str, list[str]]:
    """The keys that are answered in each mode, as the label-score plugins read them."""
    found: dict[str, list[str]] = {}
    for prompt in prompts:
        found.setdefault(MODES[prompt.purpose], []).append(prompt.key)
    return found


def few_shot_turns(train: Sequence[dict[str, Any]], seed: int) -> list[dict[str, str]]:
    """Earlier turns of the chat with `SHOTS_PER_CLASS` answered train rows a class, classes taking turns.

    The rows are chosen by a hash of seed and id among those of middling length, so that rows that are added change
    the choice little. Test and validation rows are never taken.
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


def _prompt(purpose: str, row: dict[str, Any], shots: Sequence[dict[str, str]] = ()) -> Prompt:
    *chat, answer = row["messages"]
    if answer["role"] != "assistant" or not chat or chat[-1]["role"] != "user":
        raise UserError(f"row {row['id']} of the dataset is not question and answer: build the dataset again")
    system = [turn for turn in chat if turn["role"] == "system"]
    question = [turn for turn in chat if turn["role"] != "system"]
    return Prompt(purpose, str(row["id"]), answer["content"], row["cut"], (*system, *shots, *question))


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise UserError(f"{shown(path)} is missing: build the dataset with `python -m data_prep.build`")
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
