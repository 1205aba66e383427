"""What a table's file is, before its rows are read: format, encoding, layout, sheets, columns."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from data_prep.table.binary import Workbook, excel_rows, find_sheets, merged_rows, parquet_names, parquet_rows
from data_prep.table.delimited import Noticed, PlainQuotes, Row, delimited_rows, frame_of
from data_prep.table.encoding import Encoding, find_encoding, open_bytes, open_text
from data_prep.table.header import MissingColumn, places
from data_prep.table.layout import Layout, find_layout
from data_prep.table.objects import is_json, object_names, object_rows
from data_prep.table.table_settings import Column, TableSettings
from workspace.errors import UserError
from workspace.paths import shown

FORMATS = {
    **dict.fromkeys((".csv", ".txt", ".tsv", ".tab", ".dat", ".psv"), "csv"),
    **dict.fromkeys((".jsonl", ".ndjson"), "jsonl"),
    ".json": "json",
    **dict.fromkeys((".xlsx", ".xlsm"), "excel"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
}
TEXT = ("csv", "json", "jsonl")


@dataclass(frozen=True)
class Look:
    """What was found out about a table's file.

    `names` are those of all columns, numbers from 1 where there is no header; `encoding` and `layout` are None for
    formats that bring their own, `book` for other than workbooks; `oddities` are sentences for the user.
    """

    path: Path
    format: str  # csv, json, jsonl, excel or parquet
    settings: TableSettings
    names: tuple[str, ...]
    encoding: Encoding | None = None
    layout: Layout | None = None
    book: Workbook | None = None
    oddities: tuple[str, ...] = ()

    @property
    def header(self) -> bool:
        """Whether the names are in the file."""
        if self.book:
            return self.book.sheets[0].header.named
        return self.layout is None or self.layout.header

    @property
    def keys(self) -> dict[str, Any]:
        """The `table:` keys with which it is read as it was here: what was found out, or given."""
        given = {name: value for name, value in dataclasses.asdict(self.settings).items() if value is not None}
        found: dict[str, Any] = {}
        if self.encoding and self.encoding.name not in ("utf-8", "utf-8-sig"):
            found["encoding"] = self.encoding.name
        if self.layout:
            found |= {"delimiter": self.layout.delimiter} if self.layout.delimiter != "," else {}
            found |= {} if self.layout.quoting else {"quoting": False}
        found |= {} if self.header else {"header": False}
        keys = given | found
        if self.book and "sheet" in keys:
            keys["sheet"] = keys["sheet"][0] if len(keys["sheet"]) == 1 else list(keys["sheet"])
        return keys

    def frame(
        self, wanted: Sequence[Column], names: Sequence[str], noticed: Noticed, label: Column | None = None
    ) -> pd.DataFrame:
        """The `wanted` columns under `names`, all of them text, with row and line.

        With `label` rows that a stray quote swallowed are searched for. Raises UserError and MissingColumn.
        """
        try:
            return frame_of(self.rows(wanted, noticed, label), names, halves=self.format != "csv")
        except PlainQuotes:
            noticed.warnings.append(
                f"{shown(self.path)}: no field is quoted as a whole: quotes are read as characters as any other"
            )
            plain = dataclasses.replace(self, layout=self.layout and self.layout._replace(quoting=False))
            return frame_of(plain.rows(wanted, noticed, label), names, halves=False)

    def rows(self, wanted: Sequence[Column], noticed: Noticed, label: Column | None = None) -> Iterator[Row]:
        """The wanted fields of each row. Raises UserError, MissingColumn, and PlainQuotes (see delimited)."""
        if self.layout and self.encoding:
            if (at := places(wanted, self.names)) is None:
                raise MissingColumn(self.path, wanted, [name for name in self.names if name])
            trusted = self.settings.quoting is True or label is None
            label_at = None if trusted else places([label], self.names)[0]  # type: ignore[list-item, index]
            return delimited_rows(self.path, self.encoding, self.layout, at, label_at, noticed)
        if self.encoding:
            return object_rows(self.path, self.encoding, self.format, wanted, noticed)
        return _binary(self.path, self.format, lambda: self._binary_rows(wanted, noticed, label))

    def _binary_rows(self, wanted: Sequence[Column], noticed: Noticed, label: Column | None) -> Iterator[Row]:
        if self.book is None:
            return parquet_rows(self.path, wanted, noticed)
        at = places(wanted, self.names) or []
        if (merged := merged_rows(self.book, at)) and self.settings.fill_merged is None:
            told = (
                f"{shown(self.path)}: cells are merged over several rows ({', '.join(merged[:3])}), of which the first "
                "alone has the value: set `table: {fill_merged: true}` in the task where it is meant for all of them, "
                "`table: {fill_merged: false}` where it is not"
            )
            if label is not None and merged_rows(self.book, places([label], self.names) or []):
                raise UserError(told)  # the other rows would have no label
            noticed.warnings.append(told)
        return excel_rows(self.path, self.book, wanted, self.settings, noticed)


def look_at(path: Path, settings: TableSettings | None = None, wanted: Sequence[Column] = ()) -> Look:
    """What the file `path` is; columns that are `wanted` help to tell.

    Raises UserError, naming the file, for one that is missing, empty, a folder, of an unknown kind or broken, and
    where the settings leave open what can be read in several ways, with the key to set.
    """
    path, settings = Path(path), settings or TableSettings()
    try:
        return _look(path, settings, wanted)
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{shown(path)} cannot be read ({reason}): give a table with --csv") from error


def _look(path: Path, settings: TableSettings, wanted: Sequence[Column]) -> Look:
    if path.is_dir():
        raise UserError(f"{shown(path)} is a folder: give the table in it with --csv FILE")
    kind = FORMATS.get(Path(path.stem).suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower())
    with open_bytes(path) as stream:
        start = stream.read(1 << 16)
    if not start:
        raise UserError(f"{shown(path)} is empty: expected a header and rows")
    kind = _by_content(path, start, kind)
    if kind == "parquet":
        return Look(path, kind, settings, tuple(_binary(path, kind, lambda: iter(parquet_names(path)))))
    if kind == "excel":
        book = next(_binary(path, kind, lambda: iter([find_sheets(path, settings, wanted)])))
        odd = []
        if book.others:
            odd.append(
                f"{shown(path)}: the sheet {book.sheets[0].name} is read, not {', '.join(book.others)}: name them in "
                "`table: {sheet: [...]}` of the task, or all"
            )
        return Look(path, kind, settings, book.sheets[0].header.names, book=book, oddities=tuple(odd))
    encoding = find_encoding(path, settings.encoding, "table")
    with open_text(path, encoding) as text:
        found = is_json(text.read(1 << 16))
    if kind in ("json", "jsonl") or found:
        kind = "jsonl" if kind == "jsonl" and found != "json" else found or kind
        return Look(path, kind, settings, object_names(path, encoding, kind), encoding)
    layout = find_layout(path, encoding, settings, wanted)
    return Look(path, "csv", settings, layout.names, encoding, layout)


def _by_content(path: Path, start: bytes, kind: str | None) -> str:
    """The format; a file that is none of its name's kind is what it holds. Raises UserError for what is not read."""
    packed = path.suffix.lower() == ".gz"
    if start.startswith(b"\x1f\x8b"):
        raise UserError(f"{shown(path)} is packed with gzip: give its name the ending .gz")
    if start.startswith(b"\xd0\xcf\x11\xe0"):
        raise UserError(f"{shown(path)} is a workbook of the old format .xls: open it and save it as .xlsx or CSV")
    if start.startswith(b"PAR1"):
        found = "parquet"
    elif start.startswith(b"PK\x03\x04"):
        found = "excel"
        if kind != "excel" and b"xl/" not in start and b"[Content_Types].xml" not in start[:200]:
            raise UserError(f"{shown(path)} is a zip archive: unpack it and give the table in it")
    elif kind is None:
        known = ", ".join([*FORMATS, ".csv.gz"])
        raise UserError(
            f"{shown(path)} is of an unknown kind: expected a name that ends in {known}: save it as .xlsx or CSV"
        )
    else:
        found = kind
    if packed and found not in TEXT:
        raise UserError(f"{shown(path)} is packed: unpack it first (gunzip), its format is packed by itself")
    return found


def _binary(path: Path, kind: str, read: Any) -> Iterator[Any]:
    try:
        yield from read()
    except (UserError, MemoryError):
        raise
    except Exception as error:  # the readers of broken archives raise errors of every kind
        raise UserError(f"{shown(path)} cannot be read as {kind} ({error}): save it again, or as CSV") from error
