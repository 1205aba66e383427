"""One command at a time in a folder, so that two runs never write over each other.

The folder's file `lock` is locked (flock) by the command that holds the folder; the system gives it free when the
command ends, however that comes. run_sft.sh opens the file on a descriptor that its stages inherit ($RUN_SFT_LOCK), so
that the first stage which takes the lock takes it for all of them. The file says who holds the folder and which
sessions work for it: {"where", "pid", "command", "sessions": [[pid of the leader, its start]]}, `where` being machine,
boot and pid namespace, in which alone pids mean anything; whoever takes the folder next ends what a killed holder has
left running. That the file is there means nothing: run_sft.sh leaves it.
"""

import fcntl
import json
import os
import shlex
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from workspace.errors import PIPELINE, UserError
from workspace.files import is_partial
from workspace.paths import shown
from workspace.supervisor import end_session

LOCK = "lock"
INHERITED = "RUN_SFT_LOCK"  # in the environment of run_sft.sh's stages: the descriptor of the run's lock file
COMMAND_CHARACTERS = 200


@dataclass
class _Hold:
    """A folder that this process holds, how many times, and what the lock's file says of it."""

    stream: IO[bytes]
    inherited: bool
    state: dict[str, Any]
    times: int = 0

    def write(self) -> None:
        self.stream.seek(0)
        self.stream.truncate(0)
        self.stream.write(json.dumps(self.state).encode())
        self.stream.flush()


_held: dict[Path, _Hold] = {}


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process, and for the pipeline that it is a stage of, while the block runs.

    The pipeline's hold lasts as long as its process. A process may hold a folder more than once.
    Raises `UserError` when another process holds it.
    """
    folder = Path(os.path.realpath(folder))
    if folder not in _held:
        _held[folder] = _take(folder)
    hold = _held[folder]
    hold.times += 1
    try:
        yield
    finally:
        hold.times -= 1
        if not hold.times:
            del _held[folder]
            with suppress(OSError), hold.stream:
                if hold.inherited:  # the pipeline keeps the folder until it ends
                    hold.state["sessions"] = []
                    hold.write()
                else:
                    (folder / LOCK).unlink()
                    fcntl.flock(hold.stream, fcntl.LOCK_UN)


@contextmanager
def kept(folder: Path) -> Iterator[None]:
    """Have no command replace `folder`, which this one reads, while the block runs (see `check_unread`)."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        yield
        return
    try:
        with suppress(OSError):  # a disk without such locks: what was read is compared afterwards
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def check_unread(folder: Path) -> None:
    """Raise `UserError` while a command reads `folder`, which is about to be replaced."""
    if not folder.is_dir():
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(
            f"{shown(folder)} would be made anew, but a run that goes on was made from it: wait until that has ended, "
            "or give the task another name"
        ) from None
    except OSError:
        pass
    finally:
        os.close(descriptor)


@contextmanager
def alone(path: Path, waiting: str) -> Iterator[None]:
    """Have the file `path`, there while the block runs, for this process; say `waiting` where another has it first.

    The system gives it free when a process ends, however that comes.
    """

    def wait(stream: IO[bytes]) -> None:
        print(waiting, flush=True)
        fcntl.flock(stream, fcntl.LOCK_EX)

    with _flocked(path, lambda: _open(path), wait):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def note_child(pid: int) -> None:
    """Record in every held folder that process `pid`, a session's leader, works for this process."""
    for hold in _held.values():
        hold.state["sessions"].append((pid, _started(pid)))
        hold.write()


def _take(folder: Path) -> _Hold:
    folder.mkdir(parents=True, exist_ok=True)
    path, inherited = folder / LOCK, False

    def opened() -> IO[bytes]:
        nonlocal inherited
        number = os.environ.get(INHERITED, "")
        with suppress(OSError):
            if number.isdigit() and os.path.samestat(os.fstat(int(number)), os.lstat(path)):
                inherited = True
                return open(os.dup(int(number)), "r+b")
        return _open(path)

    def refuse(stream: IO[bytes]) -> None:
        with stream:
            raise UserError(_refusal(folder, _read(stream)))

    stream = _flocked(path, opened, refuse)
    before = _read(stream)
    if before is not None and before["where"] == _where():
        # Left by a command that was killed: its ms-swift must not write next to the new one.
        for pid, started in before["sessions"]:
            if not psutil.pid_exists(pid) or _started(pid) == started:
                end_session(pid)
    _remove_partial(folder)
    pid = _pipeline() if inherited else os.getpid()
    hold = _Hold(stream, inherited, {"where": _where(), "pid": pid, "command": _command(pid), "sessions": []})
    hold.write()
    return hold


def _open(path: Path) -> IO[bytes]:
    """The file `path`, made where it is not there; never what a link in its place points to."""
    try:
        return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644), "r+b")
    except OSError as error:
        raise UserError(f"{shown(path)} cannot be opened ({error.strerror}): remove it") from error


def _flocked(path: Path, opened: Callable[[], IO[bytes]], busy: Callable[[IO[bytes]], None]) -> IO[bytes]:
    """The file `path`, open and locked. Where another process has the lock, `busy` waits for it or raises."""
    while True:
        stream = opened()
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            busy(stream)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(stream.fileno()), os.lstat(path)):
                return stream
        stream.close()  # removed by its holder in the meantime


def _remove_partial(folder: Path) -> None:
    """Remove what a killed command was writing; not in a folder below this one that has a lock of its own."""
    own = [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink() and not (path / LOCK).exists()]
    for partial in [*folder.glob(".*.partial"), *(found for path in own for found in path.rglob(".*.partial"))]:
        if is_partial(partial):
            partial.unlink(missing_ok=True)


def _read(stream: IO[bytes]) -> dict[str, Any] | None:
    """What the file says; None for one that is empty or torn."""
    try:
        stream.seek(0)
        state = json.loads(stream.read())
        sessions = [(int(pid), float(started)) for pid, started in state["sessions"]]
        return {
            "where": str(state["where"]), "pid": int(state["pid"]), "command": str(state["command"]),
            "sessions": sessions,
        }  # fmt: skip
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _pipeline() -> int:
    """The pid of the pipeline that this process is a stage of, or else its own."""
    pid = os.environ.get(PIPELINE, "")
    return int(pid) if pid.isdigit() and psutil.pid_exists(int(pid)) else os.getpid()


def _where() -> str:
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    return socket.gethostname()


def _started(pid: int) -> float:
    """When a process started, by a clock that is never set: a pid alone is used again. 0 for none."""
    with suppress(OSError, IndexError, ValueError):
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return float(state.rpartition(")")[2].split()[19])
    with suppress(psutil.Error):
        return psutil.Process(pid).create_time()
    return 0.0


def _command(pid: int) -> str:
    with suppress(psutil.Error):
        return " ".join(shlex.join(psutil.Process(pid).cmdline()).split())[:COMMAND_CHARACTERS]
    return ""


def _refusal(folder: Path, state: dict[str, Any] | None) -> str:
    if state is None:
        return f"{shown(folder)} is in use by another process: wait for it, or use another folder"
    pid, where = state["pid"], state["where"]
    who = f"process {pid} on {where.partition(' ')[0]} ({state['command']})"
    ending = f"end it with `kill {pid}`, " if where == _where() else ""
    return f"{shown(folder)} is in use by {who}: wait for it, {ending}or use another folder"
