"""How sure a figure is: Wilson intervals, the mid-p McNemar test, and two readings compared on the same rows.

One of four codes is given, by the 95 % interval of the difference in the primary metric: "equivalent" where all of it
lies within the margin, "better" or "worse" where it excludes 0, else "undecided". Where the primary metric is accuracy,
the mid-p McNemar test (Fagerland, Lydersen and Laake, 2013) must agree. With too few rows for an interval a paired
randomisation test decides between better, worse and undecided.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, binomtest, chi2, norm

from eval.scoring.intervals import (
    DRAWS,
    PAIRED_TAIL,
    SEED,
    Cells,
    Interval,
    Metric,
    enough_rows,
    paired_ends,
    unguarded_intervals,
)
from eval.scoring.metrics import encode
from eval.scoring.randomisation import randomisation_p

MARGIN = 0.01
POWER = 0.8
LEVEL = 0.95
ALPHA = 0.05
FEW = 3  # right or wrong rows, up to which a share's interval has a Poisson count's end on their side
# A draw needs one number a cell; 2,000 draws at a time keep twenty classes (thousands of cells) within memory.
_CHUNK = 2_000

Code = Literal["better", "worse", "equivalent", "undecided"]


@dataclass(frozen=True)
class Comparison:
    """Reading b against reading a on the same n rows; differences are b minus a, intervals 95 %.

    fixed: rows that a has wrong and b right; broken: rows that a has right and b wrong. metric: the primary one, of
    which difference, ci and code are. randomisation_p: of the paired randomisation test, None where the metric is
    accuracy, whose test is McNemar's. ci is None with too few rows, where it would promise too much; p then decides.
    detectable: the difference in the metric that such rows show with a power of 80 %; rows_needed: rows that would show
    the observed difference, or the margin where that is larger, as often.
    """

    n: int
    fixed: int
    broken: int
    mcnemar_p: float
    accuracy_difference: float
    accuracy_ci: Interval
    macro_f1_difference: float
    macro_f1_ci: Interval | None
    metric: Metric
    difference: float
    ci: Interval | None
    randomisation_p: float | None
    detectable: float | None
    rows_needed: int | None
    code: Code

    @property
    def p(self) -> float:
        """Two-sided p of the difference in the primary metric."""
        return self.mcnemar_p if self.randomisation_p is None else self.randomisation_p


def wilson(correct: int, n: int) -> Interval | None:
    """The 95 % Wilson score interval of correct / n, modified near 0 and 1; None for n = 0.

    Brown, Cai and DasGupta (Statistical Science, 2001): where 1 to 3 rows are right, and no more than a tenth, the
    lower end is that of a Poisson count, and where as few are wrong the upper one likewise. Wilson's own held a share
    of 99 % in 91 % of draws at n = 50.
    """
    if n == 0:
        return None
    low, high = _score_interval(correct, n)
    few = min(FEW, n // 10)
    if 0 < correct <= few:
        low = float(chi2.ppf(1 - LEVEL, 2 * correct)) / (2 * n)
    if 0 < n - correct <= few:
        high = 1 - float(chi2.ppf(1 - LEVEL, 2 * (n - correct))) / (2 * n)
    return low, high


@lru_cache(maxsize=4096)  # scipy's takes a tenth of a millisecond, and bins and slices ask for the same few again
def _score_interval(correct: int, n: int) -> Interval:
    """Wilson's (1927), scipy's without continuity correction; n > 0."""
    interval = binomtest(correct, n).proportion_ci(LEVEL, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar_p(fixed: int, broken: int) -> float:
    """Two-sided mid-p McNemar: under the null, a discordant row is fixed or broken with probability 1/2 each."""
    n, fewer = fixed + broken, min(fixed, broken)
    return float(min(1.0, 2 * binom.cdf(fewer, n, 0.5) - binom.pmf(fewer, n, 0.5))) if n else 1.0


def newcombe(both: int, fixed: int, broken: int, neither: int) -> Interval:
    """The 95 % interval of the paired difference of proportions (fixed - broken) / n.

    Newcombe (Statistics in Medicine, 1998), method 10: Wilson intervals joined, with a corrected correlation.
    """
    n = both + fixed + broken + neither
    (before, after), difference = (both + broken, both + fixed), (fixed - broken) / n
    (low_a, high_a), (low_b, high_b) = (_score_interval(count, n) for count in (before, after))
    excess = both * neither - fixed * broken
    product = before * (n - before) * after * (n - after)
    corrected = max(excess - n / 2, 0.0) if excess > 0 else excess
    phi = corrected / math.sqrt(product) if product else 0.0
    a, b = before / n, after / n
    down = math.sqrt(max((b - low_b) ** 2 - 2 * phi * (b - low_b) * (high_a - a) + (high_a - a) ** 2, 0))
    up = math.sqrt(max((high_b - b) ** 2 - 2 * phi * (high_b - b) * (a - low_a) + (a - low_a) ** 2, 0))
    return difference - down, difference + up


def verdict_code(interval: Interval | None, difference: float, margin: float, p: float | None = None) -> Code:
    """The code that the interval of a difference allows, a test with the p value `p` agreeing, where there is one.

    Without an interval the test alone decides, and nothing is "equivalent".
    """
    low, high = interval or (difference, difference)
    if interval and -margin < low and high < margin:
        return "equivalent"
    if p is not None and p >= ALPHA:
        return "undecided"
    return "better" if low > 0 else "worse" if high < 0 else "undecided"


def detectable_difference(n: int, discordant: int, interval: Interval, tail: float) -> float:
    """The difference that n rows show with 80 % power, by the width of an interval with `tail` at each end.

    At the difference d at least a share d of the rows must be discordant (Connor, 1987), however few are now.
    """
    z = float(norm.ppf(1 - tail))
    share = max(discordant, 1) / n
    unit = (interval[1] - interval[0]) / (2 * z) / math.sqrt(share / n)
    reach = z + float(norm.ppf(POWER))
    return unit * max(reach * math.sqrt(share / n), reach**2 / n)


def compare(
    a: Sequence[str | None],
    b: Sequence[str | None],
    gold: Sequence[str],
    labels: Sequence[str],
    draws: int = DRAWS,
    seed: int = SEED,
    metric: Metric = "macro_f1",
    margin: float = MARGIN,
) -> Comparison:
    """Compare predictions b with predictions a on the rows of `gold` (paired, row by row) in `metric`.

    Raises ValueError when there are no rows, when lengths differ, or for a word that is not in `labels`.
    """
    if not gold or not len(a) == len(b) == len(gold):
        raise ValueError(f"{len(gold)} gold rows, {len(a)} and {len(b)} predictions: all must be the same, and not 0")
    rows = np.stack([encode(gold, labels), encode(a, labels), encode(b, labels)], axis=1)
    right_a, right_b = rows[:, 1] == rows[:, 0], rows[:, 2] == rows[:, 0]
    fixed, broken, both = (int(x.sum()) for x in (right_b & ~right_a, right_a & ~right_b, right_a & right_b))
    n, enough, by_accuracy = len(gold), enough_rows(rows[:, 0]), metric == "accuracy"
    cells = Cells.of(rows, len(labels))
    seen = [cells.figures(cells.counts, column) for column in (1, 2)]
    drawn = cells.drawn(2, draws, seed) if enough else None
    p, accuracy_ci = mcnemar_p(fixed, broken), newcombe(both, fixed, broken, n - both - fixed - broken)

    def interval(of: Metric) -> Interval | None:
        return None if drawn is None else paired_ends(drawn[1][of] - drawn[0][of])

    ci = accuracy_ci if by_accuracy else interval(metric)
    difference = float(seen[1][metric] - seen[0][metric])
    exchanged = None if by_accuracy else randomisation_p(rows, len(labels), metric, draws, seed)
    code = verdict_code(ci, difference, margin, p if by_accuracy else None if ci else exchanged)
    tail = (1 - LEVEL) / 2 if by_accuracy else PAIRED_TAIL
    detectable = None if ci is None else detectable_difference(n, fixed + broken, ci, tail)
    needed = None if detectable is None else math.ceil(n * (detectable / max(abs(difference), margin)) ** 2)
    return Comparison(
        n=n,
        fixed=fixed,
        broken=broken,
        mcnemar_p=p,
        accuracy_difference=float(seen[1]["accuracy"] - seen[0]["accuracy"]),
        accuracy_ci=accuracy_ci,
        macro_f1_difference=float(seen[1]["macro_f1"] - seen[0]["macro_f1"]),
        macro_f1_ci=interval("macro_f1"),
        metric=metric,
        difference=difference,
        ci=ci,
        randomisation_p=exchanged,
        detectable=detectable,
        rows_needed=needed,
        code=code,
    )


def balanced_accuracy_interval(predicted: Sequence[str | None], gold: Sequence[str], labels: Sequence[str]) -> Interval:
    """The 95 % interval of balanced accuracy, for too few rows too: there it is wide.

    One answer for every row, and answers drawn without a look at the row, both have an expected balanced accuracy of
    1 / (labels with gold rows), however uneven the classes are: an interval above it shows that something was learned.
    """
    rows = np.stack([encode(gold, labels), encode(predicted, labels)], axis=1)
    return unguarded_intervals(rows, len(labels))["balanced_accuracy"]


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


def percentiles(values: NDArray[np.float64], level: float = LEVEL) -> Interval:
    """The percentile interval of bootstrap draws (draws,)."""
    low, high = np.percentile(values, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)
