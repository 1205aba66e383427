"""Which of the test rows a run's untuned model was asked, and in which its texts were generated: all, or a fixed part.

eval/inference/budget.py chose them; summary.json has their number, the response files their ids.
"""

from pathlib import Path

from eval.inference.summary import Summary
from eval.scoring.responses import Response, Split
from workspace.errors import UserError
from workspace.paths import shown
from workspace.records import read_lines


def asked_part(run: Path, test: Split) -> Split | None:
    """The rows of `test` that were asked in every way, in its order; None where those are all of them.

    Raises `UserError` where the response file has another number of them than the summary, or other rows.
    """
    for side, all_asked in (("before", False), ("after", True)):
        path, summary = run / side / "test.jsonl", Summary.read(run / side)
        if summary is None or not path.is_file():
            continue
        asked = summary.prompts.get("test", len(test))
        if asked >= len(test):
            return None
        rows = read_lines(path, Response, "run the inference again")
        ids = {row.id for row in rows if not all_asked or row.answer is not None}
        part = test.take(place for place, key in enumerate(test.ids) if key in ids)
        if len(part) != asked or len(ids) != asked:
            raise UserError(
                f"{shown(path)} has {len(ids)} answers to {asked} of the {len(test)} rows of {shown(test.path)}: "
                "run the inference again"
            )
        return part
    return None
