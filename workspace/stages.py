"""Records of finished stages: a stage whose inputs have not changed is not run again."""

import time
from pathlib import Path
from typing import Any

from workspace.files import read_json, sha256_file, write_json


def finished(run: Path, stage: str, inputs: dict[str, Any]) -> bool:
    """Whether `stage` of `run` finished with just these inputs and its outputs are still there, byte for byte.

    Says in one line why a record that exists does not count.
    """
    path = _record_path(run, stage)
    if not path.exists():
        return False
    record = read_json(path)
    changed = sorted(k for k in inputs.keys() | record["inputs"].keys() if inputs.get(k) != record["inputs"].get(k))
    if changed:
        print(f"{stage}: stale, because these changed since it ran: {', '.join(changed)}", flush=True)
        return False
    for name, digest in record["outputs"].items():
        if not (run / name).is_file() or sha256_file(run / name) != digest:
            print(f"{stage}: stale, because {name} was removed or changed after it ran", flush=True)
            return False
    print(f"{stage}: finished on {record['finished']}, skipped", flush=True)
    return True


def record(run: Path, stage: str, inputs: dict[str, Any], outputs: list[Path], seconds: float) -> None:
    """Record that `stage` finished: its inputs, its output files (below `run`) with hashes, how long it took."""
    write_json(
        _record_path(run, stage),
        {
            "stage": stage,
            "finished": time.strftime("%Y-%m-%d %H:%M:%S"),
            "seconds": round(seconds, 2),
            "inputs": inputs,
            "outputs": {str(p.relative_to(run)): sha256_file(p) for p in outputs},
        },
    )


def forget(run: Path, stage: str) -> None:
    """Remove the record of `stage`, before it runs again: a killed stage must not look finished."""
    _record_path(run, stage).unlink(missing_ok=True)


def seconds_taken(run: Path, stage: str) -> float | None:
    """How long the recorded run of `stage` took, in seconds; None when it has no record."""
    path = _record_path(run, stage)
    return read_json(path)["seconds"] if path.exists() else None


def _record_path(run: Path, stage: str) -> Path:
    return run / "stages" / f"{stage}.json"
