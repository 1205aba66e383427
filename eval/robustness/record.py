"""injection.json: what was measured of orders in reviews, and whether it is of what the run has now."""

import json
from pathlib import Path
from typing import Any

from workspace.files import read_json, sha256_file
from workspace.paths import shown

FILE = "injection.json"


def current_inputs(run: Path, dataset: Path) -> dict[str, str | None]:
    """What the figures in injection.json depend on, by hash: test rows and the tuned weights."""
    after = run / "after" / "summary.json"
    return {
        "test.jsonl": sha256_file(dataset / "test.jsonl"),
        "adapter": read_json(after)["adapter_sha256"] if after.is_file() else None,
    }


def load_injection(run: Path, dataset: Path) -> dict[str, Any] | None:
    """What `python -m eval.injection` measured; None without it, or where rows or weights have changed since, which is
    said in one line."""
    path = run / FILE
    if not path.is_file():
        return None
    try:
        found = read_json(path)
        if found["inputs"] == current_inputs(run, dataset):
            return {key: found[key] for key in ("rows", "mixed", "ways")}
    except (json.JSONDecodeError, KeyError, TypeError):
        pass
    print(f"report: {shown(path)} is of other rows or weights, and left aside: run `python -m eval.injection` again")
    return None
