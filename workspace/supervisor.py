"""Runs a command so that nothing of it outlives the process that wanted it, even when that one is killed.

Run as: python workspace/supervisor.py PARENT_PID COMMAND …

The command leads a process group of its own. The group is ended when the parent is gone, when this process is asked to
end (SIGTERM; asked twice, at once), and when the command has ended and left something behind. Standard library alone:
this is started for every command.
"""

import os
import signal
import subprocess
import sys
import time

PATIENCE = 60  # seconds between SIGTERM and SIGKILL: training saves a checkpoint
POLL = 0.2


def main(argv: list[str]) -> int:
    """Run the command; its exit status, or 128 + N when signal N ended it."""
    parent, command = int(argv[0]), argv[1:]
    asked: list[float] = []
    for sign in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(sign, lambda *_: asked.append(time.monotonic()))
    try:
        child = subprocess.Popen(command, process_group=0)
    except OSError as error:
        print(f"{command[0]} cannot be started: {error.strerror}", flush=True)
        return 127
    told = False
    while (running := child.poll() is None) or _alive(child.pid):
        if not asked and (not running or os.getppid() != parent):
            asked.append(time.monotonic())
        if len(asked) > 1 or (asked and time.monotonic() - asked[0] > PATIENCE):
            _signal_group(child.pid, signal.SIGKILL)
        elif asked and not told:
            told = True
            _signal_group(child.pid, signal.SIGTERM)
        if running:
            try:
                child.wait(POLL)
                continue
            except subprocess.TimeoutExpired:
                continue
        time.sleep(POLL)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _alive(group: int) -> bool:
    return _signal_group(group, 0)


def _signal_group(group: int, sign: int) -> bool:
    try:
        os.killpg(group, sign)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
