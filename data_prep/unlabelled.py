"""Texts without labels, which the task's `unlabelled` names: those that may be learned from beside a dataset."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.duplicates.contamination import read_texts, seen_in
from data_prep.duplicates.deduplication import Normaliser, first_equal
from data_prep.rows import read_rows
from data_prep.task import Task, TextFile
from workspace.errors import UserError
from workspace.paths import shown

KEY = "unlabelled"


@dataclass(frozen=True)
class Unlabelled:
    """The texts to learn from, in the file's order; how many the file has, and why the others are left out.

    `held_out` ones stand in a validation or test row, word for word or nearly; `repeated` ones stand in the file twice.
    """

    texts: list[str]
    given: int
    held_out: int
    repeated: int


def read_unlabelled(file: TextFile, task: Task, dataset: Path) -> Unlabelled:
    """The texts of `file`, the task's `unlabelled`, less those of the validation and test rows of `dataset`.

    Of several text columns a text that stands in one of them counts, and so does a line of a text. Raises UserError for
    a file that is missing, is no such table, or has no text that is left.
    """
    texts = read_texts(file, task, KEY)
    rows = [row for split in ("val", "test") for row in read_rows(dataset / f"{split}.jsonl")]
    parts = [part for row in rows for part in (row.review, *row.review.splitlines(), *(row.texts or {}).values())]
    held = list(dict.fromkeys(part for part in parts if part.strip()))
    seen = seen_in(held, texts, task)
    again = first_equal(Normaliser().normalise(texts)) != np.arange(len(texts))
    used = [text for text, out in zip(texts, (seen | again).tolist(), strict=True) if not out]
    if not used:
        raise UserError(
            f"{shown(file.path)}: all of its {len(texts)} texts stand in validation or test rows too: name "
            f"others in `{KEY}` of {shown(task.path)}"
        )
    return Unlabelled(used, len(texts), int(seen.sum()), int((again & ~seen).sum()))
