"""How sure a figure is: Wilson intervals, the exact McNemar test, paired bootstrap intervals, and the verdict rule.

Two readings are compared on the same rows. "better" or "worse" is said only when both tests agree: the exact McNemar
p is below 0.05 and the 95 % bootstrap interval of the accuracy difference excludes 0. Everything else is
"indistinguishable".
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from eval.scoring.metrics import encode, macro_f1

DRAWS = 10_000
SEED = 42
LEVEL = 0.95
ALPHA = 0.05
# A draw needs one number a cell; 2,000 draws at a time keep twenty classes (thousands of cells) within memory.
_CHUNK = 2_000

Code = Literal["better", "worse", "indistinguishable"]
Interval = tuple[float, float]


@dataclass(frozen=True)
class Comparison:
    """Reading b against reading a on the same n rows; differences are b minus a, intervals 95 %.

    fixed: rows that a has wrong and b right; broken: rows that a has right and b wrong.
    """

    n: int
    fixed: int
    broken: int
    mcnemar_p: float
    accuracy_difference: float
    accuracy_ci: Interval
    macro_f1_difference: float
    macro_f1_ci: Interval
    code: Code


def wilson(correct: int, n: int) -> Interval | None:
    """The 95 % Wilson score interval of correct / n (scipy's, without continuity correction); None for n = 0."""
    if n == 0:
        return None
    interval = binomtest(correct, n).proportion_ci(LEVEL, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar_p(fixed: int, broken: int) -> float:
    """Two-sided exact McNemar p: under the null, a discordant row is fixed or broken with probability 1/2 each."""
    return float(binomtest(fixed, fixed + broken).pvalue) if fixed + broken else 1.0


def verdict_code(p: float, difference: float, interval: Interval) -> Code:
    """ "better" or "worse" by the sign of `difference` when p < 0.05 and `interval` excludes 0, else
    "indistinguishable"."""
    if p < ALPHA and difference > 0 and interval[0] > 0:
        return "better"
    if p < ALPHA and difference < 0 and interval[1] < 0:
        return "worse"
    return "indistinguishable"


def compare(
    a: Sequence[str | None],
    b: Sequence[str | None],
    gold: Sequence[str],
    labels: Sequence[str],
    draws: int = DRAWS,
    seed: int = SEED,
) -> Comparison:
    """Compare predictions b with predictions a on the rows of `gold` (paired, row by row).

    Raises ValueError when there are no rows, when lengths differ, or for a word that is not in `labels`.
    """
    if not gold or not len(a) == len(b) == len(gold):
        raise ValueError(f"{len(gold)} gold rows, {len(a)} and {len(b)} predictions: all must be the same, and not 0")
    rows = np.stack([encode(gold, labels), encode(a, labels), encode(b, labels)], axis=1)
    right_a, right_b = rows[:, 1] == rows[:, 0], rows[:, 2] == rows[:, 0]
    fixed, broken = int((right_b & ~right_a).sum()), int((right_a & ~right_b).sum())
    observed, drawn = bootstrap(rows, lambda cells, counts: _differences(cells, counts, len(labels)), draws, seed)
    p, accuracy_ci = mcnemar_p(fixed, broken), percentiles(drawn[:, 0])
    return Comparison(
        n=len(gold),
        fixed=fixed,
        broken=broken,
        mcnemar_p=p,
        accuracy_difference=float(observed[0]),
        accuracy_ci=accuracy_ci,
        macro_f1_difference=float(observed[1]),
        macro_f1_ci=percentiles(drawn[:, 1]),
        code=verdict_code(p, float(observed[0]), accuracy_ci),
    )


def balanced_accuracy_interval(predicted: Sequence[str | None], gold: Sequence[str], labels: Sequence[str]) -> Interval:
    """The 95 % bootstrap interval of balanced accuracy.

    One answer for every row, and answers drawn without a look at the row, both have an expected balanced accuracy of
    1 / (labels with gold rows), however uneven the classes are: an interval above it shows that something was learned.
    """
    rows = np.stack([encode(gold, labels), encode(predicted, labels)], axis=1)
    _, drawn = bootstrap(rows, lambda cells, counts: _balanced(cells, counts, len(labels)))
    return percentiles(drawn[:, 0])


def bootstrap(
    rows: NDArray[np.int64],
    statistic: Callable[[NDArray[np.int64], NDArray[np.float64]], NDArray[np.float64]],
    draws: int = DRAWS,
    seed: int = SEED,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bootstrap a statistic that depends on how often each kind of row occurs, not on where it is.

    rows (n, columns) fall into c distinct cells. To draw n rows with replacement and count their cells is, by
    definition, to draw from the multinomial distribution with n trials and the cells' observed shares. So the counts
    are drawn directly: c numbers a draw (about 10 for two labels) in place of n, with the same distribution.

    statistic(cells (c, columns), counts (d, c)) -> (d, k). Returns the observed statistic (k,) and draws (draws, k).
    """
    cells, counts = np.unique(rows, axis=0, return_counts=True)
    n = int(counts.sum())
    generator = np.random.default_rng(seed)
    drawn = [
        statistic(cells, generator.multinomial(n, counts / n, size=min(_CHUNK, draws - start)).astype(float))
        for start in range(0, draws, _CHUNK)
    ]
    return statistic(cells, counts[None].astype(float))[0], np.concatenate(drawn)


def _differences(cells: NDArray[np.int64], counts: NDArray[np.float64], classes: int) -> NDArray[np.float64]:
    """b minus a in accuracy and macro F1; cells' columns are gold, a, b; result (d, 2)."""
    support, scores = counts @ _one_hot(cells[:, 0], classes), []
    for column in (1, 2):
        hits, predicted = _hits(cells, counts, column, classes), counts @ _one_hot(cells[:, column], classes)
        right = cells[:, column] == cells[:, 0]
        scores.append([counts @ right / counts.sum(axis=1), macro_f1(hits, predicted, support)])
    return np.stack([second - first for first, second in zip(*scores, strict=True)], axis=1)


def _balanced(cells: NDArray[np.int64], counts: NDArray[np.float64], classes: int) -> NDArray[np.float64]:
    """Mean recall of the classes that a draw has rows of; cells' columns are gold, predicted; result (d, 1)."""
    hits, support = _hits(cells, counts, 1, classes), counts @ _one_hot(cells[:, 0], classes)
    recall = np.divide(hits, support, out=np.zeros_like(hits), where=support > 0)
    return (recall.sum(axis=1) / (support > 0).sum(axis=1))[:, None]


def _hits(cells: NDArray[np.int64], counts: NDArray[np.float64], column: int, classes: int) -> NDArray[np.float64]:
    """Right predictions a class of the reading in `column`; result (d, classes)."""
    return counts @ _one_hot(np.where(cells[:, column] == cells[:, 0], cells[:, 0], classes), classes)


def _one_hot(codes: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """(c, classes); the code `classes` (unparsed, or "not right") becomes a row of zeros."""
    return np.eye(classes + 1)[codes][:, :classes]


def percentiles(values: NDArray[np.float64]) -> Interval:
    """The 95 % percentile interval of bootstrap draws (draws,)."""
    low, high = np.percentile(values, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(low), float(high)
