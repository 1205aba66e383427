"""The rows of a CSV, TSV or JSONL file, with the line of the file on which each row starts.

The csv module reads here, not pandas: pandas' parser says neither on which line a row starts nor that a row has too
few fields, and it takes as long.
"""

import csv
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pandas as pd
import pyarrow as pa

from data_prep.table.encoding import REPLACEMENT, Encoding
from data_prep.table.text_column import PIECE
from data_prep.task import Columns
from workspace.errors import UserError
from workspace.paths import shown

DELIMITERS = {".tsv": "\t", ".tab": "\t"}
OTHER_DELIMITERS = ",\t;"  # tried in turn on the header of a .csv or .txt
LONE_SURROGATES = re.compile(r"[\ud800-\udfff]")  # halves of characters
LONG_FIELD = 20  # lines: a row that spans more is probably an opened quote that was never closed


@dataclass
class Rows:
    """The rows of a file, added one by one; `lines` counts from 1, with 0 for "not known".

    The rows added last are in lists, the others packed in `pieces`, each with text, label and line.
    `clean` is done to every text and label.
    """

    clean: Callable[[str], str] | None = None
    texts: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    pieces: list[pa.RecordBatch] = field(default_factory=list)
    nul_characters: int = 0
    warnings: list[str] = field(default_factory=list)

    def add(self, text: str, label: str, line: int) -> None:
        """Add one row."""
        self.texts.append(text)
        self.labels.append(label)
        self.lines.append(line)
        if len(self.texts) == PIECE:
            self.pack()

    def pack(self) -> None:
        """Move the rows in the lists to `pieces`."""
        if self.clean:
            self.texts, self.labels = (list(map(self.clean, values)) for values in (self.texts, self.labels))
        texts, labels = (pa.array(values, pa.large_string()) for values in (self.texts, self.labels))
        values = [texts, labels, pa.array(self.lines, pa.int64())]
        self.pieces.append(pa.RecordBatch.from_arrays(values, ["text", "label", "line"]))
        self.texts, self.labels, self.lines = [], [], []

    def frame(self) -> pd.DataFrame:
        """All rows: row (from 1), line, text, label. The pieces are given up: no text is in memory twice."""
        self.pack()
        pieces, self.pieces = self.pieces, []
        columns = {}
        for name in ("line", "text", "label"):
            array = pa.concat_arrays([piece.column(name) for piece in pieces])
            columns[name] = array.to_numpy() if name == "line" else pd.array(array, dtype="str")
        return pd.DataFrame({"row": np.arange(1, len(columns["line"]) + 1), **columns})

    def __bool__(self) -> bool:
        return bool(self.texts or self.pieces)


def whole_characters(text: str) -> str:
    """`text` with a replacement mark for each half of a character."""
    return LONE_SURROGATES.sub(REPLACEMENT, text)


def read_csv(path: Path, encoding: Encoding, columns: Columns) -> Rows | list[str]:
    """The rows of a delimited file; its header where `columns` are not in it, each once.

    Quotes follow RFC 4180: a field may be quoted, may then hold delimiters and line ends, and writes a quote as two.
    Blank lines are no rows. Raises UserError naming the line for a quote out of place and for a wrong field count.
    """
    csv.field_size_limit(2**31 - 1)
    known = DELIMITERS.get(path.suffix.lower())
    headers = {}
    for delimiter in known or OTHER_DELIMITERS:
        headers[delimiter] = _header(path, encoding, delimiter)
        if all(headers[delimiter].count(name) == 1 for name in (columns.text, columns.label)):
            break
    else:
        # The delimiter that finds most columns is the one to show in the message.
        return max(headers.values(), key=len)
    header = headers[delimiter]
    width, text_at, label_at = len(header), header.index(columns.text), header.index(columns.label)
    rows = Rows()
    with _opened(path, encoding) as stream:
        reader = csv.reader(_without_nul(stream, rows), delimiter=delimiter, strict=True)
        line, seen_header = 1, False
        try:
            for fields in reader:
                if fields and not seen_header:
                    seen_header = True
                elif fields:
                    if len(fields) != width:
                        raise _wrong_width(path, line, fields, width, delimiter)
                    rows.add(fields[text_at], fields[label_at], line)
                    if reader.line_num - line > LONG_FIELD:
                        span = reader.line_num - line + 1
                        rows.warnings.append(
                            f"{shown(path)}, line {line}: one row spans {span} lines: is a quote left open there?"
                        )
                line = reader.line_num + 1
        except csv.Error as error:
            raise _quote_error(path, line, error) from error
    return rows


def read_jsonl(path: Path, encoding: Encoding, columns: Columns) -> Rows | list[str]:
    """The rows of a file with one JSON object a line; the first object's keys where `columns` are not among them.

    Blank lines are no rows; null is an empty cell, a number is written out. Raises UserError naming the line for one
    that is not a JSON object, lacks a key, or holds a list or an object where text belongs.
    """
    # JSON can spell half a character, which no file of ours can hold.
    rows = Rows(clean=whole_characters)
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
            if not rows and any(name not in value for name in (columns.text, columns.label)):
                return list(value)
            rows.add(_cell(path, line, value, columns.text, rows), _cell(path, line, value, columns.label, rows), line)
            rows.nul_characters += content.count("\0")
    return rows


def _opened(path: Path, encoding: Encoding) -> TextIO:
    """The file for the csv module: line ends untouched, \\n, \\r and \\r\\n all ending a line."""
    return open(path, encoding=encoding.name, errors=encoding.errors, newline="")


def _header(path: Path, encoding: Encoding, delimiter: str) -> list[str]:
    """The fields of the first line that is not blank, white space around them gone."""
    with _opened(path, encoding) as stream:
        reader = csv.reader(_without_nul(stream, Rows()), delimiter=delimiter, strict=True)
        try:
            for fields in reader:
                if fields:
                    return [name.strip() for name in fields]
        except csv.Error as error:
            if delimiter == OTHER_DELIMITERS[0] or path.suffix.lower() in DELIMITERS:
                raise _quote_error(path, 1, error) from error
            return []
    raise UserError(f"{shown(path)} is empty: expected a header")


def _without_nul(stream: TextIO, rows: Rows) -> Iterator[str]:
    for line in stream:
        if "\0" in line:
            rows.nul_characters += line.count("\0")
            line = line.replace("\0", "")
        yield line


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


def _cell(path: Path, line: int, value: dict[str, Any], key: str, rows: Rows) -> str:
    if key not in value:
        raise UserError(f"{shown(path)}, line {line}: has no {key}; found: {', '.join(value)}")
    cell = value[key]
    if cell is None:
        return ""
    if isinstance(cell, str):
        if "\0" in cell:  # JSON spells it as an escape
            rows.nul_characters += cell.count("\0")
            return cell.replace("\0", "")
        return cell
    if isinstance(cell, list | dict):
        raise UserError(f"{shown(path)}, line {line}: {key} is a {type(cell).__name__}, expected text")
    return str(cell)
