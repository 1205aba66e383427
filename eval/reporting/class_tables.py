"""Which classes and which confusions are shown where there are many: the worst, the most frequent."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

MATRIX = 12  # classes up to which a confusion matrix can be read
SHOWN = 20  # lines of a table of classes, or of confusions


class Confusion(NamedTuple):
    """Test rows of the class `gold` that were answered with `answer` (None: unparsed): how many, and what share."""

    gold: str
    answer: str | None
    rows: int
    share: float


def class_rows(reading: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The classes of a reading with their metrics: all in the task's order, or of many the worst by F1.

    Those without gold rows come last; of equals the one with more gold rows comes first.
    """
    classes = list(reading["per_class"].items())
    if len(classes) <= MATRIX:
        return classes
    return sorted(classes, key=lambda one: (not one[1]["support"], one[1]["f1"], -one[1]["support"]))[:SHOWN]


def confusions(reading: Mapping[str, Any]) -> list[Confusion]:
    """The most frequent wrong answers of a reading by class, the most frequent first."""
    columns, counts = reading["confusion"]["columns"], reading["confusion"]["counts"]
    found = [
        Confusion(columns[gold], columns[at] if at < len(counts) else None, count, count / sum(row))
        for gold, row in enumerate(counts)
        for at, count in enumerate(row)
        if count and at != gold
    ]
    return sorted(found, key=lambda one: (-one.rows, -one.share))[:SHOWN]


def worst_slices(slices: dict[str, dict[str, Any]], reading: str) -> dict[str, dict[str, Any]]:
    """The slices by label (value -> reading -> slice): all, or of many the least accurate of `reading`."""
    if len(slices) <= MATRIX:
        return slices
    known = [(label, parts) for label, parts in slices.items() if reading in parts]
    known.sort(key=lambda one: (one[1][reading]["accuracy"], -one[1][reading]["n"]))
    return dict(known[:SHOWN])


def shown_words(words: Sequence[str], rates: Mapping[str, Mapping[str, Any]], key: str) -> list[str]:
    """The label words: all, or of many those with the highest rate `key`, the highest first."""
    if len(words) <= MATRIX:
        return list(words)
    return sorted((word for word in words if word in rates), key=lambda word: -rates[word][key])[:SHOWN]
