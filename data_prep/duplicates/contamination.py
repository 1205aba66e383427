"""Test rows that occur, word for word or nearly, in a file of texts that a model may have seen."""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from data_prep.duplicates.deduplication import DuplicateGroups, Normaliser, find_duplicates
from data_prep.manifest import KnownTexts
from data_prep.statistics import by_label
from data_prep.table.encoding import find_encoding
from data_prep.table.look import FORMATS
from data_prep.table.reading import read_table
from data_prep.task import Columns, Task, TextFile
from workspace.errors import UserError
from workspace.files import sha256_file
from workspace.paths import shown


def read_texts(known: TextFile, task: Task, key: str = "known_public") -> list[str]:
    """The texts of the file that the task's `key` names, those without visible text left out.

    With `column` the file is a table in any format that prep reads, else each line is a text. Raises UserError, also
    for a table without `column`: its lines hold more than the texts, the labels for one.
    """
    path = known.path
    if not path.is_file():
        raise UserError(f"there is no file {shown(path)}: correct or remove `{key}` in the task")
    if known.column is not None:
        try:
            texts = read_table(path, Columns((known.column,), known.column), known.table).frame["text"].tolist()
        except UserError as error:
            raise UserError(f"{error} (in `{key}` of the task: its own `path`, `column` and `table`)") from error
    else:
        name = f"name the column of its texts, `{key}: {{path: …, column: NAME}}` in {shown(task.path)}"
        if path.suffix.lower() in FORMATS and path.suffix.lower() != ".txt":
            raise UserError(f"{shown(path)} is a table, and its lines hold more than texts: {name}")
        encoding = find_encoding(path)
        texts = path.read_text(encoding=encoding.name, errors=encoding.errors).split("\n")
        if set(task.columns.all) & {cell.strip('\ufeff\r "') for cell in re.split("[\t,;|]", texts[0])}:
            raise UserError(f"{shown(path)} begins with the header of a table ({texts[0].strip()[:60]}): {name}")
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
    texts = Normaliser().normalise(read_texts(task.known_public, task))
    at = np.flatnonzero((kept["split"] == "test").to_numpy() & kept["used"].to_numpy())
    found = _in_known(texts, kept["normalised"].iloc[at].tolist(), task)
    known = np.zeros(len(kept), bool)
    known[at[found.near]] = True
    return kept.assign(known=known), KnownTexts(
        path=task.known_public.path.name,
        sha256=sha256_file(task.known_public.path),
        texts=len(texts),
        exact=int(found.exact.sum()),
        near=int((found.near & ~found.exact).sum()),
        test=by_label(kept[known], task.label_words),
        ids=[str(row) for row in kept["row"][known]],
    )


def count_seen(texts: Sequence[str], known: Sequence[str], task: Task) -> int:
    """How many of `texts` are among the `known` ones, word for word or near duplicates by the task's settings."""
    return int(seen_in(known, texts, task).sum())


def seen_in(known: Sequence[str], texts: Sequence[str], task: Task) -> np.ndarray:
    """Which of `texts` are among the `known` ones, word for word or near duplicates by the task's settings: bool."""
    normaliser = Normaliser()
    return _in_known(normaliser.normalise(list(known)), normaliser.normalise(list(texts)), task).near


def _in_known(known: Sequence[str], mine: Sequence[str], task: Task) -> DuplicateGroups:
    """Whether each text of `mine` is in the exact, and in the near group of a known text: bool, one a text of `mine`.

    Groups and not pairs, for of many texts that are nearly alike only some are compared with each other.
    """
    groups = find_duplicates([*known, *mine], task.near_duplicates, task.split.seed)
    # A group has the place of its first text, and the known ones are first.
    return DuplicateGroups(*(one[len(known) :] < len(known) for one in (groups.exact, groups.near)))
