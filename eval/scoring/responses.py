"""Dataset rows and the responses to them: the only place that writes and reads RUN/before/test.jsonl and its like."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from workspace.errors import UserError
from workspace.files import read_jsonl, sha256_file, write_jsonl
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

    def take(self, rows: Iterable[int]) -> "Split":
        """The rows at these positions, in their order."""
        at = list(rows)
        ids, reviews, gold = (tuple(column[row] for row in at) for column in (self.ids, self.reviews, self.gold))
        return Split(self.path, ids, reviews, gold, tuple(self.cut[row] for row in at))


@dataclass(frozen=True)
class Response:
    """One row of a response file: what a model said of a dataset row.

    `answer`: the generated text; `probabilities`: P(label) by label word; either may be None. `prompt_tokens`: of the
    prompt; `cut`: whether the review was cut in it. `key` and `prompt_sha256` (of its token ids) name the prompt: None
    for a model without one, and in files of an earlier version.
    """

    id: str
    gold: str
    answer: str | None = None
    probabilities: dict[str, float] | None = None
    cut: bool = False
    prompt_tokens: int = 0
    key: str | None = None
    prompt_sha256: str | None = None


@dataclass(frozen=True)
class Responses:
    """What a model said of the rows of a split: generated texts (n,) and / or label probabilities (n, labels)."""

    texts: tuple[str, ...] | None
    probabilities: NDArray[np.float64] | None


def write_responses(path: Path, responses: Iterable[Response]) -> None:
    """Write a response file, a row a line, whole or not at all."""
    write_jsonl(path, (asdict(response) for response in responses))


def load_split(dataset: Path, name: SplitName, labels: Sequence[str], digest: str | None = None) -> Split:
    """The rows of `dataset`/`name`.jsonl. Raises `UserError` when the file is missing, is not the one with SHA-256
    `digest` (where given), or has a row that is no such row."""
    path = dataset / f"{name}.jsonl"
    if not path.is_file():
        raise UserError(f"{shown(path)} is missing: build the dataset with `python -m data_prep.build`")
    if digest is not None and sha256_file(path) != digest:
        raise UserError(f"{shown(path)} is not the file of its manifest.json: build the dataset again")
    rows = _rows(path)
    split = []
    for number, row in enumerate(rows, 1):
        try:
            turn = row["messages"][-1]
            word = turn["content"] if turn["role"] == "assistant" else None
            split.append((str(row["id"]), row["review"], word, bool(row["cut"])))
        except (KeyError, IndexError, TypeError) as error:
            raise UserError(f"{shown(path)}, line {number}: not a dataset row ({error!r}); build it again") from None
        if word not in labels:
            raise UserError(
                f"{shown(path)}, line {number}: the answer {word!r} is none of the labels {', '.join(labels)}; "
                "build the dataset again"
            )
    ids, reviews, gold, cut = zip(*split, strict=True) if split else ((), (), (), ())
    return Split(path, ids, reviews, gold, cut)


def load_responses(path: Path, split: Split, labels: Sequence[str]) -> Responses | None:
    """The responses in `path` to the rows of `split`, in its order whatever theirs; None when there is no such file.

    Raises `UserError` when they are not responses to these rows, one each, or not all of one kind.
    """
    if not path.is_file():
        return None
    rows = [_response(path, number, row) for number, row in enumerate(_rows(path), 1)]
    if len(rows) != len(split):
        raise UserError(
            f"{shown(path)} has {len(rows)} answers to the {len(split)} rows of {shown(split.path)}: "
            "run the inference again"
        )
    gold = dict(zip(split.ids, split.gold, strict=True))
    places: dict[str, int] = {}
    for place, row in enumerate(rows):
        prompt = row.key is None or row.key == f"{path.stem}/{row.id}"
        if gold.get(row.id) != row.gold or row.id in places or not prompt:
            raise UserError(
                f"{shown(path)}, line {place + 1}: the answer to row {row.id} ({row.gold}) is none to a row of "
                f"{shown(split.path)}, or its second: run the inference again"
            )
        places[row.id] = place
    at = [places[key] for key in split.ids]
    texts = _all_or_none(path, [row.answer for row in rows], "answer")
    shares = _all_or_none(path, [row.probabilities for row in rows], "probabilities")
    return Responses(
        texts=None if texts is None else tuple(texts[place] for place in at),
        probabilities=None if shares is None else _matrix(path, shares, labels)[at],
    )


def _response(path: Path, number: int, row: dict[str, Any]) -> Response:
    try:
        key, prompt_sha256 = row.get("key"), row.get("prompt_sha256")
        return Response(
            str(row["id"]), row["gold"], row.get("answer"), row.get("probabilities"), bool(row.get("cut")),
            int(row.get("prompt_tokens") or 0), key, prompt_sha256,
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{shown(path)}, line {number}: no answer to a row ({error!r}): run the inference again"
        ) from None


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        rows = read_jsonl(path)
    except ValueError as error:
        raise UserError(f"{shown(path)} is not JSON, one object a line ({error}): make it again") from None
    if not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{shown(path)} is not JSON, one object a line: make it again")
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
    normalised: NDArray[np.float64] = matrix / sums[:, None]
    return normalised
