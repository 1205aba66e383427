"""Time and memory of data_prep.build on tables of several sizes, against the limits for a million rows.

Run as: python -m bench prep [--rows N ...] [--repeat N] [--csv FILE] [--model DIR] [--json FILE]
"""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench.cost import cost_of_ours
from bench.subject import Figures, reviews_table
from bench.tables import COPIES, REPLACED, read_reviews, varied, write_table
from demo.model import ensure_model
from plan.hardware import this_machine
from workspace.files import read_json
from workspace.markdown import table

ROWS = (10_000, 100_000, 1_000_000)
SEED = 42
LIMIT_ROWS = 1_000_000  # the limits are for this many rows, or more
LIMIT_SECONDS = 180
LIMIT_BYTES = 2 * 2**30


def run(
    rows: Sequence[int] = ROWS,
    repeat: int = 2,
    csv: Path | None = None,
    model: Path | None = None,
    folder: Path | None = None,
) -> tuple[Figures, bool]:
    """Measure prep at each size; whether the limits for a million rows are kept.

    Raises UserError for a file or model that cannot be used.
    """
    csv = reviews_table(csv)
    model = model or ensure_model()
    real = read_reviews(csv)
    sizes = []
    for count in sorted({max(one, 1) for one in rows}):
        with tempfile.TemporaryDirectory(prefix="bench-prep-", dir=folder) as scratch:
            sizes.append(measure(real, count, max(repeat, 1), model, Path(scratch)))
    found = {
        "bench": "prep", "reviews": csv.name, "model": model.name, "clauses_replaced": round(REPLACED, 3),
        "copies": COPIES, "seed": SEED, "machine": this_machine().describe(),
        "load": round(os.getloadavg()[0], 2),  # of the last minute: above the number of cores, others ran too
        "sizes": sizes,
    }  # fmt: skip
    return found, all(one["kept"] for one in sizes)


def measure(real: Sequence[tuple[str, str]], rows: int, repeat: int, model: Path, scratch: Path) -> dict[str, Any]:
    """Prep of a table of `rows` rows, `repeat` times, each as a process of its own that writes a new folder."""
    csv = scratch / f"{rows}.csv"
    write_table(csv, varied(list(real), rows, SEED))
    costs = []
    for at in range(repeat):
        out = scratch / f"out{at}"
        words = ["hotel_reviews", "--csv", str(csv), "--model", str(model.absolute()), "--out", str(out)]
        costs.append(cost_of_ours("data_prep.build", *words))
    manifest = read_json(out / "manifest.json")
    seconds, peak = median(one.seconds for one in costs), max(one.peak_bytes for one in costs)
    return {
        "rows": rows, "csv_bytes": csv.stat().st_size, "runs": [one._asdict() for one in costs], "seconds": seconds,
        "cpu_seconds": median(one.cpu_seconds for one in costs), "peak_bytes": peak,
        "kept": limits_kept(rows, seconds, peak), "counts": manifest["counts"], "repeats": manifest["repeats"],
        "cut": manifest["cut"]["total"],
    }  # fmt: skip


def limits_kept(rows: int, seconds: float, peak_bytes: int) -> bool:
    """Whether prep of so many rows keeps its limits; fewer than LIMIT_ROWS have none."""
    return rows < LIMIT_ROWS or (seconds <= LIMIT_SECONDS and peak_bytes <= LIMIT_BYTES)


def report(found: dict[str, Any]) -> list[str]:
    """The figures as lines: a table of the sizes, then whether the growth is linear and the limits are kept.

    `one row more` is the time that each row costs beyond those of the size above in the table, so without the seconds
    that the start takes whatever the size. When the growth is linear it is the same in every line.
    """
    header = ["rows", "CSV MB", "wall s", "of runs", "CPU s", "peak MiB", "µs a row", "µs, one row more"]
    lines = []
    for before, one in zip([None, *found["sizes"]], found["sizes"], strict=False):
        more = ""
        if before:
            more = f"{(one['seconds'] - before['seconds']) / (one['rows'] - before['rows']) * 1e6:.0f}"
        lines.append(
            [f"{one['rows']:,}", f"{one['csv_bytes'] / 1e6:,.0f}", f"{one['seconds']:.1f}",
             " ".join(f"{cost['seconds']:.1f}" for cost in one["runs"]), f"{one['cpu_seconds']:.1f}",
             f"{one['peak_bytes'] / 2**20:,.0f}", f"{one['seconds'] / one['rows'] * 1e6:.0f}", more]
        )  # fmt: skip
    what = f"prep of {found['reviews']} varied, {found['copies']:.0%} copies, tokenizer of {found['model']}"
    result = [f"{what}; {found['machine']}, load {found['load']}", "", *table(header, lines)]
    for one in found["sizes"]:
        if one["rows"] >= LIMIT_ROWS:
            limits = f"limits {LIMIT_SECONDS} s and {LIMIT_BYTES / 2**30:.0f} GiB"
            result += ["", f"{one['rows']:,} rows, {limits} {'kept' if one['kept'] else 'NOT kept'}: "
                       f"{one['seconds']:.1f} s, {one['peak_bytes'] / 2**30:.2f} GiB"]  # fmt: skip
    return result
