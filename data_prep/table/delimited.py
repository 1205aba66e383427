"""The rows of a delimited file, with the line of the file on which each row starts.

The csv module reads here, not pandas: pandas' parser says neither on which line a row starts nor that a row has too
few fields, and it takes as long.
"""

import csv
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from data_prep.table.encoding import REPLACEMENT, Encoding, open_text
from data_prep.table.layout import WIDE, Layout, csv_reader, wrong_width
from data_prep.table.text_column import PIECE
from workspace.errors import UserError
from workspace.paths import shown

LONE_SURROGATES = re.compile(r"[\ud800-\udfff]")  # halves of characters
MOST_LABELS = 10_000  # values of the label column that are kept, to know a row by
DOUBTFUL = 100  # rows of several lines that are kept, to be looked at when all labels are known

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


class PlainQuotes(Exception):
    """Quotes in the file are characters as any other: no field is quoted, and each line is a row."""


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


class _Quotes:
    """What quotes did: a row of several lines, each of which would be a row by itself, may be due to a stray one."""

    def __init__(self, layout: Layout, label_at: int) -> None:
        self._layout, self._label_at = layout, label_at
        self._labels: set[str] = set()
        self._bare = False  # a row without any quote: rows need none here
        self._doubtful: list[tuple[int, int, Counter[str]]] = []
        self._quoted: list[int] = []  # lines of fields that stand in quotes and need none
        self._needed = False  # whether any field needs its quotes

    def look(self, raw: list[str], fields: list[str], line: int) -> None:
        """One row, and the lines that it was read from."""
        if len(self._labels) < MOST_LABELS:
            self._labels.add(fields[self._label_at])
        if len(raw) == 1:
            if '"' in raw[0]:
                self._look_at_quotes(raw[0], line)
            else:
                self._bare = True
            return
        self._needed = True
        if len(self._doubtful) < DOUBTFUL:
            rows = [one.rstrip("\r\n").split(self._layout.delimiter) for one in raw]
            if all(len(row) == len(self._layout.names) for row in rows):
                self._doubtful.append((line, len(raw), Counter(row[self._label_at].strip('"') for row in rows)))

    def _look_at_quotes(self, text: str, line: int) -> None:
        row = text.rstrip("\r\n").split(self._layout.delimiter)
        inside = [one[1:-1] for one in row if len(one) > 1 and one[0] == one[-1] == '"']
        self._needed = self._needed or len(row) != len(self._layout.names) or any('"' in one for one in inside)
        if inside and len(self._quoted) < DOUBTFUL:
            self._quoted.append(line)

    def check(self, path: Path, noticed: Noticed) -> None:
        """Raise UserError for the first row whose lines have labels of the table, most of them.

        Notices quotes that no field needs and most have not: they may belong to the text.
        """
        if self._bare and self._quoted and not self._needed:
            noticed.warnings.append(
                f"{shown(path)}, line {self._quoted[0]}: a field stands in quotes, which others lack and none needs: "
                "they are taken off; set `table: {quoting: false}` in the task where they belong to the text"
            )
        for line, count, labels in self._doubtful if self._bare else ():
            known = sum(times for label, times in labels.items() if label in self._labels)
            if 2 * (known - 1) >= count - 1:  # the row's own label stands in one of its lines anyway
                raise UserError(
                    f"{shown(path)}, line {line}: a quote that opens here and closes at line {line + count - 1} makes "
                    f"one text of {count} lines that look like rows of their own: say `table: {{quoting: false}}` in "
                    "the task where quotes are characters as any other, `table: {quoting: true}` where it is one text"
                )


def delimited_rows(
    path: Path, encoding: Encoding, layout: Layout, at: Sequence[int], label_at: int | None, noticed: Noticed
) -> Iterator[Row]:
    """The fields `at` (from 0) of each row.

    Quotes follow RFC 4180: a field may be quoted, may then hold delimiters and line ends, and writes a quote as two.
    Blank lines, and lines of empty fields, are no rows. With `label_at` rows that a stray quote swallowed are searched
    for. Raises UserError naming the line for those, for a quote out of place and for a wrong field count, and
    PlainQuotes where quotes mean nothing in this file.
    """
    width, raw = len(layout.names), list[str]()
    named = max((at + 1 for at, name in enumerate(layout.names) if name), default=0) if layout.header else width
    quotes = _Quotes(layout, label_at) if label_at is not None and layout.quoting else None
    wide = len(layout.delimiter) > 1
    with open_text(path, encoding) as stream:

        def lines() -> Iterator[str]:
            for text in itertools.islice(stream, layout.start - 1, None):
                raw.append(text := noticed.without_nul(text))
                if wide and WIDE in text:
                    raise UserError(f"{shown(path)} holds U+FDD0, which is no character: take it out")
                yield text

        reader = csv_reader(lines(), layout.delimiter, layout.quoting)
        line, before = layout.start, layout.start - 1
        try:
            if layout.header:
                next(filter(any, reader))
                raw.clear()
                line = before + reader.line_num + 1
            for fields in reader:
                if any(fields):
                    if wide:
                        fields = _narrowed(path, line, fields, raw, layout)
                    if len(fields) != width:  # what has neither name nor value is no field
                        if len(fields) < named or any(fields[width:]):
                            raise wrong_width(path, line, len(fields), layout)
                        fields = [*fields, *[""] * width]
                    yield [fields[place] for place in at], line
                    if quotes:
                        quotes.look(raw, fields, line)
                raw.clear()
                line = before + reader.line_num + 1
        except csv.Error as error:
            uniform, quoted = _without_quotes(path, encoding, layout)
            if uniform and not quoted:
                raise PlainQuotes from error
            raise _quote_error(path, line, str(error).replace(WIDE, layout.delimiter), uniform) from error
    if quotes:
        quotes.check(path, noticed)


def _narrowed(path: Path, line: int, fields: list[str], raw: list[str], layout: Layout) -> list[str]:
    """The fields with the delimiter in place of WIDE. Raises UserError for `|||`, which `||` divides in two ways."""
    mark = layout.delimiter[0]
    if set(layout.delimiter) == {mark} and any(one.startswith(mark) for one in fields):
        text = "".join(raw).replace(layout.delimiter, WIDE)
        if any(one.startswith(mark) and WIDE + one in text for one in fields):
            raise UserError(
                f"{shown(path)}, line {line}: a field ends or begins with {mark!r} beside the delimiter "
                f"{layout.delimiter!r}, which divides it in two ways: put the field in quotes"
            )
    return [one.replace(WIDE, layout.delimiter) for one in fields]


def _without_quotes(path: Path, encoding: Encoding, layout: Layout) -> tuple[bool, bool]:
    """Whether each line is a row where quotes mean nothing, and whether any field then stands within quotes."""
    quoted = False
    with open_text(path, encoding) as stream:
        for text in itertools.islice(stream, layout.start - 1, None):
            fields = text.replace("\0", "").rstrip("\r\n").split(layout.delimiter)
            if any(fields) and len(fields) != len(layout.names):
                return False, quoted
            quoted = quoted or any(len(one) > 1 and one[0] == one[-1] == '"' for one in fields)
    return True, quoted


def _quote_error(path: Path, line: int, error: str, uniform: bool) -> UserError:
    if "unexpected end" in error:
        what = "a quote is opened in this row and never closed"
    else:
        what = f"a quote in this row is closed too early or too late ({error})"
    other = ", or say `table: {quoting: false}` in the task where quotes are characters as any other" if uniform else ""
    return UserError(
        f"{shown(path)}, line {line}: {what}: close it where the field ends, and write a quote inside as two{other}"
    )
