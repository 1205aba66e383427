"""JSON that this project or ms-swift has left on disk, read by its schema: the one place that judges a record.

A schema is a dataclass, a pydantic model or a type. What does not fit it is one sentence with path, key and remedy, or,
for a record that can be made again at no loss, counts as absent, which is said in a line.
"""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, TypeAdapter, ValidationError

from workspace.errors import UserError
from workspace.paths import NAME_BYTES, shown

T = TypeVar("T")
PATH_BYTES = 4096  # that Linux takes


class Damaged(ValueError):
    """What is wrong with a record, to stand in brackets in a sentence; `line` (from 1) of a file with many."""

    def __init__(self, what: str, line: int = 0) -> None:
        super().__init__(what)
        self.line = line


def parse(kind: type[T], data: bytes | str) -> T:
    """The record in `data`. Raises `Damaged`."""
    try:
        return _adapter(kind).validate_json(data)  # type: ignore[arg-type]
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        key, message = ".".join(map(str, fault["loc"])), fault["msg"].removeprefix("Value error, ")
        what = f"{key} is missing" if fault["type"] == "missing" else f"{key}: {message}".removeprefix(": ")
        raise Damaged(" ".join(what.split())[:200]) from error


def read(path: Path, kind: type[T], remedy: str) -> T:
    """The record in the file `path`. Raises `UserError`, which ends with the remedy, for one missing or damaged."""
    try:
        return parse(kind, path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{shown(path)} is missing: {remedy}") from None
    except (OSError, Damaged) as error:
        raise _cannot(path, error, remedy) from error


def read_if_whole(path: Path, kind: type[T]) -> T | None:
    """The record in the file `path`; None where there is none. One that is damaged counts as none: that is said."""
    try:
        return parse(kind, path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, Damaged) as error:
        print(f"{shown(path)} cannot be read ({_reason(error)}) and counts as absent", flush=True)
        return None


def read_lines(path: Path, kind: type[T], remedy: str) -> list[T]:
    """The records in a file with one a line. Raises `UserError` as `read` does, naming the line.

    Lines end with \\n alone: a U+2028 inside a review ends none.
    """
    try:
        return list(_lines(path, kind))
    except FileNotFoundError:
        raise UserError(f"{shown(path)} is missing: {remedy}") from None
    except (OSError, Damaged) as error:
        raise _cannot(path, error, remedy) from error


def whole_lines(path: Path, kind: type[T]) -> list[T]:
    """The records in a file that another process appends to, and may be killed while it does; none without a file.

    A line that is torn, or is no such record, counts as not there.
    """
    found = []
    for line in path.read_bytes().split(b"\n")[:-1] if path.is_file() else []:
        try:
            found.append(parse(kind, line))
        except Damaged:
            continue
    return found


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _lines(path: Path, kind: type[T]) -> Iterator[T]:
    with open(path, "rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                yield parse(kind, line)
            except Damaged as error:
                raise Damaged(str(error), number) from error


def _cannot(path: Path, error: Exception, remedy: str) -> UserError:
    line = f", line {error.line}" if isinstance(error, Damaged) and error.line else ""
    return UserError(f"{shown(path)}{line} cannot be read ({_reason(error)}): {remedy}")


def _reason(error: Exception) -> str:
    return str(error.strerror if isinstance(error, OSError) else error)


def _finite(value: Any) -> Any:
    json.dumps(value, allow_nan=False)  # raises ValueError
    return value


def _possible(path: Path) -> Path:
    text = str(path)
    if "\0" in text or len(text.encode()) > PATH_BYTES or any(len(x.encode()) > NAME_BYTES for x in path.parts):
        raise ValueError("no path that a disk can hold")
    return path


# Parts of schemas. `Json` is any value that can be written again, `Stored` a path, `RowId` what names a row of a table,
# which the first versions wrote as a number.
Json = Annotated[Any, AfterValidator(_finite)]
Stored = Annotated[Path, AfterValidator(_possible)]
RowId = Annotated[str, BeforeValidator(lambda value: str(value) if type(value) is int else value)]
