"""What a manifest says: rows by split and label, none lost; repeats, cuts and lengths; what identifies a split."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from data_prep.table.checking import REASONS
from data_prep.task import SPLITS


def count_rows(rows: int, kept: pd.DataFrame, rejects: pd.DataFrame, words: Sequence[str]) -> dict[str, Any]:
    """Rows by split and label, set aside by reason, and not used because of a limit.

    `kept` has the columns split, label and used. Raises RuntimeError when the parts are not the whole: no row of the
    table may be lost.
    """
    counts: dict[str, Any] = {"rows": rows}
    for name in SPLITS:
        counts[name] = by_label(kept[(kept["split"] == name) & kept["used"]], words)
    counts["set_aside"] = {"total": len(rejects)}
    counts["set_aside"] |= {one: n for one in REASONS if (n := int((rejects["reason"] == one).sum()))}
    counts["not_used"] = {"total": int((~kept["used"]).sum())}
    counts["not_used"] |= {name: int((~kept["used"] & (kept["split"] == name)).sum()) for name in SPLITS}
    whole = sum(counts[part]["total"] for part in (*SPLITS, "set_aside", "not_used"))
    seen = np.sort(np.concatenate([kept["row"].to_numpy(), rejects["row"].to_numpy()]))
    if whole != rows or not np.array_equal(seen, np.arange(1, rows + 1)):
        raise RuntimeError(f"rows were lost: the table has {rows}, the parts add up to {whole}: {counts}")
    for part in (*SPLITS, "set_aside"):
        if sum(n for key, n in counts[part].items() if key != "total") != counts[part]["total"]:
            raise RuntimeError(f"rows were lost: {part} does not add up: {counts[part]}")
    return counts


def by_label(frame: pd.DataFrame, words: Sequence[str]) -> dict[str, int]:
    """{"total": rows, label word: rows, ...} of a frame with the column label; every class is there."""
    found = frame["label"].value_counts()
    return {"total": len(frame), **{word: int(found.get(word, 0)) for word in words}}


def rows_sha256(pieces: Iterable[pd.DataFrame]) -> str:
    """What identifies the rows of a split, whatever the prompt and the cutting: SHA-256 over (row, text, label)."""
    digest = hashlib.sha256()
    for piece in pieces:
        for row, text, label in zip(*(piece[name].tolist() for name in ("row", "text", "label")), strict=True):
            digest.update(json.dumps([str(row), text, label], ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()


def cut_rows(kept: pd.DataFrame, words: Sequence[str]) -> dict[str, Any]:
    """How many rows of each split and label were cut, and the ids of those rows."""
    cut = kept[kept["cut"] & kept["used"]]
    parts = {name: by_label(cut[cut["split"] == name], words) for name in SPLITS}
    return {
        "total": len(cut),
        **parts,
        "ids": {name: [str(row) for row in cut["row"][cut["split"] == name]] for name in SPLITS},
    }


def spread(values: np.ndarray) -> dict[str, float]:
    """Least, median, 95th and 99th percentile, greatest and mean of some lengths."""
    low, median, high, higher, top = np.percentile(values, [0, 50, 95, 99, 100]).tolist()
    mean = round(float(np.mean(values)), 1)
    return {"least": low, "median": median, "p95": high, "p99": higher, "greatest": top, "mean": mean}
