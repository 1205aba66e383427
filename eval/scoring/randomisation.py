"""A paired randomisation test of any metric: valid at every number of rows, where an interval would promise too much.

Under the null the two answers to a row could as well be exchanged (Noreen, 1989; Yeh, COLING 2000). Of c rows of one
kind, a binomial number with probability 1/2 is exchanged, so rows are drawn by kind and not one by one.
"""

import numpy as np
from numpy.typing import NDArray

from eval.scoring.intervals import DRAWS, SEED, Cells, Metric


def randomisation_p(
    rows: NDArray[np.int64], classes: int, metric: Metric, draws: int = DRAWS, seed: int = SEED
) -> float:
    """Two-sided p of the difference between two readings; rows (n, 3) of gold and two answers, `classes` = unparsed.

    The observed assignment counts as one of the draws, so p is never 0 and never too small (Phipson and Smyth, 2010).
    """
    kinds, counts = np.unique(rows, axis=0, return_counts=True)
    differ = kinds[:, 1] != kinds[:, 2]
    exchanged = kinds[differ][:, [0, 2, 1]]
    swaps = np.random.default_rng(seed).binomial(counts[differ], 0.5, size=(draws, len(exchanged)))
    swaps = np.vstack([np.zeros((1, len(exchanged)), dtype=swaps.dtype), swaps])
    kept = np.broadcast_to(counts, (draws + 1, len(counts))).astype(float)
    kept[:, differ] -= swaps
    both = np.vstack([kinds, exchanged])
    cells = Cells(both, np.zeros(len(both)), np.zeros(len(both)), classes)
    shares = np.hstack([kept, swaps])
    difference = np.abs(cells.figures(shares, 2)[metric] - cells.figures(shares, 1)[metric])
    return float((difference >= difference[0] - 1e-12).mean())
