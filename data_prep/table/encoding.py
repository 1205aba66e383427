"""How a text file is encoded: its byte order mark, UTF-8, UTF-16, or the old encoding that makes it text of a language.

A file is read in pieces, whatever its size. What the bytes do not decide is asked for, with a line as each candidate
reads it: a wrong guess would train on nonsense in silence.
"""

import codecs
import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from data_prep.table.language import CHINESE_MARKS, COMMON, Measure, chinese, japanese, korean, western
from workspace.errors import UserError
from workspace.paths import shown

BLOCK = 1 << 20  # bytes decoded at a time: a file of any size is checked in little memory
MARKS = {  # the longer ones first: UTF-32's begins with UTF-16's
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
REPLACEMENT = "\ufffd"  # in place of bytes that could not be decoded
SAMPLE = 50_000  # bytes of lines beyond ASCII that are looked at
MEASURES: dict[str, Measure] = {
    **dict.fromkeys(("gb18030", "cp950", "big5hkscs"), chinese),
    **dict.fromkeys(("cp932", "euc_jp"), japanese),
    "cp949": korean,
    "cp1252": western,
}
PLAUSIBLE: dict[Measure, float] = {
    chinese: 0.25,
    japanese: 0.25,
    korean: 0.15,
    western: 0.7,
}  # a measure of real text, at least
# The best candidate is taken where the next, which reads other text, is at most this share of it.
CLEAR = 0.5
BROKEN_SHARE = 0.05  # of the characters beyond ASCII may be undecodable: single rows are broken, not the whole file
FEW = 30  # bytes beyond ASCII
MOST_UNPACKED = 2**33  # bytes of a .gz


class Encoding(NamedTuple):
    """A file's encoding; `fault` is (line, byte offset) of the first bytes that it cannot decode, or None."""

    name: str
    fault: tuple[int, int] | None = None

    @property
    def errors(self) -> str:
        """How to open the file: strictly, or with the bytes at fault replaced."""
        return "replace" if self.fault else "strict"


def find_encoding(path: Path, given: str | None = None, key: str = "") -> Encoding:
    """The encoding of the text file `path`: that of its mark, `given`, or what its bytes say.

    Where some bytes do not fit it, `fault` says where. Raises UserError where several encodings are as likely, with a
    line of the file as each of them reads it; `key` is where the task says which (none: the file must be saved anew).
    """
    with open_bytes(path) as stream:
        start = stream.read(1 << 16)
    for mark, name in MARKS.items():
        if start.startswith(mark):
            return _checked(path, name)
    if given is not None:
        return _given(path, given)
    if wide := _utf_16(start):
        return _checked(path, wide)
    fault = _first_fault(path, "utf-8")
    if fault is None:
        return Encoding("utf-8")
    sample = _sample(path)
    readings = {name: sample.decode(name, "replace") for name in ("utf-8", *MEASURES)}
    beyond = sum(one >= "\x80" for one in readings["utf-8"])
    broken, whole = readings["utf-8"].count(REPLACEMENT), readings["utf-8"].replace(REPLACEMENT, "")
    sense = any(measure(whole) >= least for measure, least in PLAUSIBLE.items())
    if broken <= BROKEN_SHARE * beyond or (sense and 2 * broken <= beyond):
        return Encoding("utf-8", fault)
    scores = {name: _score(readings[name], measure) for name, measure in MEASURES.items()}
    best = max(scores, key=lambda name: scores[name])
    others = [name for name in scores if readings[name] != readings[best] and scores[name] > CLEAR * scores[best]]
    others = [name for name in others if not {name, best} <= {"cp950", "big5hkscs"}]  # one is an extension of the other
    if scores[best] < PLAUSIBLE[MEASURES[best]] or others:
        raise _doubt(path, sample, scores, key)
    return _checked(path, best)


def _given(path: Path, name: str) -> Encoding:
    """The encoding that the task names. Raises UserError where it makes nonsense of a file that is UTF-8."""
    encoding = _checked(path, name)
    if not name.startswith("utf") and _first_fault(path, "utf-8") is None:
        sample = _sample(path)
        text = sample.decode("utf-8", "replace")
        sense = any(measure(text) >= least for measure, least in PLAUSIBLE.items())
        if sense and not sample.isascii() and text != sample.decode(name, "replace"):
            raise UserError(
                f"{shown(path)} is UTF-8, not {name}: take `encoding: {name}` out of `table` in the task (its text is "
                f"{_a_line(sample).decode('utf-8', 'replace')[:40]})"
            )
    return encoding


def open_bytes(path: Path) -> IO[bytes]:
    """The file's bytes, unpacked where it is a .gz. Raises UserError, later, for one that unpacks without end."""
    if path.suffix.lower() != ".gz":
        return open(path, "rb")
    return io.BufferedReader(_Unpacked(path), BLOCK)  # type: ignore[type-var]


def open_text(path: Path, encoding: Encoding) -> io.TextIOWrapper:
    """The file for the csv module: line ends untouched, \\n, \\r and \\r\\n all ending a line."""
    return io.TextIOWrapper(open_bytes(path), encoding=encoding.name, errors=encoding.errors, newline="")


class _Unpacked(io.RawIOBase):
    def __init__(self, path: Path) -> None:
        self._path, self._stream, self._left = path, gzip.GzipFile(path), MOST_UNPACKED

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        piece = self._stream.read(len(buffer))
        self._left -= len(piece)
        if self._left < 0:
            raise UserError(
                f"{shown(self._path)} unpacks to more than {MOST_UNPACKED / 2**30:g} GiB: unpack it and take fewer rows"
            )
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        self._stream.close()
        super().close()


def _checked(path: Path, name: str) -> Encoding:
    fault = _first_fault(path, name)
    if fault and name == "cp950" and _first_fault(path, "big5hkscs") is None:
        return Encoding("big5hkscs")
    return Encoding(name, fault)


def _first_fault(path: Path, name: str) -> tuple[int, int] | None:
    """(line, byte offset), lines from 1, of the first bytes that `name` cannot decode; None where it decodes all."""
    decoder, lines, offset = codecs.getincrementaldecoder(name)(), 1, 0
    with open_bytes(path) as stream:
        while True:
            block = stream.read(BLOCK)
            kept = decoder.getstate()[0]
            try:
                lines += decoder.decode(block, final=not block).count("\n")
            except UnicodeDecodeError as error:
                before = error.object[: error.start].decode(name, "replace").count("\n")
                return lines + before, offset - len(kept) + error.start
            if not block:
                return None
            offset += len(block)


def _utf_16(start: bytes) -> str | None:
    """UTF-16 without its mark: its ASCII characters have zeros on one side, and read so the file is a text."""
    if start.count(0) < max(2, 0.005 * len(start)):
        return None
    for name in ("utf-16-le", "utf-16-be"):
        text = start[: len(start) // 2 * 2].decode(name, "replace")
        known = sum(" " <= one <= "~" or one in "\r\n\t" or one in COMMON or one in CHINESE_MARKS for one in text)
        if ("\n" in text or "\r" in text) and known >= 0.5 * len(text):
            return name
    return None


def _sample(path: Path) -> bytes:
    """Lines that hold bytes beyond ASCII, from all of the file; at most SAMPLE bytes or so."""
    with open_bytes(path) as stream:
        found = [line for line in _lines(stream) if not line.isascii()]
    step = max(1, sum(map(len, found)) // SAMPLE)
    return b"\n".join(found[::step])[: 2 * SAMPLE]


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Lines of the first, and of every 32nd following, block."""
    for number, block in enumerate(iter(lambda: stream.read(BLOCK // 4), b"")):
        if number < 4 or number % 32 == 0:
            lines = block.splitlines()
            yield from lines if number == 0 else lines[1:-1]  # a cut line may begin within a character


def _score(text: str, measure: Measure) -> float:
    beyond = sum(one >= "\x80" for one in text)
    strange = sum("\x80" <= one < "\xa0" or "\ue000" <= one <= "\uf8ff" or one == REPLACEMENT for one in text)
    return 0.0 if strange > BROKEN_SHARE * beyond else measure(text)


def _a_line(sample: bytes) -> bytes:
    """A line that shows much of what is beyond ASCII."""
    lines = sample.splitlines()[:200]
    first = {line: next((at for at, byte in enumerate(line) if byte >= 0x80), 0) for line in lines}
    parts = [line[max(0, at - 10) :] if line[max(0, at - 10) : at].isascii() else line for line, at in first.items()]
    return max(parts, key=lambda one: sum(byte >= 0x80 for byte in one[:60]), default=b"")


def _doubt(path: Path, sample: bytes, scores: dict[str, float], key: str) -> UserError:
    from charset_normalizer import from_bytes  # here, because most files need no guess

    proposed = [match.encoding for match in from_bytes(sample, threshold=0.5)][:3]
    likely = sorted((name for name in scores if scores[name] > 0), key=lambda name: -scores[name])[:3]
    usual = [name for name in ("gb18030", "cp950", "cp1252") if REPLACEMENT not in sample.decode(name, "replace")]
    few = sum(byte >= 0x80 for byte in sample) < FEW  # nothing can be said of so little
    names = list(dict.fromkeys([*likely, *usual] if few else [*likely, *proposed, *usual]))
    readings: dict[str, str] = {}
    line = _a_line(sample)
    for name in names:
        text = line.decode(name, "replace")[:40]
        if text not in readings.values():
            readings[name] = text
    if not readings:
        return UserError(f"{shown(path)} is text of no known encoding: save it as UTF-8")
    remedy = "save it as UTF-8"
    if key:
        remedy = f"set the name of the one that reads right in the task, `{key}: {{encoding: NAME}}`"
    listed = "; ".join(f"{name}: {text}" for name, text in readings.items())
    return UserError(
        f"{shown(path)} is not UTF-8, and its encoding is not clear; a line as each reads it – {listed} – {remedy}"
    )
