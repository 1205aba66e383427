"""The rows of an Excel sheet or a Parquet file, read piece by piece: small files can unpack to more than memory holds.

Of a sheet only cells that hold something count: what is empty at its end, or right of it, is no part of the table.
"""

import itertools
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from data_prep.table.delimited import MissingColumn, Noticed, Row, places
from data_prep.table.text_column import PIECE
from data_prep.table_settings import Column
from workspace.errors import UserError
from workspace.paths import shown

MOST_BYTES = 2**29  # of a workbook's parts, or of a Parquet file's columns, unpacked: a million long reviews
MOST_CELLS = 50_000_000  # of a sheet, or rows x columns of a Parquet file
ERROR_CELL = "e"  # openpyxl's type of a cell such as #N/A


def excel_rows(path: Path, wanted: Sequence[Column], noticed: Noticed) -> Iterator[Row]:
    """The rows of the first sheet, its first line being the header; cells as text.

    Raises MissingColumn, and UserError for a workbook too large to be read.
    """
    import openpyxl  # here, because it takes a fifth of a second to load

    with zipfile.ZipFile(path) as archive:
        _check(path, sum(part.file_size for part in archive.infolist()), 0)
    book = openpyxl.load_workbook(path, read_only=True, data_only=True, keep_links=False)
    try:
        sheet = book.worksheets[0]
        sheet.reset_dimensions()  # those that the file claims: a stray cell makes them the largest there are
        lines = enumerate(sheet.iter_rows(), start=1)
        header = [_excel_text(cell).strip() for cell in next(lines, (1, ()))[1]]
        if not any(header):
            raise UserError(f"{shown(path)}: the first sheet is empty: expected a header and rows")
        at = _places(path, wanted, header)
        cells, empty = 0, []
        for line, row in lines:
            cells += len(row)
            _check(path, 0, cells)
            fields = [_excel_text(row[place]) if place < len(row) else "" for place in at]
            if not any(fields):
                empty.append(line)
                continue
            yield from (([""] * len(at), one) for one in empty)  # only what follows says that they are in the table
            empty = []
            yield [noticed.without_nul(field) for field in fields], line
    finally:
        book.close()


def parquet_rows(path: Path, wanted: Sequence[Column], noticed: Noticed) -> Iterator[Row]:
    """The rows of a Parquet file; an absent cell is empty, a number is written out.

    Raises MissingColumn, and UserError for lists and the like, and for a file too large to be read.
    """
    import pyarrow
    import pyarrow.compute
    import pyarrow.parquet  # here, because it takes a quarter of a second to load

    with pyarrow.parquet.ParquetFile(path) as file:
        names = [name.strip() for name in file.schema_arrow.names]
        at = _places(path, wanted, names)
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


def _places(path: Path, wanted: Sequence[Column], header: list[str]) -> list[int]:
    if (at := places(wanted, header)) is None:
        raise MissingColumn(path, wanted, list(itertools.islice(filter(None, header), 1000)))
    return at


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
