"""The GPUs that torch can use here, asked of torch itself in a process of its own, once for a run.

Run as: python -m plan.gpus (prints one line of JSON)

What counts is what torch sees: a driver that is too old, a card that this build has no kernels for, a slice of a card
(MIG), memory that others hold. nvidia-smi knows none of these, and its figures can be `[N/A]`.
"""

import fcntl
import json
import os
import re
import subprocess
import sys
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from plan.gpu_builds import FaultKind, has_kernels, is_newer, kind_of_old_driver, kind_without_kernels
from workspace.files import write_json
from workspace.gpu_driver import AMD, NVIDIA, capabilities, has_driver
from workspace.paths import ROOT

VISIBLE = "CUDA_VISIBLE_DEVICES"
HIP = "HIP_VISIBLE_DEVICES"  # AMD's own variable
KEPT = "RUN_SFT_GPUS"  # in the environment of run_sft.sh's stages: where the first answer is kept for the others
FREE_SHARE = 0.85  # of a card's memory: with less free, somebody else uses it
PATIENCE = 180  # seconds: a driver that hangs would hold a run for ever


@dataclass(frozen=True)
class Gpu:
    """A card, or a slice of one, by its number among those that are visible. Memory in GiB."""

    number: int
    name: str
    memory_gib: float
    free_gib: float
    capability: tuple[int, int]
    bf16: bool

    @property
    def usable_gib(self) -> float:
        """The memory that a run may count on: all of it, or what is free where somebody else uses the card."""
        return self.memory_gib if self.free_gib >= FREE_SHARE * self.memory_gib else self.free_gib


@dataclass(frozen=True)
class Gpus:
    """The cards that torch computes on, and why it does not on others: one sentence, and of which kind that is; both
    empty where there are none."""

    usable: tuple[Gpu, ...] = ()
    fault: str = ""
    visible: int = 0
    kind: FaultKind = ""

    @property
    def best(self) -> Gpu:
        """The card for one process: bf16 first, then the most memory that is free, then the first.

        One that others have nearly filled is not taken for its bf16.
        """
        most = max(card.usable_gib for card in self.usable)
        free = [card for card in self.usable if card.usable_gib >= most / 4]
        return max(free, key=lambda card: (card.bf16, round(card.usable_gib), -card.number))

    @property
    def alike(self) -> tuple[Gpu, ...]:
        """The cards for several processes: as the best one but for up to half its memory; the freest first."""
        fitting = (card for card in self.usable if card.bf16 == self.best.bf16)
        alike = (card for card in fitting if card.usable_gib >= self.best.usable_gib / 2)
        return tuple(sorted(alike, key=lambda card: (-round(card.usable_gib), card.number)))


def find_gpus() -> Gpus:
    """The GPUs of this machine; torch is asked only where a driver is and the user has not hidden the cards."""
    if any(map(hidden, _named_cards().values())) or not has_driver():
        return Gpus()
    from workspace.records import read_if_whole  # the doctor reads this module with Python alone

    kept = os.environ.get(KEPT)
    if not kept:
        return _ask_torch()
    # Two stages begin side by side, and a card that takes one process alone would refuse the second that asks.
    with ExitStack() as waiting:
        with suppress(OSError):  # a file system without locks
            turn = waiting.enter_context(open(f"{kept}.lock", "wb"))
            fcntl.flock(turn, fcntl.LOCK_EX)
        found = read_if_whole(Path(kept), Gpus)
        if found is None:
            found = _ask_torch()
            write_json(Path(kept), asdict(found))
    return found


def choice_variable() -> str:
    """The variable that names the cards to use, in which others are chosen: AMD's own where AMD's driver is and the
    user has set one of those."""
    own = os.path.exists(AMD) and {HIP, "ROCR_VISIBLE_DEVICES"} & os.environ.keys()
    return HIP if own else VISIBLE


def _named_cards() -> dict[str, str]:
    """The variables that are set and name the cards to use."""
    return {name: os.environ[name] for name in {VISIBLE, choice_variable()} if name in os.environ}


def hidden(named: str) -> bool:
    """Whether a value of CUDA_VISIBLE_DEVICES is one by which all cards are meant to be hidden.

    One that names no card by a mistake (`cuda:0`, `0,0`, the 7 of two) is not: torch sees none, and `judge` says why.
    """
    return re.fullmatch(r"\s*(|-\d.*|none|void|nodevfiles)\s*", named, re.IGNORECASE) is not None


def seen_by_torch() -> dict[str, Any]:
    """What torch says, as JSON: imported here, so to be called in a process of its own."""
    import warnings

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        import torch

        if torch.version.cuda is None and getattr(torch.version, "hip", None) is None:
            return {"build": "cpu"}
        found: dict[str, Any] = {"build": torch.__version__, "architectures": list(torch.cuda.get_arch_list())}
        found["hip"] = torch.version.cuda is None
        cards: list[dict[str, Any]] = []
        there = torch.cuda.is_available()
        if there:
            torch.cuda.init()  # before, the driver's count is told: of whole cards, where slices of one are visible
        for number in range(torch.cuda.device_count() if there else 0):
            card: dict[str, Any] = {"number": number, "name": "GPU", "memory_gib": 0.0, "free_gib": 0.0,
                                    "capability": (0, 0), "fault": ""}  # fmt: skip
            cards.append(card)
            try:
                properties = torch.cuda.get_device_properties(number)
                card |= {"name": properties.name, "capability": torch.cuda.get_device_capability(number)}
                total = free = properties.total_memory
                if has_kernels(card["capability"], found["architectures"]):
                    free, total = torch.cuda.mem_get_info(number)  # opens the card, which a full or sick one refuses
                card |= {"memory_gib": total / 2**30, "free_gib": free / 2**30}
            except (RuntimeError, AssertionError) as error:
                card["fault"] = str(error).splitlines()[0]
    if not cards:
        found["capabilities"] = capabilities()
    return found | {"cards": cards, "warnings": [str(one.message).split("(Triggered")[0].strip() for one in said]}


def _ask_torch() -> Gpus:
    command = [sys.executable, "-m", "plan.gpus"]
    asked = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        answer, errors = asked.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        asked.kill()  # and not waited for: a process that waits for a driver cannot be killed
        fault = f"torch has not said within {PATIENCE} s which GPUs it can use: the driver may hang"
        return Gpus(fault=fault, kind="failing")
    try:
        said = json.loads(answer.strip().splitlines()[-1])
    except (ValueError, IndexError):
        lines = errors.strip().splitlines()
        if lines and "No module named 'torch'" in lines[-1]:
            return Gpus()
        said = next((line for line in lines if "Error: " in line), lines[-1] if lines else "no answer")
        return Gpus(fault=f"torch fails at the GPU whose driver is here ({said.strip()})", kind="failing")
    return judge(said)


def judge(said: dict[str, Any]) -> Gpus:
    """The cards that torch can use of those it named, and the fault with those that it cannot."""
    build = f"torch {said['build']}"
    if said["build"] == "cpu":
        return Gpus(fault="a GPU's driver is here and this torch is built for CPUs", kind="other_build")
    usable, without, failing = [], [], []
    kind: FaultKind = ""
    for card in said["cards"]:
        capability, refused = tuple(card["capability"]), card.pop("fault", "")
        if refused:
            failing.append(f"{card['name']} (number {card['number']}): {refused}")
        elif has_kernels(capability, said["architectures"]):
            usable.append(Gpu(**{**card, "capability": capability, "bf16": capability >= (8, 0)}))
        else:
            newer = is_newer(capability, said["architectures"])
            kind = kind_without_kernels(build, capability, newer)
            told = f"{'.'.join(map(str, capability))}{', newer than the build' if newer else ''}"
            without.append(f"{card['name']} (compute capability {told})")
    faults = [f"has no kernels for {', '.join(without)}"] if without else []
    faults += [f"cannot use {'; '.join(failing)}"] if failing else []
    if not said["cards"]:
        return _unseen(build, said)
    kind = "failing" if failing else kind
    return Gpus(tuple(usable), f"{build} {', and '.join(faults)}" if faults else "", len(said["cards"]), kind)


def _unseen(build: str, said: dict[str, Any]) -> Gpus:
    """Why a torch that is built for GPUs, AMD's where `said` has hip, sees none."""
    # By "no CUDA …" torch says that it sees none, not why.
    if why := next((line for line in said["warnings"] if line and "no cuda" not in line.lower()), ""):
        kind: FaultKind = "failing"
        if "too old" in why:  # the words of torch's own warning
            kind = kind_of_old_driver(build, why, said.get("capabilities", ()))
        return Gpus(fault=f"{build} cannot use the GPU: {why.splitlines()[0].rstrip('.')}", kind=kind)
    if named := _named_cards():
        told = " and ".join(f"{name}={value}" for name, value in named.items())
        return Gpus(fault=f"{build} cannot use the GPU: {told} names none that is here", kind="named")
    if any(map(os.path.exists, (AMD,) if said.get("hip") else NVIDIA)):
        return Gpus(fault=f"{build} cannot use the GPU: torch sees no card", kind="failing")
    return Gpus(fault=f"a GPU's driver is here and {build} sees no card of it", kind="other_build")


if __name__ == "__main__":
    print(json.dumps(seen_by_torch()))
