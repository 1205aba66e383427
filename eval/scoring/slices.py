"""Where predictions are right and where they fail: by review length, gold label, cut or whole, known or not, disputed
or not."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from eval.scoring.metrics import classify
from eval.scoring.responses import Split
from eval.scoring.significance import Interval, wilson

# Characters of the uncut review. Fixed, so that runs and data sets compare; about the quartiles of hotel reviews.
LENGTHS = (("0–49", 50), ("50–99", 100), ("100–199", 200), ("200+", None))

By = Literal["length", "label", "cut", "known", "disputed"]


@dataclass(frozen=True)
class Slice:
    """Accuracy on the n test rows for which `by` has `value`; the interval is Wilson's, 95 %.

    macro_f1: over the labels with gold rows, as for the whole; None for the slices by label, where it says nothing.
    """

    reading: str
    by: By
    value: str
    n: int
    accuracy: float
    accuracy_ci: Interval | None
    macro_f1: float | None


def slice_metrics(
    reading: str,
    predicted: Sequence[str | None],
    test: Split,
    labels: Sequence[str],
    known: Collection[str] = (),
    disputed: Collection[str] = (),
) -> list[Slice]:
    """Every slice that holds rows: lengths from short to long, labels in the task's order, "cut" and "whole".

    `predicted` holds a label word a row, or None. `known` are the ids of the rows that are in texts a model may have
    seen, `disputed` those whose gold label an audit disputes. Where there are any, the rows are also sliced into
    "known" and "unknown", "disputed" and "undisputed": with and without them.
    """
    kinds: list[tuple[By, list[str], list[str]]] = [
        ("length", [name for name, _ in LENGTHS], [length_of(review) for review in test.reviews]),
        ("label", list(labels), list(test.gold)),
        ("cut", ["cut", "whole"], ["cut" if cut else "whole" for cut in test.cut]),
    ]
    flags: list[tuple[By, str, Collection[str]]] = [("known", "unknown", known), ("disputed", "undisputed", disputed)]
    for flag, otherwise, ids in flags:
        if chosen := set(ids):
            kinds.append((flag, [flag, otherwise], [flag if key in chosen else otherwise for key in test.ids]))
    slices = []
    for by, values, of_row in kinds:
        for value in values:
            inside = [at for at, row in enumerate(of_row) if row == value]
            if inside:
                score = classify([test.gold[at] for at in inside], [predicted[at] for at in inside], labels)
                interval = wilson(score.correct, score.n)
                macro_f1 = None if by == "label" else score.macro_f1
                slices.append(Slice(reading, by, value, score.n, score.accuracy, interval, macro_f1))
    return slices


def length_of(review: str) -> str:
    """The name of the length slice that a review belongs to."""
    return next(name for name, end in LENGTHS if end is None or len(review) < end)
