"""Folds for cross-validation: each group of near copies in one fold, each class spread evenly over all of them."""

from collections.abc import Sequence

import numpy as np

from workspace.errors import UserError


def fold_of_rows(
    labels: np.ndarray, groups: np.ndarray, draws: np.ndarray, label_words: Sequence[str], folds: int
) -> np.ndarray:
    """The fold of each row, from 1: int64. Arguments as in `data_prep.splits.splitting.split_rows`.

    The largest groups of a class first, then by their hash, each goes to the fold with the fewest rows of the class; of
    several to the one with the fewest rows. Raises UserError for a class with a single group: no other fold could learn
    it.
    """
    leaders, sizes = np.unique(groups, return_counts=True)
    rows = np.zeros(folds, np.int64)
    fold = np.zeros(len(labels), np.int64)
    for label in label_words:
        mine = np.flatnonzero(labels[leaders] == label)
        if len(mine) < 2:
            raise UserError(
                f"all {int((labels == label).sum())} usable rows of the class {label} are near copies of one another "
                f"or there is one alone: add texts of {label} that are worded otherwise, or take the class out of the "
                "task's `labels`"
            )
        of_class = np.zeros(folds, np.int64)
        for at in mine[np.lexsort((draws[leaders[mine]], -sizes[mine]))]:
            least = int(np.lexsort((rows, of_class))[0])
            fold[leaders[at]] = least + 1
            of_class[least] += sizes[at]
            rows[least] += sizes[at]
    return fold[groups]
