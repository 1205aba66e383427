"""The rows of a CSV, TSV or JSONL file, with the line of the file on which each row starts.

The csv module reads here, not pandas: pandas' parser says neither on which line a row starts nor that a row has too
few fields, and it takes as long.
"""

import csv
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pandas as pd
import pyarrow as pa

from data_prep.table.encoding import REPLACEMENT, Encoding
from data_prep.table.text_column import PIECE
from data_prep.table_settings import Column
from workspace.errors import UserError, nearest
from workspace.paths import shown

DELIMITERS = {".tsv": "\t", ".tab": "\t"}
OTHER_DELIMITERS = ",\t;"  # tried in turn on the header of a .csv or .txt
LONE_SURROGATES = re.compile(r"[\ud800-\udfff]")  # halves of characters
LONG_FIELD = 20  # lines: a row that spans more is probably an opened quote that was never closed


Row = tuple[list[str], int]  # the wanted fields, and the line on which the row starts, from 1; 0: not known


@dataclass
class Noticed:
    """What a user should know of a file, counted and collected while it is read."""

    nul_characters: int = 0
    warnings: list[str] = field(default_factory=list)

    def without_nul(self, text: str) -> str:
        """A text with its NUL characters taken out, and counted."""
        if "\0" not in text:
            return text
        self.nul_characters += text.count("\0")
        return text.replace("\0", "")


class MissingColumn(UserError):
    """A table whose header, `found`, lacks one of the `wanted` columns, or has it twice."""

    def __init__(self, path: Path, wanted: Sequence[Column], found: Sequence[str]) -> None:
        names = list(dict.fromkeys(wanted))
        missing = [name for name in names if name not in found and isinstance(name, str)]
        numbers = [number for number in names if isinstance(number, int) and number > len(found)]
        listed = ", ".join(found[:20]) + (", ..." if len(found) > 20 else "")
        if missing:
            message = (
                f"{shown(path)} has no column {' and no column '.join(missing)}{nearest(missing[0], found)}; "
                f"found: {listed}; name the columns in the task's `columns`"
            )
        elif numbers:
            message = (
                f"{shown(path)} has no column {numbers[0]}; found {len(found)}: {listed}; correct the number in the "
                "task's `columns`"
            )
        else:
            doubled = next(name for name in names if list(found).count(str(name)) > 1)
            message = (
                f"{shown(path)}: the column {doubled} is in the header twice: rename one of them, or give the column "
                "by its number in the task's `columns`"
            )
        super().__init__(message)
        self.found = found


def places(wanted: Sequence[Column], header: Sequence[str]) -> list[int] | None:
    """Where the wanted columns are in a header, from 0; None unless each is there once."""
    names = list(header)
    if any(names.count(one) != 1 if isinstance(one, str) else one > len(names) for one in wanted):
        return None
    return [names.index(one) if isinstance(one, str) else one - 1 for one in wanted]


def frame_of(rows: Iterable[Row], names: Sequence[str], halves: bool) -> pd.DataFrame:
    """All rows, packed as they come: row (from 1), line, and the wanted columns under `names`.

    `halves`: there may be halves of characters, which no file of ours can hold; each becomes a replacement mark.
    """
    schema = pa.schema([*((name, pa.large_string()) for name in names), ("line", pa.int64())])
    rows, pieces = iter(rows), []
    while piece := list(itertools.islice(rows, PIECE)):
        columns = [list(column) for column in zip(*(fields for fields, _ in piece), strict=True)]
        if halves:
            columns = [[LONE_SURROGATES.sub(REPLACEMENT, text) for text in column] for column in columns]
        pieces.append(pa.record_batch([*columns, [line for _, line in piece]], schema))
    table = pa.Table.from_batches(pieces, schema).combine_chunks()
    strings = {name: pd.array(table[name], dtype="str") for name in names}
    return pd.DataFrame({"row": np.arange(1, len(table) + 1), "line": table["line"].to_numpy(), **strings})


def csv_rows(path: Path, encoding: Encoding, wanted: Sequence[Column], noticed: Noticed) -> Iterator[Row]:
    """The rows of a delimited file.

    Quotes follow RFC 4180: a field may be quoted, may then hold delimiters and line ends, and writes a quote as two.
    Blank lines are no rows. Raises MissingColumn, and UserError naming the line for a quote out of place and for a
    wrong field count.
    """
    csv.field_size_limit(2**31 - 1)
    headers = {}
    for delimiter in DELIMITERS.get(path.suffix.lower(), OTHER_DELIMITERS):
        header = headers[delimiter] = _header(path, encoding, delimiter)
        if (at := places(wanted, header)) is not None:
            break
    else:
        # The delimiter that finds most columns is the one to show in the message.
        raise MissingColumn(path, wanted, max(headers.values(), key=len))
    width = len(header)
    with _opened(path, encoding) as stream:
        reader = csv.reader(map(noticed.without_nul, stream), delimiter=delimiter, strict=True)
        line, long_rows = 1, list[tuple[int, int]]()
        try:
            next(filter(None, reader))  # the header
            line = reader.line_num + 1
            for fields in reader:
                if fields:
                    if len(fields) != width:
                        raise _wrong_width(path, line, fields, width, delimiter)
                    yield [fields[place] for place in at], line
                    if reader.line_num - line > LONG_FIELD:
                        long_rows.append((line, reader.line_num - line + 1))
                line = reader.line_num + 1
        except csv.Error as error:
            raise _quote_error(path, line, error) from error
    if long_rows:
        first, span = long_rows[0]
        others = f" ({len(long_rows) - 1:,} more are as long)" if len(long_rows) > 1 else ""
        noticed.warnings.append(
            f"{shown(path)}, line {first}: one row spans {span} lines{others}: is a quote left open there?"
        )


def jsonl_rows(path: Path, encoding: Encoding, wanted: Sequence[Column], noticed: Noticed) -> Iterator[Row]:
    """The rows of a file with one JSON object a line.

    Blank lines are no rows; null is an empty cell, a number is written out. Raises MissingColumn when the first object
    lacks a key, and UserError naming the line for one that is not a JSON object, lacks a key, or holds a list or an
    object where text belongs.
    """
    first = True
    with open(path, encoding=encoding.name, errors=encoding.errors, newline="\n") as stream:
        for line, content in enumerate(stream, start=1):
            if not content.strip():
                continue
            try:
                value = json.loads(content.replace("\0", ""))
            except (ValueError, RecursionError) as error:
                reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
                raise UserError(f"{shown(path)}, line {line}: not valid JSON ({reason})") from error
            if not isinstance(value, dict):
                raise UserError(f'{shown(path)}, line {line}: expected a JSON object ({{"...": ...}}), one a line')
            if first and not value.keys() >= set(wanted):
                raise MissingColumn(path, wanted, list(value))
            first = False
            yield [_cell(path, line, value, str(key), noticed) for key in wanted], line
            noticed.nul_characters += content.count("\0")


def _opened(path: Path, encoding: Encoding) -> TextIO:
    """The file for the csv module: line ends untouched, \\n, \\r and \\r\\n all ending a line."""
    return open(path, encoding=encoding.name, errors=encoding.errors, newline="")


def _header(path: Path, encoding: Encoding, delimiter: str) -> list[str]:
    """The fields of the first line that is not blank, white space around them gone."""
    with _opened(path, encoding) as stream:
        reader = csv.reader(map(Noticed().without_nul, stream), delimiter=delimiter, strict=True)
        try:
            for fields in reader:
                if fields:
                    return [name.strip() for name in fields]
        except csv.Error as error:
            if delimiter == OTHER_DELIMITERS[0] or path.suffix.lower() in DELIMITERS:
                raise _quote_error(path, 1, error) from error
            return []
    raise UserError(f"{shown(path)} is empty: expected a header")


def _wrong_width(path: Path, line: int, fields: list[str], width: int, delimiter: str) -> UserError:
    name = {",": "a comma", "\t": "a tab", ";": "a semicolon"}[delimiter]
    remedy = f"put a field that holds {name} in quotes" if len(fields) > width else "add the missing fields"
    return UserError(
        f"{shown(path)}, line {line}: found {len(fields)} fields, expected {width} as in the header: {remedy}"
    )


def _quote_error(path: Path, line: int, error: csv.Error) -> UserError:
    if "unexpected end" in str(error):
        what = "a quote is opened in this row and never closed"
    else:
        what = f"a quote in this row is closed too early or too late ({error})"
    return UserError(
        f"{shown(path)}, line {line}: {what}: close it where the field ends, and write a quote inside as two"
    )


def _cell(path: Path, line: int, value: dict[str, Any], key: str, noticed: Noticed) -> str:
    if key not in value:
        raise UserError(f"{shown(path)}, line {line}: has no {key}; found: {', '.join(value)}")
    cell = value[key]
    if isinstance(cell, list | dict):
        raise UserError(f"{shown(path)}, line {line}: {key} is a {type(cell).__name__}, expected text")
    return noticed.without_nul("" if cell is None else str(cell))  # JSON spells it as an escape
