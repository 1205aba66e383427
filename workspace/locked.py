"""Install the tested set from the lock files: every file is compared with its SHA-256 before anything of it runs.

Run as: python -m workspace.locked requirements.txt

Installs into the running Python. Where the lock files do not cover the machine, or NO_HASHES=1 or PIP_NO_INDEX asks for
it, the pins of the file are installed without hashes, and a line says so. Exit status 2 with one sentence otherwise.
"""

import argparse
import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from workspace.errors import UserError, run_main
from workspace.paths import ROOT

PYTHONS = ("3.11", "3.12", "3.13")
LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-gpu.lock", "requirements-cpu.lock")
CPU_PYTHON = "3.11"  # the one whose CPU build of torch was there to be locked
OF_PINS = {"requirements.txt": LOCKS[:1], "requirements-dev.txt": LOCKS[:2]}
# Four packages are published as source alone: this one builds them, and is itself installed first, by its hash.
BUILDER = "setuptools"
MISMATCH = ("DO NOT MATCH THE HASHES", "Hashes are required", "hash-checking")
OFFLINE = "connect to a package index, or carry wheels here and set PIP_NO_INDEX=1 and PIP_FIND_LINKS=/path/to/wheels"
PACKAGE = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)((?:\s*\\\n\s+--hash=sha256:[0-9a-f]{64})+)$", re.MULTILINE)


def read_lock(path: Path) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Name to version and SHA-256 hashes (hexadecimal) of a lock file. Raises `UserError` where it holds anything else.

    So nothing in it is without a hash, and no option for pip hides there.
    """
    text = path.read_text(encoding="utf-8")
    found = {name: (version, tuple(re.findall(r"sha256:(\w+)", rest))) for name, version, rest in PACKAGE.findall(text)}
    left = [line for line in PACKAGE.sub("", text).splitlines() if line.strip() and not line.startswith("#")]
    if left:
        raise UserError(f"{path.name}: {left[0].strip()[:80]!r} is no package with hashes; make it anew (see its head)")
    return found


def not_covered(pins: str, environ: dict[str, str] | os._Environ[str] = os.environ) -> str | None:
    """Why the lock files are not used for this file of pins on this machine, in words; None where they are."""
    if environ.get("NO_HASHES", "") not in ("", "0"):
        return "NO_HASHES is set"
    if environ.get("PIP_NO_INDEX", "").lower() in ("1", "true", "yes", "on"):
        return "PIP_NO_INDEX is set, and wheels that were built by hand have hashes of their own"
    if Path(pins).name not in OF_PINS:
        return f"there is no lock file for {pins}"
    machine = (
        f"{platform.system()} {platform.machine()}, {platform.python_implementation()} {platform.python_version()}"
    )
    here = ".".join(platform.python_version_tuple()[:2])
    if not machine.startswith("Linux x86_64, CPython") or here not in PYTHONS or platform.libc_ver()[0] != "glibc":
        return f"the lock files are for Linux x86_64, glibc, CPython {PYTHONS[0]} to {PYTHONS[-1]}, this is {machine}"
    return None


def install(pins: str) -> None:
    """Install the tested set of a file of pins into the running Python. Raises `UserError`."""
    if reason := not_covered(pins):
        print(f"set-up: without hashes, the versions of {pins} alone: {reason}", file=sys.stderr, flush=True)
        if _pip("--requirement", pins)[0]:
            raise UserError(f"{pins} could not be installed; {OFFLINE}")
        return
    packages = {}
    for name in OF_PINS[Path(pins).name]:
        packages |= read_lock(ROOT / name)
    _install_hashed({BUILDER: packages[BUILDER]})
    if _cpu_build_installed():
        packages.pop("torch")
    else:
        packages |= read_lock(ROOT / LOCKS[2])
    _install_hashed(packages)
    if subprocess.run([sys.executable, "-m", "pip", "check"], stdout=sys.stderr).returncode:
        raise UserError(f"the packages of {LOCKS[0]} do not fit each other; make it anew (see its head)")


def _cpu_build_installed() -> bool:
    """Install torch's CPU build where pip finds one, as it would without hashes; whether it did.

    It is asked for by name, because pip itself prefers a file whose hash an index tells, which is the CUDA build's.
    """
    if ".".join(platform.python_version_tuple()[:2]) != CPU_PYTHON:
        told = (
            f"set-up: torch's CPU build is locked for Python {CPU_PYTHON} alone, so the CUDA build is taken (3 GB more)"
        )
        print(f"{told}; NO_HASHES=1 takes what pip finds", file=sys.stderr, flush=True)
        return False
    return _install_hashed(read_lock(ROOT / LOCKS[3]), optional=True)


def _install_hashed(packages: dict[str, tuple[str, tuple[str, ...]]], optional: bool = False) -> bool:
    """One pip for `packages`: nothing that is not listed, nothing whose bytes are others, no builder from elsewhere.

    With `optional` it may be that no index has them: then False. Raises `UserError` otherwise.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as stream:
        for name, (version, hashes) in packages.items():
            stream.write(f"{name}=={version} {' '.join(f'--hash=sha256:{one}' for one in hashes)}\n")
        stream.flush()
        words = ("--require-hashes", "--no-deps", "--no-build-isolation", "--requirement", stream.name)
        status, said = _pip(*words, quiet=optional)
    if status and any(mark in said for mark in MISMATCH):
        raise UserError(
            f"a package is not the one of {LOCKS[0]} (its SHA-256 differs, see above) and was not installed; ask who "
            "runs the package index, or set NO_HASHES=1 to take the pinned versions as they come"
        )
    if status and not optional:
        raise UserError(f"the packages of {LOCKS[0]} could not be installed; {OFFLINE}")
    return not status


def _pip(*words: str, quiet: bool = False) -> tuple[int, str]:
    """Run pip install; its exit status and what it said on stderr, which is shown as well unless `quiet`."""
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet", *words]
    process = subprocess.Popen(command, stdout=sys.stderr, stderr=subprocess.PIPE, text=True, errors="replace")
    said = ""
    for line in process.stderr or ():
        said += line
        if not quiet or any(mark in said for mark in MISMATCH):
            print(line, end="", file=sys.stderr, flush=True)
    return process.wait(), said


def main() -> None:
    """Install a file of pins."""
    parser = argparse.ArgumentParser(prog="python -m workspace.locked", description=__doc__.splitlines()[0])
    parser.add_argument("pins", help="requirements.txt or requirements-dev.txt")
    install(parser.parse_args().pins)


if __name__ == "__main__":
    run_main(main)
