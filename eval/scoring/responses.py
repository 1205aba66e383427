"""Dataset rows and the responses to them: the only place that writes and reads RUN/before/test.jsonl and its like."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import FiniteFloat

from data_prep.chat.parts import joined
from data_prep.chat.shown_text import around, shown_texts
from data_prep.rows import read_rows
from plugins.score_lines import FinishReason, chat_sha256
from workspace.errors import UserError
from workspace.files import write_jsonl
from workspace.paths import shown
from workspace.records import RowId, read_lines

# Saved probabilities are rounded; a row whose sum is farther from 1 than this was not normalised over these labels.
_SUM_TOLERANCE = 1e-3
VARIANTS_FILE = "variants.jsonl"  # in RUN/before: the answers to the other ways of asking

SplitName = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Split:
    """Rows of one split in the file's order: id, uncut review, gold label word, whether the prompt had it cut; where
    the task has them, ids in a column of the user's own, and the texts of several columns as data_prep.chat.parts joins
    them; the hash of the prompt's chat; its question, with the review as the model is shown it."""

    path: Path
    ids: tuple[str, ...]
    reviews: tuple[str, ...]
    gold: tuple[str, ...]
    cut: tuple[bool, ...]
    source_ids: tuple[str | None, ...] = ()
    columns: tuple[str, ...] = ()
    chats: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def places(self) -> dict[str, int]:
        """Where each row stands, by its id."""
        return {key: place for place, key in enumerate(self.ids)}

    def codes(self, labels: Sequence[str]) -> NDArray[np.int64]:
        """Gold labels as positions in `labels`, shape (n,)."""
        return np.array([labels.index(word) for word in self.gold], dtype=np.int64)

    def take(self, rows: Iterable[int]) -> "Split":
        """The rows at these positions, in their order."""
        at = list(rows)
        first = (self.ids, self.reviews, self.gold, self.cut)
        columns = (*first, self.source_ids, self.columns, self.chats, self.questions)
        return Split(self.path, *(tuple(column[row] for row in at if column) for column in columns))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Response:
    """One row of a response file: what a model said of a dataset row.

    `answer`: the generated text; `probabilities`: P(label) by label word; either may be None. `prompt_tokens`: of the
    prompt; `cut`: whether the review was cut in it. `key`, `chat_sha256` (of the dataset row's chat) and
    `prompt_sha256` (of the token ids) name the prompt: None for a model without one and in files of an earlier version;
    the second also where the prompt is another chat than the row's. `finish_reason`: why the text ended, None where
    that is not known. `label_mass`: the probability that the label words hold in all, before they were made to sum to
    1; None where that is not known, and of a head, which has nothing else to say.
    """

    id: RowId
    gold: str
    answer: str | None = None
    probabilities: dict[str, float] | None = None
    cut: bool = False
    prompt_tokens: int = 0
    key: str | None = None
    chat_sha256: str | None = None
    prompt_sha256: str | None = None
    finish_reason: FinishReason | None = None
    label_mass: FiniteFloat | None = None


@dataclass(frozen=True)
class Responses:
    """What a model said of the rows of a split: generated texts (n,) and / or label probabilities (n, labels).

    finish_reasons (n,): why each text ended, None where that is not known. label_mass (n,): None where any is unknown.
    """

    texts: tuple[str, ...] | None
    probabilities: NDArray[np.float64] | None
    finish_reasons: tuple[str | None, ...] | None = None
    label_mass: NDArray[np.float64] | None = None


def write_responses(path: Path, responses: Iterable[Response]) -> None:
    """Write a response file, a row a line, whole or not at all."""
    write_jsonl(path, (asdict(response) for response in responses))


def load_split(dataset: Path, name: SplitName, labels: Sequence[str], digest: str | None = None) -> Split:
    """The rows of `dataset`/`name`.jsonl. Raises `UserError` as `read_rows` does, and for another label."""
    path = dataset / f"{name}.jsonl"
    rows = read_rows(path, digest)
    for number, row in enumerate(rows, 1):
        if row.label not in labels:
            raise UserError(
                f"{shown(path)}, line {number}: the answer {row.label!r} is none of the labels {', '.join(labels)}; "
                "build the dataset again"
            )
    return Split(
        path,
        ids=tuple(row.id for row in rows),
        reviews=tuple(row.review for row in rows),
        gold=tuple(row.label for row in rows),
        cut=tuple(row.cut for row in rows),
        source_ids=tuple(row.source_id for row in rows) if any(row.source_id is not None for row in rows) else (),
        columns=tuple(joined(row.texts.values()) for row in rows if row.texts),
        chats=tuple(chat_sha256(row.messages[:-1]) for row in rows),
        questions=tuple(row.messages[-2]["content"] for row in rows),
    )


def as_shown(*splits: Split) -> list[Split]:
    """The splits of one dataset with the reviews as the model is shown them, cut where they were too long."""
    edges = around([question for split in splits for question in split.questions])
    return [replace(split, reviews=tuple(shown_texts(split.questions, edges))) for split in splits]


def load_responses(
    path: Path, split: Split, labels: Sequence[str], whole: Split | None = None, texts: bool = True
) -> Responses | None:
    """The responses in `path` to the rows of `split`, in its order whatever theirs; None when there is no such file.

    `whole`: the rows that the file answers, where `split` is a part of them. `texts`: whether generated texts are
    wanted and must be there for all rows of `split` or for none. Raises `UserError` when they are not responses to
    these rows, one each, or not all of one kind.
    """
    if not path.is_file():
        return None
    rows = read_lines(path, Response, "run the inference again")
    answered = split if whole is None else whole
    if len(rows) != len(answered):
        raise UserError(
            f"{shown(path)} has {len(rows)} answers to the {len(answered)} rows of {shown(split.path)}: "
            "run the inference again"
        )
    gold = dict(zip(answered.ids, answered.gold, strict=True))
    chats = dict(zip(answered.ids, answered.chats, strict=bool(answered.chats)))
    places: dict[str, int] = {}
    for place, row in enumerate(rows):
        prompt = row.key is None or row.key == f"{path.stem}/{row.id}"
        prompt &= row.chat_sha256 is None or chats.get(row.id, row.chat_sha256) == row.chat_sha256
        if gold.get(row.id) != row.gold or row.id in places or not prompt:
            raise UserError(
                f"{shown(path)}, line {place + 1}: the answer to row {row.id} ({row.gold}) is none to a row of "
                f"{shown(split.path)}, or its second: run the inference again"
            )
        places[row.id] = place
    at = [places[key] for key in split.ids]
    lines = {place + 1: rows[place] for place in at}
    said = _all_or_none(path, {number: row.answer for number, row in lines.items()}, "answer") if texts else None
    shares = _all_or_none(path, {number: row.probabilities for number, row in lines.items()}, "probabilities")
    return Responses(
        texts=None if said is None else tuple(said),
        probabilities=None if shares is None else probability_matrix(path, shares, labels, list(lines)),
        finish_reasons=None if said is None else tuple(row.finish_reason for row in lines.values()),
        label_mass=_known([row.label_mass for row in lines.values()]),
    )


def _known(values: list[float | None]) -> NDArray[np.float64] | None:
    return None if None in values else np.array(values, dtype=float)


def _all_or_none(path: Path, values: Mapping[int, Any], key: str) -> list[Any] | None:
    """The values by the numbers of their lines; None where there is none."""
    missing = [number for number, value in values.items() if value is None]
    if missing and len(missing) < len(values):
        line = min(missing)
        raise UserError(f"{shown(path)}, line {line}: no {key}, which other lines have: run the inference again")
    return list(values.values()) if len(missing) < len(values) else None


def probability_matrix(
    path: Path, rows: list[Any], labels: Sequence[str], numbers: Sequence[int] = ()
) -> NDArray[np.float64]:
    """Probabilities (n, labels), each row divided by its sum; `numbers`: of the rows' lines, if those are not 1 to n.

    Raises `UserError` for a row that is no distribution.
    """
    again, lines = "run the inference again", list(numbers) or list(range(1, len(rows) + 1))
    for number, row in zip(lines, rows, strict=True):
        if set(row) != set(labels):
            wanted = ", ".join(labels)
            raise UserError(f"{shown(path)}, line {number}: expected a probability for each of {wanted}; {again}")
    matrix = np.array([[row[label] for label in labels] for row in rows], dtype=float)
    sums = matrix.sum(axis=1, keepdims=True)
    bad = np.flatnonzero((~(np.abs(sums - 1) <= _SUM_TOLERANCE) | (matrix < 0)).any(axis=1))
    if len(bad):
        place = f"{shown(path)}, line {lines[bad[0]]}"
        raise UserError(f"{place}: the probabilities are negative or do not sum to 1; {again}")
    return np.asarray(matrix / sums)
