"""Markdown that shows strangers' text as what it is: characters, never markup."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

# What could open a code span, a formula, a table cell, a tag, a character reference or a bare link.
_REFERENCES = re.compile(r"[\\`$|]|<(?=[A-Za-z/!?])|&(?=[#A-Za-z])|:(?=//)|(?<=\bwww)\.", re.IGNORECASE)
_EMPHASIS = re.compile(r"[*_~\[\]]")
# Line ends and control characters, and the marks that turn the direction of the text that follows.
_BREAKS = re.compile(r"[\s\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


def escape(text: Any) -> str:
    """`text` on one line so that Markdown shows just its characters; for a table cell, or inside a sentence."""
    line = _REFERENCES.sub(lambda match: f"&#{ord(match[0])};", one_line(text))
    return _EMPHASIS.sub(lambda match: f"\\{match[0]}", line)


def one_line(text: Any) -> str:
    """`text` without line ends, control characters and marks of direction, each run of them a space."""
    return _BREAKS.sub(" ", str(text)).strip().encode("utf-8", "replace").decode("utf-8")


def table(header: Sequence[str], rows: Iterable[Sequence[Any]], words: int = 1) -> list[str]:
    """A table as lines: the first `words` columns left-aligned, the others right. Every cell is escaped."""
    cells = [[escape(cell) for cell in row] for row in (header, *rows)]
    rule = [":--" if k < words else "--:" for k in range(len(header))]
    return [f"| {' | '.join(row)} |" for row in (cells[0], rule, *cells[1:])]
