"""How a text file is encoded: UTF-8 with or without its mark, UTF-16 with its mark, else GB18030 (which holds GBK)."""

import codecs
from pathlib import Path
from typing import NamedTuple

BLOCK = 1 << 20  # characters decoded at a time: a file of any size is checked in little memory
MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
REPLACEMENT = "\ufffd"  # in place of bytes that could not be decoded


class Encoding(NamedTuple):
    """A file's encoding; `fault` is (line, byte offset) of the first bytes that it cannot decode, or None."""

    name: str
    fault: tuple[int, int] | None = None

    @property
    def errors(self) -> str:
        """How to open the file: strictly, or with the bytes at fault replaced."""
        return "replace" if self.fault else "strict"


def find_encoding(path: Path) -> Encoding:
    """The encoding of the text file `path`.

    A file with a byte order mark is what the mark says; any other is UTF-8, or GB18030 where that fails. Where all
    of its bytes fit neither, it is the one of the two that leaves fewer bytes undecoded, and `fault` says where.
    GB18030 gives a meaning to nearly all pairs of bytes: text in Big5 or Shift-JIS is taken for it.
    """
    with open(path, "rb") as stream:
        start = stream.read(4)
    candidates = [name for mark, name in MARKS.items() if start.startswith(mark)] or ["utf-8", "gb18030"]
    for name in candidates:
        if _decodes(path, name):
            return Encoding(name)
    best = min(candidates, key=lambda name: _replaced(path, name))
    return Encoding(best, _first_fault(path, best))


def _decodes(path: Path, name: str) -> bool:
    try:
        with open(path, encoding=name, newline="") as stream:
            while stream.read(BLOCK):
                pass
    except UnicodeDecodeError:
        return False
    return True


def _replaced(path: Path, name: str) -> int:
    """How many replacement characters decoding yields."""
    with open(path, encoding=name, errors="replace", newline="") as stream:
        return sum(block.count(REPLACEMENT) for block in iter(lambda: stream.read(BLOCK), ""))


def _first_fault(path: Path, name: str) -> tuple[int, int]:
    """(line, byte offset), lines from 1, of the first bytes that `name` cannot decode."""
    data = path.read_bytes()
    try:
        data.decode(name)
    except UnicodeDecodeError as error:
        return data.count(b"\n", 0, error.start) + 1, error.start
    raise RuntimeError(f"{path} decodes as {name} after all: it changed while it was read")
