"""Children: their failures in one sentence, and nothing of them left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from workspace.child_process import OutOfMemory, run_child
from workspace.errors import MachineFault, UserError
from workspace.paths import ROOT


def test_a_failing_child_is_one_error_with_the_end_of_its_log(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('the reason'); raise SystemExit(3)"]
    with pytest.raises(UserError, match=r"(?s)failed with status 3; see .*child.log.*the reason"):
        run_child(command, tmp_path / "child.log", dict(os.environ), "t", 1, lambda: 0)


GRANDCHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_nothing_outlives_a_process_that_is_ended_by_a_signal(tmp_path: Path, sign: int) -> None:
    log = tmp_path / "log"
    code = (
        "import os, sys; from pathlib import Path; from workspace.child_process import run_child; "
        f"run_child([sys.executable, '-c', {GRANDCHILD!r}], Path({str(log)!r}), dict(os.environ), 't', 1, lambda: 0)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
        # A shell's background job ignores Ctrl-C, and nohup a hang-up: both would be handed on to the test.
        preexec_fn=lambda: [signal.signal(one, signal.SIG_DFL) for one in (signal.SIGINT, signal.SIGHUP)],
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (log.exists() and log.read_text()[-9:].strip()[-1:].isdigit()):
        time.sleep(0.1)
    grandchild = int(log.read_text().splitlines()[-1])
    parent.send_signal(sign)
    assert parent.wait() != 0
    while time.monotonic() < deadline and _alive(grandchild):
        time.sleep(0.1)
    assert not _alive(grandchild)


def test_a_stage_ends_with_the_pipeline_that_it_is_part_of() -> None:
    code = "import time; from workspace.errors import run_main; run_main(lambda: [print('runs', flush=True), "
    code += "time.sleep(600)])"
    lines = 'export RUN_SFT_PID=$$; "$1" -c "$2" & echo $!; wait'
    shell = subprocess.Popen(
        ["bash", "-c", lines, "bash", sys.executable, code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert shell.stdout is not None
    stage = int(shell.stdout.readline())
    assert shell.stdout.readline() == "runs\n"
    shell.kill()
    shell.wait()
    while _alive(stage):
        time.sleep(0.05)


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.parametrize(
    "code",
    [
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "raise SystemExit(256 - 9)",  # as `swift` hands on that its child was killed
        "x = bytearray(2**62)",
        "import torch; torch.empty(2**50)",
    ],
)
def test_want_of_memory_is_told_from_other_failures(tmp_path: Path, code: str) -> None:
    with pytest.raises(OutOfMemory, match=r"was killed, most likely because no memory was left|ran out of memory"):
        run_child([sys.executable, "-c", code], tmp_path / "log", dict(os.environ), "t", 1, lambda: 0)


# As torchrun ends: every rank's traceback, then dozens of lines of its own.
SUMMARY = "\n".join(["E1126 elastic.multiprocessing failed (exitcode: 1)", *["  rank: 1 (local_rank: 1)"] * 30])


@pytest.mark.parametrize(
    ("line", "memory"),
    [
        ("[rank1]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 1 has 14.56 GiB", True),
        ("torch.OutOfMemoryError: HIP out of memory. Tried to allocate 2.00 GiB.", True),
        ("[rank0]: RuntimeError: CUDA error: out of memory", True),
        ("torch.AcceleratorError: CUDA error: out of memory", True),
        ("RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("RuntimeError: CUDA error: HIPBLAS_STATUS_ALLOC_FAILED when calling `hipblasCreate(handle)`", True),
        ("RuntimeError: MPS backend out of memory (MPS allocated: 9.06 GB)", True),
        ("host:27:31 [0] enqueue.cc:100 NCCL WARN Cuda failure 2 'out of memory'", True),
        ("host:27:31 [0] NCCL WARN Cuda failure 'out of memory'", True),
        ("numpy._core._exceptions._ArrayMemoryError: Unable to allocate 12.0 GiB for an array", True),
        (
            "(EngineCore_DP0 pid=270) ERROR 11-27 10:00:00 [core.py:718] torch.OutOfMemoryError: CUDA out of memory.",
            True,
        ),
        ("(EngineCore pid=9) ValueError: No available memory for the cache blocks. Try increasing it", True),
        (
            "ValueError: To serve at least one request with the model's max seq len (32768), (3.0 GiB KV cache is "
            "needed, which is larger than the available KV cache memory (1.2 GiB). Based on the available memory, …",
            True,
        ),
        ("ValueError: Free memory on device (9/24 GiB) is less than desired GPU memory utilization (0.8)", True),
        ("  exitcode  : -9 (pid: 4242)", True),
        ("  traceback : Signal 9 (SIGKILL) received by PID 4242", True),
        ("  exitcode  : -15 (pid: 4242)", False),
        ("ValueError: the review 'CUDA error: CUBLAS' is no label", False),
        ("WARNING: set expandable_segments if you run out of memory", False),
        ("[rank1]: ValueError: a wrong value", False),
    ],
)
def test_a_gpus_want_of_memory_is_found_above_what_torchrun_writes(tmp_path: Path, line: str, memory: bool) -> None:
    """The last dozen lines were read, and the sentence of the failure had no remedy."""
    code = f"import sys; print({line!r} + chr(10) + {SUMMARY!r}); sys.exit(1)"
    with pytest.raises(UserError) as failed:
        run_child([sys.executable, "-c", code], tmp_path / "log", dict(os.environ), "t", 1, lambda: 0)
    assert isinstance(failed.value, OutOfMemory) is memory
    assert getattr(failed.value, "killed", False) is ("-9" in line or "SIGKILL" in line)


def test_a_full_disk_is_told_from_other_failures(tmp_path: Path) -> None:
    code = "raise OSError(28, 'No space left on device')"
    with pytest.raises(MachineFault, match=r"found the disk of .* full: make room, then run the same command again$"):
        run_child([sys.executable, "-c", code], tmp_path / "log", dict(os.environ), "t", 1, lambda: 0)


def test_a_command_that_is_not_there_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"(?s)failed with status 127; .*no-such-command cannot be started"):
        run_child(["no-such-command"], tmp_path / "log", dict(os.environ), "t", 1, lambda: 0)


def test_what_a_command_leaves_running_is_ended(tmp_path: Path) -> None:
    code = "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
    run_child([sys.executable, "-c", code + "print(p.pid)"], tmp_path / "log", dict(os.environ), "t", 1, lambda: 0)
    assert not _alive(int((tmp_path / "log").read_text().splitlines()[-1]))


@pytest.mark.parametrize(
    ("said", "place"),
    [
        (
            "OSError: [Errno 28] No space left on device: '/cache/datasets/x.arrow'",
            r"/cache/datasets/x\.arrow full: make",
        ),
        ("OSError: [Errno 30] Read-only file system: '/cache/hub'", r"/cache/hub read-only: name another folder"),
    ],
)
def test_a_full_or_read_only_cache_is_named_and_not_the_run(tmp_path: Path, said: str, place: str) -> None:
    command = [sys.executable, "-c", f"import sys; print({said!r}); sys.exit(1)"]
    with pytest.raises(MachineFault, match=f"found the disk of {place}"):
        run_child(command, tmp_path / "log", dict(os.environ), "x", 1, lambda: 0)
