"""Running a long child command: its output to a log file, one progress bar here, and no orphans."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

from tqdm import tqdm

from workspace import supervisor
from workspace.errors import NO_MEMORY, MachineFault, UserError
from workspace.folder_lock import note_child
from workspace.paths import shown

POLL_SECONDS = 0.5
SERVER = "SWIFT_SERVER"  # in the environment: the socket of plan/swift_server.py
TAIL_LINES = 12
# As torchrun says that one of its processes was killed; it ends with 1 itself.
RANK_KILLED = re.compile(r"^\s*exitcode\s*: -9\b|Signal 9 \(SIGKILL\) received by PID", re.MULTILINE)
FULL_BYTES = 2**20
# How a disk that takes no more ends a command, with the file where it is named: often one of a cache, not of the run.
NO_ROOM = re.compile(r"(No space left on device|Disk quota exceeded|Read-only file system)(?:[^\n]*?: '([^'\n]+)')?")
# As the process itself ends, as a shell says it, and as `swift` hands on its own child's -9.
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL, 256 - signal.SIGKILL)


class OutOfMemory(MachineFault):
    """A command needed more memory than there is; the caller knows which option needs less.

    `killed`: by the system, for the machine's memory; otherwise an allocation failed, on a GPU mostly the card's.
    """

    killed = False


class Child(NamedTuple):
    """A command, the log that its output is appended to, and its environment."""

    command: list[str]
    log: Path
    env: dict[str, str]


def run_child(
    command: list[str],
    log: Path,
    env: dict[str, str],
    title: str,
    total: int,
    done: Callable[[], int],
    unit: str = "row",
) -> None:
    """Run `command`, appending its output to `log`, and show how far it is: see `run_children`."""
    run_children([Child(command, log, env)], title, total, done, unit)


def run_children(children: Sequence[Child], title: str, total: int, done: Callable[[], int], unit: str = "row") -> None:
    """Run commands side by side and show how far they are together.

    `done()` is asked twice a second how many of `total` units are finished. Each command runs under the supervisor:
    when this process is interrupted, ended or killed, or one command fails, all of them end.

    Raises `OutOfMemory`, `MachineFault` for a full disk, and `UserError` with the log's last lines for another failure
    of the first command that fails.
    """
    # A log file gets a line now and then, a terminal a moving bar.
    interval = 0.5 if sys.stderr.isatty() else 15
    running: list[Supervised] = []
    begins: list[int] = []
    try:
        for child in children:
            child.log.parent.mkdir(parents=True, exist_ok=True)
            with open(child.log, "ab") as stream:
                begins.append(stream.tell())
                stream.write(f"\n$ {' '.join(child.command)}\n".encode())
                stream.flush()
                running.append(_ask_server(child, stream) or _start(child, stream))
            note_child(running[-1].pid)
        with tqdm(total=total, desc=title, unit=unit, mininterval=interval, dynamic_ncols=True) as bar:
            while None in (states := [process.poll() for process in running]) and not any(states):
                _advance(bar, done())
                time.sleep(POLL_SECONDS)
            _advance(bar, done())
            bar.refresh()
        for child, begin, status in zip(children, begins, states, strict=True):
            if status:
                raise _failure(child, begin, status)
    except BaseException:
        end(running)
        raise


class Forked:
    """A command that plan/swift_server.py has forked, with Popen's methods; `connection` leads to its supervisor."""

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self.pid = pid
        self._connection = connection
        self._status: int | None = None

    def poll(self) -> int | None:
        """The command's exit status, -9 when its supervisor was killed; None while it runs."""
        if self._status is None:
            try:
                said = self._connection.recv(16, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
            except OSError:
                said = b""
            self._status = int(said) if said else -signal.SIGKILL
        return self._status

    def terminate(self) -> None:
        """Ask the supervisor to end the command; asked again, it does so at once."""
        with suppress(OSError):
            self._connection.send(b".")


Supervised = subprocess.Popen[bytes] | Forked  # a command under a supervisor, whose pid leads their session


def end(running: Sequence[Supervised]) -> None:
    """Have the supervisors end their commands and wait until they have; interrupted again, they end them at once."""
    for process in running:
        process.terminate()
    deadline = time.monotonic() + supervisor.PATIENCE + 10
    for process in running:
        while process.poll() is None:
            try:
                time.sleep(supervisor.POLL)
                if time.monotonic() > deadline:
                    supervisor.end_session(process.pid)
            except BaseException:
                process.terminate()
        if process.poll() == -signal.SIGKILL:  # a supervisor that was killed has left behind what it watched over
            supervisor.end_session(process.pid)


def tail(log: Path) -> str:
    """The last lines of a log, for an error message."""
    text = log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n")
    return "\n".join(line for line in text.splitlines()[-TAIL_LINES:] if line.strip())


def _start(child: Child, log: IO[bytes]) -> Supervised:
    return subprocess.Popen(
        [sys.executable, "-ESs", supervisor.__file__, str(os.getpid()), *child.command],
        stdout=log,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        env=child.env,
        start_new_session=True,
    )


def _ask_server(child: Child, log: IO[bytes]) -> Supervised | None:
    """Have the server fork the command. None where there is no server, or it has ended: it takes no other along."""
    if child.command[0] != "swift" or SERVER not in os.environ:
        return None
    connection = socket.socket(socket.AF_UNIX)
    request = {"command": child.command, "env": child.env, "folder": os.getcwd()}
    try:
        connection.connect(os.environ[SERVER])
        message = json.dumps(request).encode() + b"\n"
        sent = socket.send_fds(connection, [message], [log.fileno()])
        connection.sendall(message[sent:])
        return Forked(int(connection.recv(16)), connection)  # answered when the server has imported ms-swift
    except (OSError, ValueError):
        connection.close()
        return None


def _failure(child: Child, begin: int, status: int) -> UserError:
    """What a failed command's status and its part of the log say. `swift` may hide a child's end behind status 1."""
    command, end_of_log = " ".join(child.command[:2]), tail(child.log)
    killed = OutOfMemory(f"`{command}` was killed, most likely because no memory was left")
    killed.killed = True
    if status in KILLED:
        return killed
    with open(child.log, "rb") as stream:
        stream.seek(begin)
        written = stream.read().decode("utf-8", errors="replace").replace("\r", "\n")
    if NO_MEMORY.search(written):
        return OutOfMemory(f"`{command}` ran out of memory")
    if RANK_KILLED.search(written):
        return killed
    full = NO_ROOM.search(end_of_log)
    # On a full disk the log cannot be written either.
    if full or shutil.disk_usage(child.log.parent).free < FULL_BYTES:
        place = shown(Path(full[2]) if full and full[2] else child.log.parent)
        read_only = full is not None and full[1].startswith("Read")
        state = "read-only: name another folder" if read_only else "full: make room"
        return MachineFault(f"`{command}` found the disk of {place} {state}, then run the same command again")
    return UserError(f"`{command}` failed with status {status}; see {shown(child.log)}, which ends:\n{end_of_log}")


def _advance(bar: tqdm, count: int) -> None:
    if count > bar.n:
        bar.update(count - bar.n)
