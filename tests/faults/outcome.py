"""What a disturbed run left, against what the undisturbed one left."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Measured times and dates, and what names the attempt: never the same twice.
VOLATILE = re.compile(
    r"(^|_)(seconds|ms|time|date|planned|finished|started|elapsed|speed)(_|$)|per_second|memory|ms_per_review|costs|"
    r"runtime|speed|remaining|git|machine|versions"
)
JOURNALS = re.compile(r"/journal/|/logging\.jsonl$|\.looks\.jsonl$|/lock$")
# Of a run: what holds results. Logs, journals and reports' texts (with their times) are compared by what they hold.
COMPARED = (
    "run.json", "sft.yaml", "infer.yaml", "packages.txt", "data.json", "baselines.json", "metrics.json",
    "rows.jsonl", "train/best.json", "train/label_metric.json",
)  # fmt: skip
FOLDERS = ("before", "after", "baselines")
PRESENT = ("report.md", "report.html")


def stable(value: Any) -> Any:
    """A JSON value without times, dates and the machine's load."""
    if isinstance(value, dict):
        return {key: stable(item) for key, item in value.items() if not VOLATILE.search(key)}
    return [stable(item) for item in value] if isinstance(value, list) else value


def torn_files(places: list[Path]) -> list[str]:
    """JSON files in place that cannot be read; a journal may end in a torn line, a file still written aside may too."""
    torn = []
    for path in _files(places):
        if path.suffix not in (".json", ".jsonl") or path.name.endswith(".partial") or JOURNALS.search(str(path)):
            continue
        if any(part.endswith(".partial") for part in path.parts):
            continue
        try:
            text = path.read_text(encoding="utf-8")
            [json.loads(line) for line in (text.split("\n") if path.suffix == ".jsonl" else [text]) if line.strip()]
        except ValueError:
            torn.append(f"{path} is torn")
    return torn


def differences(expected: Path, places: list[Path]) -> list[str]:
    """Files whose content is not that of the copies below `expected`, times aside; and what is left beside them."""
    found = []
    for number, place in enumerate(places):
        one, other = expected / str(number), place
        if place.name.endswith(".jsonl"):
            continue
        names = {str(path.relative_to(one)) for path in _files([one])} | {
            str(path.relative_to(other)) for path in _files([other])
        }
        for name in sorted(names):
            if name.endswith(".partial") or ".partial/" in name:
                found.append(f"{name} is left behind")
            elif _counts(one, name) and content(one / name) != content(other / name):
                found.append(f"{name} differs")
    return found


def content(path: Path) -> Any:
    """What a file says, times aside; None when it is not there."""
    if not path.is_file():
        return None
    if path.suffix == ".json":
        value = stable(json.loads(path.read_text(encoding="utf-8")))
        # The rates of the CPU are a measurement too; what was chosen by them is compared.
        return {**value, "precision": None} if path.name == "run.json" else value
    if path.suffix == ".jsonl":
        return [stable(json.loads(line)) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    return path.name if path.name in PRESENT else path.read_bytes()


def _counts(root: Path, name: str) -> bool:
    """Whether a file holds results: every file of a dataset, the named ones of a run."""
    if not (root / "run.json").exists() and (root / "manifest.json").exists():
        return True
    top = name.split("/", 1)[0]
    if top in FOLDERS:
        return name.endswith(".jsonl") and "/journal/" not in name
    return name in COMPARED or name in PRESENT or ("/" not in name and name.endswith(".png"))


def _files(places: list[Path]) -> Iterator[Path]:
    for place in places:
        yield from (path for path in place.rglob("*") if path.is_file()) if place.is_dir() else ()
