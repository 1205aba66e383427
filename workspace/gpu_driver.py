"""Whether the driver of a GPU is on this machine, which version NVIDIA's has, and which cards, without asking torch."""

import importlib.metadata
import os
import re
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

# Where a driver has a card: NVIDIA's on Linux, on a Jetson and in WSL (whose /dev/dxg is there without a card), AMD's.
NVIDIA = ("/dev/nvidiactl", "/dev/nvmap", "/usr/lib/wsl/lib/libcuda.so.1")
AMD = "/dev/kfd"
CARDS = (*NVIDIA, AMD)
CUDA_13_DRIVER = 580  # the oldest for PyTorch's build for CUDA 13.0; that for 12.6 asks for 525
# The oldest compute capabilities that the two have kernels for, and the first that is too new for 12.6.
CUDA_13_OLDEST, CUDA_12_OLDEST, CUDA_12_NEWER = (7, 5), (5, 0), (10, 0)
MODULE = Path("/proc/driver/nvidia/version")  # in containers, which often have no nvidia-smi
VERSION = re.compile(r"(?:^|Kernel Module[^\n]*?\s)(\d{3,})\.\d+", re.MULTILINE)


def has_driver() -> bool:
    """Whether the driver of a GPU is installed."""
    return any(map(os.path.exists, CARDS)) or shutil.which("nvidia-smi") is not None or _amd_in_wsl()


def _amd_in_wsl() -> bool:
    """Whether this is a WSL with torch's build for AMD: there nothing but the build tells of AMD's card."""
    with suppress(importlib.metadata.PackageNotFoundError):
        return os.path.exists("/dev/dxg") and "+rocm" in importlib.metadata.version("torch")
    return False


def driver_version() -> int | None:
    """The major version of the NVIDIA driver; 0 where a driver's is unknown, or AMD's; None where there is no GPU."""
    said = _asked("driver_version")
    if not VERSION.search(said):
        with suppress(OSError):
            said = MODULE.read_text(encoding="utf-8", errors="replace")
    if found := VERSION.search(said):  # a warning may come first
        return int(found[1])
    return 0 if any(map(os.path.exists, CARDS)) or _amd_in_wsl() else None


def capabilities() -> list[tuple[int, int]]:
    """The compute capability of each NVIDIA card, by nvidia-smi; empty where it says none."""
    found = re.findall(r"^(\d+)\.(\d+)\s*$", _asked("compute_cap"), re.MULTILINE)
    return [(int(major), int(minor)) for major, minor in found]


def _asked(key: str) -> str:
    """What nvidia-smi says of `key`, a line a card, after warnings; empty where it fails."""
    with suppress(OSError):
        words = ["nvidia-smi", f"--query-gpu={key}", "--format=csv,noheader"]
        answer = subprocess.run(words, capture_output=True, text=True)
        return "" if answer.returncode else answer.stdout
    return ""
