"""What this machine is: processors, memory, GPUs, and the flags of ms-swift that follow."""

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# By these ms-swift starts torchrun, or finds that it was started by it.
TORCHRUN = {
    "NPROC_PER_NODE", "NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "RANK", "LOCAL_RANK", "WORLD_SIZE",
    "LOCAL_WORLD_SIZE", "LOCAL_SIZE", "GROUP_RANK", "_PATCH_WORLD_SIZE",
}  # fmt: skip
IDLE_THREADS = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}  # see child_environment
HUB_TOKENS = {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "MODELSCOPE_API_TOKEN", "MODELSCOPE_SDK_TOKEN"}


@dataclass(frozen=True)
class Machine:
    """Hardware as a recipe needs to know it. Memory in GiB; `gpu` is None where there is none."""

    cpu: str
    cores: int
    memory_gib: float
    gpu: str | None
    gpus: int
    gpu_memory_gib: float
    gpu_bf16: bool

    def describe(self) -> str:
        """One line for a report."""
        cpu = f"{self.cores} cores ({self.cpu}), {self.memory_gib:.0f} GiB memory"
        return f"{self.gpus} x {self.gpu} ({self.gpu_memory_gib:.0f} GiB), {cpu}" if self.gpu else f"CPU only, {cpu}"

    def as_dict(self) -> dict[str, Any]:
        """The fields as JSON."""
        return asdict(self)


def this_machine() -> Machine:
    """Look at this machine, without importing torch (which takes seconds)."""
    gpus = _nvidia_gpus()
    return Machine(
        cpu=_cpu_name(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_gib=_memory_gib(),
        gpu=gpus[0][0] if gpus else None,
        gpus=len(gpus),
        gpu_memory_gib=min((memory for _, memory, _ in gpus), default=0.0),
        # bf16 needs compute capability 8 (Ampere) or newer.
        gpu_bf16=bool(gpus) and all(capability >= 8 for _, _, capability in gpus),
    )


def dtype_flags(machine: Machine) -> dict[str, Any]:
    """The dtype keys of `swift sft` for this machine.

    On a CPU ms-swift needs `use_cpu`, or it takes the checkpoint's bf16; on a GPU float32 would imply fp16
    mixed precision, so one of the two is always said.
    """
    if machine.gpu is None:
        return {"torch_dtype": "float32", "use_cpu": True, "bf16": False, "fp16": False}
    if machine.gpu_bf16:
        return {"torch_dtype": "bfloat16", "bf16": True, "fp16": False}
    return {"torch_dtype": "float16", "bf16": False, "fp16": True}


def child_environment(machine: Machine, processes: int = 1) -> dict[str, str]:
    """The environment for ms-swift, of which `processes` run side by side; without any variable of torchrun.

    Those would have `swift` start several processes, or take itself for one of them and answer only its share.

    The malloc settings keep freed blocks instead of giving them back to the system: page faults otherwise take 40 % of
    CPU time. Idle OpenMP threads soon sleep: next to a busy process on two cores the label scores of 200 reviews took
    15.7 s where they sleep at once, 17 s where libgomp lets them spin 3,000 times, 20 s at 10,000 and 24 s at its
    default. On an idle machine to wake them at each step costs up to a tenth, and a short spin spares most of that.

    The model is a folder on disk by now, so no hub is asked, and none is logged into (ms-swift does where it finds
    ModelScope's token); `swift` is found next to the running Python.
    """
    env = {key: value for key, value in os.environ.items() if key not in TORCHRUN and key not in HUB_TOKENS}
    env.setdefault("TOKENIZERS_PARALLELISM", "false")
    env.setdefault("PYTHONIOENCODING", "utf-8")
    env["PYTHONUNBUFFERED"] = "1"
    if machine.gpu is None:
        env.setdefault("MALLOC_MMAP_THRESHOLD_", "4294967296")
        env.setdefault("MALLOC_TRIM_THRESHOLD_", "-1")
        env = IDLE_THREADS | env
        env.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB; a share of all memory otherwise
        if processes > 1:  # torchrun would give each one thread, and without it each would take all cores
            env.setdefault("OMP_NUM_THREADS", str(max(1, machine.cores // processes)))
    env["HF_HUB_OFFLINE"] = "1"
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
    return env


def visible_gpus(machine: Machine) -> list[str]:
    """The GPUs that are seen, as CUDA_VISIBLE_DEVICES names them: by number, or as the user has put them there."""
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return named if len(named) == machine.gpus else [str(number) for number in range(machine.gpus)]


def _cpu_name() -> str:
    with suppress(OSError):
        if found := re.search(r"^model name\s*: *(.*\S)", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE):
            return found[1]
    return platform.processor() or platform.machine()


def _memory_gib() -> float:
    """Without psutil: doctor says what is missing where nothing is installed."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (ValueError, OSError, AttributeError):
        return 0.0


def _nvidia_gpus() -> list[tuple[str, float, float]]:
    """(name, memory in GiB, compute capability) of each GPU that the driver shows and the user has not hidden."""
    if not shutil.which("nvidia-smi") or os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return []
    query = ["nvidia-smi", "--query-gpu=name,memory.total,compute_cap", "--format=csv,noheader,nounits"]
    try:
        result = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
        if importlib.metadata.version("torch").endswith("+cpu"):  # it cannot use the GPUs that are there
            return []
    except (subprocess.SubprocessError, importlib.metadata.PackageNotFoundError):
        return []
    rows = [line.split(", ") for line in result.stdout.strip().splitlines()]
    gpus = [(name, _number(memory) / 1024, _number(capability)) for name, memory, capability in rows]
    visible = [name.strip() for name in (os.environ.get("CUDA_VISIBLE_DEVICES") or "").split(",") if name.strip()]
    if not all(name.isdigit() for name in visible):  # names of another kind: which GPUs they are is not known here
        return gpus[: len(visible)]
    chosen = [gpus[int(index)] for index in visible if int(index) < len(gpus)]
    return chosen or gpus


def _number(text: str) -> float:
    """A figure of nvidia-smi; 0 for what it calls [N/A]."""
    try:
        return float(text)
    except ValueError:
        return 0.0
