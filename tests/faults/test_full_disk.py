"""A disk that is really full, at every stage: one sentence, and after room is made the same command goes on."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import ALL, Recorded, environment
from tests.faults.outcome import differences, torn_files
from tests.faults.sweep import restore
from train.checkpoints import best_checkpoint, weights_sha256
from workspace.paths import ROOT

pytestmark = pytest.mark.swift

SIZE_MIB = 256
# Bytes left free before each stage: fewer than it writes. Training's first checkpoint takes 7 MB.
ROOM = {
    "prep": 16_384, "plan": 4_096, "baselines": 4_096, "before": 8_192, "train": 3_000_000,
    "after": 4_096, "report": 65_536,
}  # fmt: skip
PART = ("prep", "before", "train")


@pytest.fixture
def small_disk(recorded: Recorded) -> Iterator[Path]:
    """A tmpfs that the run's folder and its dataset lie on."""
    disk = recorded.run.parent
    shutil.rmtree(disk, ignore_errors=True)
    disk.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m", "tmpfs", str(disk)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no disk of its own can be mounted: {mounted.stderr.strip()}")
    shutil.rmtree(recorded.dataset, ignore_errors=True)
    (disk / "dataset").mkdir()
    recorded.dataset.symlink_to(disk / "dataset")
    yield disk
    recorded.dataset.unlink()
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("stage", ROOM if ALL else PART)
def test_a_full_disk_stops_a_stage_and_room_lets_it_go_on(recorded: Recorded, small_disk, tally, stage: str) -> None:
    places = [recorded.run, small_disk / "dataset"]
    restore(recorded.root / "states" / stage, places)
    places[1].mkdir(exist_ok=True)
    ballast = small_disk / "ballast"
    with open(ballast, "wb") as stream:
        while (free := shutil.disk_usage(small_disk).free - ROOM[stage]) > 0:
            stream.write(b"\0" * min(free, 2**20))
            stream.flush()
    module, words = recorded.stages[stage]
    command = [sys.executable, "-m", module, *words]
    full = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment())
    said = full.stdout + full.stderr
    assert full.returncode == 1, said[-2000:]
    assert "Traceback" not in said
    errors = [line for line in full.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "make room" in errors[0], said[-2000:]
    assert not torn_files(places)
    ballast.unlink()
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment())
    assert again.returncode == 0, again.stderr[-2000:]
    states = [*recorded.stages, "finished"]
    found = differences(recorded.root / "states" / states[states.index(stage) + 1], places)
    if stage == "train":
        finished = recorded.root / "states" / "finished" / "0"
        assert weights_sha256(best_checkpoint(recorded.run)) == weights_sha256(best_checkpoint(finished))
    tally("a disk that is really full (tmpfs), in each stage", 1, len(found))
    assert not found
