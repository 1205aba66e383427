"""injection.json: what was measured of instructions in reviews, and whether it is of what the run has now."""

import json
from typing import Any

from eval.inference.summary import Summary
from plan.run import Run
from workspace.files import read_json, sha256_file
from workspace.paths import shown

FILE = "injection.json"


def current_inputs(run: Run) -> dict[str, str | None]:
    """What the figures in injection.json depend on, by hash: test rows and the tuned weights."""
    after = Summary.read(run.folder / "after")
    return {
        "test.jsonl": sha256_file(run.dataset / "test.jsonl"),
        "adapter": after.adapter_sha256 if after else None,
    }


def load_injection(run: Run) -> dict[str, Any] | None:
    """What `python -m eval.injection` measured; None without it, or where rows or weights have changed since, which is
    said in one line."""
    path = run.folder / FILE
    if not path.is_file():
        return None
    try:
        found = read_json(path)
        if found["inputs"] == current_inputs(run):
            return {key: found[key] for key in ("rows", "mixed", "ways")}
    except (json.JSONDecodeError, KeyError, TypeError):
        pass
    print(f"report: {shown(path)} is of other rows or weights, and left aside: run `python -m eval.injection` again")
    return None
