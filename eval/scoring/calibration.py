"""What a reading's probabilities are worth: AUC, log loss, Brier, calibration, and accuracy by share answered.

A row's confidence is its greatest probability.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import brier_score_loss, log_loss

from eval.scoring.intervals import enough_rows
from eval.scoring.roc import roc_auc
from eval.scoring.significance import SEED, Interval, wilson

BINS = 15  # at most
ROWS_A_BIN = 20
CURVE_POINTS = 100
DRAWS = 2_000

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class ReliabilityBin:
    """Neighbouring rows by confidence, from `low` to `high`: their number, mean confidence and accuracy, with its 95 %
    Wilson interval."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float
    accuracy_ci: Interval | None


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
        gold row. roc_auc_ci: 95 %; None with too few rows of a label.
    log_loss: mean of -ln p(gold), in nats.
    brier: two labels: mean of (p(labels[0]) - [gold is labels[0]])^2; more: mean of the sum of such terms over labels
        (scikit-learn's `brier_score_loss`, in [0, 1] and [0, 2]).
    ece, ece_ci: expected calibration error without the part that chance alone gives, see `calibration_error`; no
        interval with too few rows of a label.
    reliability: the bins of it, of equally many rows.
    """

    roc_auc: float | None
    roc_auc_ci: Interval | None
    log_loss: float
    brier: float
    ece: float
    ece_ci: Interval | None
    ece_bins: int
    reliability: list[ReliabilityBin]
    risk_coverage: list[RiskCoverage]


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
    confidence, right = confidence_of(probabilities, gold)
    bins = reliability(confidence, right)
    ece, ece_ci = calibration_error(bins)
    auc, auc_ci = roc_auc(probabilities, gold) or (None, None)
    return ProbabilityMetrics(
        roc_auc=auc,
        roc_auc_ci=auc_ci,
        log_loss=float(log_loss(gold, probabilities, labels=known)),
        brier=float(brier_score_loss(truth, shares, **which)),
        ece=ece,
        ece_ci=ece_ci if enough_rows(gold) else None,
        ece_bins=len(bins),
        reliability=bins,
        risk_coverage=risk_coverage(confidence, right),
    )


def reliability(confidence: FloatArray, right: NDArray[np.bool_]) -> list[ReliabilityBin]:
    """The rows (n,) by rising confidence in bins of equally many, at least 20 where there are so many, 15 bins at most;
    rows of equal confidence stay together."""
    n = len(confidence)
    order = np.argsort(confidence, kind="stable")
    ordered, hits = confidence[order], right[order]
    wanted = np.linspace(0, n, min(BINS, max(1, n // ROWS_A_BIN)) + 1).round().astype(int)
    edges = np.unique([*np.searchsorted(ordered, ordered[wanted[:-1]]), n])
    return [
        ReliabilityBin(
            float(ordered[start]),
            float(ordered[end - 1]),
            int(end - start),
            float(ordered[start:end].mean()),
            float(hits[start:end].mean()),
            wilson(int(hits[start:end].sum()), int(end - start)),
        )
        for start, end in pairwise(edges.tolist())
    ]


def calibration_error(bins: Sequence[ReliabilityBin]) -> tuple[float, Interval]:
    """The expected calibration error (Guo et al. 2017: the rows' mean |accuracy - confidence| of their bin) without its
    upward bias, and a 95 % interval.

    Chance alone gives each bin a difference: of a perfectly calibrated model 100 rows make an error of 0.05 to 0.08.
    As Kumar, Liang and Ma (2019) do for its square, the variance that chance gives is taken from the squared
    differences, and the error is scaled down accordingly. The interval holds by two inequalities: the plain error is on
    average too large, so that with its standard error it bounds the true one from above; by no more than the mean
    absolute deviation that chance gives (drawn, seeded), so that less it, it bounds it from below.
    """
    counts = np.array([b.n for b in bins])
    accuracy, confidence = (np.array([getattr(b, key) for b in bins]) for key in ("accuracy", "confidence"))
    weights, difference = counts / counts.sum(), accuracy - confidence
    # Of what was seen and what was promised, the share with the larger variance: 20 right of 20 do not mean none.
    seen = (accuracy * counts + confidence) / (counts + 1)
    share = np.where(np.abs(seen - 0.5) < np.abs(confidence - 0.5), seen, confidence)
    variance = share * (1 - share) / counts
    plain, squared = float(weights @ np.abs(difference)), float(weights @ difference**2)
    error = plain * np.sqrt(max(0.0, 1 - float(weights @ variance) / squared)) if squared else 0.0
    drawn = np.random.default_rng(SEED).binomial(counts, share, (DRAWS, len(bins))) / counts - share
    by_chance = float(np.quantile(np.abs(drawn) @ weights, 0.975))
    spread = float(np.sqrt(weights**2 @ variance + 1 / counts.sum() ** 2))
    return float(error), (min(max(0.0, plain - by_chance), float(error)), min(1.0, plain + 1.96 * spread))


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


def confidence_of(probabilities: FloatArray, gold: IntArray) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Each row's greatest probability (n,), and whether that label is the gold one (n,)."""
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == gold
