"""Running a long child command: its output to a log file, one progress bar here, and no orphans."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from workspace.errors import UserError
from workspace.paths import shown

POLL_SECONDS = 0.5
TAIL_LINES = 12


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

    `done()` is asked twice a second how many of `total` units are finished. Each child leads its own process group;
    when this process is interrupted or terminated, or one child fails, all groups are ended first.

    Raises `UserError` with the log's last lines for the first command that fails.
    """
    # A log file gets a line now and then, a terminal a moving bar.
    interval = 0.5 if sys.stderr.isatty() else 15
    # A closed terminal sends SIGHUP; under nohup it stays ignored.
    signals = [signal.SIGTERM, *([signal.SIGHUP] if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN else [])]
    previous = {sign: signal.signal(sign, _interrupt) for sign in signals}
    running: list[subprocess.Popen] = []
    try:
        for child in children:
            running.append(_start(child))
        with tqdm(total=total, desc=title, unit=unit, mininterval=interval, dynamic_ncols=True) as bar:
            while None in (states := [process.poll() for process in running]) and not any(states):
                _advance(bar, done())
                time.sleep(POLL_SECONDS)
            _advance(bar, done())
            bar.refresh()
        for child, status in zip(children, states, strict=True):
            if status:
                raise UserError(
                    f"`{' '.join(child.command[:2])}` failed with status {status}; see {shown(child.log)}, "
                    f"which ends:\n{tail(child.log)}"
                )
    except BaseException:
        for process in running:
            end_group(process)
        raise
    finally:
        for sign, handler in previous.items():
            signal.signal(sign, handler)


def end_group(child: subprocess.Popen, patience: float = 10) -> None:
    """End the child's whole process group: SIGTERM, and SIGKILL after `patience` seconds."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, sign)
        except ProcessLookupError:
            return
        try:
            child.wait(patience)
        except subprocess.TimeoutExpired:
            continue


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
            child.command,
            stdout=stream,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=child.env,
            start_new_session=True,
        )


def _advance(bar: tqdm, count: int) -> None:
    if count > bar.n:
        bar.update(count - bar.n)


def _interrupt(sign: int, _frame: object) -> None:
    raise SystemExit(128 + sign)
