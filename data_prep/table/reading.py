"""A table of labelled texts, read from CSV, TSV, JSONL, Excel or Parquet into one frame.

Every value is text as it is in the file: `01`, `NA` and an empty cell stay what they are. Only NUL characters,
which no text has on purpose, are taken out, and counted.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from data_prep.table.binary import excel_rows, parquet_rows
from data_prep.table.delimited import Noticed, Row, csv_rows, frame_of, jsonl_rows
from data_prep.table.encoding import REPLACEMENT, Encoding, find_encoding
from data_prep.task import Columns
from workspace.errors import UserError
from workspace.paths import shown

FORMATS = {
    **dict.fromkeys((".csv", ".txt", ".tsv", ".tab"), "csv"),
    **dict.fromkeys((".jsonl", ".ndjson"), "jsonl"),
    **dict.fromkeys((".xlsx", ".xlsm"), "excel"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
}


@dataclass(frozen=True)
class Table:
    """A table as read. `frame` has one line per data row, in the file's order, with the columns

    row (int, from 1), line (int, where the row starts in the file, header = 1; 0 where the format has no lines),
    text, label (str), undecodable (bool: the row holds bytes that the encoding does not know).
    """

    path: Path
    frame: pd.DataFrame
    encoding: Encoding | None  # None for the formats that bring their own
    nul_characters: int
    warnings: tuple[str, ...]


def read_table(path: Path, columns: Columns) -> Table:
    """The rows of the table `path`, whose format follows from its name.

    Raises UserError, naming file and line, for a file that is missing, empty, a folder, of an unknown kind or broken,
    for a missing column and for a row with too few or too many fields.
    """
    path = Path(path)
    kind = FORMATS.get(path.suffix.lower())
    try:
        if path.is_dir():
            raise UserError(f"{shown(path)} is a folder: give the table in it with --csv FILE")
        if kind is None:
            raise UserError(f"{shown(path)} is of an unknown kind: expected a name that ends in {', '.join(FORMATS)}")
        if path.stat().st_size == 0:
            raise UserError(f"{shown(path)} is empty: expected a header with {columns.text} and {columns.label}")
        noticed = Noticed()
        encoding = find_encoding(path) if kind in ("csv", "jsonl") else None
        if encoding:
            rows = (csv_rows if kind == "csv" else jsonl_rows)(path, encoding, columns, noticed)
        else:
            rows = _binary_rows(path, kind, columns, noticed)
        frame = frame_of(rows, halves=kind != "csv")
    except OSError as error:
        raise UserError(f"{shown(path)} cannot be read ({error.strerror or error}): give a table with --csv") from error
    if frame.empty:
        raise UserError(f"{shown(path)} has a header but no rows: expected one labelled text a row")
    broken = pd.Series(False, index=frame.index)
    if kind != "csv" or (encoding and encoding.fault):
        for name in ("text", "label"):
            broken |= frame[name].str.contains(REPLACEMENT, regex=False)
    return Table(path, frame.assign(undecodable=broken), encoding, noticed.nul_characters, tuple(noticed.warnings))


def _binary_rows(path: Path, kind: str, columns: Columns, noticed: Noticed) -> Iterator[Row]:
    try:
        yield from (excel_rows if kind == "excel" else parquet_rows)(path, columns, noticed)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # the readers of broken archives raise errors of every kind
        raise UserError(f"{shown(path)} cannot be read as {kind} ({error}): save it again, or as CSV") from error
