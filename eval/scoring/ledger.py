"""The ledger of looks at a test split: every evaluation of new answers is a line in a file next to the split.

A test split that has been looked at often is no longer a test: who chooses among many runs by it overfits to it. The
report prints the counts. Scoring the same saved answers again is not a new look.
"""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workspace.files import write_bytes
from workspace.folder_lock import alone


@dataclass(frozen=True)
class Look:
    """One evaluation. answers_sha256 is of the model's answers; rows_sha256 is the test rows' identity."""

    run: str
    config_sha256: str | None
    model: str | None
    adapter_sha256: str | None
    n: int
    accuracy: float
    rows_sha256: str
    answers_sha256: str


@dataclass(frozen=True)
class Looks:
    """How often these very test rows were looked at, and any test rows of the task."""

    rows: int
    task: int


def record_look(ledger: Path, look: Look) -> Looks:
    """Append `look` with the time, unless these answers of this run are there; then count."""
    ledger.parent.mkdir(parents=True, exist_ok=True)
    # Runs that finish together keep each other's lines.
    with alone(ledger.with_name(f".{ledger.name}.lock"), "report: waiting for another report of this task"):
        lines = _read(ledger)
        key = (look.run, look.answers_sha256)
        if key not in {(line.get("run"), line.get("answers_sha256")) for line in lines}:
            line = {"time": time.strftime("%Y-%m-%d %H:%M:%S"), **asdict(look)}
            _append(ledger, json.dumps(line, ensure_ascii=False, allow_nan=False))
            lines.append(line)
    return Looks(sum(line.get("rows_sha256") == look.rows_sha256 for line in lines), len(lines))


def _read(ledger: Path) -> list[dict[str, Any]]:
    """Every line. One that a crash cut short stays a look, though no longer known which."""
    if not ledger.is_file():
        return []
    lines = []
    for text in ledger.read_text(encoding="utf-8", errors="replace").split("\n"):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
        except ValueError:
            line = {}
        lines.append(line if isinstance(line, dict) else {})
    return lines


def _append(ledger: Path, line: str) -> None:
    """The file with one line more, whole or not at all; a last line that an earlier version left torn is ended."""
    earlier = ledger.read_bytes() if ledger.is_file() else b""
    torn = bool(earlier) and not earlier.endswith(b"\n")
    write_bytes(ledger, earlier + b"\n" * torn + line.encode() + b"\n")
