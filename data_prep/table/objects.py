"""The rows of JSON: an object a line, a list of objects, or ms-swift's `messages`."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data_prep.table.delimited import Noticed, Row
from data_prep.table.encoding import Encoding, open_text
from data_prep.table.header import MissingColumn
from data_prep.table.table_settings import Column
from workspace.errors import UserError
from workspace.paths import shown

MESSAGES = "messages"
ROLES = ("system", "user", "assistant")  # each becomes a column of its row
BLOCK = 1 << 20  # characters of a list read at a time
MOST = 1 << 28  # characters of one object


def is_json(start: str) -> str | None:
    """`json` or `jsonl` for a file that starts so; None for one that is no JSON."""
    text = start.lstrip("\ufeff \t\r\n")
    if text.startswith("["):
        inner = text[1:].lstrip()
        return "json" if inner[:1] in ("{", "]") else None
    if not text.startswith("{"):
        return None
    try:
        return "jsonl" if isinstance(json.loads(text.splitlines()[0]), dict) else None
    except ValueError:
        return "json" if text[1:].lstrip().startswith('"') else None


def object_names(path: Path, encoding: Encoding, kind: str) -> tuple[str, ...]:
    """The keys of the first hundred objects, each once."""
    names: dict[str, None] = {}
    for _, (value, _) in zip(range(100), objects(path, encoding, kind, Noticed()), strict=False):
        names |= dict.fromkeys(value)
    return tuple(names)


def object_rows(path: Path, encoding: Encoding, kind: str, wanted: Sequence[Column], noticed: Noticed) -> Iterator[Row]:
    """The rows of a file with one JSON object a line (`jsonl`), or a list of objects (`json`).

    Blank lines are no rows; null is an empty cell, a number is written out. Of `messages` the columns are system, user
    and assistant. Raises MissingColumn when the first object lacks a key, and UserError naming the line for one that is
    not a JSON object, lacks a key, or holds a list or an object where text belongs.
    """
    first = True
    for value, line in objects(path, encoding, kind, noticed):
        if first and not value.keys() >= set(wanted):
            if numbers := [one for one in wanted if isinstance(one, int)]:
                raise UserError(
                    f"{shown(path)}: JSON has no column {numbers[0]}: give its key in `columns` of the task"
                )
            raise MissingColumn(path, wanted, list(value))
        first = False
        yield [noticed.without_nul(_cell(path, line, value, str(key))) for key in wanted], line


def objects(path: Path, encoding: Encoding, kind: str, noticed: Noticed) -> Iterator[tuple[dict[str, Any], int]]:
    """Each object and its line, `messages` as columns. Raises UserError naming the line for what is no object."""
    for value, line in (_lines if kind == "jsonl" else _list)(path, encoding, noticed):
        if not isinstance(value, dict):
            expected = "one a line" if kind == "jsonl" else "in a list"
            raise UserError(f'{shown(path)}, line {line}: expected a JSON object ({{"...": ...}}), {expected}')
        yield (_turns(path, line, value) if isinstance(value.get(MESSAGES), list) else value), line


def _lines(path: Path, encoding: Encoding, noticed: Noticed) -> Iterator[tuple[Any, int]]:
    with open_text(path, encoding) as stream:
        stream.reconfigure(newline="\n")
        for line, content in enumerate(stream, start=1):
            if content.strip():
                try:
                    yield json.loads(noticed.without_nul(content)), line
                except (ValueError, RecursionError) as error:
                    raise _invalid(path, line, error) from error


def _list(path: Path, encoding: Encoding, noticed: Noticed) -> Iterator[tuple[Any, int]]:
    """The elements of a list, or objects that follow one another, without the whole in memory."""
    decoder, text, line, ended = json.JSONDecoder(), "", 1, False
    listed = closed = False
    with open_text(path, encoding) as stream:
        while True:
            stripped = text.lstrip(" \t\r\n\ufeff")
            line += text.count("\n", 0, len(text) - len(stripped))
            text = stripped
            if text[:1] == "[" and not listed:
                listed, text = True, text[1:]
                continue
            if text[:1] == "," and listed:
                text = text[1:]
                continue
            if text[:1] == "]" and listed and not closed:
                closed, text = True, text[1:]
                continue
            if text and closed:
                raise _invalid(path, line, ValueError("something follows the list"))
            try:
                value, end = decoder.raw_decode(text)
            except (ValueError, RecursionError) as error:
                if ended:
                    if not text and (closed or not listed):
                        return
                    raise _invalid(path, line, error) from error
                if len(text) > MOST or isinstance(error, RecursionError):
                    raise _invalid(path, line, error) from error
                piece = stream.read(max(BLOCK, len(text)))  # twice as much each time: an object may be large
                ended, text = not piece, text + noticed.without_nul(piece)
                continue
            yield value, line
            line += text.count("\n", 0, end)
            text = text[end:]


def _invalid(path: Path, line: int, error: Exception) -> UserError:
    reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
    return UserError(f"{shown(path)}, line {line}: not valid JSON ({reason})")


def _turns(path: Path, line: int, value: dict[str, Any]) -> dict[str, Any]:
    """A row of `messages` with a column for each role. Raises UserError for a chat of several questions."""
    turns: dict[str, Any] = dict.fromkeys(ROLES, "")
    seen = []
    for turn in value[MESSAGES]:
        role = turn.get("role") if isinstance(turn, dict) else None
        if role not in ROLES or role in seen or not isinstance(turn.get("content"), str):
            raise UserError(
                f"{shown(path)}, line {line}: messages are read as one question and its answer (roles system, user, "
                "assistant, each once, with a text as content): take the row out, or write it so"
            )
        seen.append(role)
        turns[role] = turn["content"]
    return {**{key: one for key, one in value.items() if key != MESSAGES}, **turns}


def _cell(path: Path, line: int, value: dict[str, Any], key: str) -> str:
    if key not in value:
        raise UserError(f"{shown(path)}, line {line}: has no {key}; found: {', '.join(value)}")
    cell = value[key]
    if isinstance(cell, list | dict):
        raise UserError(f"{shown(path)}, line {line}: {key} is a {type(cell).__name__}, expected text")
    return "" if cell is None else str(cell)
