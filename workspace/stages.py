"""Records of stages: one whose inputs have not changed is not run again, and what was made from others is kept aside.

A stage works in a folder of its own, RUN/<stage>, which holds what one hash of inputs has led to (`begin`). When the
inputs change, the folder moves to RUN/earlier/<stage>-<hash>; it is taken back when they come back, and removed when
what takes its place is whole.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, FiniteFloat, PositiveInt

from workspace.errors import UserError
from workspace.files import remove, sha256_file, write_json
from workspace.paths import shown
from workspace.records import Json, read_if_whole

EARLIER = "earlier"
PROGRESS = "progress.json"


def _below(name: str) -> str:
    if Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
        raise ValueError(f"{name!r} is no file below the run")
    return name


@dataclass(frozen=True)
class Record:
    """A finished stage: what it was made from, and its files below the run with their SHA-256.

    `made_by` names what computed it, by name: the machine, Python, packages, the repository, the plugins' code.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")  # one of another version counts as absent

    stage: str
    finished: str
    seconds: FiniteFloat
    inputs: dict[str, Json]
    outputs: dict[Annotated[str, AfterValidator(_below)], str]
    made_by: dict[str, str] = field(default_factory=dict)


@dataclass
class Progress:
    """How far the work in a stage's folder is. `inputs`: the hash of what it depends on; `seconds`: of all attempts."""

    inputs: str
    seconds: Annotated[FiniteFloat, Field(ge=0)] = 0.0
    batch: PositiveInt | None = None  # rows at a time, where it had to be made smaller

    @classmethod
    def read(cls, folder: Path) -> "Progress | None":
        """The record in a stage's folder; None where there is none that can be read."""
        return read_if_whole(folder / PROGRESS, cls)

    def write(self, folder: Path) -> None:
        """Write the record."""
        write_json(folder / PROGRESS, asdict(self))


def begin(run: Path, stage: str, inputs: str) -> Progress:
    """Make RUN/<stage> the folder of work on `inputs`, a hash: as it is, as it was kept aside, or new."""
    folder, earlier = run / stage, run / EARLIER
    progress = Progress.read(folder)
    if progress is not None and progress.inputs == inputs:
        return progress
    if folder.exists():
        aside = earlier / f"{stage}-{progress.inputs[:12] if progress else 'unknown'}"
        aside.parent.mkdir(parents=True, exist_ok=True)
        if aside.exists():
            remove(aside)
        folder.rename(aside)
        print(f"{stage}: made from something else, so it is kept in {shown(aside)} until this is done", flush=True)
    if (known := earlier / f"{stage}-{inputs[:12]}").exists():
        known.rename(folder)
        print(f"{stage}: going on with what {shown(known)} had of just this", flush=True)
    progress = Progress.read(folder) or Progress(inputs)
    progress.write(folder)
    return progress


def check_unchanged(stage: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise `UserError` where something that a stage depends on was replaced while it ran."""
    if changed := sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name)):
        raise UserError(
            f"{', '.join(changed)} changed while {stage} ran, so what it made counts for nothing: run the same command "
            "again, and leave its inputs alone meanwhile"
        )


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
    if damaged := changed_outputs(run, stage):
        name = damaged[0].relative_to(run)
        print(f"{stage}: stale, because {name} was removed or changed after it ran", flush=True)
        return False
    print(f"{stage}: finished on {record.finished}, skipped", flush=True)
    return True


def record(
    run: Path,
    stage: str,
    inputs: dict[str, Any],
    outputs: list[Path],
    seconds: float,
    made_by: dict[str, str] | None = None,
) -> None:
    """Record that `stage` finished: its inputs, its output files (below `run`) with hashes, how long it took, by what.

    What earlier inputs had led to has now been replaced, and is removed.
    """
    done = {str(path.relative_to(run)): sha256_file(path) for path in outputs}
    made = Record(stage, time.strftime("%Y-%m-%d %H:%M:%S"), round(seconds, 2), inputs, done, made_by or {})
    write_json(_record_path(run, stage), asdict(made))
    for path in (run / EARLIER).glob(f"{stage}-*"):
        remove(path)


def changed_outputs(run: Path, stage: str) -> list[Path]:
    """The files of a finished stage that are not as they were recorded."""
    record = read_record(run, stage)
    found = record.outputs.items() if record else ()
    return [run / name for name, sha in found if not (run / name).is_file() or sha256_file(run / name) != sha]


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
