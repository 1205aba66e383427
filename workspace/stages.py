"""Records of finished stages: a stage whose inputs have not changed is not run again."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, FiniteFloat

from workspace.files import sha256_file, write_json
from workspace.records import Json, read_if_whole


def _below(name: str) -> str:
    if Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
        raise ValueError(f"{name!r} is no file below the run")
    return name


@dataclass(frozen=True)
class Record:
    """A finished stage: what it was made from, and its files below the run with their SHA-256."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # one of another version counts as absent

    stage: str
    finished: str
    seconds: FiniteFloat
    inputs: dict[str, Json]
    outputs: dict[Annotated[str, AfterValidator(_below)], str]


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
    return read_if_whole(_record_path(run, stage), Record)


def _record_path(run: Path, stage: str) -> Path:
    return run / "stages" / f"{stage}.json"
