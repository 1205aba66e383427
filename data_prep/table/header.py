"""Where the header of a table is among its first rows, and whether there is one."""

import re
import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from data_prep.table.table_settings import Column
from workspace.errors import UserError, nearest
from workspace.paths import shown

TITLES = 10  # lines at most above a header
KNOWN_NAMES = frozenset(
    [
        "id",
        "no",
        "index",
        "idx",
        "text",
        "texts",
        "review",
        "reviews",
        "content",
        "contents",
        "comment",
        "comments",
        "sentence",
        "body",
        "title",
        "message",
        "tweet",
        "question",
        "query",
        "input",
        "output",
        "response",
        "instruction",
        "label",
        "labels",
        "class",
        "category",
        "sentiment",
        "target",
        "rating",
        "stars",
        "star",
        "score",
        "y",
        "date",
        "time",
        "name",
        "user",
        "author",
        "part",
        "split",
        "评论",
        "评价",
        "内容",
        "文本",
        "正文",
        "标题",
        "标签",
        "类别",
        "分类",
        "情感",
        "编号",
        "序号",
        "评分",
        "星级",
        "日期",
        "评论内容",
        "留言",
    ]
)


class MissingColumn(UserError):
    """A table whose header, `found`, lacks one of the `wanted` columns, or has it twice; `hint` is a remedy."""

    def __init__(self, path: Path, wanted: Sequence[Column], found: Sequence[str], hint: str = "") -> None:
        names = list(dict.fromkeys(wanted))
        missing = [name for name in names if name not in found and isinstance(name, str)]
        numbers = [number for number in names if isinstance(number, int) and number > len(found)]
        listed = ", ".join(found[:20]) + (", ..." if len(found) > 20 else "")
        if missing:
            message = (
                f"{shown(path)} has no column {' and no column '.join(missing)}{nearest(missing[0], found)}; "
                f"found: {listed}; {hint or 'name the columns in `columns` of the task'}"
            )
        elif numbers:
            message = (
                f"{shown(path)} has no column {numbers[0]}; found {len(found)}: {listed}; correct the number in "
                "`columns` of the task"
            )
        else:
            doubled = next(name for name in names if list(found).count(str(name)) > 1)
            message = (
                f"{shown(path)}: the column {doubled} is in the header twice: rename one of them, or give the column "
                "by its number in `columns` of the task"
            )
        super().__init__(message)
        self.found = found


class Header(NamedTuple):
    """Where the data begin among the first rows, from 0, and the columns' names; `named` where they are in the file."""

    rows_before: int
    names: tuple[str, ...]
    named: bool


def places(wanted: Sequence[Column], header: Sequence[str]) -> list[int] | None:
    """Where the wanted columns are in a header, from 0; None unless each is there once."""
    names = list(header)
    if any(names.count(one) != 1 if isinstance(one, str) else one > len(names) for one in wanted):
        return None
    return [names.index(one) if isinstance(one, str) else one - 1 for one in wanted]


def find_header(path: Path, rows: Sequence[Sequence[str]], given: bool | None, wanted: Sequence[Column]) -> Header:
    """The header among a table's first rows, blank ones left out; lines above it that hold one cell are a title.

    `given` says whether there is one. Raises MissingColumn where it lacks a wanted name, with the right remedy, and
    UserError where it is not clear whether there is one.
    """
    if not rows:
        return Header(0, (), given is not False)
    filled = [sum(map(bool, row)) for row in rows]
    usual = statistics.mode(filled[1:] or filled)
    title = next((at for at, count in enumerate(filled[:TITLES]) if count > 1 or usual <= 1), 0)
    numbered = tuple(map(str, range(1, max(map(len, rows[title:])) + 1)))
    named = [name for name in wanted if isinstance(name, str)]
    if given is False and named:
        hint = "`table: {header: false}` says that there is no header: give the columns by their numbers in `columns`"
        raise MissingColumn(path, wanted, numbered, f"{hint}, or take it out of the task")
    if given is False:
        return Header(title, numbered, False)
    if named:
        for at, row in enumerate(rows[:TITLES]):
            if places(named, names := names_of(row)) is not None:
                return Header(at, names, True)
    seems = looks_like_header(rows[title], rows[title + 1 :])
    names = names_of(rows[title])
    if named:
        hint = ""
        if seems is False and not given:
            numbers = _guess(rows[title:], len(wanted))
            hint = f"that line looks like a row, not a header: set `table: {{header: false}}` and {numbers} in the task"
        if len(names) == 1 and (between := _between(names[0], named)):
            hint = f"say what divides the fields, `table: {{delimiter: {between!r}}}`, in the task"
        raise MissingColumn(path, wanted, [name for name in names if name], hint)
    if seems is None and given is None:
        raise UserError(
            f"{shown(path)}: it is not clear whether its first line ({', '.join(names[:5])[:80]}) is a header: say "
            "`table: {header: true}` or `table: {header: false}` in the task"
        )
    return Header(title, names, True) if given or seems is not False else Header(title, numbered, False)


def looks_like_header(first: Sequence[str], body: Sequence[Sequence[str]]) -> bool | None:
    """Whether the first row names the columns; None where nothing tells.

    A name is known, or stands above numbers, few values or much longer texts; the value of a row is found below.
    """
    known, number, shorter, other = 0, 0, 0, 0
    for at, cell in enumerate(first):
        below = [row[at].strip() for row in body if at < len(row)]
        cell = cell.strip()
        if cell.lower() in KNOWN_NAMES:
            known += 1
        elif (
            cell and below and (cell in below or (_is_number(cell) and sum(map(_is_number, below)) > 0.9 * len(below)))
        ):
            return False
        elif below and all(map(_is_number, below)) and not _is_number(cell):
            number += 1
        elif cell and is_label_like(below):
            other += 1
        elif below and statistics.mean(map(len, below)) > 3 * len(cell) + 5:
            shorter += 1
    if known or number or other:
        return True
    return True if shorter and len(body) >= 5 and all(map(str.strip, first)) else None


def is_label_like(cells: Sequence[str]) -> bool:
    """Whether a column has few values, each several times."""
    counts = Counter(cells)
    return len(cells) >= 10 and 2 <= len(counts) <= len(cells) / 4 and min(counts.values()) > 1


def names_of(row: Sequence[str]) -> tuple[str, ...]:
    """A row's cells as names."""
    return tuple(name.strip().lstrip("\ufeff") for name in row)


def _is_number(cell: str) -> bool:
    return bool(re.fullmatch(r"[-+]?\d+([.,]\d+)?", cell.strip()))


def _between(header: str, named: Sequence[str]) -> str:
    """What stands after a wanted name, or before one, in a header that was not divided."""
    if not all(name in header for name in named):
        return ""
    first = re.search("|".join(map(re.escape, named)), header)
    rest = header[first.end() :] if first else ""
    found = re.match(r"[^\w\"'（(]+", rest)
    return found[0] if found else ""


def _guess(rows: Sequence[Sequence[str]], wanted: int) -> str:
    """`columns: {text: 2, label: 1}` for a table without header: the longest column, and that of fewest values."""
    width = statistics.mode(map(len, rows))
    columns = list(zip(*(row for row in rows if len(row) == width), strict=True))
    text = max(range(width), key=lambda at: sum(map(len, columns[at])))
    label = min((at for at in range(width) if at != text), key=lambda at: len(set(columns[at])), default=text)
    if wanted > 2 or label == text:
        return "give the columns by their numbers in `columns`"
    return f"`columns: {{text: {text + 1}, label: {label + 1}}}`"
