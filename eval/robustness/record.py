"""injection.json: what was measured of instructions in reviews, and whether it is of what the run has now."""

import json
from typing import Any, TypedDict

from eval.inference.summary import Summary
from eval.robustness.rates import ModelRates
from plan.run import Run
from workspace.files import read_json, sha256_file
from workspace.paths import shown

FILE = "injection.json"


class Injection(TypedDict):
    """What was measured, as the report has it. `rows`: at most so many of each model; `mixed`: the manifest's note on
    instructions in the train rows, None without any; `ways`: the rates by model."""

    rows: int
    mixed: dict[str, Any] | None
    ways: dict[str, ModelRates]


def current_inputs(run: Run) -> dict[str, str | None]:
    """What the figures in injection.json depend on, by hash: test rows and the tuned weights."""
    after = Summary.read(run.folder / "after")
    return {
        "test.jsonl": sha256_file(run.dataset / "test.jsonl"),
        "adapter": after.adapter_sha256 if after else None,
    }


def load_injection(run: Run) -> Injection | None:
    """What `python -m eval.injection` measured; None without it, or where rows or weights have changed since, which is
    said in one line."""
    path = run.folder / FILE
    if not path.is_file():
        return None
    try:
        record = read_json(path)
        if record["inputs"] == current_inputs(run):
            return Injection(rows=record["rows"], mixed=record["mixed"], ways=record["ways"])
    except (json.JSONDecodeError, KeyError, TypeError):
        pass
    print(f"report: {shown(path)} is of other rows or weights, and left aside: run `python -m eval.injection` again")
    return None
