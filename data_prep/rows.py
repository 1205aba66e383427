"""The rows of train.jsonl, val.jsonl and test.jsonl: ms-swift's chat messages, and what this project adds to them."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import AfterValidator, ConfigDict, Field

from data_prep.chat.columns import places_in, prompt_texts
from data_prep.manifest import BUILD
from data_prep.table.text_column import PIECE
from data_prep.task import Task
from workspace.errors import UserError
from workspace.files import sha256_file, write_jsonl
from workspace.paths import shown
from workspace.records import RowId, read_lines

Message = dict[str, str]  # {"role": "system", "user" or "assistant", "content": text}


def _a_chat(messages: list[Message]) -> list[Message]:
    if not all(turn.keys() == {"role", "content"} for turn in messages):
        raise ValueError("they are not turns of a chat, each with role and content alone")
    if [turn["role"] for turn in messages][-2:] != ["user", "assistant"]:
        raise ValueError("they do not end with a question and its answer")
    return messages


@dataclass(frozen=True, slots=True)
class DatasetRow:
    """A row of a dataset.

    `messages` are system (where the task has one), user and assistant turn; `label_id` is the label's place among the
    manifest's `labels` (None in datasets of the first versions); `id` the row's number in the table, from 1; `review`
    the whole text as in the table; `cut` whether it is shortened in the prompt; `known` whether it occurs in the task's
    `known_public` (None: not looked up). `source_id` is the row's id in the user's own column, `texts` the text of each
    of several text columns by its name, which `review` has one a line; both None where the task's `columns` names none.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")  # ms-swift would fetch what lies behind `images`

    messages: Annotated[list[Message], AfterValidator(_a_chat)]
    id: RowId
    review: str
    cut: bool
    label_id: Annotated[int | None, Field(validation_alias="label")] = None
    known: bool | None = None
    source_id: str | None = None
    texts: dict[str, str] | None = None

    @property
    def label(self) -> str:
        """The label word: the assistant's turn."""
        return self.messages[-1]["content"]

    def as_json(self) -> dict[str, Any]:
        """The row as it is in the file."""
        row = {"messages": self.messages, "label": self.label_id, "id": self.id, "review": self.review, "cut": self.cut}
        further = {"known": self.known, "source_id": self.source_id, "texts": self.texts}
        return row | {name: value for name, value in further.items() if value is not None}


def pieces_of(kept: pd.DataFrame, changed: Mapping[int, str], split: str) -> Iterator[pd.DataFrame]:
    """The used rows of a split, some thousand at a time, in the table's order; val shortest first.

    The column shown is the review as it is in the prompt: that of `changed` (by position), or the table's.

    ms-swift validates in the file's order, and a batch of equal lengths needs no padding: half the time.
    """
    rows = np.flatnonzero((kept["split"] == split).to_numpy() & kept["used"].to_numpy())
    if split == "val":
        lengths = kept["text"].str.len().to_numpy().copy()
        lengths[list(changed)] = [len(text) for text in changed.values()]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
    for start in range(0, len(rows), PIECE):
        part = rows[start : start + PIECE]
        piece = kept.iloc[part]
        shown_texts = [changed.get(at, text) for at, text in zip(part.tolist(), prompt_texts(piece), strict=True)]
        yield piece.assign(shown=pd.Series(shown_texts, index=piece.index, dtype="str"))


def dataset_rows(pieces: Iterable[pd.DataFrame], task: Task, advance: Callable[[int], object]) -> Iterator[DatasetRow]:
    """The rows of a split. Test rows say whether they are known, where the task has `known_public`.

    `advance` is called with the number of rows after each piece.
    """
    label_ids = {label: label_id for label_id, label in enumerate(task.label_words)}
    for rows in pieces:
        columns = [rows[name].tolist() for name in ("row", "text", "label", "shown", "cut")]
        with_known = "known" in rows and (rows["split"] == "test").all()
        known = rows["known"].tolist() if with_known else [None] * len(rows)
        own = rows["id"].tolist() if "id" in rows else [None] * len(rows)
        names = places_in(rows)
        texts = [dict(zip((name[1:-1] for name in names), parts, strict=True)) or None for parts in rows[names].values]
        for row, text, label, review, cut, is_known, source_id, parts in zip(*columns, known, own, texts, strict=True):
            turns = [
                *task.system_turns,
                {"role": "user", "content": task.render(review)},
                {"role": "assistant", "content": label},
            ]
            yield DatasetRow(turns, str(row), text, cut, label_ids[label], is_known, source_id, parts)
        advance(len(rows))


def write_rows(path: Path, rows: Iterable[DatasetRow]) -> None:
    """Write rows to a split's file, one JSON object a line, whole or not at all."""
    write_jsonl(path, (row.as_json() for row in rows))


def read_rows(path: Path, sha256: str | None = None) -> list[DatasetRow]:
    """The rows in a split's file, whose SHA-256 must be `sha256` where that is given (the manifest's `files` has it).

    Raises UserError, naming file and line, for a file that is missing, is another one, or has a line that is no row.
    """
    if not path.is_file():
        raise UserError(f"{shown(path)} is missing: {BUILD}")
    if sha256 is not None and sha256_file(path) != sha256:
        raise UserError(f"{shown(path)} is not the file of its manifest.json: {BUILD} again")
    rows = read_lines(path, DatasetRow, f"{BUILD} again")
    if len({row.id for row in rows}) < len(rows):
        doubled = Counter(row.id for row in rows).most_common(1)[0][0]
        raise UserError(f"{shown(path)} holds the row {doubled} twice: {BUILD} again")
    return rows
