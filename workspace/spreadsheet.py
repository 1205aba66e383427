"""The CSV files that people open in a spreadsheet: whole, readable there, and no text of a table becomes a formula."""

import csv
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from workspace.files import replace_file

FORMULA = tuple("=+-@＝＋－＠")  # a spreadsheet runs a cell that begins with one of these
NUMBER = re.compile(r"[+-]?[0-9]+([.,][0-9]+)*([eE][+-]?[0-9]+)?")  # what a spreadsheet reads as it stands
CONTROLS = ("\t", "\r", "\n")  # and takes what follows one of these at the start of a cell for its beginning


def safe_cell(text: str) -> str:
    """`text` as a cell that no spreadsheet takes for a formula: behind an apostrophe where it looks like one."""
    if NUMBER.fullmatch(text):
        return text
    return "'" + text if text.lstrip().startswith(FORMULA) or text.startswith(CONTROLS) else text


def unsafe_text(cell: str) -> str:
    """The text of a cell that `safe_cell` may have written."""
    return cell[1:] if cell.startswith("'") and safe_cell(cell[1:]) == cell else cell


def write_csv(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    """Write `rows` to `path`, whole or not at all, texts as `safe_cell` has them."""
    with replace_file(path) as stream:
        stream.write("\ufeff")  # so that a spreadsheet reads UTF-8
        # With other line ends Python leaves a lone carriage return unquoted, and readers take it for the row's end.
        writer = csv.writer(stream, lineterminator="\r\n")
        for row in rows:
            writer.writerow([safe_cell(cell) if isinstance(cell, str) else cell for cell in row])
