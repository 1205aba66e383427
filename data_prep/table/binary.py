"""The rows of Excel sheets or a Parquet file, read piece by piece: small files can unpack to more than memory holds.

Of a sheet only rows that hold something count: what is empty in it, or right of it, is no part of the table.
"""

import itertools
import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from data_prep.table.delimited import Noticed, Row
from data_prep.table.header import Header, MissingColumn, find_header, places
from data_prep.table.table_settings import Column, TableSettings
from data_prep.table.text_column import PIECE
from workspace.errors import UserError, nearest
from workspace.paths import shown

MOST_BYTES = 2**29  # of a workbook's parts, or of a Parquet file's columns, unpacked: a million long reviews
MOST_CELLS = 50_000_000  # of a sheet, or rows x columns of a Parquet file
ERROR_CELL = "e"  # openpyxl's type of a cell such as #N/A
FIRST_ROWS = 300  # of a sheet, in which the header is looked for
MOST_MERGED = 2_000_000  # cells of a merged range that are filled
ALL = ("all",)


class Sheet(NamedTuple):
    """A sheet that is read: `start` is the row, from 1, after which the data begin."""

    name: str
    start: int
    header: Header
    merged: tuple[str, ...]  # ranges of several rows, such as A2:A5


class Workbook(NamedTuple):
    """The sheets that are read, in order, and the other ones that hold something."""

    sheets: tuple[Sheet, ...]
    others: tuple[str, ...]


def find_sheets(path: Path, settings: TableSettings, wanted: Sequence[Column]) -> Workbook:
    """The sheets of the workbook that are read: those that the settings name, else the first that holds something.

    Raises UserError for a sheet that is not there, a workbook that is empty or too large, and, naming the sheet that
    has them, for columns that the first lacks; MissingColumn where no sheet has them.
    """
    with _book(path) as book:
        filled = [sheet for sheet in book.worksheets if any(_filled_rows(sheet))]
        names = [sheet.title for sheet in filled]
        if not filled:
            raise UserError(
                f"{shown(path)}: the first sheet is empty, and so are all others: expected a header and rows"
            )
        chosen = names[:1] if settings.sheet is None else names if settings.sheet == ALL else list(settings.sheet)
        for name in chosen:
            if name not in names:
                raise UserError(
                    f"{shown(path)} has no sheet {name} that holds something{nearest(name, names)}; found: "
                    f"{', '.join(names)}: correct `table: {{sheet: ...}}` in the task"
                )
        try:
            sheets = [_sheet(path, next(s for s in filled if s.title == name), settings, wanted) for name in chosen]
        except MissingColumn as error:
            raise _elsewhere(path, [s for s in filled if s.title not in chosen], settings, wanted) or error from None
        return Workbook(tuple(sheets), tuple(name for name in names if name not in chosen))


def excel_rows(
    path: Path, book: Workbook, wanted: Sequence[Column], settings: TableSettings, noticed: Noticed
) -> Iterator[Row]:
    """The rows of the sheets; cells as text. Raises MissingColumn, and UserError for a workbook that is too large."""
    cells = 0
    with _book(path) as opened:
        for sheet in book.sheets:
            if (at := places(wanted, sheet.header.names)) is None:
                raise MissingColumn(path, wanted, [name for name in sheet.header.names if name][:1000])
            filled = _fill(sheet.merged) if settings.fill_merged else {}
            above, aside = dict[tuple[int, int], str](), list[int]()
            rows = enumerate(opened[sheet.name].iter_rows(), start=1)
            for line, row in itertools.islice(rows, sheet.start, None):
                cells += len(row)
                _check(path, 0, cells)
                texts = {place: _excel_text(cell) for place, cell in enumerate(row)}
                for place, first in filled.get(line, {}).items():
                    if first == line:
                        above[first, place] = texts.get(place, "")
                    else:
                        texts[place] = above.get((first, place), "")
                fields = [noticed.without_nul(texts.get(place, "")) for place in at]
                if any(fields):
                    yield from (([""] * len(at), one) for one in aside)
                    yield fields, line
                    aside = []
                elif any(texts.values()):
                    aside.append(line)  # only what follows says that it is in the table


def merged_rows(book: Workbook, at: Sequence[int]) -> list[str]:
    """The merged ranges of several rows in the columns `at` (from 0)."""
    return [area for sheet in book.sheets for area in sheet.merged if set(_columns(area)) & set(at)]


def parquet_names(path: Path) -> tuple[str, ...]:
    """The columns' names."""
    import pyarrow.parquet  # here, because it takes a quarter of a second to load

    with pyarrow.parquet.ParquetFile(path) as file:
        return tuple(name.strip() for name in file.schema_arrow.names)


def parquet_rows(path: Path, wanted: Sequence[Column], noticed: Noticed) -> Iterator[Row]:
    """The rows of a Parquet file; an absent cell is empty, a number is written out.

    Raises MissingColumn, and UserError for lists and the like, and for a file too large to be read.
    """
    import pyarrow
    import pyarrow.compute
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        names = [name.strip() for name in file.schema_arrow.names]
        if (at := places(wanted, names)) is None:
            raise MissingColumn(path, wanted, list(itertools.islice(filter(None, names), 1000)))
        chosen = [file.schema_arrow.names[place] for place in dict.fromkeys(at)]
        texts = [
            name for name in chosen if file.schema_arrow.field(name).type in (pyarrow.string(), pyarrow.large_string())
        ]
        _check(path, 0, file.metadata.num_rows * len(chosen))
    unpacked = 0
    # A dictionary keeps one text that stands in a million rows one text, until its length is known.
    with pyarrow.parquet.ParquetFile(path, read_dictionary=texts) as file:
        for batch in file.iter_batches(PIECE, columns=chosen):
            for column in batch.columns:
                if pyarrow.types.is_dictionary(column.type):
                    lengths = pyarrow.compute.binary_length(column.dictionary).take(column.indices)
                    unpacked += pyarrow.compute.sum(lengths).as_py() or 0
                else:
                    unpacked += column.nbytes
            _check(path, unpacked, 0)
            frame = batch.to_pandas(strings_to_categorical=False)
            columns_read = (_as_text(path, frame[file.schema_arrow.names[place]]) for place in at)
            for fields in zip(*columns_read, strict=True):
                yield [noticed.without_nul(field) for field in fields], 0


@contextmanager
def _book(path: Path) -> Iterator[Any]:
    import openpyxl  # here, because it takes a fifth of a second to load

    with zipfile.ZipFile(path) as archive:
        _check(path, sum(part.file_size for part in archive.infolist()), 0)
    with open(path, "rb") as stream:  # of a path openpyxl would judge the name
        book = openpyxl.load_workbook(stream, read_only=True, data_only=True, keep_links=False)
        for sheet in book.worksheets:
            sheet.reset_dimensions()  # those that the file claims: a stray cell makes them the largest there are
        yield book
        book.close()


def _filled_rows(sheet: Any) -> Iterator[tuple[list[str], int]]:
    for line, row in enumerate(sheet.iter_rows(max_row=10_000), start=1):
        texts = [_excel_text(cell) for cell in row]
        while texts and not texts[-1]:
            texts.pop()
        if texts:
            yield texts, line


def _sheet(path: Path, sheet: Any, settings: TableSettings, wanted: Sequence[Column]) -> Sheet:
    rows = list(itertools.islice(_filled_rows(sheet), FIRST_ROWS))
    given = None if settings.header is None else bool(settings.header)
    if settings.header is not None and not isinstance(settings.header, bool):
        rows = [(texts, line) for texts, line in rows if line >= settings.header]
    header = find_header(path, [texts for texts, _ in rows], given, wanted)
    first = rows[header.rows_before][1] if rows else 1
    return Sheet(sheet.title, first if header.named else first - 1, header, tuple(_merged(path, sheet)))


def _elsewhere(
    path: Path, sheets: Sequence[Any], settings: TableSettings, wanted: Sequence[Column]
) -> UserError | None:
    for sheet in sheets:
        try:
            found = places(wanted, _sheet(path, sheet, settings, wanted).header.names)
        except UserError:
            continue
        if found is not None:
            return UserError(
                f"{shown(path)}: the first sheet lacks columns of the task, the sheet {sheet.title} has them: set "
                f"`table: {{sheet: {sheet.title!r}}}` in the task"
            )
    return None


def _merged(path: Path, sheet: Any) -> Iterator[str]:
    """The ranges of several rows that the sheet's part names, after its data."""
    kept = b""
    with zipfile.ZipFile(path) as archive, archive.open(sheet._worksheet_path) as part:
        while block := part.read(1 << 20):
            kept += block
            for found in re.finditer(rb'<(?:\w+:)?mergeCell ref="([A-Z]+)(\d+):([A-Z]+)(\d+)"', kept):
                first, top, last, bottom = (one.decode() for one in found.groups())
                if top != bottom:
                    yield f"{first}{top}:{last}{bottom}"
            kept = kept[kept.rfind(b"<") :] if b"<" in kept else b""


def _columns(area: str) -> range:
    from openpyxl.utils import range_boundaries

    first, _, last, _ = range_boundaries(area)
    return range((first or 1) - 1, last or 1)


def _fill(merged: Sequence[str]) -> dict[int, dict[int, int]]:
    """Row -> column (from 0) -> the first row of the range that covers both; the range's value is there alone."""
    from openpyxl.utils import range_boundaries

    covered: dict[int, dict[int, int]] = {}
    for area in merged:
        first, top, last, bottom = (one or 1 for one in range_boundaries(area))
        if (bottom - top) * (last - first + 1) <= MOST_MERGED:
            for line in range(top, bottom + 1):
                covered.setdefault(line, {}).update(dict.fromkeys(range(first - 1, last), top))
    return covered


def _check(path: Path, size: int, cells: int) -> None:
    if size > MOST_BYTES:
        large = f"unpacks to {size / 2**30:,.1f} GiB, expected at most {MOST_BYTES / 2**30:g}"
    elif cells > MOST_CELLS:
        large = f"has more than {MOST_CELLS:,} cells"
    else:
        return
    raise UserError(f"{shown(path)} {large}: save the columns as CSV, which is read at any size")


def _excel_text(cell: Any) -> str:
    """A cell as it is written: a whole number without `.0`, nothing for an empty cell or an error such as #N/A."""
    value = cell.value
    if value is None or cell.data_type == ERROR_CELL:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _as_text(path: Path, values: pd.Series) -> list[str]:
    """Raises UserError for lists and the like."""
    kind = pd.api.types.infer_dtype(values, skipna=True)
    if kind in ("mixed", "bytes"):
        raise UserError(f"{shown(path)}: the column {values.name} holds {kind} values, expected text")
    return values.astype("str").where(values.notna(), "").astype("str").tolist()
