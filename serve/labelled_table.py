"""The labelled table as a file of the kind that its name says: the original columns, then what the classifier says."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from workspace.errors import UserError
from workspace.files import replace_file, write_jsonl
from workspace.paths import shown
from workspace.spreadsheet import safe_cell, write_csv

MOST_ROWS, MOST_CHARACTERS = 1_048_575, 32_767  # of a sheet below its header, and of a cell, that Excel opens


def _loads(text: str) -> Any:
    return json.loads(text, parse_constant=lambda _: None)  # NaN and Infinity, which are no JSON


class Columns:
    """The names of a labelled table's columns, and whether the `originals` are cells of JSON each."""

    def __init__(self, originals: Sequence[str], labels: Sequence[str], is_json: bool) -> None:
        self.originals, self.is_json = tuple(originals), is_json
        answer = ["label", "confidence", *(f"p_{label}" for label in labels), "abstained", "reason"]
        taken = set(originals)
        self.answers = tuple(_free(name, taken) for name in answer)

    @property
    def unique(self) -> list[str]:
        """All names, each once: of two that are the same, or empty, the later has its place in it."""
        found: list[str] = []
        for at, name in enumerate((*self.originals, *self.answers), 1):
            found.append(name if name and name not in found else f"{name or 'column'}_{at}")
        return found


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name = f"predicted_{name}"
    return name


def write_labelled(path: Path, columns: Columns, tables: Iterable[pa.Table]) -> None:
    """Write the rows of `tables` to `path`, whole or not at all.

    Texts that a spreadsheet would run are behind an apostrophe in CSV and XLSX. Raises `UserError` for a table that is
    too long for a sheet.
    """
    WRITERS[ending(path)](path, columns, tables)


def ending(path: Path) -> str:
    """The format of a file by its name. Raises `UserError` for one that is not written."""
    if (found := path.suffix.lower()) not in WRITERS:
        raise UserError(f"--out {shown(path)} ends in none of {', '.join(WRITERS)}: name the file so")
    return found


def _csv(path: Path, columns: Columns, tables: Iterable[pa.Table]) -> None:
    write_csv(path, _lines(columns, tables))


def _lines(columns: Columns, tables: Iterable[pa.Table]) -> Iterator[list[Any]]:
    yield [*columns.originals, *columns.answers]
    for table in tables:
        for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
            yield [_cell(cell, columns, at) for at, cell in enumerate(row)]


def _cell(value: Any, columns: Columns, at: int) -> Any:
    """A cell as it is seen: text as it is, of JSON the text in it."""
    if columns.is_json and at < len(columns.originals) and value is not None:
        inner = _loads(value)
        value = value if isinstance(inner, list | dict | bool) else inner
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return "" if value is None else value


def _jsonl(path: Path, columns: Columns, tables: Iterable[pa.Table]) -> None:
    names, count = columns.unique, len(columns.originals)

    def rows() -> Iterator[dict[str, Any]]:
        for table in tables:
            for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
                cells = list(row)
                if columns.is_json:
                    kept = {name: _loads(cell) for name, cell in zip(names, cells[:count], strict=False) if cell}
                else:
                    kept = dict(zip(names, map(_plain, cells[:count]), strict=False))
                yield kept | dict(zip(names[count:], cells[count:], strict=True))

    write_jsonl(path, rows())


def _plain(value: Any) -> Any:
    """A cell of Parquet as JSON can have it: what it has no form for, as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _parquet(path: Path, columns: Columns, tables: Iterable[pa.Table]) -> None:
    writer = None
    with replace_file(path, "wb") as stream:
        for table in tables:
            named = table.rename_columns(columns.unique)
            writer = writer or pyarrow.parquet.ParquetWriter(stream, named.schema, compression="zstd")
            writer.write_table(named)
        if writer:
            writer.close()


def _xlsx(path: Path, columns: Columns, tables: Iterable[pa.Table]) -> None:
    from openpyxl import Workbook
    from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

    book = Workbook(write_only=True)
    sheet = book.create_sheet("labelled")
    for count, row in enumerate(_lines(columns, tables)):
        if count > MOST_ROWS:
            raise UserError(f"--out {shown(path)}: a sheet has at most {MOST_ROWS:,} rows: name a .csv or .parquet")
        texts = [ILLEGAL_CHARACTERS_RE.sub("", safe_cell(cell)) if isinstance(cell, str) else cell for cell in row]
        if any(isinstance(cell, str) and len(cell) > MOST_CHARACTERS for cell in texts):
            raise UserError(
                f"--out {shown(path)}: row {count:,} has a text of more than {MOST_CHARACTERS:,} characters, which no "
                "sheet holds: name a .csv or .parquet"
            )
        sheet.append([cell if isinstance(cell, str | int | float) else str(cell) for cell in texts])
    with replace_file(path, "wb") as stream:
        book.save(stream)


WRITERS: dict[str, Callable[[Path, Columns, Iterable[pa.Table]], None]] = {
    ".csv": _csv,
    ".parquet": _parquet,
    ".jsonl": _jsonl,
    ".xlsx": _xlsx,
}
