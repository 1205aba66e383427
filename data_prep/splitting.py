"""Which row goes to train, val or test, and which of them a limit takes.

Scheme `stratified`: a group of near duplicates goes to one split, by a hash of the seed and of its earliest row's text.
Within each class the groups whose hash, read as a number from 0 to 1, is below `test` are test, those below
`test` + `val` are val, the rest train. So a row's split depends on no other row: rows added, removed or put in another
order move nothing. The price is that the shares are met up to chance, as if each group were drawn (10 % +- 0.35 points
for 7,765 rows). Two limits: a class that would leave a split empty gives it the group next in line, and an added row
that is near two groups joins them into one, which is then in one split.

Scheme `original`: scikit-learn's train_test_split, twice, with neither classes nor groups held together, as in the
experiment that this project reproduces. `test` is a share of all rows, `val` of what is left.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from data_prep.duplicates.deduplication import Leaks, find_leaks, join
from data_prep.table.text_column import Texts, shared_strings, text_hashes
from data_prep.task import SPLITS, SplitSettings, Task
from workspace.errors import UserError

FEWEST_GROUPS = 3  # one a split
LEAK_ROUNDS = 5  # of joining groups that leaked, and splitting again


def split_frame(kept: pd.DataFrame, task: Task) -> tuple[pd.DataFrame, Leaks]:
    """`kept` with split and used, and the leaks left between the splits.

    Under the scheme `original` leaks are only counted. Under any other none is left: pairs that were not found before
    are joined into groups and the rows are split again. Raises UserError when that does not come to an end, and for a
    class that does not reach every split.
    """
    normalised, labels = Texts(kept["normalised"]), shared_strings(kept["label"])
    draws = row_draws(normalised, task.split.seed)
    groups = kept["group"].to_numpy()
    for attempt in range(LEAK_ROUNDS):
        splits = split_rows(labels, groups, draws[:, 0], task.label_words, task.split)
        leaks = find_leaks(normalised, splits, task.near_duplicates, task.split.seed + 1 + attempt)
        if task.split.scheme == "original" or not leaks.pairs.size:
            break
        groups = join(groups, leaks.pairs)
    else:
        rows = kept["row"].to_numpy()[leaks.pairs[0]]
        raise UserError(
            f"rows {rows[0]:,} and {rows[1]:,} are near copies in two splits, still after {LEAK_ROUNDS} rounds of "
            "joining groups: raise near_duplicates.threshold in the task, or remove one of the rows"
        )
    used = np.ones(len(kept), bool)
    if task.limit is not None:
        used = take_limit(splits, labels, draws[:, 1], task.label_words, task.limit, task.limit_of)
    return kept.assign(split=splits, used=used), leaks


def row_draws(normalised: Sequence[str], seed: int) -> np.ndarray:
    """Two independent numbers in [0, 1) for each text, shape (n, 2): a keyed hash, the same on every machine."""
    hashes = text_hashes(normalised, key=f"split {seed}".encode())
    return (hashes >> np.uint64(11)) * 2.0**-53


def split_rows(
    labels: np.ndarray, groups: np.ndarray, draws: np.ndarray, label_words: Sequence[str], settings: SplitSettings
) -> np.ndarray:
    """The split of each row: an array of "train", "val", "test".

    `labels` are out of `label_words`; `groups` holds the index of the earliest row of each row's group; `draws` one
    number in [0, 1) a row. Raises UserError that names a class which does not reach every split.
    """
    labels = np.asarray(labels, dtype=object)
    if settings.scheme == "original":
        splits = _original(len(labels), settings)
    else:
        splits = _by_hash(labels, groups, draws, label_words, settings)
    for label in label_words:
        missing = [name for name in SPLITS if not ((labels == label) & (splits == name)).any()]
        if missing:
            raise UserError(
                f"the class {label} has {int((labels == label).sum())} usable rows, none of which reaches "
                f"{' and '.join(missing)}: add rows of {label}, or take the class out of the task's `labels`"
            )
    return splits


def take_limit(
    splits: np.ndarray, labels: np.ndarray, draws: np.ndarray, label_words: Sequence[str], limit: int, of: str = "all"
) -> np.ndarray:
    """Whether each row is used under `limit`: so many train rows, a quarter as many of test, an eighth of val.

    `of`: "train" leaves val and test whole, as a learning curve wants them.

    The classes keep their shares, and each has at least one row in every split. A larger limit takes the same rows
    and more. Where a split has fewer rows than asked for, all of them are taken. Raises UserError when `limit` is
    smaller than the number of classes.
    """
    if limit < len(label_words):
        raise UserError(f"--limit {limit} leaves classes without a row: give at least {len(label_words)}")
    used = np.zeros(len(splits), bool)
    shares = (len(splits), len(splits)) if of == "train" else (limit // 4, limit // 8)
    for name, wanted in zip(("train", "test", "val"), (limit, *shares), strict=True):
        rows = np.flatnonzero(splits == name)
        used[rows[_stratified_order(labels[rows], draws[rows])[: max(wanted, len(label_words))]]] = True
    return used


def _by_hash(
    labels: np.ndarray, groups: np.ndarray, draws: np.ndarray, label_words: Sequence[str], settings: SplitSettings
) -> np.ndarray:
    leaders = np.unique(groups)
    names = np.empty(len(labels), dtype=object)
    for label in label_words:
        mine = leaders[labels[leaders] == label]
        if len(mine) < FEWEST_GROUPS:
            raise UserError(
                f"the class {label} has {int((labels == label).sum())} usable rows in {len(mine)} groups of distinct "
                f"texts, expected at least {FEWEST_GROUPS} groups, one for each split: add rows of {label}"
            )
        mine = mine[np.argsort(draws[mine], kind="stable")]
        test = int(np.searchsorted(draws[mine], settings.test))
        test = min(max(test, 1), len(mine) - 2)
        val = int(np.searchsorted(draws[mine], settings.test + settings.val))
        val = min(max(val, test + 1), len(mine) - 1)
        names[mine[:test]], names[mine[test:val]], names[mine[val:]] = "test", "val", "train"
    return names[groups]


def _original(rows: int, settings: SplitSettings) -> np.ndarray:
    from sklearn.model_selection import train_test_split  # here, because it takes a second to load

    names = np.full(rows, "train", dtype=object)
    try:
        rest, test = train_test_split(np.arange(rows), test_size=settings.test, random_state=settings.seed)
        _, val = train_test_split(rest, test_size=settings.val, random_state=settings.seed)
    except ValueError as error:
        raise UserError(f"{rows} usable rows are too few to split ({error}): add rows") from error
    names[test], names[val] = "test", "val"
    return names


def _stratified_order(labels: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """The rows in an order of which every beginning has the classes in about their shares, and each class early."""
    by_class = pd.Series(draws).groupby(labels)
    ranks = by_class.rank(method="first").to_numpy()  # from 1
    return np.argsort(np.where(ranks == 1, -1, (ranks - 0.5) / by_class.transform("size").to_numpy()), kind="stable")
