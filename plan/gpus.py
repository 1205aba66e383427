"""The GPUs that torch can use here, asked of torch itself in a process of its own, once for a run.

Run as: python -m plan.gpus (prints one line of JSON)

What counts is what torch sees: a driver that is too old, a card that this build has no kernels for, a slice of a card
(MIG), memory that others hold. nvidia-smi knows none of these, and its figures can be `[N/A]`.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workspace.files import write_json
from workspace.gpu_driver import has_driver
from workspace.paths import ROOT

VISIBLE = "CUDA_VISIBLE_DEVICES"
KEPT = "RUN_SFT_GPUS"  # in the environment of run_sft.sh's stages: where the first answer is kept for the others
FREE_SHARE = 0.85  # of a card's memory: with less free, somebody else uses it
PATIENCE = 180  # seconds: a driver that hangs would hold a run for ever
NO_KERNELS = "has no kernels"
# PyTorch's build of the pinned torch that has kernels from compute capability 5.0 on and asks for driver 525.
OLDER_BUILD = "torch 2.13.0+cu126"


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
    """The cards that torch computes on, and why it does not on others: one sentence, empty where there are none."""

    usable: tuple[Gpu, ...] = ()
    fault: str = ""
    visible: int = 0

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
    if any(hidden(os.environ.get(name)) for name in (VISIBLE, "HIP_VISIBLE_DEVICES")) or not has_driver():
        return Gpus()
    from workspace.records import read_if_whole  # the doctor reads this module with Python alone

    kept = os.environ.get(KEPT)
    if kept and (found := read_if_whole(Path(kept), Gpus)):
        return found
    found = _ask_torch()
    if kept:
        write_json(Path(kept), asdict(found))
    return found


def hidden(named: str | None) -> bool:
    """Whether a value of CUDA_VISIBLE_DEVICES shows no card: what is before the first entry that names none counts, and
    an entry that is there twice is an error to the driver (NVIDIA's CUDA C++ Programming Guide, "CUDA Environment
    Variables")."""
    if named is None:
        return False
    entries = [one.strip() for one in named.split(",")]
    numbers = [one for one in entries if one]
    shows = entries[0].isdecimal() or entries[0].startswith(("GPU-", "MIG-"))
    return not shows or len(set(numbers)) < len(numbers)


def has_kernels(capability: Sequence[int], built_for: Sequence[str]) -> bool:
    """Whether a build of torch `built_for` architectures (`sm_75`, `compute_90`) runs on a compute capability.

    Machine code runs on its own major version from its minor on, PTX (`compute_`) on everything newer: NVIDIA's CUDA
    C++ Programming Guide, "Binary compatibility", "PTX compatibility".
    """
    major, minor = capability
    for name in built_for:
        kind, _, number = name.rstrip("af").partition("_")
        if not number.isdigit():
            return True  # names of another maker's
        its_major, its_minor = divmod(int(number), 10)
        if (kind == "compute" and (its_major, its_minor) <= (major, minor)) or (
            its_major == major and its_minor <= minor
        ):
            return True
    return not built_for


def _newer(capability: Sequence[int], built_for: Sequence[str]) -> bool:
    """Whether a card is newer than all that a build of torch has code for."""
    numbers = [name.rstrip("af").partition("_")[2] for name in built_for]
    return all(divmod(int(one), 10) < tuple(capability) for one in numbers if one.isdigit())


def seen_by_torch() -> dict[str, Any]:
    """What torch says, as JSON: imported here, so to be called in a process of its own."""
    import warnings

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        import torch

        if torch.version.cuda is None and getattr(torch.version, "hip", None) is None:
            return {"build": "cpu"}
        found: dict[str, Any] = {"build": torch.__version__, "architectures": list(torch.cuda.get_arch_list())}
        cards = []
        for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
            properties, capability = torch.cuda.get_device_properties(number), torch.cuda.get_device_capability(number)
            total, free = properties.total_memory, None
            fault = ""
            if has_kernels(capability, found["architectures"]):
                try:
                    free, total = torch.cuda.mem_get_info(number)  # opens the card, which a full or sick one refuses
                except RuntimeError as error:
                    fault = str(error).splitlines()[0]
            cards.append(
                {"number": number, "name": properties.name, "memory_gib": total / 2**30, "capability": capability,
                 "free_gib": total / 2**30 if free is None else free / 2**30, "fault": fault}
            )  # fmt: skip
    return found | {"cards": cards, "warnings": [str(one.message).split("(Triggered")[0].strip() for one in said]}


def _ask_torch() -> Gpus:
    command = [sys.executable, "-m", "plan.gpus"]
    try:
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return Gpus(fault=f"torch has not said within {PATIENCE} s which GPUs it can use: the driver may hang")
    try:
        said = json.loads(result.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        lines = result.stderr.strip().splitlines()
        if lines and "No module named 'torch'" in lines[-1]:
            return Gpus()
        said = next((line for line in lines if "Error: " in line), lines[-1] if lines else "no answer")
        return Gpus(fault=f"torch fails at the GPU whose driver is here ({said.strip()})")
    return judge(said)


def judge(said: dict[str, Any]) -> Gpus:
    """The cards that torch can use of those it named, and the fault with those that it cannot."""
    if said["build"] == "cpu":
        return Gpus(fault="a GPU's driver is here and this torch is built for CPUs")
    usable, without, failing = [], [], []
    for card in said["cards"]:
        capability, refused = tuple(card["capability"]), card.pop("fault", "")
        if refused:
            failing.append(f"{card['name']} (number {card['number']}): {refused}")
        elif has_kernels(capability, said["architectures"]):
            usable.append(Gpu(**{**card, "capability": capability, "bf16": capability >= (8, 0)}))
        else:
            newer = ", newer than the build" if _newer(capability, said["architectures"]) else ""
            without.append(f"{card['name']} (compute capability {'.'.join(map(str, capability))}{newer})")
    if without:
        fault = f"torch {said['build']} {NO_KERNELS} for {', '.join(without)}"
    elif failing:
        fault = f"torch {said['build']} cannot use {'; '.join(failing)}"
    elif not usable:
        why = next((line for line in said["warnings"] if line), "torch sees no card").splitlines()[0]
        fault = f"torch {said['build']} cannot use the GPU: {why}"
    else:
        fault = ""
    return Gpus(tuple(usable), fault, len(said["cards"]))


if __name__ == "__main__":
    print(json.dumps(seen_by_torch()))
