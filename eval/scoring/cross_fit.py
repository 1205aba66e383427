"""Cross-fitting: every validation row is answered by what was learned from the others, so that none is used twice."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold

FOLDS = 5
FEWEST = 20  # validation rows of each label: below it what is learned for a label is that of chance

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


def folds(gold: IntArray) -> Iterator[tuple[IntArray, IntArray]]:
    """Of each fold the rows that are learned from and those that are answered, stratified by `gold` (n,) and the same
    each time. Raises ValueError where a label that is there has fewer than `FOLDS` rows."""
    if not has_enough(gold, FOLDS):
        raise ValueError(f"a label has fewer than {FOLDS} rows")
    return iter(StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(gold[:, None], gold))


def out_of_fold(answer: Callable[[IntArray, IntArray], FloatArray], gold: IntArray, labels: int) -> FloatArray:
    """Probabilities (n, labels): `answer(rows to learn from, rows to answer)` of each fold."""
    found = np.empty((len(gold), labels))
    for known, asked in folds(gold):
        found[asked] = answer(known, asked)
    return found


def has_enough(gold: IntArray, rows: int) -> bool:
    """Whether each label that is in `gold` (n,), n > 0, is there in so many rows."""
    return bool(np.unique(gold, return_counts=True)[1].min() >= rows)


def has_all(gold: IntArray, labels: int) -> bool:
    """Whether each of so many labels has `FEWEST` rows in `gold` (n,)."""
    return bool(np.bincount(gold, minlength=labels).min() >= FEWEST)
