"""Tables of any size that look like real reviews: clauses of real reviews, put together anew.

Repeating a file as it is would make every row a copy. So each row is a real review of which about two clauses in three
are replaced by clauses of other reviews with the same label. A share of the rows is copied from an earlier row, half
of them word for word and half with one clause added at the end: groups for prep to find.
"""

import csv
import random
import re
from collections import deque
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from workspace.errors import UserError
from workspace.paths import shown

REPLACED = 2 / 3  # of a review's clauses
COPIES = 0.02  # of the rows
CLAUSE = re.compile(r"[^，。！？；,!?;\s]+[，。！？；,!?;\s]*")


def read_reviews(path: Path) -> list[tuple[str, str]]:
    """(label, review) of each row of a CSV with these columns. Raises `UserError` when it has none."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            rows = [(row["label"], row["review"]) for row in csv.DictReader(stream) if row["review"].strip()]
    except (OSError, KeyError, UnicodeDecodeError) as error:
        raise UserError(f"{shown(path)} is no table of label and review ({error!r}): give another with --csv") from None
    if not rows:
        raise UserError(f"{shown(path)} has no rows: give another with --csv")
    return rows


def varied(rows: list[tuple[str, str]], count: int, seed: int) -> Iterator[tuple[str, str]]:
    """`count` rows made from `rows`, the first `len(rows)` of them as they are; the same for the same seed.

    Fewer than `len(rows)` are drawn from all of `rows`: a file may hold one class after the other.
    """
    draw = random.Random(seed)
    if count < len(rows):
        rows = draw.sample(rows, count)
    clauses: dict[str, list[str]] = {}
    split = [(label, CLAUSE.findall(text) or [text]) for label, text in rows]
    for label, found in split:
        clauses.setdefault(label, []).extend(found)
    recent: deque[tuple[str, str]] = deque(maxlen=1000)
    for at in range(count):
        if at < len(rows):
            row = rows[at]
        elif draw.random() < COPIES:
            label, text = recent[int(draw.random() * len(recent))]
            row = (label, text if draw.random() < 0.5 else text + draw.choice(clauses[label]))
        else:
            label, found = split[int(draw.random() * len(split))]
            mine = clauses[label]
            made = (mine[int(draw.random() * len(mine))] if draw.random() < REPLACED else one for one in found)
            row = (label, "".join(made))
        recent.append(row)
        yield row


def write_table(path: Path, rows: Iterator[tuple[str, str]]) -> None:
    """Write rows as a CSV with the columns label and review."""
    with open(path, "w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(chain([("label", "review")], rows))
