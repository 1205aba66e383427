"""Install the tested set into .venv, and that with vLLM into .venv-vllm, with uv, or with pip where uv cannot be had.

Run as: python -m workspace.install requirements.txt [--stamp FILE] | --check requirements.txt

On Linux x86_64 every file's SHA-256 is compared with the lock files' (`.ci/relock` writes them); elsewhere, and where
NO_HASHES=1 or PIP_NO_INDEX asks for it, the pinned versions are installed as they come, and a line says so. Without a
GPU torch's CPU build is taken, with one the build that fits its driver. `--check` prints the pins that the running
Python does not meet, and installs nothing. Exit status 2 with one sentence where something is wrong.
"""

import fcntl
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from workspace import pip_settings
from workspace.command_line import Parser
from workspace.errors import UserError, run_main
from workspace.gpu_driver import CUDA_13_DRIVER, CUDA_13_OLDEST, capabilities, driver_version
from workspace.installer import Installer, find_installer, say
from workspace.paths import ROOT

VENV = ROOT / ".venv"
CPU_LOCK, GPU_LOCK, DEV_LOCK = (ROOT / f"requirements-{name}.lock" for name in ("cpu", "gpu", "dev"))
MORE_LOCKS = {"requirements.txt": (), "requirements-dev.txt": (DEV_LOCK,)}
PYTHONS = ("3.11", "3.12", "3.13")
CPU_PYTHON = "3.11"  # the one whose CPU build of torch is locked
# Four packages are published as source alone: this one builds them, and is itself installed first, by its hash.
BUILDER = "setuptools"


class TorchBuild(NamedTuple):
    """The words that install a build of torch, and whether they compare its hash."""

    words: tuple[str, ...]
    locked: bool

    @property
    def backend(self) -> tuple[str, ...]:
        """uv's option for an index of PyTorch's own, where it is used."""
        return tuple(word for word in self.words if word.startswith("--torch-backend"))


def misses(path: Path) -> list[str]:
    """The pins in `path` (and the files it includes with -r) that the running Python does not meet, in words."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        line = line.split("#")[0].strip()
        if line.startswith("-r "):
            found += misses(path.parent / line[3:].strip())
        elif line:
            name, _, version = (part.strip() for part in line.partition("=="))
            try:
                # torch 2.13.0+cpu meets torch==2.13.0: the part behind + names the build.
                installed = importlib.metadata.version(name).split("+")[0]
            except importlib.metadata.PackageNotFoundError:
                installed = "missing"
            if installed != version:
                found.append(f"{name}: {installed}, wanted {version}")
    return found


def constraints(pins: str) -> tuple[str, ...]:
    """The words that keep what a file of pins brings along to versions, where a file beside it names them."""
    beside = ROOT / f"{Path(pins).stem}-constraints.txt"
    return ("--constraint", str(beside)) if beside.is_file() else ()


def read_lock(*paths: Path) -> dict[str, str]:
    """Package to its text, `name==version` with marker and hashes, of lock files."""
    texts = (re.sub(r"^\s*#.*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE) for path in paths)
    entries = [entry for text in texts for entry in re.split(r"^(?=\S)", text, flags=re.MULTILINE) if entry.strip()]
    return {entry.split("==")[0]: entry for entry in entries}


def not_covered(pins: str, environ: Mapping[str, str]) -> str | None:
    """Why the lock files are not used for this file of pins on this machine, in words; None where they are."""
    if environ.get("NO_HASHES", "") not in ("", "0"):
        return "NO_HASHES is set"
    if pip_settings.no_index({"no-index": environ.get("PIP_NO_INDEX", "")}):
        return "PIP_NO_INDEX is set, and wheels that were built by hand have hashes of their own"
    if Path(pins).name not in MORE_LOCKS:
        return f"there is no lock file for {pins}"
    version = platform.python_version()
    machine = f"{platform.system()} {platform.machine()}, {platform.python_implementation()} {version}"
    covered = machine.startswith("Linux x86_64, CPython") and platform.libc_ver()[0] == "glibc"
    if not covered or version.rpartition(".")[0] not in PYTHONS:
        return f"the lock files are for Linux x86_64, glibc, CPython {PYTHONS[0]} to {PYTHONS[-1]}, this is {machine}"
    return None


def torch_build(
    installer: Installer,
    driver: int | None,
    version: str,
    locked: Path | None,
    cards: Sequence[tuple[int, int]] = (),
) -> TorchBuild | None:
    """The build of torch for this machine; None: the one that the package index has, for CUDA 13, which needs a new
    driver.

    `cards`: their compute capabilities, as far as they are known; the newest decides. A CPU build is looked for only
    where there is no GPU: one whose driver has no known version (0) gets what uv finds. `locked` is a file with the CPU
    build and its hash, None where it does not apply.
    """
    old = max(cards, default=CUDA_13_OLDEST) < CUDA_13_OLDEST  # of the builds that uv finds only one has their kernels
    if platform.system() == "Darwin" or ((driver or 0) >= CUDA_13_DRIVER and not old):
        return None
    if driver is not None:
        backend = "cu126" if driver and old else "auto"
        tried = [TorchBuild((f"torch=={version}", f"--torch-backend={backend}"), False)]
    else:
        words = ("--require-hashes", "--requirement", str(locked)) if locked else (f"torch=={version}+cpu",)
        places = ((), ("--torch-backend=cpu",))  # where pip looks, too; then PyTorch's own index
        tried = [TorchBuild(("--no-deps", *words, *place), locked is not None) for place in places]
    for build in tried:
        if (installer.is_uv or not build.backend) and installer.finds(*build.words):
            return build
    wanted = "CPU build" if driver is None else f"build for this card and driver {driver or ''}".rstrip()
    say(f"set-up: torch's {wanted} is not to be had, so the CUDA 13 build is taken (3 GB, for driver {CUDA_13_DRIVER})")
    return None


def install(pins: str) -> None:
    """Install the tested set of a file of pins into the running Python. Raises `UserError`."""
    installer, uncovered = find_installer(), not_covered(pins, os.environ)
    if uncovered:
        say(f"set-up: without hashes, the versions of {pins} alone: {uncovered}")
    cpu = read_lock(CPU_LOCK)
    version = cpu["torch"].split("==")[1].split("+")[0]
    here = platform.python_version().rpartition(".")[0]
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "requirements.txt"
        file.write_text(cpu["torch"], encoding="utf-8")
        locked = file if here == CPU_PYTHON and not uncovered else None
        build = torch_build(installer, driver_version(), version, locked, capabilities())
        if build and not build.locked:
            if not uncovered:
                say(f"set-up: torch alone without a hash: none is locked for its build, Python {here}")
            installer.install(*build.words)
        if uncovered:
            installer.install("--requirement", pins, *constraints(pins))
            return
        packages = read_lock(CPU_LOCK if build else GPU_LOCK, *MORE_LOCKS[Path(pins).name])
        if build and not build.locked:
            del packages["torch"]
        words = ("--require-hashes", "--no-deps", "--no-build-isolation", "--requirement", str(file))
        for entries in ([packages[BUILDER]], packages.values()):
            file.write_text("".join(entries), encoding="utf-8")
            installer.install(*words, *(build.backend if build else ()))
    installer.check()


def set_up(pins: str, stamp: Path) -> None:
    """Make the environment that `stamp` is to lie in meet a file of pins. One at a time: another is waited for."""
    stamp = ROOT / stamp
    venv = stamp.parent
    python = venv / "bin" / "python"
    with open(ROOT / f"{venv.name}.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"=== 1/6 Set up: another one fills {venv.name}, or runs from it; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.exists():
            return
        if venv.is_symlink():  # `--clear` would empty what it points to, be it whose it may
            raise UserError(
                f"{venv} is a link to {os.path.realpath(venv)}, into which nothing is installed: remove the link, or "
                f"activate that environment once it has the packages of {pins}"
            )
        if not _is_whole(venv):
            say(f"=== 1/6 Set up: making {venv.name} with Python {platform.python_version()}")
            if subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)]).returncode:
                raise UserError(f"{venv} could not be made (see above): on Debian, apt install python3-venv")
        module = [str(python), "-m", "workspace.install", pins]
        if subprocess.run([*module, "--check"], stdout=subprocess.DEVNULL, cwd=ROOT).returncode:
            say(f"=== 1/6 Set up: installing {pins} into {venv.name} (a minute or two, once)")
            if subprocess.run([*module, "--here"], cwd=ROOT).returncode:
                raise SystemExit(2)
        for old in venv.glob(f"pins-*-{Path(pins).name}"):
            old.unlink()
        stamp.touch()


def _is_whole(venv: Path) -> bool:
    """Whether it is an environment: not left without pip by an interrupted start, nor moved here from elsewhere."""
    try:
        command = [str(venv / "bin" / "python"), "-m", "pip", "--version"]
        has_pip = not subprocess.run(command, capture_output=True).returncode
        return has_pip and str(venv) in (venv / "bin" / "activate").read_text(encoding="utf-8")
    except OSError:
        return False


def main() -> None:
    """Set up, install or check."""
    parser = Parser("python -m workspace.install", __doc__)
    parser.add_argument("pins", help="a file of exact pins: requirements.txt or requirements-dev.txt")
    parser.add_argument("--stamp", type=Path, default=VENV / "pins", help="file that says that .venv is filled")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="print the pins that the running Python does not meet")
    mode.add_argument("--here", action="store_true", help="install into the running Python")
    args = parser.parse_args()
    if not Path(args.pins).is_file():
        raise UserError(f"{args.pins} is not there: set REQUIREMENTS to a file of pins, or unset it")
    if args.check:
        lines = misses(Path(args.pins))
        print("\n".join(lines))
        sys.exit(int(bool(lines)))
    if args.here:
        install(args.pins)
    else:
        set_up(args.pins, args.stamp)


if __name__ == "__main__":
    run_main(main)
