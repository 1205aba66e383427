"""Which build of PyTorch computes on a card, and what helps where the one that is here does not."""

import re
from collections.abc import Sequence
from typing import Literal

from workspace.gpu_driver import CUDA_12_NEWER, CUDA_12_OLDEST, CUDA_13_DRIVER

CUDA_12, OLDEST_BUILD = "+cu12", "+cu126"  # in the versions of PyTorch's builds for CUDA 12, and of the first of them
# Why torch cannot use a card: it is built for CPUs, or for another maker's; the card is older than the build, or than
# all; newer than all, or than a build for CUDA 12; the driver is too old for the build, or for all that have the card;
# the user's choice names no card; the card, its driver or torch fails.
FaultKind = Literal[
    "", "other_build", "old_card", "older_card", "new_card", "old_build", "old_driver", "older_driver", "named",
    "failing",
]  # fmt: skip
# The pinned torch, named with its build: by the version alone uv leaves another build where it is.
_CUDA_12 = (
    "install the build for CUDA 12.6: `source .venv/bin/activate && uv pip install --torch-backend cu126 "
    "torch==2.13.0+cu126` (docs/gpu-and-scale.md)"
)
_RENEW = f"renew the driver to {CUDA_13_DRIVER} or newer"
REMEDIES: dict[FaultKind, str] = {
    "old_card": _CUDA_12,
    "older_card": "take another card, for no build of this torch has them",
    "new_card": "install a newer PyTorch that has them",
    "old_build": f"{_RENEW} where it is older, and remove .venv: the next run installs the build that has them",
    "old_driver": f"{_RENEW}, or {_CUDA_12}",
    "older_driver": _RENEW,
    "named": "name cards by number, such as 0 or 0,1 (as `nvidia-smi` counts them with CUDA_DEVICE_ORDER=PCI_BUS_ID)",
    "failing": "end what holds the card, or mend its driver (`nvidia-smi`, `rocm-smi` show both)",
}


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


def is_newer(capability: Sequence[int], built_for: Sequence[str]) -> bool:
    """Whether a card is newer than all that a build of torch has code for."""
    numbers = [name.rstrip("af").partition("_")[2] for name in built_for]
    return all(divmod(int(one), 10) < tuple(capability) for one in numbers if one.isdigit())


def kind_without_kernels(build: str, capability: tuple[int, int], newer: bool) -> FaultKind:
    """The kind of fault of a card that a build has no kernels for."""
    if newer:
        return "old_build" if CUDA_12 in build else "new_card"
    return "older_card" if OLDEST_BUILD in build or capability < CUDA_12_OLDEST else "old_card"


def kind_of_old_driver(build: str, said: str, cards: Sequence[Sequence[int]]) -> FaultKind:
    """The kind of fault of a driver that torch calls too old by `said`; `cards`: their capabilities, where known."""
    knows = re.search(r"found version (\d+)", said)  # the CUDA that the driver knows, such as 12020: from 525 on 12
    none_fits = CUDA_12 in build or any(tuple(one) >= CUDA_12_NEWER for one in cards)
    return "older_driver" if none_fits or (knows is not None and int(knows[1]) < 12_000) else "old_driver"
