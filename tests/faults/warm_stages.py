"""The stages of run_sft.sh as forks of one process that has imported everything: a run takes seconds of processor time.

Run as: python -m tests.faults.warm_stages SOCKET; relay.py asks. All descendants of this process belong to the run at
hand: whatever loses its parent becomes its child. "stage" and "monitor" name the forks; a monitor hands a stage's exit
status on and is no part of a real run.
"""

import ctypes
import importlib
import io
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

from plan.swift_server import fork_for_each
from workspace import child_process
from workspace.errors import run_main
from workspace.supervisor import end_with_parent

MODULES = {"plan": "plan.__main__"}  # a package that is run: where its main is
WARM = (
    "plan.__main__", "plan.planning", "workspace.install", "train.sft", "train.rerun", "eval.baselines", "eval.infer",
    "eval.evaluate", "eval.report", "eval.reporting.pictures", "workspace.fonts", "pandas", "psutil",
    "sklearn.linear_model", "sklearn.feature_extraction.text",
)  # fmt: skip
PR_SET_CHILD_SUBREAPER = 36
PICTURE = b"\x89PNG\r\n\x1a\n"  # drawing takes seconds


def main(path: str) -> None:
    """Serve until killed."""
    end_with_parent(os.getppid())
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    for name in WARM:
        importlib.import_module(name)
    _replace_what_is_slow()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    print("ready", flush=True)
    fork_for_each(listener, _monitor)


def _replace_what_is_slow() -> None:
    """Stand-ins for what takes seconds and is tested elsewhere: pictures, the list of packages, the CPU's rates.

    $CPU_RATES: GFLOP/s of float32, float32 by oneDNN and bfloat16, as another machine would measure them.
    """
    from data_prep.card import page
    from eval.reporting import pictures, render
    from plan import planning
    from plan.cpu_kernels import Precision

    def rates(machine: Any) -> Precision:
        float32, onednn, bf16 = ([float(rate)] * 3 for rate in os.environ.get("CPU_RATES", "100 100 100").split())
        return Precision(float32, onednn, bf16, 0.0, [2.0] * 3 if onednn > float32 else [1.0] * 3)

    pictures.draw_pictures = lambda *_: dict.fromkeys(pictures.PICTURES, PICTURE)  # type: ignore[assignment]
    page.draw_card = lambda *_: {}  # type: ignore[assignment]
    planning.write_packages = lambda path: path.write_text("torch==0\n")  # type: ignore[assignment,return-value]
    planning.cpu_precision = rates  # type: ignore[assignment]
    page._template()
    for markdown, name in ((True, "report.md.j2"), (False, "report.html.j2")):
        render._environment(markdown).get_template(name)
    child_process.POLL_SECONDS = 0.02
    plain = child_process._start
    child_process._start = lambda child, log: plain(
        child._replace(command=[os.environ["QUICK_SWIFT"], *child.command[1:]]), log
    )


def _monitor(connection: socket.socket) -> None:
    _name("monitor")
    head, descriptors, _, _ = socket.recv_fds(connection, 8, 8)
    message = b""
    while len(message) < int.from_bytes(head, "little"):
        message += connection.recv(1 << 20)
    pid = os.fork()
    if pid == 0:
        connection.close()
        _stage(json.loads(message), descriptors)
    connection.sendall(str(pid).encode())
    for descriptor in (*descriptors, 0, 1, 2):  # a lock that this process held would outlive the stage
        os.close(descriptor)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        connection.sendall(str(status).encode())
    finally:
        os._exit(0)


def _stage(request: dict[str, Any], descriptors: list[int]) -> None:
    """Run a module's main as `python -m` does."""
    _name("stage")
    env, words = request["env"], request["words"]
    places = [0, 1, 2, *([int(env["RUN_SFT_LOCK"])] if "RUN_SFT_LOCK" in env else [])]
    moved = [os.dup2(one, 200 + number) for number, one in enumerate(descriptors)]
    for one in descriptors:
        os.close(one)
    for one, place in zip(moved, places, strict=True):
        os.dup2(one, place, inheritable=True)
        os.close(one)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(request["folder"])
    sys.argv = [words[0], *words[1:]]
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(io.FileIO(place, "w", closefd=False), "utf-8", write_through=True) for place in (1, 2)
    )
    module = importlib.import_module(MODULES.get(words[0], words[0]))
    status: Any = 0
    try:
        run_main(module.main)
    except SystemExit as end:
        status = end.code or 0
    except BaseException:
        import traceback

        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 1)


def _name(name: str) -> None:
    Path("/proc/self/comm").write_text(name, encoding="ascii")


if __name__ == "__main__":
    main(sys.argv[1])
