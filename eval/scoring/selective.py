"""Answering only when sure, at an accuracy that is promised: the confidence from which on a reading answers by itself.

A threshold is taken only where the rows that choose it show that the answers above it reach the target, at a risk of
being wrong that the user sets (`selective` in task.yaml). The test rows, which chose nothing, then confirm the promise,
refute it, or leave it open.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, binom

from data_prep.decision_settings import SelectiveSettings
from eval.scoring.calibration import FloatArray, IntArray, confidence_of
from eval.scoring.significance import LEVEL, Interval

# The sequence of tests, settled by simulation: started with a fifth of the rows one early miss seldom ends it, and more
# steps, or a level divided among several starts, left fewer rows answered.
START = 0.2
STEPS = 20

Outcome = Literal["met", "not_met", "undecided"]


@dataclass(frozen=True)
class Chosen:
    """A confidence threshold, what it gives on the n rows that chose it, and the lower bound of its accuracy there."""

    threshold: float
    n: int
    n_answered: int
    coverage: float
    accuracy: float
    accuracy_low: float


@dataclass(frozen=True)
class Check:
    """What a confidence threshold does on n other rows; accuracy and interval (95 %, Clopper-Pearson) are None when
    none is answered."""

    n: int
    n_answered: int
    coverage: float
    accuracy: float | None
    accuracy_ci: Interval | None
    outcome: Outcome


def rows_needed(target: float, level: float) -> int:
    """The fewest rows, all answered rightly, that show an accuracy of `target` at `level`."""
    return math.ceil(math.log(level) / math.log(target))


def choose_selective(probabilities: FloatArray, gold: IntArray, target: float, level: float) -> Chosen | None:
    """The lowest threshold above which the answers are shown to reach the accuracy `target`; None where none is.

    With probability 1 - `level` at least, answers above a threshold that is chosen really reach it: the k surest rows
    are, given the next one's confidence, a sample of all rows above it, so that the rightly answered among them are
    binomial, and Clopper and Pearson's bound (1934) holds. Several k are tested in a fixed order, from few rows to all,
    each at the whole level, up to the first that fails (fixed-sequence testing, as in Learn then Test: Angelopoulos,
    Bates, Candès, Jordan and Lei 2021). Surer rows are taken to be right at least as often as less sure ones.

    probabilities (n, labels), gold positions (n,). The threshold lies in the middle between two rows' confidences.
    """
    confidence, right = confidence_of(probabilities, gold)
    n, fewest = len(gold), rows_needed(target, level)
    if n < fewest:
        return None
    order = np.argsort(-confidence, kind="stable")
    ordered, hits = confidence[order], np.cumsum(right[order])
    counts = np.linspace(max(fewest, math.ceil(START * n)), n, STEPS).astype(int)
    # Rows of equal confidence are answered together or not at all.
    counts = np.unique(np.searchsorted(-ordered, -ordered[counts - 1], side="right"))
    passed = binom.sf(hits[counts - 1] - 1, counts, target) <= level
    last = int(passed.argmin()) if not passed.all() else len(passed)
    if last == 0:
        return None
    answered = int(counts[last - 1])
    hit = int(hits[answered - 1])
    threshold = (ordered[answered - 1] + ordered[answered]) / 2 if answered < n else 0.0
    low = _bounds(hit, answered, level)[0]
    return Chosen(float(threshold), n, answered, answered / n, hit / answered, low)


def check_selective(threshold: float, probabilities: FloatArray, gold: IntArray, target: float, level: float) -> Check:
    """What answering only rows with a confidence of at least `threshold` gives on these rows, and whether it meets the
    target: met where the lower bound of the accuracy reaches it, not met where the upper one does not, each of them
    wrong in a share `level` of samples at most."""
    confidence, right = confidence_of(probabilities, gold)
    answered = confidence >= threshold
    n, hits = int(answered.sum()), int(right[answered].sum())
    if n == 0:
        return Check(len(gold), 0, 0.0, None, None, "undecided")
    low, high = _bounds(hits, n, level)
    outcome: Outcome = "met" if low >= target else "not_met" if high < target else "undecided"
    return Check(len(gold), n, n / len(gold), hits / n, _bounds(hits, n, (1 - LEVEL) / 2), outcome)


def selective_answering(
    validation: Mapping[str, FloatArray],
    test: Mapping[str, FloatArray | None],
    gold: tuple[IntArray, IntArray],
    rows: NDArray[np.bool_],
    settings: SelectiveSettings,
) -> dict[str, Any] | None:
    """What metrics.json has of it, by reading; None where no reading has probabilities of both splits' rows.

    validation and test: probabilities (n, labels) by reading; gold: positions in the labels of both; rows: which of the
    validation rows may choose.
    """
    target, level = settings.target, settings.level
    readings = {}
    for name, shares in validation.items():
        if (on_test := test.get(name)) is None or not rows.any():
            continue
        chosen = choose_selective(shares[rows], gold[0][rows], target, level)
        checked = None if chosen is None else check_selective(chosen.threshold, on_test, gold[1], target, level)
        readings[name] = {"chosen": chosen and asdict(chosen), "test": checked and asdict(checked)}
    if not readings:
        return None
    return {
        "target": target,
        "level": level,
        "rows_needed": rows_needed(target, level),
        "rows": int(rows.sum()),
        "kept_apart": not rows.all(),
        "readings": readings,
    }


def _bounds(hits: int, n: int, level: float) -> Interval:
    """The one-sided Clopper-Pearson bounds of hits / n, below and above, each at `level`."""
    low = beta.ppf(level, hits, n - hits + 1) if hits else 0.0
    high = beta.ppf(1 - level, hits + 1, n - hits) if hits < n else 1.0
    return float(low), float(high)
