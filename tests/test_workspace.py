"""Whole-or-nothing files, stage records, child processes, pins."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from workspace import pins, stages
from workspace.child import run_child
from workspace.errors import UserError
from workspace.files import read_jsonl, replace_file, whole_lines, write_json, write_jsonl
from workspace.paths import ROOT


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), replace_file(path) as stream:
        stream.write("new")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_jsonl_keeps_every_line_separator_that_a_review_may_hold(tmp_path: Path) -> None:
    rows = [{"review": "一\u2028二\x85三\n四\r五"}, {"review": "\x0b\x0c\x1c"}]
    write_jsonl(tmp_path / "a.jsonl", rows)
    assert read_jsonl(tmp_path / "a.jsonl") == rows
    assert whole_lines(tmp_path / "a.jsonl") == rows


def test_whole_lines_of_a_file_cut_at_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_jsonl(path, [{"n": i, "text": "好" * i} for i in range(4)])
    data = path.read_bytes()
    for length in range(len(data) + 1):
        path.write_bytes(data[:length])
        assert len(whole_lines(path)) == data[:length].count(b"\n")


def test_nan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not (tmp_path / "a.json").exists()


def test_a_stage_is_finished_until_an_input_or_output_changes(tmp_path: Path, capsys) -> None:
    output = tmp_path / "out.txt"
    output.write_text("1")
    assert not stages.finished(tmp_path, "s", {"a": 1})
    stages.record(tmp_path, "s", {"a": 1}, [output], 2.5)
    assert stages.finished(tmp_path, "s", {"a": 1})
    assert stages.seconds_taken(tmp_path, "s") == 2.5
    assert not stages.finished(tmp_path, "s", {"a": 2})
    assert "stale, because these changed since it ran: a" in capsys.readouterr().out
    output.write_text("2")
    assert not stages.finished(tmp_path, "s", {"a": 1})
    assert "out.txt was removed or changed" in capsys.readouterr().out


def test_a_failing_child_is_one_error_with_the_end_of_its_log(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('the reason'); raise SystemExit(3)"]
    with pytest.raises(UserError, match=r"(?s)failed with status 3; see .*child.log.*the reason"):
        run_child(command, tmp_path / "child.log", dict(os.environ), "t", 1, lambda: 0)


GRANDCHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_whole_group(tmp_path: Path, sign: int) -> None:
    log = tmp_path / "log"
    code = (
        "import os, sys; from pathlib import Path; from workspace.child import run_child; "
        f"run_child([sys.executable, '-c', {GRANDCHILD!r}], Path({str(log)!r}), dict(os.environ), 't', 1, lambda: 0)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
        # A shell's background job ignores Ctrl-C, and would hand that on to the test.
        preexec_fn=lambda: signal.signal(sign, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (log.exists() and log.read_text().splitlines()[-1].isdigit()):
        time.sleep(0.1)
    grandchild = int(log.read_text().splitlines()[-1])
    parent.send_signal(sign)
    assert parent.wait() != 0
    while time.monotonic() < deadline and _alive(grandchild):
        time.sleep(0.1)
    assert not _alive(grandchild)


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_pins_are_exact_and_met_here() -> None:
    assert pins.misses(ROOT / "requirements.txt") == []
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    packages = [line.split("#")[0].strip() for line in lines if line.split("#")[0].strip()]
    assert all("==" in package for package in packages)


def test_a_missed_pin_is_named(tmp_path: Path) -> None:
    (tmp_path / "pins.txt").write_text("pytest==0.0.1  # old\nno-such-package==1\n")
    found = pins.misses(tmp_path / "pins.txt")
    assert found[0].startswith("pytest: ") and found[0].endswith("wanted 0.0.1")
    assert found[1] == "no-such-package: missing, wanted 1"
