"""Dataset rows and the answers to them, as saved, joined by position and checked row by row."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from workspace.errors import UserError
from workspace.files import read_jsonl, sha256_file
from workspace.paths import shown

# Saved probabilities are rounded; a row whose sum is farther from 1 than this was not normalised over these labels.
_SUM_TOLERANCE = 1e-3

SplitName = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Split:
    """Rows of one split in the file's order: id, uncut review, gold label word, whether the prompt had it cut."""

    path: Path
    ids: tuple[str, ...]
    reviews: tuple[str, ...]
    gold: tuple[str, ...]
    cut: tuple[bool, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def codes(self, labels: Sequence[str]) -> NDArray[np.int64]:
        """Gold labels as positions in `labels`, shape (n,)."""
        return np.array([labels.index(word) for word in self.gold], dtype=np.int64)


@dataclass(frozen=True)
class Answers:
    """What a model said to the rows of a split: generated texts (n,) and / or label probabilities (n, labels)."""

    texts: tuple[str, ...] | None
    probabilities: NDArray[np.float64] | None


def load_split(dataset: Path, name: SplitName, labels: Sequence[str], digest: str | None = None) -> Split:
    """The rows of `dataset`/`name`.jsonl. Raises `UserError` when the file is missing, is not the one with SHA-256
    `digest` (where given), or has a row that is no such row."""
    path = dataset / f"{name}.jsonl"
    if not path.is_file():
        raise UserError(f"{shown(path)} is missing: build the dataset with `python -m data_prep.build`")
    if digest is not None and sha256_file(path) != digest:
        raise UserError(f"{shown(path)} is not the file of its manifest.json: build the dataset anew")
    rows = _rows(path)
    split = []
    for number, row in enumerate(rows, 1):
        try:
            turn = row["messages"][-1]
            word = turn["content"] if turn["role"] == "assistant" else None
            split.append((str(row["id"]), row["review"], word, bool(row["cut"])))
        except (KeyError, IndexError, TypeError) as error:
            raise UserError(f"{shown(path)}, line {number}: not a dataset row ({error!r}); build it anew") from None
        if word not in labels:
            raise UserError(
                f"{shown(path)}, line {number}: the answer {word!r} is none of the labels {', '.join(labels)}; "
                "build the dataset anew"
            )
    ids, reviews, gold, cut = zip(*split, strict=True) if split else ((), (), (), ())
    return Split(path, ids, reviews, gold, cut)


def load_answers(path: Path, split: Split, labels: Sequence[str]) -> Answers | None:
    """The answers in `path` to the rows of `split`; None when there is no such file.

    Raises `UserError` when they are not answers to these rows, one each in the same order, or not all of one kind.
    """
    if not path.is_file():
        return None
    rows = _rows(path)
    if len(rows) != len(split):
        raise UserError(
            f"{shown(path)} has {len(rows)} answers to the {len(split)} rows of {shown(split.path)}: "
            "run the inference again"
        )
    for number, (row, key, gold) in enumerate(zip(rows, split.ids, split.gold, strict=True), 1):
        if str(row.get("id")) != key or row.get("gold") != gold:
            raise UserError(
                f"{shown(path)}, line {number}: the answer to row {row.get('id')} ({row.get('gold')}) stands where "
                f"{shown(split.path)} has row {key} ({gold}): run the inference again"
            )
    texts = _all_or_none(path, [row.get("answer") for row in rows], "answer")
    shares = _all_or_none(path, [row.get("probabilities") for row in rows], "probabilities")
    return Answers(
        texts=None if texts is None else tuple(texts),
        probabilities=None if shares is None else _matrix(path, shares, labels),
    )


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        rows = read_jsonl(path)
    except ValueError as error:
        raise UserError(f"{shown(path)} is not JSON, one object a line ({error}): make it anew") from None
    if not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{shown(path)} is not JSON, one object a line: make it anew")
    return rows


def _all_or_none(path: Path, values: list[Any], key: str) -> list[Any] | None:
    missing = [number for number, value in enumerate(values, 1) if value is None]
    if len(missing) == len(values):
        return None
    if missing:
        raise UserError(f"{shown(path)}, line {missing[0]}: no {key}, which other lines have: run the inference again")
    return values


def _matrix(path: Path, rows: list[Any], labels: Sequence[str]) -> NDArray[np.float64]:
    """Probabilities (n, labels), each row divided by its sum. Raises `UserError` for a row that is no distribution."""
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or set(row) != set(labels):
            raise UserError(
                f"{shown(path)}, line {number}: expected a probability for each of {', '.join(labels)}; "
                "run the inference again"
            )
    try:
        matrix = np.array([[row[label] for label in labels] for row in rows], dtype=float)
    except (TypeError, ValueError):
        raise UserError(f"{shown(path)}: a probability is not a number; run the inference again") from None
    sums = matrix.sum(axis=1)
    bad = np.flatnonzero(~(np.abs(sums - 1) <= _SUM_TOLERANCE) | (matrix < 0).any(axis=1))
    if len(bad):
        raise UserError(
            f"{shown(path)}, line {bad[0] + 1}: the probabilities are negative or do not sum to 1; "
            "run the inference again"
        )
    return matrix / sums[:, None]
