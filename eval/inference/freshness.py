"""Whether saved answers are to the rows, the model and the adapter that the run's folder now names."""

from pathlib import Path
from typing import Any

from eval.infer import model_inputs
from train.checkpoints import best_checkpoint, weights_sha256
from workspace.errors import UserError
from workspace.files import read_json, sha256_file
from workspace.paths import shown


def check_answers_are_current(run: Path, plan: dict[str, Any], dataset: Path) -> None:
    """Raise `UserError` when the answers before or after tuning were made from something else than is there now.

    A report of old answers under a new plan, or beside new texts, would be believed. What the answers were made from
    stands in their summary.json.
    """
    for side in ("before", "after"):
        summary = run / side / "summary.json"
        made_from = read_json(summary).get("inputs") if summary.is_file() else None
        if made_from is None:
            continue
        now = {name: sha256_file(dataset / name) for name in ("test.jsonl", "val.jsonl")}
        now |= model_inputs(run, plan)
        if side == "after":
            now["adapter"] = weights_sha256(best_checkpoint(run))
        # What an earlier version did not record cannot be compared.
        if changed := sorted(name for name in now.keys() & made_from.keys() if made_from[name] != now[name]):
            raise UserError(
                f"the answers in {shown(run / side)} are not to what the run now has ({', '.join(changed)} changed): "
                "run the same command again"
            )
