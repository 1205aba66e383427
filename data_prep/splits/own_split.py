"""Splits that the user made: checked, and completed where there are no validation rows; and what leaks between them.

Rows go where the user says. Where no row is for validation, a share of the train rows is taken for it, near copies
together and class by class: a checkpoint cannot be chosen on rows that it has learned from.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from data_prep.duplicates.deduplication import Leaks, first_of
from data_prep.label_words import shortened
from data_prep.splits.splitting import hold_out
from data_prep.task import SPLITS, Task
from workspace.errors import UserError
from workspace.paths import shown

NAMED = 200  # pairs of leaking rows that the manifest names, of each two splits
LISTED = 8  # values or rows in a sentence


def own_splits(kept: pd.DataFrame, labels: np.ndarray, draws: np.ndarray, task: Task) -> tuple[np.ndarray, list[str]]:
    """The split of each row as the user has it, val taken from train where there is none; and what is to be said of it.

    `kept` has split and group; `labels` and `draws` (in [0, 1)) are one a row. Raises UserError for a split without
    rows, and for a class that no train row has.
    """
    splits = kept["split"].to_numpy(dtype=object).copy()
    settings = task.split
    what = {"column": f"the split column {settings.column}", "files": "the files of `split`"}
    where = f"{shown(task.path)}: {what.get(settings.name, f'fold {settings.fold} of {settings.folds}')}"
    for name in ("train", "test"):
        if not (splits == name).any():
            raise UserError(f"{where} leaves no usable row for {name}: give some rows to {name}, or take `split` out")
    told = []
    if not (splits == "val").any():
        train = np.flatnonzero(splits == "train")
        groups = first_of(kept["group"].to_numpy()[train])
        taken = train[hold_out(labels[train], groups, draws[train], task.label_words, task.split.val)]
        if not len(taken):
            raise UserError(f"{where} has no validation rows, and too few train rows to take some: add rows to train")
        splits[taken] = "val"
        if settings.own:
            told.append(f"no row is for validation: {len(taken):,} of the {len(train):,} train rows are taken for it")
    for name in SPLITS:
        present = set(labels[splits == name])
        if missing := [word for word in task.label_words if word not in present]:
            listed = shortened(missing, LISTED)
            if name == "train":
                raise UserError(f"{where} leaves no train row of {listed}: add some, or take the class out of `labels`")
            if settings.own:
                told.append(f"{name} has no row of {listed}: nothing is measured there of {_those(missing)}")
    return splits, told


def leaking_rows(leaks: Leaks, splits: np.ndarray, rows: np.ndarray) -> dict[str, list[tuple[str, str]]]:
    """For each two splits between which rows leak, pairs of row numbers: the row, and its copy in the other split."""
    named: dict[str, dict[str, str]] = {}
    for row, partner in leaks.pairs.tolist():  # exact copies come before near ones
        pairs = named.setdefault(f"{splits[row]}_in_{splits[partner]}", {})
        if len(pairs) < NAMED:
            pairs.setdefault(str(rows[row]), str(rows[partner]))
    return {key: list(pairs.items()) for key, pairs in named.items()}


def leak_warnings(named: dict[str, list[tuple[str, str]]], leaks: Leaks) -> list[str]:
    """A sentence for each two splits between which rows leak."""
    told = []
    for key, pairs in named.items():
        inner, outer = key.split("_in_")
        count = leaks.counts[key].exact + leaks.counts[key].near
        listed = ", ".join(f"{row} ({partner})" for row, partner in pairs[:LISTED]) + (", …" if count > LISTED else "")
        told.append(
            f"{count:,} {inner} rows have a copy or near copy in {outer}: rows {listed}; figures on {inner} are too "
            "high by what was learned by heart"
        )
    return told


def _those(words: Sequence[str]) -> str:
    return "it" if len(words) == 1 else "them"
