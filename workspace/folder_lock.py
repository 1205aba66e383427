"""One command at a time in a folder, so that two runs never write over each other.

The folder's file `lock` names the processes that hold it: {"host", "holders": [{"pid", "started", "command"}],
"children": [{"pid", "started"}]}. `run_sft.sh` holds it with its own pid ($RUN_SFT_PID) from its first stage to its
last, each stage with its pid as well. A holder that is gone no longer counts; what it left running is ended first. On
another machine that cannot be seen, so its holder always counts.
"""

import fcntl
import json
import os
import shlex
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import psutil

from workspace.errors import PIPELINE, UserError
from workspace.paths import shown

LOCK = "lock"
COMMAND_CHARACTERS = 200
CLOCK_SECONDS = 2  # by which the same start may be read differently
_held: dict[Path, int] = {}  # folders that this process holds, and how many times


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process, and for the pipeline that it is a stage of, while the block runs.

    The pipeline's hold lasts as long as its process. A process may hold a folder more than once.
    Raises `UserError` when another process holds it.
    """
    folder = Path(os.path.realpath(folder))
    if folder not in _held:
        _take(folder)
    _held[folder] = _held.get(folder, 0) + 1
    try:
        yield
    finally:
        _held[folder] -= 1
        if not _held[folder]:
            del _held[folder]
            _release(folder)


@contextmanager
def locked_run(run: Path) -> Iterator[None]:
    """Hold the folder of a run that is there; a folder that is none is left as it is, for the stage to refuse."""
    if not (run / "run.json").is_file():
        yield
        return
    with locked(run):
        yield


@contextmanager
def alone(path: Path, waiting: str) -> Iterator[None]:
    """Have the file `path`, there while the block runs, for this process; say `waiting` where another has it first.

    The system gives it free when a process ends, however that comes.
    """
    with _open_locked(path, waiting):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def note_child(pid: int) -> None:
    """Record in every held folder that process `pid`, a session's leader, works for this process."""
    for folder in _held:
        with _opened(folder) as (stream, state):
            state["children"] = [child for child in state["children"] if _is_alive(child)] + [_identity(pid)]
            _write(stream, state)


def _take(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    mine = {os.getpid(), *_pipeline()}
    with _opened(folder) as (stream, state):
        if state["host"] != socket.gethostname() and state["holders"]:
            raise UserError(_refusal(folder, state, state["holders"][-1], elsewhere=True))
        alive = [holder for holder in state["holders"] if _is_alive(holder)]
        if strangers := [holder for holder in alive if holder["pid"] not in mine]:
            raise UserError(_refusal(folder, state, strangers[-1], elsewhere=False))
        # Left by a stage that was killed: its ms-swift must not write beside the new one.
        for child in filter(_is_alive, state["children"]):
            _end_session(child["pid"])
        _remove_partial(folder)
        known = {holder["pid"] for holder in alive}
        holders = alive + [_identity(pid) for pid in sorted(mine - known, reverse=True)]
        _write(stream, {"host": socket.gethostname(), "holders": holders, "children": []})


def _remove_partial(folder: Path) -> None:
    """Remove what a killed command was writing; not in a folder below this one that is held by itself."""
    own = [path for path in folder.iterdir() if path.is_dir() and not (path / LOCK).exists()]
    for partial in [*folder.glob(".*.partial"), *(found for path in own for found in path.rglob(".*.partial"))]:
        partial.unlink(missing_ok=True)


def _release(folder: Path) -> None:
    with suppress(OSError), _opened(folder) as (stream, state):
        state["holders"] = [holder for holder in state["holders"] if holder["pid"] != os.getpid()]
        state["children"] = []
        _write(stream, state) if state["holders"] else (folder / LOCK).unlink()


@contextmanager
def _opened(folder: Path) -> Iterator[tuple[IO[bytes], dict[str, Any]]]:
    """The lock file and what it says, for one process at a time. A file that was torn says nothing."""
    with _open_locked(folder / LOCK) as stream:
        stream.seek(0)
        try:
            state = json.loads(stream.read())
            state = {key: state[key] for key in ("host", "holders", "children")}
        except (ValueError, KeyError, TypeError):
            state = {"host": socket.gethostname(), "holders": [], "children": []}
        yield stream, state


def _open_locked(path: Path, waiting: str = "") -> IO[bytes]:
    """The file, open and for this process alone. One that was removed while waiting for it is opened anew."""
    while True:
        stream = open(path, "a+b")  # noqa: SIM115
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting:
                print(waiting, flush=True)
            fcntl.flock(stream, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(stream.fileno()), os.stat(path)):
                return stream
        stream.close()


def _write(stream: IO[bytes], state: dict[str, Any]) -> None:
    stream.truncate(0)
    stream.write(json.dumps(state).encode())
    stream.flush()


def _pipeline() -> set[int]:
    """The pid of the pipeline that this process is a stage of, if it is."""
    pid = os.environ.get(PIPELINE, "")
    return {int(pid)} if pid.isdigit() and psutil.pid_exists(int(pid)) else set()


def _identity(pid: int) -> dict[str, Any]:
    """A process by pid and start, in seconds since 1970: a pid alone is used again."""
    try:
        process = psutil.Process(pid)
        return {"pid": pid, "started": process.create_time(), "command": _one_line(process.cmdline())}
    except psutil.Error:
        return {"pid": pid, "started": 0.0, "command": ""}


def _one_line(words: list[str]) -> str:
    return " ".join(shlex.join(words).split())[:COMMAND_CHARACTERS]


def _is_alive(holder: dict[str, Any]) -> bool:
    try:
        process = psutil.Process(int(holder["pid"]))
        same = abs(process.create_time() - holder["started"]) < CLOCK_SECONDS
        return same and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, KeyError, TypeError, ValueError):
        return False


def _end_session(leader: int) -> None:
    for process in psutil.process_iter():
        with suppress(OSError, psutil.Error):
            if os.getsid(process.pid) == leader:
                process.send_signal(signal.SIGKILL)


def _refusal(folder: Path, state: dict[str, Any], holder: dict[str, Any], elsewhere: bool) -> str:
    who = f"process {holder['pid']} on {state['host']} ({holder['command']})"
    if elsewhere:
        return f"{shown(folder)} is in use by {who}: if that process is gone, remove {shown(folder / LOCK)}"
    return f"{shown(folder)} is in use by {who}: wait for it, end it with `kill {holder['pid']}`, or use another folder"
