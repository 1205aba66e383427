"""What a reading's probabilities are worth: AUC, log loss, Brier, calibration, and answering only when sure.

A row's confidence is its greatest probability. The confidence threshold for selective answering is chosen on
validation rows; test rows only check it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from eval.scoring.significance import Interval, wilson

ECE_BINS = 15
CURVE_POINTS = 100
TARGETS = (0.97, 0.95, 0.90)
MIN_COVERAGE = 0.10

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class ReliabilityBin:
    """Rows with a confidence in (low, high]: their number, mean confidence and accuracy."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class RiskCoverage:
    """Answering only the n rows whose confidence is at least `threshold`: their share and accuracy."""

    threshold: float
    coverage: float
    accuracy: float
    n: int


@dataclass(frozen=True)
class ProbabilityMetrics:
    """Quality of probabilities (n, labels). None where a value is undefined.

    roc_auc: of labels[0] for two labels, else the mean over labels of one against the rest; None when a label has no
        gold row.
    log_loss: mean of -ln p(gold), in nats.
    brier: two labels: mean of (p(labels[0]) - [gold is labels[0]])^2; more: mean of the sum of such terms over labels
        (scikit-learn's `brier_score_loss`, in [0, 1] and [0, 2]).
    ece: expected calibration error (Guo et al. 2017), the mean over rows of |accuracy - confidence| of the row's bin,
        15 bins of equal width over [0, 1].
    reliability: the bins that hold rows.
    """

    roc_auc: float | None
    log_loss: float
    brier: float
    ece: float
    ece_bins: int
    reliability: list[ReliabilityBin]
    risk_coverage: list[RiskCoverage]


@dataclass(frozen=True)
class Selective:
    """A confidence threshold chosen on validation rows to answer as many as possible at the target accuracy."""

    target_accuracy: float
    threshold: float
    n: int
    coverage: float
    accuracy: float


@dataclass(frozen=True)
class SelectiveCheck:
    """What a confidence threshold does on n other rows; accuracy and interval are None when none is answered."""

    n: int
    coverage: float
    accuracy: float | None
    accuracy_ci: Interval | None
    n_answered: int


def probability_metrics(probabilities: FloatArray, gold: IntArray) -> ProbabilityMetrics:
    """Quality of probabilities (n, labels), rows summing to 1, against gold positions (n,).

    Raises ValueError when there are no rows.
    """
    if len(gold) == 0:
        raise ValueError("there are no rows")
    known = np.arange(probabilities.shape[1])
    # scikit-learn takes the greater code for the positive label: of two, labels[0] is made 1, its column given.
    of_two = (gold == 0, probabilities[:, 0], {"pos_label": True})
    truth, shares, which = of_two if len(known) == 2 else (gold, probabilities, {"labels": known})
    confidence, right = _confidence(probabilities, gold)
    bins = reliability(confidence, right)
    return ProbabilityMetrics(
        roc_auc=roc_auc(probabilities, gold),
        log_loss=float(log_loss(gold, probabilities, labels=known)),
        brier=float(brier_score_loss(truth, shares, **which)),
        ece=sum(b.n * abs(b.accuracy - b.confidence) for b in bins) / len(gold),
        ece_bins=ECE_BINS,
        reliability=bins,
        risk_coverage=risk_coverage(confidence, right),
    )


def roc_auc(probabilities: FloatArray, gold: IntArray) -> float | None:
    """ROC AUC of labels[0] for two labels, the macro mean of one against the rest for more; None when undefined."""
    classes = probabilities.shape[1]
    if len(np.unique(gold)) < classes:
        return None
    scored = range(1) if classes == 2 else range(classes)
    return float(np.mean([roc_auc_score(gold == label, probabilities[:, label]) for label in scored]))


def reliability(confidence: FloatArray, right: NDArray[np.bool_]) -> list[ReliabilityBin]:
    """The bins of equal width over [0, 1], closed above, that hold rows; confidence and right are (n,)."""
    edges = np.linspace(0, 1, ECE_BINS + 1)
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, ECE_BINS - 1)
    return [
        ReliabilityBin(low, high, int(inside.sum()), float(confidence[inside].mean()), float(right[inside].mean()))
        for b, (low, high) in enumerate(pairwise(edges.tolist()))
        if (inside := place == b).any()
    ]


def risk_coverage(
    confidence: FloatArray, right: NDArray[np.bool_], points: int | None = CURVE_POINTS
) -> list[RiskCoverage]:
    """The curve from the surest rows to all rows, at no more than `points` distinct thresholds (None: at all)."""
    order = np.argsort(-confidence, kind="stable")
    ordered, hits = confidence[order], np.cumsum(right[order])
    # Rows of equal confidence are answered together or not at all: a point is at the last of each such group.
    ends = np.flatnonzero(np.append(np.diff(ordered) != 0, True))
    if points is not None and len(ends) > points:
        ends = ends[np.linspace(0, len(ends) - 1, points).round().astype(int)]
    n = len(confidence)
    return [RiskCoverage(float(ordered[i]), (i + 1) / n, float(hits[i] / (i + 1)), int(i + 1)) for i in ends.tolist()]


def choose_selective(probabilities: FloatArray, gold: IntArray, targets: Sequence[float] = TARGETS) -> Selective | None:
    """The threshold of largest coverage whose validation accuracy reaches the first target that is within reach.

    A target is within reach when it holds for at least `MIN_COVERAGE` of the rows; None when no target is.
    """
    if len(gold) == 0:
        return None
    curve = risk_coverage(*_confidence(probabilities, gold), points=None)
    for target in targets:
        for point in reversed(curve):
            if point.accuracy >= target and point.coverage >= MIN_COVERAGE:
                return Selective(target, point.threshold, len(gold), point.coverage, point.accuracy)
    return None


def check_selective(threshold: float, probabilities: FloatArray, gold: IntArray) -> SelectiveCheck:
    """What answering only rows with a confidence of at least `threshold` gives on these rows."""
    confidence, right = _confidence(probabilities, gold)
    answered = confidence >= threshold
    n, hits = int(answered.sum()), int(right[answered].sum())
    return SelectiveCheck(len(gold), n / len(gold), hits / n if n else None, wilson(hits, n), n)


def _confidence(probabilities: FloatArray, gold: IntArray) -> tuple[FloatArray, NDArray[np.bool_]]:
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == gold
