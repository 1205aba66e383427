"""Labelling tables of several sizes: memory, which may not grow with the rows, and speed beside that of scoring alone.

Run as: python -m bench predicting RUN_OR_BUNDLE [--reading linear] [--rows N ...] [--csv FILE] [--json FILE]

Scoring alone is the same classifier asked in this process for texts of the smallest table: what the evaluation of a run
does. A command's memory is that of all its processes at their peak.
"""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import serve
from bench.cost import cost_of_ours
from bench.limits import Stolen
from bench.subject import Figures, reviews_table
from bench.tables import read_reviews, varied, write_table
from plan.hardware import this_machine
from serve.classifier_file import Reading
from serve.predict import Manifest
from workspace.markdown import table
from workspace.records import read

ROWS = (10_000, 100_000, 1_000_000)
SCORED = 10_000  # texts that are scored alone, at most
SEED = 42
SHARE, GROWTH = 0.9, 1.25  # of the rate of scoring alone, at least; of the smallest table's memory, at most


def run(
    folder: Path, reading: Reading = "linear", rows: Sequence[int] = ROWS, csv: Path | None = None
) -> tuple[Figures, bool]:
    """The figures, and whether the limits are kept. Raises UserError where the command fails."""
    real = read_reviews(reviews_table(csv))
    sizes: list[dict[str, Any]] = []
    with Stolen() as stolen, tempfile.TemporaryDirectory(prefix="bench-predicting-") as scratch:
        for count in sorted(set(rows)):
            source, out = Path(scratch) / f"{count}.csv", Path(scratch) / f"{count}.labelled.csv"
            write_table(source, varied(real, count, SEED))
            cost = cost_of_ours("serve.predict", str(folder), str(source), "--out", str(out), "--reading", reading)
            manifest = read(out.with_name(f"{out.name}.manifest.json"), Manifest, "run the bench again")
            sizes.append({"rows": count, **cost._asdict(), "rate": count / max(manifest.seconds, 1e-3)})
            out.unlink()
            source.unlink()
        texts = [text for _, text in varied(real, min(SCORED, min(rows)), SEED)]
        classifier = serve.Classifier.load(folder, reading)
        began = time.perf_counter()
        classifier.score(texts)
        alone = len(texts) / (time.perf_counter() - began)
    found: Figures = {
        "bench": "predicting", "machine": this_machine().describe(), "stolen": stolen.share, "reading": reading,
        "sizes": sizes, "alone": alone, "share": min(one["rate"] for one in sizes) / alone,
        "growth": sizes[-1]["peak_bytes"] / sizes[0]["peak_bytes"],
    }  # fmt: skip
    return found, found["share"] >= SHARE and found["growth"] <= GROWTH


def report(found: Figures) -> list[str]:
    """The figures as lines."""
    lines = [
        [f"{one['rows']:,}", f"{one['seconds']:.1f}", f"{one['peak_bytes'] / 2**20:,.0f}", f"{one['rate']:,.0f}"]
        for one in found["sizes"]
    ]
    limits = [
        [f"memory of the largest table, that of the smallest is 1: {found['growth']:.2f}", f"{GROWTH} at most"],
        [f"rate, that of scoring alone ({found['alone']:,.0f} rows/s) is 1: {found['share']:.2f}", f"{SHARE} at least"],
    ]
    kept = [found["growth"] <= GROWTH, found["share"] >= SHARE]
    told = [
        f"{what} ({limit}: {'kept' if one else 'NOT kept'})" for (what, limit), one in zip(limits, kept, strict=True)
    ]
    head = f"predict, {found['reading']}; {found['machine']}; stolen by the host {found['stolen']:.1%}"
    return [head, "", *table(["rows", "wall s", "peak MiB", "rows/s"], lines), "", *told]
