"""Records of finished stages: a stage whose inputs have not changed is not run again."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workspace.files import sha256_file, write_json


@dataclass(frozen=True)
class Record:
    """A finished stage: what it was made from, and its files below the run with their SHA-256."""

    stage: str
    finished: str
    seconds: float
    inputs: dict[str, Any]
    outputs: dict[str, str]


def finished(run: Path, stage: str, inputs: dict[str, Any]) -> bool:
    """Whether `stage` of `run` finished with just these inputs and its outputs are still there, byte for byte.

    Says in one line why a record that exists does not count.
    """
    record = read_record(run, stage)
    if record is None:
        return False
    changed = sorted(k for k in inputs.keys() | record.inputs.keys() if inputs.get(k) != record.inputs.get(k))
    if changed:
        print(f"{stage}: stale, because these changed since it ran: {', '.join(changed)}", flush=True)
        return False
    for name, digest in record.outputs.items():
        if not (run / name).is_file() or sha256_file(run / name) != digest:
            print(f"{stage}: stale, because {name} was removed or changed after it ran", flush=True)
            return False
    print(f"{stage}: finished on {record.finished}, skipped", flush=True)
    return True


def record(run: Path, stage: str, inputs: dict[str, Any], outputs: list[Path], seconds: float) -> None:
    """Record that `stage` finished: its inputs, its output files (below `run`) with hashes, how long it took."""
    done = {str(path.relative_to(run)): sha256_file(path) for path in outputs}
    made = Record(stage, time.strftime("%Y-%m-%d %H:%M:%S"), round(seconds, 2), inputs, done)
    write_json(_record_path(run, stage), asdict(made))


def forget(run: Path, stage: str) -> None:
    """Remove the record of `stage`, before it runs again: a killed stage must not look finished."""
    _record_path(run, stage).unlink(missing_ok=True)


def seconds_taken(run: Path, stage: str) -> float | None:
    """How long the recorded run of `stage` took, in seconds; None when it has no record."""
    record = read_record(run, stage)
    return record.seconds if record else None


def read_record(run: Path, stage: str) -> Record | None:
    """The record of `stage`; None when there is none, or one that cannot be read: the stage runs again."""
    path = _record_path(run, stage)
    if not path.exists():
        return None
    try:
        record = Record(**json.loads(path.read_text(encoding="utf-8")))
        if not isinstance(record.inputs, dict) or not all(
            isinstance(digest, str) for digest in record.outputs.values()
        ):
            raise ValueError("fields of another type")
        float(record.seconds)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        print(f"{stage}: {path.name} cannot be read ({error}) and counts as absent", flush=True)
        return None
    return record


def _record_path(run: Path, stage: str) -> Path:
    return run / "stages" / f"{stage}.json"
