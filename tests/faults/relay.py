"""`python -m MODULE …` for the fault tests: a fork of warm_stages.py runs it; signals and status go through.

Put as `python` before the real one on the PATH of run_sft.sh. What is no `-m` of a stage's runs as it is.
"""

import contextlib
import ctypes
import json
import os
import signal
import socket
import sys

server = os.environ["WARM_STAGES"]
words = sys.argv[1:]
if words[:1] != ["-m"]:
    os.execv(os.environ["REAL_PYTHON"], ["python", *words])
connection = socket.socket(socket.AF_UNIX)
connection.connect(server)
lock = os.environ.get("RUN_SFT_LOCK")
descriptors = [0, 1, 2, *([int(lock)] if lock else [])]
message = json.dumps({"words": words[1:], "env": dict(os.environ), "folder": os.getcwd()}).encode()
socket.send_fds(connection, [len(message).to_bytes(8, "little")], descriptors)
connection.sendall(message)
try:
    stage = int(connection.recv(16))
except (OSError, ValueError):  # the server's side of it was killed before the stage began
    os.kill(os.getpid(), signal.SIGKILL)


def forward(sign, _frame):
    """Hand a signal on to the stage."""
    with contextlib.suppress(OSError):
        os.kill(stage, sign)


for sign in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(sign, forward)
ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # as for a stage, whose parent is the shell
try:
    status = int(connection.recv(16) or -9)
except OSError:
    status = -9
if status < 0:
    signal.signal(-status, signal.SIG_DFL) if -status not in (signal.SIGKILL, signal.SIGSTOP) else None
    os.kill(os.getpid(), -status)
os._exit(status)
