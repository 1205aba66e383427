"""Score a run and draw its report, or compare finished runs side by side.

Run as: python -m eval.report RUN, which writes metrics.json, rows.jsonl, report.md, report.html and PNGs into RUN;
or: python -m eval.report RUN RUN ..., which prints a comparison and writes nothing. Neither needs a model.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from plan.run import locked_run
from workspace.command_line import Parser, given_path
from workspace.errors import UserError, run_main
from workspace.files import read_jsonl, write_bytes, write_text
from workspace.paths import shown


def write_report(run: Path) -> Path:
    """Score `run` and write its report; returns the path of report.html. Raises `UserError` as `evaluate` does."""
    from eval.evaluate import evaluate

    return draw_report(run, evaluate(run), read_jsonl(run / "rows.jsonl"))


def draw_report(run: Path, metrics: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write report.md, report.html and the PNGs for what was scored; everything is made before a file is touched.

    A picture of an earlier report that these metrics have no figures for is removed.
    """
    from eval.reporting.pictures import PICTURES, draw_pictures
    from eval.reporting.render import render_html, render_markdown
    from workspace.fonts import chinese_font

    pictures = draw_pictures(metrics, chinese_font())
    page, text = render_html(metrics, rows), render_markdown(metrics, rows, list(pictures))
    for name, data in pictures.items():
        write_bytes(run / name, data)
    for name in PICTURES.keys() - pictures.keys():
        (run / name).unlink(missing_ok=True)
    write_text(run / "report.md", text)
    write_text(run / "report.html", page)
    return run / "report.html"


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = Parser("python -m eval.report", __doc__)
    parser.add_argument("runs", nargs="+", type=given_path, metavar="RUN", help="a run's folder; several: compare")
    parser.add_argument("--out", type=given_path, metavar="DIR", help="with several runs: write compare.md there too")
    arguments = parser.parse_args(argv)
    for run in arguments.runs:
        if not run.is_dir():
            raise UserError(f"there is no run in {shown(run)}: name a folder that run_sft.sh has made")
    if len(arguments.runs) > 1:
        from eval.reporting.compare_runs import compare_runs

        text = compare_runs(arguments.runs)
        if arguments.out:
            write_text(arguments.out / "compare.md", text)
        print(text, end="")
        return 0
    if arguments.out:
        raise UserError("--out is for comparing several runs; the report of one run is written into its own folder")
    with locked_run(arguments.runs[0]):
        print(f"report: {shown(write_report(arguments.runs[0]))}")
    return 0


if __name__ == "__main__":
    run_main(main)
