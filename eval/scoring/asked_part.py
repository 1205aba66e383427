"""Which of the test rows a run's untuned model was asked, and in which its texts were generated: all, or a fixed part.

eval/inference/budget.py chose them; summary.json has their number, the response files their ids.
"""

from pathlib import Path

from eval.inference.summary import Summary
from eval.scoring.responses import Response, Split
from workspace.errors import UserError
from workspace.paths import shown
from workspace.records import read_lines

SIDES = ("before", "after")


def asked_part(run: Path, test: Split) -> Split | None:
    """The rows of `test` that were asked in every way, in its order; None where those are all of them.

    Raises `UserError` where a response file has another number of them than the summary, or other rows.
    """
    parts = [part for side in SIDES if (part := _asked(run, side, test)) is not None]
    return min(parts, key=len, default=None)


def rows_answered(run: Path, side: str, purpose: str, test: Split) -> int:
    """How many rows of `test` a side's responses of a purpose are to; without a summary to all."""
    summary = Summary.read(run / side)
    return len(test) if summary is None else min(summary.prompts.get(purpose, len(test)), len(test))


def _asked(run: Path, side: str, test: Split) -> Split | None:
    """The rows that a side was asked before tuning, or after it in text; None for all."""
    path, asked = run / side / "test.jsonl", rows_answered(run, side, "test", test)
    if not path.is_file() or asked == len(test):
        return None
    rows = read_lines(path, Response, "run the inference again")
    ids = {row.id for row in rows if side == "before" or row.answer is not None}
    part = test.take(place for place, key in enumerate(test.ids) if key in ids)
    if len(part) != asked or len(ids) != asked:
        raise UserError(
            f"{shown(path)} has {len(ids)} answers to {asked} of the {len(test)} rows of {shown(test.path)}: "
            "run the inference again"
        )
    return part
