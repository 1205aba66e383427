"""Which row goes to train, val or test, and which of them a limit takes.

Scheme `stratified`: a group of near duplicates goes to one split, by a hash of the seed and of its earliest row's text.
Within each class the groups whose hash, read as a number from 0 to 1, is below `test` are test, those below
`test` + `val` are val, the rest train. So a row's split depends on no other row: rows added, removed or put in another
order move nothing. The price is that the shares are met up to chance, as if each group were drawn (10 % +- 0.35 points
for 7,765 rows). Two limits: a class that would leave a split empty gives it the group next in line, and an added row
that is near two groups joins them into one, which is then in one split.

Below `FEW_ROWS` usable rows chance would weigh too much: the shares of each class are met as nearly as its groups
allow, groups taken in the order of their hashes. A row's place then depends on the others, so it is kept in a file
(data_prep.splits.kept_split): texts in it stay where they are, and only those added later are placed.

Scheme `original`: scikit-learn's train_test_split, twice, with neither classes nor groups held together, as in the
experiment that this project reproduces. `test` is a share of all rows, `val` of what is left.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from data_prep.splits.deciding_rows import held_out_rows
from data_prep.table.text_column import text_hashes
from data_prep.task import SPLITS, SplitSettings
from workspace.errors import UserError

FEWEST_GROUPS = 3  # one a split
FEW_ROWS = 2_000  # below that many usable rows each class's shares are met exactly


def text_keys(normalised: Sequence[str]) -> list[str]:
    """What names each text in the file of kept places: a hash of 128 bits, in hex."""
    return [f"{high:016x}{low:016x}" for high, low in text_hashes(normalised).tolist()]


def row_draws(normalised: Sequence[str], seed: int) -> np.ndarray:
    """Two independent numbers in [0, 1) for each text, shape (n, 2): a keyed hash, the same on every machine."""
    hashes = text_hashes(normalised, key=f"split {seed}".encode())
    return (hashes >> np.uint64(11)) * 2.0**-53


def split_rows(
    labels: np.ndarray,
    groups: np.ndarray,
    draws: np.ndarray,
    label_words: Sequence[str],
    settings: SplitSettings,
    held: np.ndarray | None = None,
) -> np.ndarray:
    """The split of each row: an array of "train", "val", "test".

    `labels` are out of `label_words`; `groups` holds the index of the earliest row of each row's group; `draws` one
    number in [0, 1) a row; `held` the split in which a row stays, "" for one that has none yet: its group goes with the
    first row that has one. Raises UserError that names a class which does not reach every split.
    """
    labels = np.asarray(labels, dtype=object)
    if settings.scheme == "original":
        splits = _original(len(labels), settings)
    else:
        splits = _by_group(labels, groups, draws, label_words, settings, held)
    for label in label_words:
        missing = [name for name in SPLITS if not ((labels == label) & (splits == name)).any()]
        if missing:
            raise UserError(
                f"the class {label} has {int((labels == label).sum())} usable rows, none of which reaches "
                f"{' and '.join(missing)}: add rows of {label}, or take the class out of the task's `labels`"
            )
    return splits


def hold_out(
    labels: np.ndarray, groups: np.ndarray, draws: np.ndarray, label_words: Sequence[str], share: float
) -> np.ndarray:
    """Whether each row is among the `share` that is held out, groups whole and class by class: bool.

    A class of one group stays as it is. Arguments as in `split_rows`.
    """
    leaders, sizes = np.unique(groups, return_counts=True)
    of_class = {label: labels[leaders] == label for label in label_words}
    quotas = class_quotas([int(sizes[mine].sum()) for mine in of_class.values()], share)
    out = np.zeros(len(labels), bool)
    for mine, quota in zip(of_class.values(), quotas, strict=True):
        chosen = np.flatnonzero(mine)[np.argsort(draws[leaders[mine]], kind="stable")]
        if len(labels) < FEW_ROWS:
            chosen = chosen[nearest_sum(sizes[chosen].tolist(), quota, 1, len(chosen) - 1)]
        elif len(chosen) > 1:
            most = int(np.searchsorted(draws[leaders[chosen]], share))
            chosen = chosen[: min(max(most, 1), len(chosen) - 1)]
        else:
            chosen = chosen[:0]
        out[leaders[chosen]] = True
    return out[groups]


def take_limit(
    splits: np.ndarray,
    labels: np.ndarray,
    draws: np.ndarray,
    label_words: Sequence[str],
    limit: int,
    held_out: int | None,
) -> np.ndarray:
    """Whether each row is used under `limit`: so many train rows, and of test and val the `held_out_rows` of the limit
    `held_out`.

    Where that is None, val and test stay whole, as a learning curve wants them. The classes keep their shares, and each
    has at least one row in every split. A larger limit takes the same rows and more. Where a split has fewer rows than
    asked for, all of them are taken. Raises UserError when `limit` is smaller than the number of classes.
    """
    if limit < len(label_words):
        raise UserError(f"--limit {limit} leaves classes without a row: give at least {len(label_words)}")
    used = np.zeros(len(splits), bool)
    shares = (len(splits), len(splits)) if held_out is None else held_out_rows(held_out)
    for name, wanted in zip(("train", "test", "val"), (limit, *shares), strict=True):
        rows = np.flatnonzero(splits == name)
        used[rows[stratified_order(labels[rows], draws[rows])[: max(wanted, len(label_words))]]] = True
    return used


def _by_group(
    labels: np.ndarray,
    groups: np.ndarray,
    draws: np.ndarray,
    label_words: Sequence[str],
    settings: SplitSettings,
    held: np.ndarray | None,
) -> np.ndarray:
    leaders, sizes = np.unique(groups, return_counts=True)
    names = np.full(len(labels), "", dtype=object)  # of each group, at its leader's place
    if held is not None:
        for at in np.flatnonzero(held)[::-1]:  # the first row's split comes last, and stays
            names[groups[at]] = held[at]
    exact = len(labels) < FEW_ROWS
    sizes_by_class = [int(sizes[labels[leaders] == label].sum()) for label in label_words]
    quotas = {name: class_quotas(sizes_by_class, getattr(settings, name)) for name in ("test", "val")}
    for number, label in enumerate(label_words):
        mine, rows = leaders[labels[leaders] == label], sizes[labels[leaders] == label]
        if len(mine) < FEWEST_GROUPS:
            raise _too_few(label, labels, groups, len(mine))
        order = np.argsort(draws[mine], kind="stable")
        mine, rows = mine[order], rows[order]
        if exact:
            _place_exactly(names, mine, rows, {name: quotas[name][number] for name in quotas})
        else:
            _place_by_hash(names, mine, draws, settings)
        for name in SPLITS:  # where rows that were kept in a split are gone, others take their place
            if not (names[mine] == name).any():
                homes = [int((names[mine] == other).sum()) for other in SPLITS]
                largest = SPLITS[int(np.argmax(homes))]
                names[mine[np.flatnonzero(names[mine] == largest)[0]]] = name
    return names[groups]


def class_quotas(sizes: Sequence[int], share: float) -> list[int]:
    """How many of each class's rows a split should have, by the largest remainder; at least one of each."""
    wanted = np.array(sizes) * share
    whole = np.floor(wanted).astype(int)
    missing = round(float(wanted.sum())) - int(whole.sum())
    whole[np.argsort(whole - wanted, kind="stable")[:missing]] += 1
    return np.maximum(whole, 1).tolist()


def _place_by_hash(names: np.ndarray, mine: np.ndarray, draws: np.ndarray, settings: SplitSettings) -> None:
    """Enter the splits of a class's groups `mine`, sorted by `draws`, that have none yet."""
    test = int(np.searchsorted(draws[mine], settings.test))
    test = min(max(test, 1), len(mine) - 2)
    val = int(np.searchsorted(draws[mine], settings.test + settings.val))
    val = min(max(val, test + 1), len(mine) - 1)
    for part, name in ((mine[:test], "test"), (mine[test:val], "val"), (mine[val:], "train")):
        names[part[names[part] == ""]] = name


def _place_exactly(names: np.ndarray, mine: np.ndarray, sizes: np.ndarray, quotas: Mapping[str, int]) -> None:
    """Enter the splits of a class's groups `mine` that have none yet, so that val and test come nearest to their quotas
    of rows; `sizes` are the groups' rows."""
    for name in ("test", "val"):
        free = np.flatnonzero(names[mine] == "")
        there = names[mine] == name
        later = {"test": ("val", "train"), "val": ("train",)}[name]
        reserve = sum(not (names[mine] == other).any() for other in later)
        least, most = int(not there.any()), len(free) - reserve
        taken = nearest_sum(sizes[free].tolist(), quotas[name] - int(sizes[there].sum()), least, most)
        names[mine[free[taken]]] = name
    names[mine[names[mine] == ""]] = "train"


def nearest_sum(sizes: Sequence[int], wanted: int, least: int, most: int) -> list[int]:
    """The positions of `least` to `most` of the positive `sizes` whose sum is nearest to `wanted`, the lesser of two.

    Of several choices the one that takes earlier positions. Empty where `most` is less than one.
    """
    if most < 1 or (wanted <= 0 and least == 0):
        return []
    top = max(wanted, 1) + max(sizes)
    # fewest[at, s]: how many of sizes[at:] make the sum s, at least; `many` where none do.
    many = len(sizes) + most + 1
    fewest = np.full((len(sizes) + 1, top + 1), many, np.int32)
    fewest[-1, 0] = 0
    for at in range(len(sizes) - 1, -1, -1):
        fewest[at] = fewest[at + 1]
        with_it = fewest[at + 1, : top + 1 - sizes[at]] + 1
        np.minimum(fewest[at, sizes[at] :], with_it, out=fewest[at, sizes[at] :])
    sums = np.flatnonzero((fewest[0] <= most) & (fewest[0] >= least))
    left, taken = int(sums[np.argmin(np.abs(sums - wanted))]), list[int]()
    for at, size in enumerate(sizes):
        if size <= left and fewest[at + 1, left - size] + 1 + len(taken) <= most:
            taken.append(at)
            left -= size
    return taken


def _too_few(label: str, labels: np.ndarray, groups: np.ndarray, found: int) -> UserError:
    rows = int((labels == label).sum())
    expected = f"expected at least {FEWEST_GROUPS} groups, one for each split"
    if rows < FEWEST_GROUPS:
        return UserError(
            f"the class {label} has {rows} usable rows in {found} groups of distinct texts, {expected}: add rows of "
            f"{label}, or take the class out of the task's `labels`"
        )
    whose = "one another" if found else "rows of other classes"
    return UserError(
        f"all {rows} usable rows of the class {label} are copies or near copies of {whose} ({found} groups of "
        f"distinct texts, {expected}): add texts of {label} that are worded otherwise, or take the class out of the "
        "task's `labels`"
    )


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


def stratified_order(labels: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """The rows in an order of which every beginning has the classes in about their shares, and each class early."""
    by_class = pd.Series(draws).groupby(labels)
    ranks = by_class.rank(method="first").to_numpy()  # from 1
    return np.argsort(np.where(ranks == 1, -1, (ranks - 0.5) / by_class.transform("size").to_numpy()), kind="stable")
