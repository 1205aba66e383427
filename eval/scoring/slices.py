"""Where predictions are right and where they fail: by review length, gold label, cut or whole, known or not, disputed
or not, and by the task's segments, further columns of its table.

`python -m data_prep.audit DATASET --split test` writes the list of disputed labels; no label is changed by it. The rows
are chosen by a model, so a reading that resembles that model (`judge`) gains most when they are left out.
"""

import csv
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.scoring.metrics import classify
from eval.scoring.responses import Split
from eval.scoring.significance import Interval, wilson
from workspace.paths import shown

# Characters of the uncut review. Fixed, so that runs and data sets compare; about the quartiles of hotel reviews.
LENGTHS = (("0–49", 50), ("50–99", 100), ("100–199", 200), ("200+", None))

AUDIT = "audit-test.csv"
PROBABLE = "probable"  # in the column `issue`

COLUMN = "column:"  # begins `by` of a segment, before the column's name


@dataclass(frozen=True)
class Slice:
    """Accuracy on the n test rows for which `by` has `value`; the interval is Wilson's, 95 %.

    macro_f1: over the labels with gold rows, as for the whole; None for the slices by label, where it says nothing.
    """

    reading: str
    by: str
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
    segments: Mapping[str, Sequence[str]] | None = None,
) -> list[Slice]:
    """Every slice that holds rows: lengths from short to long, labels in the task's order, "cut" and "whole".

    `predicted` holds a label word a row, or None. `known` are the ids of the rows that are in texts a model may have
    seen, `disputed` those whose gold label an audit disputes. Where there are any, the rows are also sliced into
    "known" and "unknown", "disputed" and "undisputed": with and without them. `segments` are values of the rows (n,) by
    column, the most frequent first.
    """
    kinds: list[tuple[str, list[str], list[str]]] = [
        ("length", [name for name, _ in LENGTHS], [length_of(review) for review in test.reviews]),
        ("label", list(labels), list(test.gold)),
        ("cut", ["cut", "whole"], ["cut" if cut else "whole" for cut in test.cut]),
    ]
    flags: list[tuple[str, str, Collection[str]]] = [("known", "unknown", known), ("disputed", "undisputed", disputed)]
    for flag, otherwise, ids in flags:
        if chosen := set(ids):
            kinds.append((flag, [flag, otherwise], [flag if key in chosen else otherwise for key in test.ids]))
    for column, of_row in (segments or {}).items():
        kinds.append((COLUMN + column, [value for value, _ in Counter(of_row).most_common()], list(of_row)))
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


@dataclass(frozen=True)
class LabelIssues:
    """Ids of the rows counted as label errors, and the model that judged: "linear" or "tuned"."""

    ids: frozenset[str]
    judge: str


def load_label_issues(dataset: Path, test: Split) -> LabelIssues | None:
    """The label issues among `test`; None where `dataset` holds no audit of the test split, or one of other rows, which
    is said in one line."""
    path = dataset / AUDIT
    if not path.is_file():
        return None
    gold = dict(zip(test.ids, test.gold, strict=True))
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream, strict=True, restval=""))
        fits = all(gold.get(row["row"]) == row["given"].removeprefix("'") for row in rows)
        issues = {row["row"] for row in rows if row["issue"] == PROBABLE}
        judges = {row["judge"] for row in rows}
    except (OSError, ValueError, KeyError, csv.Error):
        fits, issues, judges = False, set(), set()
    if not fits or len(judges) > 1:
        print(f"report: {shown(path)} is of other rows and was not used: run `python -m data_prep.audit` again")
        return None
    return LabelIssues(frozenset(issues), next(iter(judges), "linear"))
