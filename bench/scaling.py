"""Rows against seconds: label scores and training on tables of several sizes, to show that the cost grows linearly.

Run as: python -m bench scaling [--rows N ...] [--csv FILE] [--model DIR] [--json FILE]

Seconds are ms-swift's own, without start-up. The same for prep: python -m bench prep.
"""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.inference import by_us
from bench.limits import Stolen
from bench.subject import Figures, reviews_table, subject, trained_tokens
from bench.tables import read_reviews, varied, write_table
from bench.training import OURS, ways_to_train
from demo.model import ensure_model
from eval.inference.prompts import Prompt, by_length
from plan.hardware import this_machine
from workspace.files import read_jsonl
from workspace.markdown import table

ROWS = (100, 1_000, 10_000)
SEED = 42
SPARE = 1.5  # rows of the table for each row to train on: prep keeps others for validation and test


def run(rows: Sequence[int] = ROWS, csv: Path | None = None, model: Path | None = None) -> tuple[Figures, bool]:
    """Measure each size once; there is no limit to keep. Raises UserError when a command fails."""
    model = (model or ensure_model()).absolute()
    real = read_reviews(reviews_table(csv))
    with tempfile.TemporaryDirectory(prefix="bench-scaling-") as scratch, Stolen() as stolen:
        sizes = [measure(real, count, model, Path(scratch) / str(count)) for count in sorted(set(rows))]
    machine = this_machine().describe()
    found = {"bench": "scaling", "model": model.name, "machine": machine, "stolen": stolen.share, "sizes": sizes}
    return found, True


def measure(real: Sequence[tuple[str, str]], count: int, model: Path, folder: Path) -> dict[str, Any]:
    """Score `count` rows and train on them for an epoch."""
    folder.mkdir(parents=True)
    write_table(folder / "reviews.csv", varied(list(real), int(SPARE * count) + 50, SEED))
    options = ("--num_train_epochs", "1", "--eval_strategy", "no")
    made = subject(folder / "reviews.csv", model, count, folder / "run", *options)
    try:
        prompts = by_length(
            Prompt("val", row["id"], row["messages"][-1]["content"], False, tuple(row["messages"][:-1]))
            for row in read_jsonl(made.dataset / "train.jsonl")
        )
        rate, _ = by_us(made, "score", prompts)
        trained = ways_to_train(made, model)[OURS](folder / "trained", SEED)
        length = trained_tokens(made.dataset, model)
    finally:
        shutil.rmtree(made.dataset)
    return {
        "rows": len(prompts), "tokens": round(length, 1), "score_seconds": len(prompts) / rate,
        "train_seconds": trained["train_runtime"], "train_peak_bytes": trained["peak_bytes"],
    }  # fmt: skip


def report(found: dict[str, Any]) -> list[str]:
    """The figures as lines. `one row more` is the time of each row beyond those of the size above in the table."""
    lines = []
    for before, one in zip([None, *found["sizes"]], found["sizes"], strict=False):
        cells = [f"{one['rows']:,}", f"{one['tokens']:.0f}"]
        for key in ("score_seconds", "train_seconds"):
            more = ""
            if before and one["rows"] > before["rows"]:
                more = f"{1000 * (one[key] - before[key]) / (one['rows'] - before['rows']):.0f}"
            cells += [f"{one[key]:.1f}", f"{1000 * one[key] / one['rows']:.0f}", more]
        lines.append([*cells, f"{one['train_peak_bytes'] / 2**30:.2f}"])
    seconds = ["ms a row", "one row more"]
    header = ["rows", "tokens", "score s", *seconds, "train s", *seconds, "peak GiB"]
    what = f"scaling, {found['model']}, {found['machine']}; stolen by the host {found['stolen']:.1%}"
    return [what, "", *table(header, lines)]
