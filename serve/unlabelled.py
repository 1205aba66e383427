"""The rows of a table that are worth labelling: with a text, without a label, and in none of a run's rows."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_prep.chat.parts import as_read
from data_prep.duplicates.deduplication import Normaliser, find_duplicates
from data_prep.table.checking import visible_lengths
from data_prep.table.table_settings import Column
from data_prep.table.text_column import text_column
from data_prep.task import NearDuplicates, Task
from serve.source_table import SourceTable, open_table
from workspace.errors import UserError
from workspace.paths import shown

SEED = 42
PIECE = 5_000  # rows read at a time


@dataclass(frozen=True)
class Unlabelled:
    """A table, all columns of it, named by their places, and a text a row (several columns joined by
    data_prep.chat.parts); `at` are the rows, from 0, that are worth labelling, and `others` how many are not, and why.
    """

    table: SourceTable
    columns: pa.Table
    texts: list[str]
    at: NDArray[np.int64]
    others: dict[str, int]

    def cells(self, rows: NDArray[np.int64]) -> list[list[Any]]:
        """The cells of the rows (from 0), a list a column; of a table of objects the values that they are."""
        columns = [column.to_pylist() for column in self.columns.take(pa.array(rows)).columns]
        if self.table.is_json:
            columns = [[None if cell is None else json.loads(cell) for cell in column] for column in columns]
        return columns


def read_unlabelled(
    path: Path, task: Task, known: Sequence[str], texts: Sequence[Column] | None = None, seed: int = SEED
) -> Unlabelled:
    """The rows of the table `path`; `known` are texts that are labelled already, `texts` its columns of texts where
    they are not called as in the task.

    Raises `UserError` as prep does for a table that cannot be read, and where no row is left.
    """
    wanted = list(texts or task.columns.text)
    if len(wanted) != len(task.columns.text):
        named = ", ".join(map(str, task.columns.text))
        raise UserError(f"--columns names {len(wanted)} columns, expected one for each of the task's: {named}")
    table = open_table(path, wanted, task)
    pieces = list(table.pieces(0, PIECE))
    joined = [text for piece in pieces for text in piece.texts]
    labelled = np.array([bool(cell.strip()) for piece in pieces for cell in piece.gold or [""] * len(piece.texts)])
    broken = np.array([mark for piece in pieces for mark in piece.undecodable])
    read = [as_read(text, len(wanted)) for text in joined]
    visible = visible_lengths(text_column(iter([read])))
    short = broken | (visible < max(task.min_chars, 1))
    left = np.flatnonzero(~labelled & ~short)
    new, there = unlike(known, [read[row] for row in left], task.near_duplicates, seed)
    others = {
        "have a label": int(labelled.sum()),
        "have no text that can be read": int((short & ~labelled).sum()),
        "stand in the run's rows": int(there.sum()),
        "are copies of others": int((~new & ~there).sum()),
    }
    if not new.any():
        told = ", ".join(f"{count:,} {why}" for why, count in others.items() if count)
        raise UserError(f"{shown(path)} has no row that is worth labelling ({told}): give a table of other texts")
    return Unlabelled(table, pa.concat_tables([piece.columns for piece in pieces]), joined, left[new], others)


def unlike(
    known: Sequence[str], texts: Sequence[str], near: NearDuplicates, seed: int = SEED
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which of `texts` are new (n,), and which are equal or near to a `known` one (n,); of copies the first is new."""
    normaliser, count = Normaliser(), len(known)
    groups = find_duplicates([*normaliser.normalise(known), *normaliser.normalise(texts)], near, seed).near
    mine = groups[count:]
    there = np.isin(mine, groups[:count])
    return ~there & (mine == np.arange(count, count + len(texts))), there
