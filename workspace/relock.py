"""Write the lock files: every package of the tested set, transitive ones too, with the SHA-256 of each file of it.

Run as: pip install uv && python -m workspace.relock [--torch-cpu WHEEL]

Four files, because a package is wanted by some machines alone: requirements.lock (everybody), requirements-dev.lock
(what the tests need beside it), requirements-gpu.lock (the libraries of torch's CUDA build), requirements-cpu.lock
(torch's CPU build, which the index that uv asks does not have; kept unless a wheel is given). uv resolves; kept are
the files that the covered machines can install (see `workspace.locked`), without the address they came from.
"""

import argparse
import re
import subprocess
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from workspace.errors import UserError, run_main
from workspace.files import replace_file, sha256_file
from workspace.locked import CPU_PYTHON, LOCKS, PYTHONS
from workspace.paths import ROOT

COMMAND = "pip install uv && python -m workspace.relock"
# Families of packages that torch's CUDA build alone brings along.
GPU = ("nvidia-", "cuda-", "triton")


class Locked(NamedTuple):
    """A package and the SHA-256, in hexadecimal, of each of its files that a covered machine may install."""

    name: str
    version: str
    hashes: tuple[str, ...]

    def lines(self) -> str:
        """The package in pip's notation."""
        return " \\\n".join([f"{self.name}=={self.version}", *(f"    --hash=sha256:{one}" for one in self.hashes)])


def resolve(requirements: Path) -> list[dict[str, Any]]:
    """What uv resolves `requirements` to for the oldest covered Python, as the packages of a pylock.toml.

    Raises `UserError` when uv is missing or fails.
    """
    with tempfile.TemporaryDirectory() as scratch:
        lock = Path(scratch) / "pylock.toml"
        command = ["uv", "pip", "compile", str(requirements), "--universal", "--fork-strategy", "fewest"]
        command += ["--python-version", PYTHONS[0], "--format", "pylock.toml", "--quiet", "--output-file", str(lock)]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except FileNotFoundError as error:
            raise UserError("relock: uv is not installed: pip install uv") from error
        if done.returncode:
            raise UserError(f"relock: uv could not resolve {requirements.name}: {' '.join(done.stderr.split())[-300:]}")
        return tomllib.loads(lock.read_text(encoding="utf-8"))["packages"]


def covered_hashes(package: dict[str, Any]) -> tuple[str, ...]:
    """The hashes of the package's wheels for the covered machines; its source's where it has no such wheel."""
    wheels = [wheel for wheel in package.get("wheels", []) if installable(wheel["url"].rsplit("/", 1)[-1])]
    files = wheels or [package["sdist"]]
    return tuple(sorted(file["hashes"]["sha256"] for file in files))


def installable(wheel: str) -> bool:
    """Whether a covered machine (Linux x86_64 with glibc, CPython in `PYTHONS`) installs the wheel of this name."""
    from packaging.utils import parse_wheel_filename

    tags = parse_wheel_filename(wheel.replace("%2B", "+"))[3]
    pythons = {f"cp{version.replace('.', '')}" for version in PYTHONS}
    for tag in tags:
        right_python = tag.interpreter in {"py3", "py2", *pythons} or tag.abi == "abi3"
        right_abi = tag.abi in {"none", "abi3", tag.interpreter}
        if right_python and right_abi and (tag.platform == "any" or re.match(r"(many)?linux.*_x86_64$", tag.platform)):
            return True
    return False


def wanted(package: dict[str, Any]) -> bool:
    """Whether the package is for Linux on x86_64 at all."""
    from packaging.markers import Marker, default_environment

    linux = {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64", "os_name": "posix"}
    return "marker" not in package or Marker(package["marker"]).evaluate({**default_environment(), **linux})


def write(path: Path, packages: Iterable[Locked], what: str) -> None:
    """Write one lock file."""
    with replace_file(path) as stream:
        stream.write(f"# {what}\n# Made by: {COMMAND}\n")
        stream.writelines(f"{package.lines()}\n" for package in sorted(packages))


def main(argv: list[str] | None = None) -> None:
    """Write the three files anew."""
    parser = argparse.ArgumentParser(prog="python -m workspace.relock", description=__doc__.splitlines()[0])
    parser.add_argument("--torch-cpu", type=Path, help="the wheel of torch's CPU build")
    wheel = parser.parse_args(argv).torch_cpu
    run = {package["name"] for package in resolve(ROOT / "requirements.txt")}
    locked = [
        Locked(package["name"], package["version"], covered_hashes(package))
        for package in resolve(ROOT / "requirements-dev.txt")
        if wanted(package)
    ]
    gpu = [one for one in locked if one.name.startswith(GPU)]
    rest = [one for one in locked if one not in gpu]
    python = f"Linux x86_64, CPython {PYTHONS[0]} to {PYTHONS[-1]}"
    write(ROOT / LOCKS[0], [one for one in rest if one.name in run], f"The tested set with its hashes: {python}.")
    write(ROOT / LOCKS[1], [one for one in rest if one.name not in run], f"What the tests need beside {LOCKS[0]}.")
    write(ROOT / LOCKS[2], gpu, "The libraries of torch's CUDA build, for machines where pip takes that one.")
    if wheel:
        version = wheel.name.replace("%2B", "+").split("-")[1]
        cpu = Locked("torch", version, (sha256_file(wheel),))
        write(
            ROOT / LOCKS[3], [cpu], f"torch's CPU build, taken where pip finds it: Linux x86_64, CPython {CPU_PYTHON}."
        )
    print(f"{len(locked)} packages, {sum(len(one.hashes) for one in locked)} files")


if __name__ == "__main__":
    run_main(main)
