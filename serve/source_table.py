"""The table that is to be labelled: every column of it as it is, and its texts as prep reads them, a piece at a time.

Formats, encodings and layouts are found out by data_prep.table, as for a table that is tuned on.
"""

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet

from data_prep.chat.parts import joined
from data_prep.table.delimited import LONE_SURROGATES, Noticed, PlainQuotes
from data_prep.table.encoding import REPLACEMENT
from data_prep.table.header import MissingColumn, places
from data_prep.table.look import Look, look_at
from data_prep.table.objects import objects
from data_prep.table.table_settings import Column, TableSettings
from data_prep.task import Task
from serve.shards import BATCH
from workspace.errors import UserError
from workspace.paths import shown

KEPT = ("header", "sheet", "quoting", "fill_merged")  # of a task's table, what its next tables will have too
HINT = "name the table's own columns of texts with --columns, in the order in which the classifier has them"


class Piece(NamedTuple):
    """Rows in the table's order: all columns; a text each, several joined by data_prep.chat.parts; whether it holds
    bytes that its encoding does not know; the right label where there is a column of them."""

    columns: pa.Table
    texts: list[str]
    undecodable: list[bool]
    gold: list[str] | None


@dataclass(frozen=True)
class SourceTable:
    """A table, its columns' `names` as in the file, how many `rows` it has, and what a user should know of it.

    Cells are text, and of Parquet what they are; `is_json`: each is JSON of its own, and null where an object lacks
    the key.
    """

    look: Look
    names: tuple[str, ...]
    rows: int
    text_at: tuple[int, ...]  # places among the names
    label_at: int | None
    warnings: tuple[str, ...]

    @property
    def is_json(self) -> bool:
        """Whether each cell is JSON of its own."""
        return self.look.format in ("json", "jsonl")

    @classmethod
    def open(
        cls,
        path: Path,
        texts: Sequence[Column],
        label: Column | None = None,
        settings: TableSettings | None = None,
        labelled: bool = True,
    ) -> "SourceTable":
        """Read the table once, so that what cannot be read is told before anything is labelled.

        `label`: the column with right labels, which has to be there where the table is `labelled`, and else may be.
        Raises `UserError` as prep does, naming file and line, and for a table without rows.
        """
        wanted = [*texts, *([label] if labelled and label is not None else [])]
        try:
            look, noticed = look_at(path, settings, wanted), Noticed()
        except MissingColumn as error:
            raise MissingColumn(path, wanted, error.found, HINT) from None
        names = look.names
        try:
            if look.format in ("json", "jsonl"):
                names, rows = _keys(look, noticed)
            elif look.format == "parquet":
                rows = pyarrow.parquet.ParquetFile(path).metadata.num_rows
            else:
                rows = sum(1 for _ in look.rows(range(1, len(names) + 1), noticed))
        except PlainQuotes:
            look = replace(look, layout=look.layout and look.layout._replace(quoting=False))
            rows = sum(1 for _ in look.rows(range(1, len(names) + 1), noticed))
            noticed.warnings.append(f"{shown(path)}: no field is quoted as a whole: quotes are read as characters")
        if (at := places(wanted, names)) is None:
            raise MissingColumn(path, wanted, [name for name in names if name], HINT)
        if not rows:
            raise UserError(f"{shown(path)} has a header but no rows: expected one text a row")
        label_at = places([label], names) if label is not None else None
        return cls(
            look, names, rows, tuple(at[: len(texts)]), label_at[0] if label_at else None,
            (*look.oddities, *noticed.warnings),
        )  # fmt: skip

    def pieces(self, start: int, size: int) -> Iterator[Piece]:
        """The rows from `start` (from 0) on, `size` at a time."""
        left: list[pa.Table] = []
        for batch in self._batches(start):
            left.append(batch)
            while sum(map(len, left)) >= size:
                whole = pa.concat_tables(left)
                yield self._piece(whole.slice(0, size))
                left = [whole.slice(size)] if len(whole) > size else []
        if left:
            yield self._piece(pa.concat_tables(left))

    def texts(self, columns: pa.Table) -> list[str]:
        """The text of each row, several columns joined by data_prep.chat.parts; `columns` are named by their place."""
        parts = [self._as_text(columns.column(str(at))) for at in self.text_at]
        return [joined(row) if len(parts) > 1 else row[0] for row in zip(*parts, strict=True)]

    def _piece(self, columns: pa.Table) -> Piece:
        texts = self.texts(columns)
        marked = self.look.format != "csv" or bool(self.look.encoding and self.look.encoding.fault)
        broken = [marked and REPLACEMENT in text for text in texts]
        gold = None if self.label_at is None else self._as_text(columns.column(self.label_at))
        return Piece(columns, texts, broken, gold)

    def _as_text(self, column: pa.ChunkedArray) -> list[str]:
        """Cells as prep reads them. Raises `UserError` for lists and the like."""
        cells = column.to_pylist()
        if self.is_json:
            cells = [None if cell is None else json.loads(cell) for cell in cells]
        if any(isinstance(cell, list | dict | bytes) for cell in cells):
            raise UserError(f"{shown(self.look.path)}: a column of texts or labels holds lists or the like: {HINT}")
        return ["" if cell is None else LONE_SURROGATES.sub(REPLACEMENT, str(cell)).replace("\0", "") for cell in cells]

    def _batches(self, start: int) -> Iterator[pa.Table]:
        """Tables of the rows from `start` on, their columns named by number: two may have one name."""
        numbers = [str(at) for at in range(len(self.names))]
        if self.look.format == "parquet":
            seen = 0
            for batch in pyarrow.parquet.ParquetFile(self.look.path).iter_batches(BATCH):
                table = pa.Table.from_batches([batch]).rename_columns(numbers)
                yield from [table.slice(max(0, start - seen))] if seen + len(table) > start else []
                seen += len(table)
            return
        rows = itertools.islice(self._cells(), start, None)
        while piece := list(itertools.islice(rows, BATCH)):
            yield pa.table([pa.array(cells, pa.large_string()) for cells in zip(*piece, strict=True)], numbers)

    def _cells(self) -> Iterator[Sequence[str | None]]:
        if self.is_json:
            for value, _ in _objects(self.look, Noticed()):
                yield [_json(value[name]) if name in value else None for name in self.names]
            return
        for fields, _ in self.look.rows(range(1, len(self.names) + 1), Noticed()):
            yield [LONE_SURROGATES.sub(REPLACEMENT, field) for field in fields]


def open_table(
    path: Path,
    texts: Sequence[Column],
    task: Task | None = None,
    label: Column | None = None,
    settings: TableSettings | None = None,
) -> SourceTable:
    """A table to be labelled, with its right labels: of the column `label`, which has to be there, or else of the
    task's, where the table has it.

    `settings` count alone where they are given. What the task says of header, sheet, quotes is tried first, then what
    the table looks like, then all that the task says: another table than the task's may be in another encoding. A
    classifier of a table without a header names its columns by numbers, and its next tables have none either. Raises
    `UserError` as `SourceTable.open` does.
    """
    named = task.columns.label if task and label is None else label
    numbers = tuple(int(name) if isinstance(name, str) and name.isdigit() else name for name in texts)
    wanted: Sequence[Column] = texts
    ways: list[TableSettings | None] = [settings]
    if settings:
        wanted = numbers if settings.header is False else texts
    elif task:
        said = {key: found for key in KEPT if (found := getattr(task.table, key)) is not None}
        plain = TableSettings(header=False) if task.table.header is False else TableSettings()
        ways = [*dict.fromkeys((TableSettings(**said), plain)), task.table]
    elif numbers != tuple(texts) and all(isinstance(one, int) for one in numbers):
        wanted, ways = numbers, [TableSettings(header=False)]
    for way in ways[:-1]:
        try:
            return SourceTable.open(path, wanted, named, way, label is not None)
        except UserError:
            continue
    return SourceTable.open(path, wanted, named, ways[-1], label is not None)


def _json(value: Any) -> str:
    return LONE_SURROGATES.sub(REPLACEMENT, json.dumps(value, ensure_ascii=False))


def _objects(look: Look, noticed: Noticed) -> Iterator[tuple[dict[str, Any], int]]:
    if look.encoding is None:
        raise ValueError(f"{look.path} is no file of objects")
    return objects(look.path, look.encoding, look.format, noticed)


def _keys(look: Look, noticed: Noticed) -> tuple[tuple[str, ...], int]:
    """All keys of a file of objects, in the order in which they first come, and the number of objects."""
    names: dict[str, None] = {}
    rows = 0
    for value, _ in _objects(look, noticed):
        names |= dict.fromkeys(value)
        rows += 1
    return tuple(names), rows
