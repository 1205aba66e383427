"""The lock of a folder: one command at a time, whatever ended the one before."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from workspace.errors import UserError
from workspace.folder_lock import LOCK, locked, locked_run, note_child
from workspace.paths import ROOT

HOLD = "import sys, time; from pathlib import Path; from workspace.folder_lock import locked\n"
HOLD += "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"


def holder(folder: Path, **env: str) -> subprocess.Popen:
    """A process that holds `folder` until it is ended."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True, env=os.environ | env
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen) -> None:
    process.kill()
    process.communicate()


def test_a_second_command_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    first = holder(tmp_path)
    with (
        pytest.raises(UserError, match=rf"in use by process {first.pid} .*: wait for it, end"),
        locked(tmp_path),
    ):
        pass
    end(first)


def test_a_killed_holder_no_longer_counts(tmp_path: Path) -> None:
    end(holder(tmp_path))
    assert json.loads((tmp_path / LOCK).read_text())["holders"]
    with locked(tmp_path), locked(tmp_path):
        assert [one["pid"] for one in json.loads((tmp_path / LOCK).read_text())["holders"]] == [os.getpid()]
    assert not (tmp_path / LOCK).exists()


def test_a_pid_that_was_given_to_another_process_does_not_count(tmp_path: Path) -> None:
    first = holder(tmp_path)
    state = json.loads((tmp_path / LOCK).read_text())
    state["holders"][0]["started"] -= 3600
    (tmp_path / LOCK).write_text(json.dumps(state))
    with locked(tmp_path):
        pass
    end(first)


def test_a_holder_on_another_machine_counts_until_its_lock_is_removed(tmp_path: Path) -> None:
    state = {"host": "elsewhere", "holders": [{"pid": 1, "started": 0, "command": "c"}], "children": []}
    (tmp_path / LOCK).write_text(json.dumps(state))
    with (
        pytest.raises(UserError, match=r"process 1 on elsewhere \(c\): if .*, remove .*lock"),
        locked(tmp_path),
    ):
        pass


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"host": 1}', "\0\0\0"])
def test_a_torn_lock_is_no_lock(tmp_path: Path, text: str) -> None:
    (tmp_path / LOCK).write_text(text)
    with locked(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["holders"][0]["pid"] == os.getpid()


def test_stages_of_one_pipeline_share_the_folder_and_others_stay_out(tmp_path: Path) -> None:
    shell = subprocess.Popen(["sleep", "600"])
    end(holder(tmp_path, RUN_SFT_PID=str(shell.pid)))
    second = holder(tmp_path, RUN_SFT_PID=str(shell.pid))
    end(second)
    with pytest.raises(UserError, match=rf"in use by process {shell.pid} "), locked(tmp_path):  # between two stages
        pass
    end(shell)
    with locked(tmp_path):
        pass


def test_what_a_killed_stage_left_running_is_ended(tmp_path: Path) -> None:
    orphan = subprocess.Popen(["sleep", "600"], start_new_session=True)
    with locked(tmp_path):
        note_child(orphan.pid)
        left = json.loads((tmp_path / LOCK).read_text()) | {"holders": []}
    (tmp_path / LOCK).write_text(json.dumps(left))
    with locked(tmp_path):
        assert orphan.wait(60) == -signal.SIGKILL


def test_of_many_at_once_one_gets_in(tmp_path: Path) -> None:
    code = "import sys, time; from pathlib import Path; from workspace.folder_lock import locked; "
    code += "from workspace.errors import run_main\ndef main():\n"
    code += " with locked(Path(sys.argv[1])): print('in', flush=True); time.sleep(float(sys.argv[2]))\nrun_main(main)"
    command = [sys.executable, "-c", code, str(tmp_path), "30"]
    several = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(6)
    ]
    refused = []
    while len(refused) < 5:
        refused = [process for process in several if process.poll() is not None]
        time.sleep(0.1)
    assert all(process.returncode == 2 and "in use by" in process.communicate()[1] for process in refused)
    (winner,) = [process for process in several if process not in refused]
    winner.terminate()
    assert "in" in winner.communicate()[0]


def test_a_folder_that_is_no_run_gets_no_lock(tmp_path: Path) -> None:
    with locked_run(tmp_path / "none"):
        assert not (tmp_path / "none").exists()
