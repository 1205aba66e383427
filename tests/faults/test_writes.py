"""Every write, fsync and rename of our own code fails once, fails from then on, or is the last thing done."""

import json
import os
import subprocess
import sys

import pytest

from tests.faults.conftest import ALL
from workspace.paths import ROOT

pytestmark = pytest.mark.swift

STAGES = ("prep", "plan", "baselines", "before", "train", "after", "report")
EVERY = 1 if ALL else 19  # of some 230 sites times five kinds; FAULTS=all takes all of them


@pytest.mark.parametrize("stage", STAGES)
def test_a_failing_write_loses_nothing_and_the_same_command_goes_on(recorded, tmp_path, tally, stage: str) -> None:
    # Found on the PATH in place of ms-swift: see tests/faults/stand_in.py.
    swift = tmp_path / "swift"
    swift.write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT}/tests/faults/stand_in.py "$@"\n')
    swift.chmod(0o755)
    copy = recorded.root / "recorded"
    if not copy.exists():
        copy.symlink_to(recorded.root / "states" / "finished" / "0")
    env = os.environ | {"RECORDED": str(copy), "OMP_NUM_THREADS": "1", "STAND_IN_SWIFT": str(swift)}
    command = [sys.executable, "-m", "tests.faults.sweep", str(recorded.root), stage, "--every", str(EVERY)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=env)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
    found = json.loads(result.stdout.splitlines()[-1])
    tally(f"{stage}: {found['sites']} writes, fsyncs and renames", found["cases"], len(found["failures"]))
    assert found["sites"] > 3
    assert not found["failures"], "\n".join(found["failures"][:10])
