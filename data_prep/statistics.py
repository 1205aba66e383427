"""What the manifest counts: rows by split and label, none lost; rows cut; lengths, whole and as histograms."""

import hashlib
import json
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from data_prep.manifest import CharacterLengths, ClassLengths, Counts, CutRows, Histogram, LabelCounts, Spread
from data_prep.table.checking import REASONS, Checked
from data_prep.task import SPLITS

BINS = 40  # at most, the open one at the end apart
STEPS = tuple(digit * 10**power for power in range(9) for digit in (1, 2, 5))
FAR = 4  # times the 99th percentile: a limit beyond that would leave no room for the lengths


def count_rows(rows: int, kept: pd.DataFrame, checked: Checked, label_words: Sequence[str]) -> Counts:
    """Rows by split and label, set aside by reason, left out by their label, and not used because of a limit.

    `kept` has the columns split, label and used, in place of those of `checked`. Raises RuntimeError when the parts are
    not the whole: no row of the table may be lost.
    """
    unused, (_, rejects, left_out) = ~kept["used"], checked
    counts = Counts(
        rows=rows,
        **{name: by_label(kept[(kept["split"] == name) & kept["used"]], label_words) for name in SPLITS},
        set_aside={"total": len(rejects)}
        | {reason: n for reason in REASONS if (n := int((rejects["reason"] == reason).sum()))},
        left_out={value: int(n) for value, n in left_out["label"].value_counts(sort=False).items()},
        not_used={"total": int(unused.sum())}
        | {name: int((unused & (kept["split"] == name)).sum()) for name in SPLITS},
    )
    parts = [*map(counts.of, SPLITS), counts.set_aside, counts.not_used]
    whole = sum(part["total"] for part in parts) + sum(counts.left_out.values())
    seen = np.sort(np.concatenate([part["row"].to_numpy() for part in (kept, rejects, left_out)]))
    if whole != rows or not np.array_equal(seen, np.arange(1, rows + 1)):
        raise RuntimeError(f"rows were lost: the table has {rows}, the parts add up to {whole}: {counts}")
    if any(sum(part.values()) != 2 * part["total"] for part in parts):
        raise RuntimeError(f"rows were lost: a part does not add up: {counts}")
    return counts


def by_label(frame: pd.DataFrame, label_words: Sequence[str]) -> LabelCounts:
    """{"total": rows, label word: rows, ...} of a frame with the column label; every class is there."""
    rows = frame["label"].value_counts()
    return {"total": len(frame), **{label: int(rows.get(label, 0)) for label in label_words}}


def rows_sha256(pieces: Iterable[pd.DataFrame]) -> str:
    """What identifies the rows of a split, whatever the prompt and the cutting: SHA-256 over (row, text, label)."""
    digest = hashlib.sha256()
    for piece in pieces:
        for row, text, label in zip(*(piece[name].tolist() for name in ("row", "text", "label")), strict=True):
            digest.update(json.dumps([str(row), text, label], ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()


def cut_rows(kept: pd.DataFrame, label_words: Sequence[str]) -> CutRows:
    """How many rows of each split and label were cut, and the ids of those rows."""
    cut = kept[kept["cut"] & kept["used"]]
    parts = {name: cut[cut["split"] == name] for name in SPLITS}
    return CutRows(
        total=len(cut),
        **{name: by_label(part, label_words) for name, part in parts.items()},
        ids={name: [str(row) for row in part["row"]] for name, part in parts.items()},
    )


def spread(lengths: np.ndarray) -> Spread:
    """The spread of some lengths, at least one."""
    parts = np.percentile(lengths, [0, 50, 95, 99, 100]).tolist()
    values = dict(zip(("least", "median", "p95", "p99", "greatest"), parts, strict=True))
    return Spread(**values, mean=round(float(np.mean(lengths)), 1))


def characters(kept: pd.DataFrame, label_words: Sequence[str]) -> CharacterLengths:
    """The spread of the used rows' characters, whole and by split and class, with a histogram."""
    used = kept["used"].to_numpy()
    lengths = kept["text"].str.len().to_numpy()[used]
    table = length_histogram(lengths, kept["split"][used], kept["label"][used], label_words)
    return CharacterLengths(**dict(spread(lengths)), histogram=table)


def length_histogram(
    lengths: np.ndarray, splits: pd.Series, labels: pd.Series, label_words: Sequence[str], limit: int | None = None
) -> Histogram:
    """The spread of `lengths` (integers, one a row) by split and by class, and the rows of each class by bin.

    `limit` is a length that should lie among the edges where some row is longer. Each split and each of `label_words`
    has at least one row.
    """
    edges = bin_edges(lengths, limit)
    bins = np.minimum(np.searchsorted(edges, lengths, side="right") - 1, len(edges) - 1)
    classes = {}
    for label in label_words:
        mine = (labels == label).to_numpy(dtype=bool)
        counts = np.bincount(bins[mine], minlength=len(edges)).tolist()
        classes[label] = ClassLengths(**dict(spread(lengths[mine])), counts=counts)
    by_split = {name: spread(lengths[(splits == name).to_numpy(dtype=bool)]) for name in SPLITS}
    return Histogram(edges=edges.tolist(), split=by_split, classes=classes)


def bin_edges(lengths: np.ndarray, limit: int | None = None) -> np.ndarray:
    """The lower ends of bins of one round width, from the least length to the 99th percentile and beyond: int64."""
    low, top = lengths.min(), np.percentile(lengths, 99)
    if limit is not None and limit < lengths.max() and limit <= FAR * top:
        top = max(top, limit)
    step = next(step for step in STEPS if top // step - low // step < BINS)
    return np.arange(low // step, top // step + 2, dtype=np.int64) * step
