"""Markdown that shows strangers' text as what it is: characters, never markup. And the table cells of a comparison."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from eval.wording import CODES, number, p_value, signed, signed_interval

COMPARISON = (
    "n",
    "修正 fixed",
    "弄坏 broken",
    "McNemar p",
    "准确率之差 accuracy, points (95%)",
    "宏平均 F1 之差 macro F1, points (95%)",
    "后者 the second is",
)

# What could open a code span, a formula, a table cell, a tag, a character reference or a bare link.
_REFERENCES = re.compile(r"[\\`$|]|<(?=[A-Za-z/!?])|&(?=[#A-Za-z])|:(?=//)|(?<=\bwww)\.", re.IGNORECASE)
_EMPHASIS = re.compile(r"[*_~\[\]]")
# Line ends and control characters, and the marks that turn the direction of the text that follows.
_BREAKS = re.compile(r"[\s\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


def escape(text: Any) -> str:
    """`text` on one line so that Markdown shows just its characters; for a table cell, or inside a sentence."""
    line = _BREAKS.sub(" ", str(text)).strip().encode("utf-8", "replace").decode("utf-8")
    line = _REFERENCES.sub(lambda found: f"&#{ord(found.group())};", line)
    return _EMPHASIS.sub(lambda found: f"\\{found.group()}", line)


def table(header: Sequence[str], rows: Iterable[Sequence[Any]], words: int = 1) -> list[str]:
    """A table as lines: the first `words` columns left-aligned, the others right. Every cell is escaped."""
    cells = [[escape(cell) for cell in row] for row in (header, *rows)]
    rule = [":--" if k < words else "--:" for k in range(len(header))]
    return [f"| {' | '.join(row)} |" for row in (cells[0], rule, *cells[1:])]


def comparison_cells(found: Mapping[str, Any]) -> list[str]:
    """One comparison, as it stands in metrics.json, below the headings of `COMPARISON`."""
    return [
        number(found["n"]),
        number(found["fixed"]),
        number(found["broken"]),
        p_value(found["mcnemar_p"]),
        f"{signed(found['accuracy_difference'])} ({signed_interval(found['accuracy_ci'])})",
        f"{signed(found['macro_f1_difference'])} ({signed_interval(found['macro_f1_ci'])})",
        " ".join(CODES[found["code"]]),
    ]
