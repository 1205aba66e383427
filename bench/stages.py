"""Each stage of the demo, and prep of all hotel reviews: seconds on the clock and peak memory.

Run as: python -m bench stages [--repeat N] [--csv FILE] [--json FILE]

The stages are the commands of run_sft.sh, one after the other in a run folder of their own; packages, model and reviews
are there already.
"""

import math
import statistics
import tempfile
from pathlib import Path
from typing import Any

from bench.cost import Cost, cost_of_ours
from bench.limits import Stolen
from bench.subject import Figures, reviews_table
from demo.model import ensure_model
from plan.hardware import this_machine
from workspace.markdown import table

DEMO, PREP, REPORT = "the demo", "prep of all reviews", "report"
LIMITS = {DEMO: 240.0, PREP: 6.0, REPORT: 8.0}  # seconds


def run(repeat: int = 3, csv: Path | None = None) -> tuple[Figures, bool]:
    """The figures, and whether the limits are kept. Raises UserError when a stage fails."""
    model, reviews = ensure_model().absolute(), reviews_table(csv)
    costs = []
    with Stolen() as stolen:
        for _ in range(repeat):
            with tempfile.TemporaryDirectory(prefix="bench-stages-") as scratch:
                build = ("hotel_reviews", "--csv", str(reviews), "--model", str(model), "--out", f"{scratch}/all")
                costs.append(demo(f"{scratch}/run") | {PREP: cost_of_ours("data_prep.build", *build)})
    found = {
        "bench": "stages", "machine": this_machine().describe(), "reviews": reviews.name, "stolen": stolen.share,
        "stages": {name: [one[name]._asdict() for one in costs] for name in costs[0]},
    }  # fmt: skip
    return found, all(seconds(found, name) <= limit for name, limit in LIMITS.items())


def demo(run: str) -> dict[str, Cost]:
    """The cost of each stage of `run_sft.sh demo` in the run folder `run`, and of all together."""
    costs = {
        "plan and prep": cost_of_ours("plan", "demo", "--run", run),
        "linear baseline": cost_of_ours("eval.baselines", run),
        "before": cost_of_ours("eval.infer", run, "before"),
        "tune": cost_of_ours("train.sft", run),
        "after": cost_of_ours("eval.infer", run, "after"),
        REPORT: cost_of_ours("eval.report", run),
    }
    seconds, cpu_seconds, peaks = zip(*costs.values(), strict=True)
    return costs | {DEMO: Cost(sum(seconds), sum(cpu_seconds), max(peaks))}


def seconds(found: dict[str, Any], name: str) -> float:
    """The median time of a stage."""
    return statistics.median(one["seconds"] for one in found["stages"][name])


def report(found: dict[str, Any]) -> list[str]:
    """The figures as lines."""
    rows = []
    for name, every in found["stages"].items():
        times = [one["seconds"] for one in every]
        peak = max(one["peak_bytes"] for one in every) / 2**30
        kept = seconds(found, name) <= LIMITS.get(name, math.inf)
        limit = f"{LIMITS[name]:.0f} s {'kept' if kept else 'NOT kept'}" if name in LIMITS else ""
        spread = f"{min(times):.1f}–{max(times):.1f}"
        rows.append([name, f"{seconds(found, name):.1f}", spread, f"{peak:.2f}", limit])
    what = f"stages of the demo, and prep of {found['reviews']}; {found['machine']}"
    header = ["stage", "wall s", "lowest–highest", "peak GiB", "limit"]
    return [f"{what}; stolen by the host {found['stolen']:.1%}", "", *table(header, rows)]
