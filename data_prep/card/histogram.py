"""Lengths by split and by class, counted into bins: few enough numbers to stand in the manifest of any table."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from data_prep.manifest import spread
from data_prep.task import SPLITS

BINS = 40  # at most, the open one at the end apart
STEPS = tuple(digit * 10**power for power in range(9) for digit in (1, 2, 5))
FAR = 4  # times the 99th percentile: a limit beyond that would leave no room for the lengths


def length_table(
    lengths: np.ndarray, splits: pd.Series, labels: pd.Series, words: Sequence[str], limit: int | None = None
) -> dict[str, Any]:
    """The spread of `lengths` (integers, one a row) by split and by class, and the counts of each class by bin.

    `edges` are the lower ends of the bins; the last bin has no upper end. `limit` is a length that should lie among
    the edges where some row is longer. Each split and each of `words` has at least one row.
    """
    edges = bin_edges(lengths, limit)
    place = np.minimum(np.searchsorted(edges, lengths, side="right") - 1, len(edges) - 1)
    classes = {}
    for word in words:
        mine = (labels == word).to_numpy(dtype=bool)
        counts = np.bincount(place[mine], minlength=len(edges)).tolist()
        classes[word] = spread(lengths[mine]) | {"counts": counts}
    return {
        "edges": edges.tolist(),
        "split": {name: spread(lengths[(splits == name).to_numpy(dtype=bool)]) for name in SPLITS},
        "class": classes,
    }


def bin_edges(lengths: np.ndarray, limit: int | None = None) -> np.ndarray:
    """The lower ends of bins of one round width, from the least length to the 99th percentile and beyond."""
    low, top = lengths.min(), np.percentile(lengths, 99)
    if limit is not None and limit < lengths.max() and limit <= FAR * top:
        top = max(top, limit)
    step = next(step for step in STEPS if top // step - low // step < BINS)
    return np.arange(low // step, top // step + 2, dtype=np.int64) * step
