"""Ways to damage a file that was written whole: as bytes, and by its kind as JSON, lines, YAML or a table."""

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

DEEP = "[" * 100_000
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 3, 0.5, 10**30, 10**400, float("inf"), float("-inf"), float("nan"), "", "x", " ", "1"),
    *("\0", "\ud800", "../../outside", "/dev/null", "\u2028", "x" * 5000, "正面", [], {}, [None], [[]], {"a": None}),
    *(["x", "x"], [1, 2]),
)
WHOLE = (
    *(b"", b" ", b"\n", b"null", b"true", b"0", b'""', b"[]", b"{}", b"[{}]", b"[1, 2]", b'"text"', b"NaN", b"1e999"),
    *(b"-", b"9" * 5000, DEEP.encode(), b'{"a":' * 50_000, b"\0" * 100, b"\xff\xfe\x00", b"\xef\xbb\xbf{}"),
    *(b"<html></html>", b"PK\x03\x04", b"a: &a [x]\nb: *b\n", b"!!python/object/apply:os.system [true]", b"%"),
    *(b"\t- a", b"? [a]\n: b\n"),
)


def damage(path: Path, data: bytes, dice: random.Random) -> bytes:
    """`data` of the file `path`, damaged in one way."""
    ways: list[Callable[[bytes, random.Random], bytes]] = [_as_bytes, _whole]
    if path.suffix == ".json":
        ways += [_as_json] * 4
    elif path.suffix == ".jsonl":
        ways += [_a_line] * 4 + [_lines]
    elif path.suffix == ".yaml":
        ways += [_as_yaml] * 4
    elif path.suffix == ".csv":
        ways += [_lines, _as_cells]
    elif path.suffix == ".safetensors":
        ways += [_as_safetensors]
    return dice.choice(ways)(data, dice)


def _as_bytes(data: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(data) + 1)
    return dice.choice(
        [
            data[:at],
            data[at:],
            data[:at] + bytes([dice.randrange(256)]) + data[at + 1 :],
            data[:at] + dice.randbytes(dice.choice([1, 4, 300])) + data[at:],
            data + data,
            data[: len(data) - 1],
            data + b"}",
            data.replace(b'"', b"'"),
            data.decode("utf-8", "replace").encode("utf-16"),
            data.decode("utf-8", "replace").encode("gb18030"),
            b"\xef\xbb\xbf" + data,
            data.replace(b"\n", b"\r\n"),
        ]
    )


def _whole(data: bytes, dice: random.Random) -> bytes:
    return dice.choice(WHOLE)


def _as_json(data: bytes, dice: random.Random) -> bytes:
    return _dumped(_changed(json.loads(data), dice))


def _dumped(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _a_line(data: bytes, dice: random.Random) -> bytes:
    lines = data.split(b"\n")[:-1] or [b"{}"]
    at = dice.randrange(len(lines))
    lines[at] = _as_json(lines[at], dice)
    return b"\n".join(lines) + b"\n"


def _lines(data: bytes, dice: random.Random) -> bytes:
    lines = data.split(b"\n")[:-1] or [b""]
    at, other = dice.randrange(len(lines)), dice.randrange(len(lines))
    match dice.randrange(6):
        case 0:
            del lines[at]
        case 1:
            lines.insert(other, lines[at])
        case 2:
            lines[at], lines[other] = lines[other], lines[at]
        case 3:
            lines.insert(at, b"")
        case 4:
            lines[at] = dice.choice(WHOLE)
        case 5:
            lines[at] = lines[at][: dice.randrange(len(lines[at]) + 1)]
    return b"\n".join(lines) + b"\n"


def _as_yaml(data: bytes, dice: random.Random) -> bytes:
    changed = _changed(yaml.safe_load(data), dice)
    return yaml.safe_dump(changed, allow_unicode=True).encode("utf-8", "surrogatepass")


def _as_cells(data: bytes, dice: random.Random) -> bytes:
    lines = [line.split(b",") for line in data.split(b"\n")]
    line = dice.choice(lines)
    line[dice.randrange(len(line))] = str(dice.choice(VALUES)).encode("utf-8", "surrogatepass")
    return b"\n".join(b",".join(line) for line in lines)


def _as_safetensors(data: bytes, dice: random.Random) -> bytes:
    length = int.from_bytes(data[:8], "little")
    header = _as_json(data[8 : 8 + length], dice)
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def _changed(value: Any, dice: random.Random) -> Any:
    """A JSON value with one part of it replaced, taken out, given another name, or there twice."""
    value = copy.deepcopy(value)
    places: list[tuple[Any, Any]] = []

    def walk(part: Any) -> None:
        for key in part if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else ():
            places.append((part, key))
            walk(part[key])

    walk(value)
    if not places:
        return dice.choice(VALUES)
    shallow = [place for place in places if place[0] is value]
    part, key = dice.choice(dice.choice([places, shallow]))
    match dice.randrange(6):
        case 0:
            del part[key]
        case 1 if isinstance(part, dict):
            part[dice.choice(["", "x", "\ud800", "total"])] = part.pop(key)
        case 1:
            part.insert(key, part[key])
        case 2:
            part[key] = [part[key]]
        case _:
            part[key] = copy.deepcopy(dice.choice(VALUES))
    return value
