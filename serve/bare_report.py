"""A run's report for a bundle: without a text of the table, unless it is asked for, and without a path of this machine.

Texts are in metrics.json only beside the most confident mistakes, and in rows.jsonl; nothing else is drawn from them.
"""

from pathlib import Path, PurePath
from typing import Any

from eval.reporting.pictures import PICTURES
from eval.reporting.render import render_html, render_markdown
from eval.scoring.predictions import Metrics
from workspace.files import read_jsonl, write_bytes, write_json, write_text

FOLDER = "report"
FILES = ("report.html", "report.md", "metrics.json")


def write_bare_report(run: Path, metrics: Metrics, folder: Path, with_texts: bool = False) -> None:
    """Write report.html, report.md, its pictures and metrics.json into `folder`."""
    kept = without_places(metrics)
    if not with_texts:
        kept["mistakes"] = []
    rows = read_jsonl(run / "rows.jsonl") if with_texts else []
    pictures = [name for name in PICTURES if (run / name).is_file()]
    for name in pictures:
        write_bytes(folder / name, (run / name).read_bytes())
    write_text(folder / "report.html", render_html(kept, rows))
    write_text(folder / "report.md", render_markdown(kept, rows, pictures))
    write_json(folder / "metrics.json", kept)


def without_places(metrics: Metrics) -> dict[str, Any]:
    """`metrics` with the names of files in place of their paths, and without what lies beside the run alone."""
    run = dict(metrics["run"])
    for key in ("csv", "model"):
        if run[key] and PurePath(run[key]).is_absolute():
            run[key] = PurePath(run[key]).name
    return {**metrics, "run": run, "learning_curve": None, "notice": None}
