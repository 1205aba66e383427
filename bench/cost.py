"""What a command costs: its time and the most memory that it and the processes it starts hold at once."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from plan.hardware import IDLE_THREADS
from workspace.errors import UserError
from workspace.paths import ROOT, shown

POLL = 0.1  # seconds between two looks at the process tree
# Settings that our own commands make, and a user of a peer does not.
OURS = ("MALLOC_", *IDLE_THREADS)


class Cost(NamedTuple):
    """Seconds on the clock, seconds of processor time (user and system), and peak bytes of memory."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int


def users_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment as a user of the peer has it: without our settings for memory and idle threads."""
    return {key: value for key, value in environ.items() if not key.startswith(OURS)}


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise `UserError` in the block, in the main thread, once it has taken so many seconds."""

    def too_long(*_: object) -> None:
        raise UserError(f"it had not ended after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def cost_of(command: Sequence[str], log: Path | None = None, env: Mapping[str, str] | None = None) -> Cost:
    """Run `command` in the repository's root, its output going to `log` or where ours goes, and measure it.

    The peak is the sum of the resident memory (RSS) of the process and all its descendants, looked at every POLL
    seconds, in which pages that processes share count in each; or the most that one of them ever held by the kernel's
    own account (VmHWM), where that is more. Raises UserError when the command fails, or where there is no
    /proc; where it is interrupted, the command and what it started are killed.
    """
    if not Path("/proc/self/status").is_file():
        raise UserError("memory is measured by /proc, which this system has not: run the bench on Linux")
    began, peak = time.monotonic(), 0
    with open(log, "wb") if log else nullcontext() as stream:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=stream, stderr=stream and subprocess.STDOUT)
    try:
        # The kernel's ru_maxrss would be simpler, but counts what this process held when it started the child.
        while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
            peak = max(peak, *tree_memory(process.pid))
            time.sleep(POLL)
        seconds, (_, status, usage) = time.monotonic() - began, ended
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        if process.returncode is None:
            # `swift` hands its work to a child, which would go on and keep the GPU.
            begun = psutil.Process(process.pid).children(recursive=True)
            for child in begun:
                with suppress(psutil.NoSuchProcess):
                    child.kill()
            process.kill()
            process.wait()
            psutil.wait_procs(begun, timeout=10)
    if process.returncode:
        where = shown(log) if log else "its message above"
        raise UserError(f"`{' '.join(command)}` ended with status {process.returncode}: see {where}")
    return Cost(seconds, usage.ru_utime + usage.ru_stime, peak)


def cost_of_ours(module: str, *words: str) -> Cost:
    """The cost of a command of this project."""
    return cost_of([sys.executable, "-m", module, *words])


def tree_memory(pid: int) -> tuple[int, int]:
    """Bytes that the process `pid` and its descendants hold together now, and the most that one of them ever held."""
    process, together, most = psutil.Process(pid), 0, 0
    for one in (process, *process.children(recursive=True)):
        try:
            lines = Path(f"/proc/{one.pid}/status").read_text(errors="replace").splitlines()
        except OSError:  # it has just ended
            continue
        kib = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith(("VmRSS:", "VmHWM:"))}
        together, most = together + kib.get("VmRSS", 0), max(most, kib.get("VmHWM", 0))
    return together * 1024, most * 1024
