"""The ledger of looks at a test split: every evaluation of new answers is a line in a file next to the split.

A test split that has been looked at often is no longer a test: who chooses among many runs by it overfits to it. The
report prints the counts. Scoring the same saved answers again is not a new look.
"""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import BaseModel

from workspace.files import write_bytes
from workspace.folder_lock import alone
from workspace.records import Damaged, parse


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


class _Line(BaseModel):
    run: str | None = None
    answers_sha256: str | None = None
    rows_sha256: str | None = None


def record_look(ledger: Path, look: Look) -> Looks:
    """Append `look` with the time, unless these answers of this run are there; then count."""
    ledger.parent.mkdir(parents=True, exist_ok=True)
    # Runs that finish together keep each other's lines.
    with alone(ledger.with_name(f".{ledger.name}.lock"), "report: waiting for another report of this task"):
        earlier = ledger.read_bytes() if ledger.is_file() else b""
        lines = [_line(text) for text in earlier.decode("utf-8", "replace").split("\n") if text.strip()]
        key = (look.run, look.answers_sha256)
        if key not in {(line.run, line.answers_sha256) for line in lines}:
            new = {"time": time.strftime("%Y-%m-%d %H:%M:%S"), **asdict(look)}
            lines.append(_Line(**new))
            written = json.dumps(new, ensure_ascii=False, allow_nan=False).encode() + b"\n"
            # A last line that an earlier version left torn is ended.
            write_bytes(ledger, earlier + (b"\n" if earlier and not earlier.endswith(b"\n") else b"") + written)
    return Looks(sum(line.rows_sha256 == look.rows_sha256 for line in lines), len(lines))


def _line(text: str) -> _Line:
    """A line of the ledger. One that a crash cut short stays a look, though no longer known which."""
    try:
        return parse(_Line, text)
    except Damaged:
        return _Line()
