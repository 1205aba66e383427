"""How a delimited file is laid out, found out from its first rows: delimiter, title lines, header."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from data_prep.table.encoding import Encoding, open_text
from data_prep.table.header import TITLES, find_header, is_label_like, names_of, places
from data_prep.table.table_settings import Column, TableSettings
from workspace.errors import UserError
from workspace.paths import shown

DELIMITERS = ("\t", ",", ";", "||", "::", "|", "\x01", "^", "~", "，")  # `||` before `|`, which it would be twice
DELIMITER_OF = {".tsv": "\t", ".tab": "\t"}
NAMES = {",": "a comma", "\t": "a tab", ";": "a semicolon"}
ROWS = 300  # looked at
CHARACTERS = 2**20
WIDE = "\ufdd0"  # in place of a delimiter of several characters, for the csv module; no text has it


class Layout(NamedTuple):
    """How a delimited file is read. `start` is the line, from 1, of the header, or of the first row without one."""

    delimiter: str
    quoting: bool
    start: int
    header: bool
    names: tuple[str, ...]


def find_layout(path: Path, encoding: Encoding, settings: TableSettings, wanted: Sequence[Column]) -> Layout:
    """The layout of the file; the columns that are `wanted` help to tell, and need not be there.

    Raises UserError where the delimiter, or whether there is a header, is not clear, and for an empty file.
    """
    with open_text(path, encoding) as stream:
        lines = [line.replace("\0", "") for line in _first_lines(stream)]
    if not any(line.strip("\r\n\ufeff") for line in lines):
        raise UserError(f"{shown(path)} is empty: expected a header")
    skipped, delimiter = 0, settings.delimiter
    if told := re.fullmatch(r"sep=(.)\s*", lines[0], re.IGNORECASE):
        skipped, delimiter = 1, delimiter or told[1]
    if isinstance(settings.header, int) and settings.header is not True and settings.header > 0:
        skipped = settings.header - 1
    lines = lines[skipped:]
    quoting = settings.quoting is not False
    if delimiter is None:
        delimiter = DELIMITER_OF.get(path.suffixes[0].lower() if path.suffixes else "") or _delimiter(
            path, lines, quoting, wanted
        )
    rows = _first_rows(lines, delimiter, quoting)
    given = bool(settings.header) if settings.header is not None else None
    header = find_header(path, [fields for fields, _ in rows], given, wanted)
    start = rows[header.rows_before][1] + skipped if header.rows_before < len(rows) else skipped + 1
    return Layout(delimiter, quoting, start, header.named, header.names)


def records(lines: Sequence[str], delimiter: str, quoting: bool) -> Iterator[tuple[list[str], int]]:
    """The rows that hold something, and the line of each, from 1; they end where a quote is out of place."""
    reader = csv_reader(iter(lines), delimiter, quoting)
    line = 1
    try:
        for fields in reader:
            if any(fields):
                yield [field.replace(WIDE, delimiter) for field in fields] if len(delimiter) > 1 else fields, line
            line = reader.line_num + 1
    except csv.Error:
        return


def _first_rows(lines: Sequence[str], delimiter: str, quoting: bool) -> list[tuple[list[str], int]]:
    rows = list(records(lines, delimiter, quoting))
    # A quote out of place ends the rows early: each line counts as a row then.
    plain = list(records(lines, delimiter, False)) if quoting and len(rows) < ROWS else rows
    return (rows if len(rows) * 4 >= len(plain) else plain)[:ROWS]


def csv_reader(lines: Iterator[str], delimiter: str, quoting: bool):  # type: ignore[no-untyped-def]
    """The csv module's reader; quotes are as in RFC 4180. A delimiter of several characters becomes WIDE."""
    csv.field_size_limit(2**31 - 1)
    if len(delimiter) > 1:
        lines, delimiter = _replaced(lines, delimiter), WIDE
    if not quoting:
        return csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE, quotechar=None)
    return csv.reader(lines, delimiter=delimiter, strict=True)


def wrong_width(path: Path, line: int, found: int, layout: Layout) -> UserError:
    """The error for a row with another number of fields than the header."""
    name = NAMES.get(layout.delimiter, repr(layout.delimiter))
    if found < len(layout.names):
        remedy = "add the missing fields"
    elif layout.quoting:
        remedy = f"put a field that holds {name} in quotes"
    else:
        remedy = f"take {name} out of the text, or put the field in quotes and take `quoting: false` out of the task"
    return UserError(
        f"{shown(path)}, line {line}: found {found} fields, expected {len(layout.names)} as in the "
        f"{'header' if layout.header else 'first rows'}: {remedy}"
    )


def _replaced(lines: Iterator[str], delimiter: str) -> Iterator[str]:
    return (line.replace(delimiter, WIDE) for line in lines)


def _first_lines(stream: io.TextIOWrapper) -> Iterator[str]:
    size = 0
    for count, line in enumerate(stream):
        size += len(line)
        yield line
        if count >= 4 * ROWS or size > CHARACTERS:
            return


def _delimiter(path: Path, lines: Sequence[str], quoting: bool, wanted: Sequence[Column]) -> str:
    """The delimiter whose header has the wanted names, or that divides all rows alike, header and body."""
    named = [name for name in wanted if isinstance(name, str)]
    found, labelled = dict[str, float](), dict[str, bool]()
    widest: tuple[int, str] = (0, ",")
    for delimiter in DELIMITERS:
        rows = [fields for fields, _ in _first_rows(lines, delimiter, quoting)]
        if not rows:
            continue
        if named and any(places(named, names_of(row)) is not None for row in rows[:TITLES]):
            return delimiter
        widths = Counter(map(len, rows))
        width, count = widths.most_common(1)[0]
        labelled[delimiter] = any(map(is_label_like, zip(*(row for row in rows if len(row) == width), strict=True)))
        widest = max(widest, (len(rows[0]), delimiter), key=lambda one: one[0])
        if width >= 2:
            found[delimiter] = count / len(rows) + 0.2 * (len(rows[0]) == width)
    if not found:
        return widest[1]
    best = max(found, key=lambda one: found[one])
    rivals = [one for one in found if found[one] == found[best] and one not in best and best not in one]
    if rivals and sum(labelled[one] for one in (best, *rivals)) == 1:  # only one of them leaves a column of few values
        return next(one for one in (best, *rivals) if labelled[one])
    if rivals:
        if named:  # MissingColumn tells what is there
            return best
        raise UserError(
            f"{shown(path)}: {best!r} and {rivals[0]!r} both divide its rows alike: say which divides fields, "
            f"`table: {{delimiter: {best!r}}}` or `table: {{delimiter: {rivals[0]!r}}}`, in the task"
        )
    return best if found[best] >= 0.6 else widest[1]
