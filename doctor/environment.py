"""What doctor says of the machine and its environment: Python, packages, processors, tools, fonts."""

import os
import platform
import shutil
import sys

from doctor.result import FAULT, OK, WARNING, Check
from plan.gpus import VISIBLE
from plan.hardware import Machine, check_usable, dtype_flags
from workspace.errors import UserError
from workspace.install import misses
from workspace.paths import ROOT

OLDEST = (3, 11)
PINS = ROOT / (os.environ.get("REQUIREMENTS") or "requirements.txt")
INSTALL = "run `source setup_environment.sh` (installs them into .venv), or pip install -r requirements.txt / 安装依赖"
SHOWN = 6  # packages named in a line
SHARED = "end what else holds the card (`nvidia-smi` shows it): batches and vLLM's share go by what is free"


def python() -> Check:
    """The running Python."""
    found = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info < OLDEST:
        return Check("python", FAULT, found, "install Python 3.11 or newer, or set PYTHON=/path/to/python3.11")
    return Check("python", OK, found)


def packages() -> Check:
    """Every pin against what is installed."""
    lines = misses(PINS)
    if not lines:
        return Check("packages", OK, f"every pin of {PINS.name} is met")
    more = f" and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
    return Check("packages", FAULT, f"{'; '.join(lines[:SHOWN])}{more}", INSTALL)


def hardware(machine: Machine | None) -> Check:
    """Processors, GPUs, and the dtype that follows."""
    if machine is None:
        return Check("machine", FAULT, "processors and memory cannot be read", "run where /proc can be read")
    flags = dtype_flags(machine)
    found = f"{machine.describe()}; training in {flags['torch_dtype']}"
    try:
        check_usable(machine)
    except UserError as error:
        return Check("machine", FAULT, found, str(error))
    found = f"{found}; {machine.unused}" if machine.unused else found
    if machine.gpu is None and machine.unused:
        return Check("machine", WARNING, found, _instead(machine))
    if machine.best_free < 1:
        return Check("machine", WARNING, found, SHARED)
    return Check("machine", OK, found)


def _instead(machine: Machine) -> str:
    if machine.gpu_fault:
        return (
            f"nothing where no GPU is to compute; else look at {VISIBLE}, and remove .venv: the next run installs the "
            "build of torch that fits the card and its driver, where there is one"
        )
    return "nothing, or your own options for `swift sft`, such as --use_cpu false --torch_dtype bfloat16: not checked"


def tools() -> Check:
    """The commands that the pipeline calls."""
    missing = [name for name in ("bash", "cksum") if shutil.which(name) is None]
    if missing:
        return Check("tools", FAULT, f"not on PATH: {', '.join(missing)}", "install them with the system's packages")
    return Check("tools", OK, "nothing but bash and coreutils is needed")


def font() -> Check:
    """A font with the Chinese characters of the pictures."""
    from workspace.fonts import chinese_font

    found = chinese_font()
    if found is None:
        return Check("font", WARNING, "no font has the Chinese characters: pictures will be in English alone",
                     "install Noto Sans CJK SC, or pip install zhplot / 安装中文字体")  # fmt: skip
    return Check("font", OK, f"{found.family} ({found.path})")
