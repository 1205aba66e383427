"""What this machine is: processors, memory, GPUs, and the flags of ms-swift that follow."""

import math
import os
import platform
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from plan.gpu_builds import REMEDIES, FaultKind
from plan.gpus import VISIBLE, choice_variable, find_gpus
from plan.option_values import is_true
from workspace.errors import UserError
from workspace.gpu_driver import has_driver

# By these ms-swift starts torchrun, or finds that it was started by it.
TORCHRUN = {
    "NPROC_PER_NODE", "NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "RANK", "LOCAL_RANK", "WORLD_SIZE",
    "LOCAL_WORLD_SIZE", "LOCAL_SIZE", "GROUP_RANK", "_PATCH_WORLD_SIZE",
}  # fmt: skip
IDLE_THREADS = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}  # see child_environment
# Devices that ms-swift takes where torch has an extension for them, by their driver's file.
OTHER_DEVICES = {"/dev/davinci_manager": "the Ascend NPU", "/dev/mtgpu.0": "the Moore Threads GPU"}
CGROUPS = Path("/sys/fs/cgroup")  # in a container its own
HUB_TOKENS = {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "MODELSCOPE_API_TOKEN", "MODELSCOPE_SDK_TOKEN"}


@dataclass(frozen=True)
class Machine:
    """Hardware as a recipe needs to know it. Memory in GiB; `gpu` is None where there is none that torch can use.

    One process takes `gpu`, the best, which is number `best` of the `visible` ones and has `best_memory_gib`. Several
    processes take the `gpus` that are like it (`gpu_numbers`), of which the smallest has `gpu_memory_gib`. `best_free`
    and `gpu_free`: the shares that are free where somebody else uses a card. `gpu_fault`: why torch cannot use a GPU
    that is here. `other_device`: Apple's GPU or an NPU, for which nothing is chosen.
    """

    cpu: str
    cores: int
    memory_gib: float
    gpu: str | None
    gpus: int
    gpu_memory_gib: float
    gpu_bf16: bool
    best: int = 0
    best_memory_gib: float = 0.0
    best_free: float = 1.0
    gpu_free: float = 1.0
    gpu_numbers: tuple[int, ...] = ()
    visible: int = 1
    gpu_fault: str = ""
    fault_kind: FaultKind = ""
    other_device: str = ""

    def memory_of(self, processes: int) -> float:
        """GiB that each of `processes` on this machine's GPUs can count on."""
        return (self.best_memory_gib if processes == 1 else 0.0) or self.gpu_memory_gib

    def free_share_of(self, processes: int) -> float:
        """The least share that is free of the cards that `processes` on this machine take."""
        return self.best_free if processes == 1 else self.gpu_free

    def total_of(self, processes: int) -> float:
        """GiB that each of those GPUs has, whoever uses it now; a bit more where they are not alike."""
        return self.memory_of(processes) / self.free_share_of(processes)

    @property
    def unused(self) -> str:
        """What is here and does not compute, in words; empty where there is nothing."""
        if self.gpu_fault:
            return f"{self.gpu_fault}; that GPU is not used"
        other = f"{self.other_device} is not used: training and answers are computed on the CPU, in float32"
        return other if self.other_device and self.gpu is None else ""

    def describe(self) -> str:
        """One line for a report."""
        cpu = f"{self.cores} cores ({self.cpu}), {self.memory_gib:.0f} GiB memory"
        gpu = f"{self.gpus} x {self.gpu} ({_size(self.gpu_memory_gib, self.gpu_free, self.gpus)})"
        if self.best_memory_gib > self.gpu_memory_gib + 0.5:
            gpu = f"{self.gpu} ({_size(self.best_memory_gib, self.best_free)}) of {self.gpus} GPUs"
        return f"{gpu}, {cpu}" if self.gpu else f"CPU only, {cpu}"

    def as_dict(self) -> dict[str, Any]:
        """The fields as JSON."""
        return asdict(self)


def this_machine() -> Machine:
    """Look at this machine. torch is not imported here; where a GPU's driver is, it is asked (plan/gpus.py)."""
    found = find_gpus()
    gpus = found.alike
    return Machine(
        cpu=_cpu_name(),
        cores=_cores(),
        memory_gib=_memory_gib(),
        gpu=found.best.name if gpus else None,
        gpus=len(gpus),
        gpu_memory_gib=min((card.usable_gib for card in gpus), default=0.0),
        gpu_bf16=bool(gpus) and found.best.bf16,
        best=found.best.number if gpus else 0,
        best_memory_gib=found.best.usable_gib if gpus else 0.0,
        best_free=found.best.usable_gib / found.best.memory_gib if gpus else 1.0,
        gpu_free=min((card.usable_gib / card.memory_gib for card in gpus), default=1.0),
        gpu_numbers=tuple(card.number for card in gpus),
        visible=found.visible,
        gpu_fault=found.fault,
        fault_kind=found.kind,
        other_device=_other_device(),
    )


def used_by(sft: Mapping[str, Any], machine: Machine) -> Machine:
    """What a resolved sft.yaml uses of a machine: not its GPU, where it says `use_cpu`."""
    if not is_true(sft, "use_cpu"):
        return machine
    return replace(machine, gpu=None, gpus=0, gpu_numbers=(), gpu_fault="", fault_kind="")


def check_usable(machine: Machine, sft: Mapping[str, Any] = {}) -> None:
    """Raise `UserError` where a GPU is here and this build of torch can use none: hours on the CPU are not meant.

    A torch that is built for CPUs has been chosen, and is told of instead. Weights of few bits (`sft`) need a GPU.
    """
    if machine.gpu is None and (remedy := REMEDIES.get(machine.fault_kind)):
        raise UserError(
            f"{machine.gpu_fault}: {remedy}, or put {VISIBLE}= (empty) before the command to compute on the CPU"
        )
    check_bits(machine, sft)


def check_bits(machine: Machine, sft: Mapping[str, Any]) -> None:
    """Raise `UserError` for weights of few bits where no GPU computes."""
    if machine.gpu is None and str(sft.get("quant_bits") or 0) != "0":
        raise UserError(
            f"quant_bits: {sft['quant_bits']} is for GPUs, and none is used here: take another recipe, or the model's "
            "weights whole"
        )


def dtype_flags(machine: Machine, float32_weights: bool = False) -> dict[str, Any]:
    """The dtype keys of `swift sft` for this machine.

    On a CPU ms-swift needs `use_cpu`, or it takes the checkpoint's bf16; on a GPU float32 would imply fp16
    mixed precision, so one of the two is always said. `float32_weights`: the weights that are tuned are kept in float32
    and multiplied in half precision. In bfloat16, with 8 bits of mantissa, AdamW's steps at 5e-5 are rounded away for
    half of them, and torch's gradient scaler refuses gradients in float16 (Micikevicius et al., 2018, section 3.1).
    """
    if machine.gpu is None:
        return {"torch_dtype": "float32", "use_cpu": True, "bf16": False, "fp16": False}
    half = "bfloat16" if machine.gpu_bf16 else "float16"
    mixed = {"bf16": machine.gpu_bf16, "fp16": not machine.gpu_bf16}
    return {"torch_dtype": "float32" if float32_weights else half, **mixed}


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
    env = {"TOKENIZERS_PARALLELISM": "false", "PYTHONIOENCODING": "utf-8"} | env
    if machine.gpu is None:
        env.setdefault("MALLOC_MMAP_THRESHOLD_", "4294967296")
        env.setdefault("MALLOC_TRIM_THRESHOLD_", "-1")
        env = IDLE_THREADS | env
        env.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB; a share of all memory otherwise
        if processes > 1:  # torchrun would give each one thread, and without it each would take all cores
            env.setdefault("OMP_NUM_THREADS", str(max(1, machine.cores // processes)))
        if has_driver():  # a run that is planned for the CPU, or a card that torch cannot use: no child is to try it
            env |= {VISIBLE: "-1", choice_variable(): "-1"}  # to AMD's an empty one means all
    return env | {
        "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1", "PATH": f"{Path(sys.executable).parent}:{env['PATH']}"
    }  # fmt: skip


def visible_gpus(machine: Machine) -> list[str]:
    """The GPUs that torch can use, as CUDA_VISIBLE_DEVICES names them: by number, or as the user has put them there."""
    named = [name.strip() for name in os.environ.get(choice_variable(), "").split(",") if name.strip()]
    numbers = machine.gpu_numbers or tuple(range(machine.gpus))
    return [named[number] if number < len(named) else str(number) for number in numbers]


def one_gpu(machine: Machine) -> dict[str, str]:
    """The environment in which one process takes the best free card alone; empty where there is but one.

    ms-swift would spread the model over all that it sees, however small or busy.
    """
    if machine.gpu is None or max(machine.visible, machine.gpus) == 1:
        return {}
    numbers = machine.gpu_numbers or tuple(range(machine.gpus))
    return {choice_variable(): visible_gpus(machine)[numbers.index(machine.best)]}


def computing_device(machine: Machine | None = None) -> str:
    """torch's name of what one process computes on: the best free card, or else the CPU, and why, on stderr."""
    machine = machine or this_machine()
    if machine.gpu is None and machine.gpu_fault:
        print(f"{machine.unused}: computing on the CPU", file=sys.stderr, flush=True)
    return f"cuda:{machine.best}" if machine.gpu else "cpu"


def _size(gib: float, free: float, cards: int = 1) -> str:
    """The memory that counts of a card, or of several the least; `free`: the share that is, where others hold some."""
    whole = f" of {gib / free:.0f}" if 0 < free < 1 and cards == 1 else ""
    return f"{gib:.0f}{whole} GiB{' free' if free < 1 else ''}"


def _other_device() -> str:
    if (platform.system(), platform.machine()) == ("Darwin", "arm64"):
        return "Apple's GPU (MPS)"
    return next((name for path, name in OTHER_DEVICES.items() if os.path.exists(path)), "")


def _cpu_name() -> str:
    with suppress(OSError):
        if found := re.search(r"^model name\s*: *(.*\S)", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE):
            return found[1]
    return platform.processor() or platform.machine()


def _memory_gib() -> float:
    """Without psutil: doctor says what is missing where nothing is installed. A container's limit counts."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0.0
    limits = (int(one) for (one,) in _cgroup("memory.max", "memory/memory.limit_in_bytes") if one.isdigit())
    return min(memory, *limits, memory) / 2**30


def _cores() -> int:
    """The cores that this process may use; a container's share of their time counts as so many, rounded up."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    shares = _cgroup("cpu.max", "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")
    return min(cores, *(max(1, math.ceil(int(a) / int(b))) for a, b in shares if a.isdigit() and int(b)), cores)


def _cgroup(second: str, *first: str) -> list[list[str]]:
    """The words of a limit of this process: of cgroup v2's file, and of v1's files together, where they are there."""
    found = []
    for names in ([second], first):
        with suppress(OSError):
            found.append([word for name in names for word in (CGROUPS / name).read_text("utf-8").split()])
    return found
