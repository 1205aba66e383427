"""What a command costs: its time and the most memory that it and the processes it starts hold at once."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

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


def cost_of(command: Sequence[str], log: Path | None = None, env: Mapping[str, str] | None = None) -> Cost:
    """Run `command` in the repository's root, its output going to `log` or where ours goes, and measure it.

    The peak is the sum of the resident memory (RSS) of the process and all its descendants, looked at every POLL
    seconds, in which pages that processes share count in each; or the most that one of them ever held by the kernel's
    own account (VmHWM), where that is more. Raises UserError when the command fails, or where there is no /proc.
    """
    if not Path("/proc/self/status").is_file():
        raise UserError("memory is measured by /proc, which this system has not: run the bench on Linux")
    began, peak = time.monotonic(), 0
    stream = open(log, "wb") if log else None  # noqa: SIM115
    process = subprocess.Popen(
        command, cwd=ROOT, env=None if env is None else dict(env), stdout=stream, stderr=stream and subprocess.STDOUT
    )
    try:
        while True:
            # The kernel's ru_maxrss would be simpler, but counts what this process held when it started the child.
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
            if ended:
                break
            peak = max(peak, *tree_memory(process.pid))
            time.sleep(POLL)
        seconds = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        if process.returncode is None:
            process.kill()
            process.wait()
        if stream:
            stream.close()
    if process.returncode:
        where = shown(log) if log else "its message above"
        raise UserError(f"`{' '.join(command)}` ended with status {process.returncode}: see {where}")
    return Cost(seconds, usage.ru_utime + usage.ru_stime, peak)


def cost_of_ours(module: str, *words: str) -> Cost:
    """The cost of a command of this project."""
    return cost_of([sys.executable, "-m", module, *words])


def tree_memory(pid: int) -> tuple[int, int]:
    """Bytes that the process `pid` and its descendants hold together now, and the most that one of them ever held."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name, in brackets, may hold anything; what follows it is state and parent.
            parent = int(path.read_text(errors="replace").rpartition(")")[2].split()[1])
        except (OSError, IndexError):  # it has just ended
            continue
        children.setdefault(parent, []).append(int(path.parent.name))
    together, most, left = 0, 0, [pid]
    while left:
        one = left.pop()
        left += children.get(one, [])
        try:
            lines = Path(f"/proc/{one}/status").read_text(errors="replace").splitlines()
        except OSError:
            continue
        kib = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith(("VmRSS:", "VmHWM:"))}
        together, most = together + kib.get("VmRSS", 0), max(most, kib.get("VmHWM", 0))
    return together * 1024, most * 1024
