"""Where a reading is right and where it fails: accuracy by review length, gold label, cut or whole, known or not."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from eval.answers import Split
from eval.significance import Interval, wilson

# Characters of the uncut review. Fixed, so that runs and data sets compare; about the quartiles of hotel reviews.
LENGTHS = (("0–49", 50), ("50–99", 100), ("100–199", 200), ("200+", None))

By = Literal["length", "label", "cut", "known"]


@dataclass(frozen=True)
class Slice:
    """Accuracy on the n test rows for which `by` has `value`; the interval is Wilson's, 95 %."""

    reading: str
    by: By
    value: str
    n: int
    accuracy: float
    accuracy_ci: Interval | None


def slice_reading(
    reading: str, right: Sequence[bool], test: Split, labels: Sequence[str], known: Collection[str] = ()
) -> list[Slice]:
    """Every slice that holds rows: lengths from short to long, labels in the task's order, "cut" and "whole".

    `known` are the ids of the rows that stand in texts a model may have seen. Where there are any, the rows are also
    sliced into "known" and "unknown": with and without them.
    """
    kinds: list[tuple[By, list[str], list[str]]] = [
        ("length", [name for name, _ in LENGTHS], [length_of(review) for review in test.reviews]),
        ("label", list(labels), list(test.gold)),
        ("cut", ["cut", "whole"], ["cut" if cut else "whole" for cut in test.cut]),
    ]
    if known:
        seen = set(known)
        kinds.append(("known", ["known", "unknown"], ["known" if key in seen else "unknown" for key in test.ids]))
    slices = []
    for by, values, of_row in kinds:
        for value in values:
            inside = [hit for hit, row in zip(right, of_row, strict=True) if row == value]
            if inside:
                n, correct = len(inside), sum(inside)
                slices.append(Slice(reading, by, value, n, correct / n, wilson(correct, n)))
    return slices


def length_of(review: str) -> str:
    """The name of the length slice that a review belongs to."""
    return next(name for name, end in LENGTHS if end is None or len(review) < end)
