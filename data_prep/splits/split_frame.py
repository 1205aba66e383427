"""The rows of a table, split by the task's scheme or as the user has them; the leaks that are left; and a limit."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from data_prep.duplicates.deduplication import Leaks, find_leaks, join
from data_prep.splits.folds import fold_of_rows
from data_prep.splits.own_split import leak_warnings, leaking_rows, own_splits
from data_prep.splits.splitting import row_draws, split_rows, take_limit, text_keys
from data_prep.table.text_column import Texts, shared_strings
from data_prep.task import Task
from workspace.errors import UserError

LEAK_ROUNDS = 5  # of joining groups that leaked, and splitting again


class SplitFrame(NamedTuple):
    """The rows with the columns split and used; the leaks between the splits, and pairs of row numbers by
    "test_in_train" and so on; what is to be said of the splits."""

    kept: pd.DataFrame
    leaks: Leaks
    leaking: dict[str, list[tuple[str, str]]]
    warnings: list[str]


def split_frame(kept: pd.DataFrame, task: Task, places: Mapping[str, str] | None = None) -> SplitFrame:
    """`kept` (row, normalised, label, group; split where the user has split the rows), split.

    `places`: the split, by `text_keys`, of texts that stay where they are. Under the scheme `original`, and where the
    user has split the rows, leaks are only counted. Else none is left: pairs that were not found before are joined into
    groups and the rows are split again. Raises UserError when that does not come to an end, and for a class that does
    not reach every split.
    """
    normalised, labels = Texts(kept["normalised"]), shared_strings(kept["label"])
    draws = row_draws(normalised, task.split.seed)
    groups, warnings = kept["group"].to_numpy(), list[str]()
    held = np.array([places.get(key, "") for key in text_keys(normalised)], dtype=object) if places else None
    for attempt in range(LEAK_ROUNDS):
        if task.split.folds:
            tested = fold_of_rows(labels, groups, draws[:, 0], task.label_words, task.split.folds) == task.split.fold
            kept = kept.assign(split=np.where(tested, "test", "train"))
        if task.split.own or task.split.folds:
            splits, warnings = own_splits(kept, labels, draws[:, 0], task)
        else:
            splits = split_rows(labels, groups, draws[:, 0], task.label_words, task.split, held)
        leaks = find_leaks(normalised, splits, task.near_duplicates, task.split.seed + 1 + attempt)
        if task.split.name != "stratified" or not leaks.pairs.size:
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
        if task.limit_seed is not None:
            draws = row_draws(normalised, task.limit_seed)
        held_out = None if task.limit_of == "train" else task.held_out_limit or task.limit
        used = take_limit(splits, labels, draws[:, 1], task.label_words, task.limit, held_out)
    leaking = leaking_rows(leaks, splits, kept["row"].to_numpy())
    warnings += leak_warnings(leaking, leaks) if task.split.own or task.split.folds else []
    return SplitFrame(kept.assign(split=splits, used=used), leaks, leaking, warnings)
