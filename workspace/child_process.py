"""Running a long child command: its output to a log file, one progress bar here, and no orphans."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from workspace import supervisor as guard
from workspace.errors import PIPELINE, MachineFault, UserError
from workspace.folder_lock import note_child
from workspace.paths import shown

POLL_SECONDS = 0.5
TAIL_LINES = 12
# What torch and CUDA write when an allocation fails.
NO_MEMORY = ("OutOfMemoryError", "CUDA out of memory", "can't allocate memory", "MemoryError", "std::bad_alloc")
FULL_BYTES = 2**20
NO_ROOM = ("No space left on device", "Disk quota exceeded")
# As the process itself ends, as a shell says it, and as `swift` hands on its own child's -9.
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL, 256 - signal.SIGKILL)


class OutOfMemory(MachineFault):
    """A command needed more memory than there is; the caller knows which option needs less."""


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
    running: list[subprocess.Popen] = []
    try:
        for child in children:
            running.append(_start(child))
            note_child(running[-1].pid)
        with tqdm(total=total, desc=title, unit=unit, mininterval=interval, dynamic_ncols=True) as bar:
            while None in (states := [process.poll() for process in running]) and not any(states):
                _advance(bar, done())
                _check_pipeline()
                time.sleep(POLL_SECONDS)
            _advance(bar, done())
            bar.refresh()
        for child, status in zip(children, states, strict=True):
            if status:
                raise _failure(child, status)
    except BaseException:
        end(running)
        raise


def end(running: Sequence[subprocess.Popen]) -> None:
    """Have the guards end their commands and wait until they have; interrupted again, they end them at once."""
    for process in running:
        process.terminate()
    for process in running:
        while process.poll() is None:
            try:
                process.wait(guard.PATIENCE + 10)
            except subprocess.TimeoutExpired:
                process.kill()
            except BaseException:
                process.terminate()


def tail(log: Path) -> str:
    """The last lines of a log, for an error message."""
    text = log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n")
    return "\n".join(line for line in text.splitlines()[-TAIL_LINES:] if line.strip())


def _start(child: Child) -> subprocess.Popen:
    child.log.parent.mkdir(parents=True, exist_ok=True)
    with open(child.log, "a", encoding="utf-8") as stream:
        stream.write(f"\n$ {' '.join(child.command)}\n")
        stream.flush()
        return subprocess.Popen(
            [sys.executable, "-ESs", guard.__file__, str(os.getpid()), *child.command],
            stdout=stream,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=child.env,
            start_new_session=True,
        )


def _failure(child: Child, status: int) -> UserError:
    """What a failed command's status and the end of its log say. `swift` may hide a child's end behind status 1."""
    command, end_of_log = " ".join(child.command[:2]), tail(child.log)
    if status in KILLED:
        return OutOfMemory(f"`{command}` was killed, most likely because no memory was left")
    if any(words in end_of_log for words in NO_MEMORY):
        return OutOfMemory(f"`{command}` ran out of memory")
    # On a full disk the log cannot be written either.
    if any(words in end_of_log for words in NO_ROOM) or shutil.disk_usage(child.log.parent).free < FULL_BYTES:
        return MachineFault(
            f"`{command}` found the disk of {shown(child.log.parent)} full: make room, then run the same command again"
        )
    return UserError(f"`{command}` failed with status {status}; see {shown(child.log)}, which ends:\n{end_of_log}")


def _check_pipeline() -> None:
    """Raise SystemExit when the pipeline that this process is a stage of was killed: nobody waits for the result."""
    pid = os.environ.get(PIPELINE)
    if pid and not os.path.exists(f"/proc/{pid}") and os.path.exists("/proc/self"):
        raise SystemExit(128 + signal.SIGTERM)


def _advance(bar: tqdm, count: int) -> None:
    if count > bar.n:
        bar.update(count - bar.n)
