"""Test rows that occur, word for word or nearly, in a file of texts that a model may have seen."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from data_prep.duplicates.deduplication import Leaks, Normaliser, find_leaks
from data_prep.manifest import KnownTexts
from data_prep.statistics import by_label
from data_prep.table.encoding import find_encoding
from data_prep.table.reading import read_table
from data_prep.task import Columns, Task, TextFile
from workspace.errors import UserError
from workspace.files import sha256_file
from workspace.paths import shown


def read_texts(known: TextFile, key: str = "known_public") -> list[str]:
    """The texts of the file that the task's `key` names, those without visible text left out.

    With `column` the file is a table in any format that prep reads, else each line is a text. Raises UserError.
    """
    path = known.path
    if not path.is_file():
        raise UserError(f"there is no file {shown(path)}: correct or remove `{key}` in the task")
    if known.column is not None:
        texts = read_table(path, Columns((known.column,), known.column)).frame["text"].tolist()
    else:
        encoding = find_encoding(path)
        texts = path.read_text(encoding=encoding.name, errors=encoding.errors).split("\n")
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise UserError(f"{shown(path)} holds no text: put one a line, or name a table's `column` in `{key}`")
    return texts


def flag_known(kept: pd.DataFrame, task: Task) -> tuple[pd.DataFrame, KnownTexts | None]:
    """`kept` (row, normalised, label, split, used) with the column known, and what the manifest says of it.

    A used test row is known when its normalised text, or a near duplicate by the task's `near_duplicates`, is in
    `known_public`. Without that setting the frame is as it was and the second value None.
    """
    if task.known_public is None:
        return kept, None
    texts = Normaliser().normalise(read_texts(task.known_public))
    at = np.flatnonzero((kept["split"] == "test").to_numpy() & kept["used"].to_numpy())
    leaks = _leaks_from(texts, kept["normalised"].iloc[at].tolist(), task)
    known = np.zeros(len(kept), bool)
    known[at[np.unique(leaks.pairs[:, 0])]] = True
    matches = leaks.counts["test_in_train"]
    return kept.assign(known=known), KnownTexts(
        path=task.known_public.path.name,
        sha256=sha256_file(task.known_public.path),
        texts=len(texts),
        exact=matches.exact,
        near=matches.near,
        test=by_label(kept[known], task.label_words),
        ids=[str(row) for row in kept["row"][known]],
    )


def count_seen(texts: Sequence[str], known: Sequence[str], task: Task) -> int:
    """How many of `texts` are among the `known` ones, word for word or near duplicates by the task's settings."""
    return int(seen_in(known, texts, task).sum())


def seen_in(known: Sequence[str], texts: Sequence[str], task: Task) -> np.ndarray:
    """Which of `texts` are among the `known` ones, word for word or near duplicates by the task's settings: bool."""
    normaliser, seen = Normaliser(), np.zeros(len(texts), bool)
    leaks = _leaks_from(normaliser.normalise(list(known)), normaliser.normalise(list(texts)), task)
    seen[np.unique(leaks.pairs[:, 0])] = True
    return seen


def _leaks_from(known: Sequence[str], mine: Sequence[str], task: Task) -> Leaks:
    # The search for leaks between splits is the search that is wanted, with the known texts as the other split.
    places = np.array(["test"] * len(mine) + ["train"] * len(known), dtype=object)
    return find_leaks([*mine, *known], places, task.near_duplicates, task.split.seed)
