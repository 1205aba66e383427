"""The server that imports ms-swift once, with a stand-in for ms-swift: its forks are as processes of their own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from plan.hardware import child_environment, this_machine
from workspace.child_process import SERVER, run_child
from workspace.errors import UserError
from workspace.paths import ROOT

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or this_machine().gpu is not None, reason="there is a server on Linux without a GPU alone"
)

MAIN = """
import os, sys
ROUTE_MAPPING = {"sft": "swift.cli.sft", "infer": "swift.cli.sft", "export": "swift.cli.sft"}
def parse_yaml_args(words):
    if words and words[0] == "with_env.yaml": os.environ["OMP_NUM_THREADS"] = "77"
    os.environ["SWIFT_CONFIG_FILE"] = words[0]
def use_torchrun(): return "NPROC_PER_NODE" in os.environ
"""
SCRIPT = """
import atexit, json, os, subprocess, sys, time
if __name__ == "__main__":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) if "sleep" in sys.argv else None
    atexit.register(lambda: print("ended in order"))
    said = {"words": sys.argv[1:], "path": sys.path[0], "folder": os.getcwd(), "env": dict(os.environ)}
    said |= {"pid": os.getpid(), "supervisor": os.getppid(), "child": child and child.pid}
    said["forked"] = "plan.swift_server" in open("/proc/self/cmdline").read()
    print(json.dumps(said), flush=True)
    if "sleep" in sys.argv: time.sleep(600)
    if "fail" in sys.argv: raise SystemExit(3)
    if "raise" in sys.argv: raise ValueError("the reason")
    if "killed" in sys.argv: os.kill(os.getpid(), 9)
"""
OWNER = """
import json, os, sys; from pathlib import Path
from workspace.child_process import run_child; from workspace.errors import run_main
words, log, env = ["swift", "sft", "a.yaml", "sleep"], Path(sys.argv[1]), json.loads(sys.argv[2])
run_main(lambda: run_child(words, log, env, "t", 1, lambda: 0))
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package `swift` that Python finds first, and a command `swift`; the folder of both."""
    package = tmp_path / "stand in"
    (package / "swift" / "cli").mkdir(parents=True)
    for name, text in {
        "swift/__init__.py": "",
        "swift/cli/__init__.py": "",
        "swift/cli/main.py": MAIN,
        "swift/cli/sft.py": SCRIPT,
        "torch.py": "raise ImportError",
        "transformers.py": "raise ImportError",
        "swift/pipelines.py": f"""open({str(tmp_path / "imports")!r}, "a").write("x")
infer_main = sft_main = pretrain_main = None
""",
    }.items():
        (package / name).write_text(text)
    command = package / "bin" / "swift"
    command.parent.mkdir()
    command.write_text(f"#!/bin/sh\nshift\nexec {sys.executable} '{package}/swift/cli/sft.py' \"$@\"\n")
    command.chmod(0o755)
    monkeypatch.setenv("PYTHONPATH", str(package))
    return package


@pytest.fixture
def server(stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    """A server of the stand-in, named in the environment."""
    monkeypatch.setenv(SERVER, str(tmp_path / "socket"))
    monkeypatch.delenv("RUN_SFT_PID", raising=False)
    env = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    process = subprocess.Popen([sys.executable, "-m", "plan.swift_server", os.environ[SERVER]], cwd=ROOT, env=env)
    while not (tmp_path / "socket").exists():
        assert process.poll() is None
        time.sleep(0.05)
    yield process
    process.kill()
    process.wait()


def environment() -> dict[str, str]:
    """The environment of a command as a stage has it, which pytest does not run in."""
    return {name: value for name, value in child_environment(this_machine()).items() if name != "PYTEST_CURRENT_TEST"}


def run(tmp_path: Path, *words: str, **env: str) -> dict[str, Any]:
    """Have `swift sft` run with these words; what it says of itself."""
    log = tmp_path / "logs" / f"{len(list((tmp_path / 'logs').glob('*')))}.log" if words else tmp_path / "log"
    run_child(["swift", "sft", *words], log, environment() | env, "t", 1, lambda: 0)
    return said(log)


def said(log: Path) -> dict[str, Any]:
    return next(json.loads(line) for line in log.read_text().splitlines() if line.startswith("{"))


def alive(*pids: int) -> list[int]:
    def runs(pid: int) -> bool:
        try:
            return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    return [pid for pid in pids if runs(pid)]


def test_forks_have_words_folder_and_environment_of_a_process_of_their_own(server, stand_in, tmp_path) -> None:
    first = run(tmp_path, "a.yaml", "--x", "1", LABEL_SCORES="one")
    second = run(tmp_path, "b.yaml", LABEL_SCORES="two")
    assert first["forked"] and second["forked"] and first["pid"] != second["pid"]
    assert (tmp_path / "imports").read_text() == "x"  # imported once
    assert first["words"] == ["a.yaml", "--x", "1"] and first["path"] == str(stand_in / "swift" / "cli")
    assert first["folder"] == os.getcwd()
    expected = environment() | {"LABEL_SCORES": "two", "SWIFT_CONFIG_FILE": "b.yaml"}
    assert second["env"] == expected
    assert "ended in order" in (tmp_path / "logs" / "0.log").read_text()


def test_a_fork_that_fails_is_told_as_a_process_and_takes_no_other_along(server, tmp_path) -> None:
    with pytest.raises(UserError, match="failed with status 3"):
        run(tmp_path, "a.yaml", "fail")
    with pytest.raises(UserError, match=r"(?s)failed with status 1.*ValueError: the reason"):
        run(tmp_path, "a.yaml", "raise")
    with pytest.raises(UserError, match="was killed, most likely because no memory was left"):
        run(tmp_path, "a.yaml", "killed")
    assert run(tmp_path, "a.yaml")["forked"] and server.poll() is None


@pytest.mark.parametrize(
    ("words", "env"),
    [
        (["a.yaml"], {"OMP_NUM_THREADS": "77"}),
        (["a.yaml"], {"LD_PRELOAD": ""}),
        (["a.yaml"], {"MALLOC_ARENA_MAX": "1"}),
        (["a.yaml"], {"NPROC_PER_NODE": "2"}),
        (["a.yaml", "--infer_backend", "vllm"], {}),
        (["with_env.yaml"], {}),
    ],
)
def test_where_a_fork_may_differ_it_becomes_a_process_of_its_own(server, stand_in, tmp_path, monkeypatch, words, env):
    monkeypatch.setenv("PATH", f"{stand_in / 'bin'}:{os.environ['PATH']}")
    plain = environment()
    run_child(["swift", "sft", *words], tmp_path / "log", plain | env | {"PATH": os.environ["PATH"]}, "t", 1, lambda: 0)
    report = said(tmp_path / "log")
    assert not report["forked"] and report["words"] == words
    assert "a process of its own, not a fork: " in (tmp_path / "log").read_text()
    assert ("OMP_NUM_THREADS" in report["env"]) == ("OMP_NUM_THREADS" in plain | env)


def test_without_a_server_and_after_its_end_commands_are_plain_processes(server, stand_in, tmp_path, monkeypatch):
    path = f"{stand_in / 'bin'}:{os.environ['PATH']}"
    assert run(tmp_path, "a.yaml")["forked"]
    server.kill()
    server.wait()
    assert not run(tmp_path, "a.yaml", PATH=path)["forked"]
    monkeypatch.setenv(SERVER, "off")
    assert not run(tmp_path, "a.yaml", PATH=path)["forked"]


@pytest.mark.parametrize("forked", [True, False], ids=["forked", "plain"])
@pytest.mark.parametrize("victim", ["owner", "supervisor", "command", "child", "owner, asked", "shell"])
def test_whoever_is_killed_nothing_is_left(server, stand_in, tmp_path, monkeypatch, victim: str, forked: bool) -> None:
    env = environment()
    if not forked:
        monkeypatch.setenv(SERVER, "off")
        env["PATH"] = f"{stand_in / 'bin'}:{env['PATH']}"
    lines = 'export RUN_SFT_PID=$$; "$@" & echo $!; wait'
    shell = subprocess.Popen(
        ["bash", "-c", lines, "bash", sys.executable, "-c", OWNER, str(tmp_path / "log"), json.dumps(env)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL),
    )  # fmt: skip
    assert shell.stdout is not None
    owner = psutil.Process(int(shell.stdout.readline()))
    while not (tmp_path / "log").exists() or "{" not in (tmp_path / "log").read_text():
        assert alive(owner.pid)
        time.sleep(0.05)
    report = said(tmp_path / "log")
    assert report["forked"] == forked
    involved = [report[name] for name in ("pid", "supervisor", "child")]
    assert alive(*involved) == involved
    if victim == "owner, asked":
        owner.terminate()
    else:
        pids = {"owner": owner.pid, "command": report["pid"], "shell": shell.pid} | report
        os.kill(pids[victim], signal.SIGKILL)
    if victim == "shell":
        shell.wait()
    if victim != "child":  # the command goes on without a child of its own
        while alive(owner.pid, *involved):
            time.sleep(0.05)
    else:
        time.sleep(0.5)
        assert alive(*involved) == involved[:2]
        owner.kill()
        while alive(owner.pid, *involved):
            time.sleep(0.05)
    shell.kill()
    shell.wait()
    assert server.poll() is None


def test_the_server_killed_leaves_what_it_forked_running(server, tmp_path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path / "log"), json.dumps(environment())],
        cwd=ROOT, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while not (tmp_path / "log").exists() or "{" not in (tmp_path / "log").read_text():
        assert owner.poll() is None
        time.sleep(0.05)
    server.kill()
    server.wait()
    report = said(tmp_path / "log")
    involved = [report[name] for name in ("pid", "supervisor", "child")]
    time.sleep(0.5)
    assert owner.poll() is None and alive(*involved) == involved
    owner.terminate()
    owner.wait()
    while alive(*involved):
        time.sleep(0.05)


def test_the_server_ends_with_the_shell_that_started_it(stand_in, tmp_path) -> None:
    lines = 'export RUN_SFT_PID=$$; "$1" -m plan.swift_server "$2" & echo $!; wait'
    shell = subprocess.Popen(
        ["bash", "-c", lines, "bash", sys.executable, str(tmp_path / "socket")],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert shell.stdout is not None
    pid = int(shell.stdout.readline())
    while not (tmp_path / "socket").exists():
        time.sleep(0.05)
    shell.kill()
    shell.wait()
    while alive(pid):
        time.sleep(0.05)
