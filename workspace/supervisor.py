"""Runs a command so that nothing of it outlives the process that wanted it, even when that one is killed.

Run as: python workspace/supervisor.py PARENT_PID COMMAND …

The supervisor leads a session of its own, the command a process group in it. The group is ended when the parent is
gone, when the supervisor is asked to end (SIGTERM; asked twice, at once), and when the command has ended and left
something behind. When the supervisor is killed, the system kills the command, and whoever started the supervisor, or
next takes the folder's lock, ends the rest of the session. Standard library alone: this is started for every command.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress

PATIENCE = 60  # seconds between SIGTERM and SIGKILL: training saves a checkpoint
POLL = 0.05
ASKING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def main(argv: list[str]) -> int:
    """Run the command; its exit status, or 128 + N when signal N ended it."""
    parent, command, mine = int(argv[0]), argv[1:], os.getpid()
    started = []  # kept: a Popen that goes would take the status with it

    def start() -> int:
        started.append(subprocess.Popen(command, process_group=0, preexec_fn=lambda: end_with_parent(mine)))
        return started[0].pid

    try:
        return supervise(start, lambda: int(os.getppid() != parent))
    except OSError as error:
        print(f"{command[0]} cannot be started: {error.strerror}", flush=True)
        return 127


def supervise(start: Callable[[], int], asked: Callable[[], int]) -> int:
    """Start a command that leads a process group, and wait until it and its group have ended.

    `start` returns the command's pid. `asked` is called 20 times a second and says how often the owner has asked to
    end, its own end included; signals to this process count as well. Once ends the group by SIGTERM, twice by SIGKILL.

    Returns the exit status, or 128 + N when signal N ended the command.
    """
    signals: list[int] = []
    for sign in ASKING:
        signal.signal(sign, lambda number, _: signals.append(number))
    child, status, since = start(), None, 0.0
    while status is None or _signal_group(child, 0):
        if status is None:
            reaped, state = os.waitpid(child, os.WNOHANG)
            status = os.waitstatus_to_exitcode(state) if reaped else None
        times = max(len(signals) + asked(), int(status is not None))
        if times and not since:
            since = time.monotonic()
            _signal_group(child, signal.SIGTERM)
        elif times > 1 or (since and time.monotonic() - since > PATIENCE):
            _signal_group(child, signal.SIGKILL)
        if status is None or _signal_group(child, 0):
            time.sleep(POLL)
    return status if status >= 0 else 128 - status


def end_with_parent(parent: int, sign: int = signal.SIGKILL) -> None:
    """Have the system signal this process when its parent, process `parent`, ends; it ends now where that has ended."""
    if _prctl is not None:
        _prctl(PR_SET_PDEATHSIG, sign)
        if os.getppid() != parent:
            os._exit(1)


def end_session(leader: int) -> None:
    """Kill every process of the session that process `leader` leads or has led, and return when none is left."""
    import psutil

    while members := [pid for pid in psutil.pids() if _works_in(pid, leader)]:
        for pid in members:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _works_in(pid: int, leader: int) -> bool:
    """Whether a process belongs to the session and still runs: one that has ended waits for its parent alone."""
    import psutil

    try:
        return os.getsid(pid) == leader and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except (OSError, psutil.Error):
        return False


def _signal_group(group: int, sign: int) -> bool:
    try:
        os.killpg(group, sign)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
