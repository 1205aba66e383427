"""A table of labelled texts, read from CSV, TSV, JSONL, Excel or Parquet into one frame.

Every value is text as it is in the file: `01`, `NA` and an empty cell stay what they are. Only NUL characters,
which no text has on purpose, are taken out, and counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from data_prep.table.delimited import Rows, read_csv, read_jsonl, whole_characters
from data_prep.table.encoding import REPLACEMENT, Encoding, find_encoding
from data_prep.task import Columns
from workspace.errors import UserError, nearest
from workspace.paths import shown

FORMATS = {
    ".csv": "csv",
    ".txt": "csv",
    ".tsv": "csv",
    ".tab": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".xlsx": "excel",
    ".xlsm": "excel",
    ".parquet": "parquet",
    ".pq": "parquet",
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
        if kind in ("csv", "jsonl"):
            return _text_table(path, kind, columns)
        return _binary_table(path, kind, columns)
    except OSError as error:
        raise UserError(f"{shown(path)} cannot be read ({error.strerror or error}): give a table with --csv") from error


class MissingColumn(UserError):
    """A table whose header, `found`, lacks one of the two columns, or has it twice."""

    def __init__(self, message: str, found: Sequence[str]) -> None:
        super().__init__(message)
        self.found = found


def missing_column(path: Path, wanted: Columns, found: Sequence[str]) -> MissingColumn:
    """The error for a table without the two columns: which are missing, which were found, what to do."""
    missing = [name for name in dict.fromkeys((wanted.text, wanted.label)) if name not in found]
    doubled = [name for name in (wanted.text, wanted.label) if list(found).count(name) > 1]
    if not missing:
        message = f"{shown(path)}: the column {doubled[0]} is in the header twice: rename one of them"
        return MissingColumn(message, found)
    listed = ", ".join(str(name) for name in found[:20]) + (", ..." if len(found) > 20 else "")
    return MissingColumn(
        f"{shown(path)} has no column {' and no column '.join(missing)}{nearest(missing[0], found)}; found: {listed}; "
        "name the columns in the task's `columns`",
        found,
    )


def _text_table(path: Path, kind: str, columns: Columns) -> Table:
    encoding = find_encoding(path)
    rows = read_csv(path, encoding, columns) if kind == "csv" else read_jsonl(path, encoding, columns)
    if isinstance(rows, list):  # the header, when the columns are not in it
        raise missing_column(path, columns, rows)
    return _table(path, rows, encoding)


def _table(path: Path, rows: Rows, encoding: Encoding | None) -> Table:
    if not rows:
        raise UserError(f"{shown(path)} has a header but no rows: expected one labelled text a row")
    frame = rows.frame()
    broken = pd.Series(False, index=frame.index)
    if rows.clean or (encoding and encoding.fault):
        for name in ("text", "label"):
            broken |= frame[name].str.contains(REPLACEMENT, regex=False)
    return Table(path, frame.assign(undecodable=broken), encoding, rows.nul_characters, tuple(rows.warnings))


def _binary_table(path: Path, kind: str, columns: Columns) -> Table:
    try:
        frame = _excel(path) if kind == "excel" else _parquet(path, columns)
    except UserError:
        raise
    except Exception as error:  # the readers of broken archives raise errors of every kind
        raise UserError(f"{shown(path)} cannot be read as {kind} ({error}): save it again, or as CSV") from error
    names = [str(name).strip() for name in frame.columns]
    if any(names.count(name) != 1 for name in (columns.text, columns.label)):
        raise missing_column(path, columns, names)
    frame.columns = names
    texts, labels = (_as_text(path, frame[name]) for name in (columns.text, columns.label))
    nul = int(texts.str.count("\0").sum() + labels.str.count("\0").sum())
    lines = [row + 2 for row in range(len(frame))] if kind == "excel" else [0] * len(frame)
    rows = Rows(
        clean=whole_characters,
        texts=texts.str.replace("\0", "", regex=False).tolist(),
        labels=labels.str.replace("\0", "", regex=False).tolist(),
        lines=lines,
        nul_characters=nul,
    )
    return _table(path, rows, None)


def _excel(path: Path) -> pd.DataFrame:
    """The first sheet, its first line as the header, cells as text. header=None keeps pandas from renaming columns."""
    sheet = pd.read_excel(path, header=None, dtype=str, keep_default_na=False, na_filter=False)
    if sheet.empty:
        raise UserError(f"{shown(path)}: the first sheet is empty: expected a header and rows")
    return sheet.iloc[1:].set_axis(sheet.iloc[0].tolist(), axis=1)


def _parquet(path: Path, columns: Columns) -> pd.DataFrame:
    import pyarrow.parquet  # here, because it takes a quarter of a second to load

    names = pyarrow.parquet.read_schema(path).names
    wanted = list(dict.fromkeys((columns.text, columns.label)))
    if any(names.count(name) != 1 for name in wanted):
        raise missing_column(path, columns, names)
    return pd.read_parquet(path, columns=wanted)


def _as_text(path: Path, values: pd.Series) -> pd.Series:
    """The cells as text: an absent one is empty, a number is written out. Raises UserError for lists and the like."""
    kind = pd.api.types.infer_dtype(values, skipna=True)
    if kind in ("mixed", "bytes"):
        raise UserError(f"{shown(path)}: the column {values.name} holds {kind} values, expected text")
    return values.astype("str").where(values.notna(), "").astype("str")
