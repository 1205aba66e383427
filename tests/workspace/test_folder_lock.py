"""The lock of a folder: one command at a time, whatever ended the one before."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from plan.run import locked_run
from workspace.errors import UserError
from workspace.folder_lock import INHERITED, LOCK, locked, note_child
from workspace.paths import ROOT

HOLD = "import sys, time; from pathlib import Path; from workspace.folder_lock import locked\n"
HOLD += "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"


def holder(folder: Path, descriptors: tuple[int, ...] = (), **env: str) -> subprocess.Popen[str]:
    """A process that holds `folder` until it is ended."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | env,
        pass_fds=descriptors,
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[Any]) -> None:
    process.kill()
    process.communicate()


def says(folder: Path) -> dict[str, Any]:
    return json.loads((folder / LOCK).read_text())


def test_a_second_command_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    first = holder(tmp_path)
    with (
        pytest.raises(UserError, match=rf"in use by process {first.pid} .*: wait for it, end"),
        locked(tmp_path),
    ):
        pass
    end(first)


def test_a_killed_holder_no_longer_counts(tmp_path: Path) -> None:
    first = holder(tmp_path)
    end(first)
    assert says(tmp_path)["pid"] == first.pid
    with locked(tmp_path), locked(tmp_path):
        assert says(tmp_path)["pid"] == os.getpid()
    assert not (tmp_path / LOCK).exists()
    end(holder(tmp_path))


def test_a_holder_counts_whatever_the_file_says_of_pids_and_times(tmp_path: Path) -> None:
    first = holder(tmp_path)
    # As after a step of the clock, or in another pid namespace: the pid is nobody's, or another's.
    for state in ({**says(tmp_path), "pid": 2**22 + 1}, {**says(tmp_path), "where": "elsewhere b pid:[1]", "pid": 1}):
        (tmp_path / LOCK).write_text(json.dumps(state))
        with pytest.raises(UserError, match="is in use by process"), locked(tmp_path):
            pass
    (tmp_path / LOCK).write_text("")
    with pytest.raises(UserError, match="is in use by another process: wait"), locked(tmp_path):
        pass
    end(first)
    (tmp_path / LOCK).write_text(json.dumps(state))
    with locked(tmp_path):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="pid namespaces are Linux's")
def test_a_holder_in_another_pid_namespace_counts(tmp_path: Path) -> None:
    unshare = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]
    if subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("no pid namespace can be made here")
    inner = subprocess.Popen(
        [*unshare, sys.executable, "-c", HOLD, str(tmp_path)],
        cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    assert inner.stdout is not None and inner.stdout.readline() == "held\n"
    with pytest.raises(UserError, match="is in use by process"), locked(tmp_path):
        pass
    os.killpg(inner.pid, signal.SIGKILL)
    inner.communicate()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"where": 1}', "\0\0\0", '{"sessions": [[1]]}'])
def test_a_torn_lock_is_no_lock(tmp_path: Path, text: str) -> None:
    (tmp_path / LOCK).write_text(text)
    with locked(tmp_path):
        assert says(tmp_path)["pid"] == os.getpid()


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / LOCK).symlink_to(tmp_path / "mine.txt")
    with pytest.raises(UserError, match=r"lock cannot be opened .*: remove it"), locked(folder):
        pass
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_stages_of_one_pipeline_share_the_folder_and_others_stay_out(tmp_path: Path) -> None:
    shell = subprocess.Popen(["sleep", "600"])
    descriptor = os.open(tmp_path / LOCK, os.O_RDWR | os.O_CREAT)
    as_stage = {"RUN_SFT_PID": str(shell.pid), INHERITED: str(descriptor)}
    end(holder(tmp_path, (descriptor,), **as_stage))
    end(holder(tmp_path, (descriptor,), **as_stage))
    with pytest.raises(UserError, match=rf"in use by process {shell.pid} "), locked(tmp_path):  # between two stages
        pass
    end(shell)
    os.close(descriptor)
    with locked(tmp_path):
        pass


def test_a_shell_that_opens_the_lock_keeps_it_after_its_first_stage(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from workspace.folder_lock import locked\n"
    code += "with locked(Path(sys.argv[1])): pass"
    lines = (
        f'exec {{lock}}<>"$2/lock"; export RUN_SFT_PID=$$ {INHERITED}=$lock; "$1" -c "$3" "$2"; echo between; read -r _'
    )
    shell = subprocess.Popen(
        ["bash", "-c", lines, "bash", sys.executable, str(tmp_path), code],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert shell.stdout is not None and shell.stdout.readline() == "between\n"
    with pytest.raises(UserError, match=rf"in use by process {shell.pid} "), locked(tmp_path):
        pass
    end(shell)
    with locked(tmp_path):
        pass


def test_what_a_killed_command_left_running_is_ended_even_without_its_leader(tmp_path: Path) -> None:
    leader = subprocess.Popen(
        ["bash", "-c", "sleep 600 & echo $!; wait"], start_new_session=True, stdout=subprocess.PIPE, text=True
    )
    assert leader.stdout is not None
    orphan = int(leader.stdout.readline())
    with locked(tmp_path):
        note_child(leader.pid)
        left = (tmp_path / LOCK).read_text()
    (tmp_path / LOCK).write_text(left)
    leader.kill()
    leader.wait()
    assert os.getsid(orphan) == leader.pid
    with locked(tmp_path):
        assert not alive(orphan)


def test_a_session_leader_whose_pid_was_used_again_is_left_alone(tmp_path: Path) -> None:
    stranger = subprocess.Popen(["sleep", "600"], start_new_session=True)
    with locked(tmp_path):
        note_child(stranger.pid)
        left = says(tmp_path)
    left["sessions"][0][1] -= 1
    for state in (left, {**left, "sessions": [[stranger.pid, left["sessions"][0][1] + 1]], "where": "elsewhere"}):
        (tmp_path / LOCK).write_text(json.dumps(state))
        with locked(tmp_path):
            assert stranger.poll() is None
    end(stranger)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_of_many_at_once_one_gets_in(tmp_path: Path) -> None:
    code = "import sys, time; from pathlib import Path; from workspace.folder_lock import locked; "
    code += "from workspace.errors import run_main\ndef main():\n"
    code += " with locked(Path(sys.argv[1])): print('in', flush=True); time.sleep(float(sys.argv[2]))\nrun_main(main)"
    command = [sys.executable, "-c", code, str(tmp_path), "30"]
    several = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(6)
    ]
    refused: list[subprocess.Popen[str]] = []
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
