"""Whether the driver of a GPU is on this machine, and which version NVIDIA's has, without asking torch."""

import os
import re
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

# Any of these is there where a driver is: NVIDIA's, that of Jetson, AMD's, that of WSL (there for other makers' too).
CARDS = ("/dev/nvidiactl", "/dev/nvmap", "/dev/kfd")
DRIVERS = (*CARDS, "/dev/dxg")
MODULE = Path("/proc/driver/nvidia/version")  # in containers, which often have no nvidia-smi
VERSION = re.compile(r"(?:^|Kernel Module[^\n]*?\s)(\d{3,})\.\d+", re.MULTILINE)


def has_driver() -> bool:
    """Whether the driver of a GPU is installed."""
    return any(os.path.exists(path) for path in DRIVERS) or shutil.which("nvidia-smi") is not None


def driver_version() -> int | None:
    """The major version of the NVIDIA driver; 0 where a driver's is unknown, or AMD's; None where there is no GPU."""
    said = ""
    with suppress(OSError):
        words = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        answer = subprocess.run(words, capture_output=True, text=True)
        said = "" if answer.returncode else answer.stdout
    if not VERSION.search(said):
        with suppress(OSError):
            said = MODULE.read_text(encoding="utf-8", errors="replace")
    if found := VERSION.search(said):  # a warning may come first
        return int(found[1])
    return 0 if any(os.path.exists(path) for path in CARDS) else None
