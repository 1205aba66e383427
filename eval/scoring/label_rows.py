"""The rows of a finished split, as the audit of labels needs them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workspace.errors import UserError
from workspace.files import read_jsonl
from workspace.paths import shown


class LabelRows(NamedTuple):
    """Rows in the file's order: id, uncut review, given label word."""

    path: Path
    ids: list[str]
    reviews: list[str]
    given: list[str]

    def codes(self, labels: Sequence[str]) -> NDArray[np.int64]:
        """The given labels as positions in `labels`, shape (n,)."""
        return np.array([labels.index(word) for word in self.given], np.int64)


def load_rows(path: Path, labels: Sequence[str]) -> LabelRows:
    """The rows of a split's JSONL. Raises UserError when it is missing, has no rows or is not such a file."""
    try:
        rows = read_jsonl(path)
        ids, reviews = [str(row["id"]) for row in rows], [row["review"] for row in rows]
        given = [row["messages"][-1]["content"] for row in rows]
    except FileNotFoundError as error:
        raise UserError(f"there is no file {shown(path)}: build the dataset anew") from error
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise UserError(f"{shown(path)} is not a split of a dataset ({error!r}): build the dataset anew") from error
    if not rows:
        raise UserError(f"{shown(path)} has no rows: there is nothing to audit")
    if unknown := set(given) - set(labels):
        raise UserError(f"{shown(path)} has the label {min(unknown)}, expected {', '.join(labels)}: build it anew")
    return LabelRows(path, ids, reviews, given)
