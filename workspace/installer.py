"""uv, or pip where uv cannot be had: one command, the same words for both."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from workspace import pip_settings
from workspace.errors import UserError
from workspace.paths import ROOT

UV_LOCK = ROOT / "requirements-uv.lock"
OLDEST_UV = (0, 7)  # knows every option that is used here
NO_SPACE = "No space left on device"
MISMATCH = ("Hash mismatch", "DO NOT MATCH THE HASHES", "Hashes are required", "must have a hash")


class Installer(NamedTuple):
    """`uv pip` or `pip` for the running Python; both take the words that are used here."""

    command: tuple[str, ...]
    options: tuple[str, ...] = ()
    environment: Mapping[str, str] = os.environ

    @property
    def is_uv(self) -> bool:
        """Whether it is uv."""
        return self.command[0] != sys.executable

    def finds(self, *words: str) -> bool:
        """Whether `install` would find everything. Installs nothing, and asks a silent index only twice."""
        command = [*self.command, "install", *self.options, "--dry-run", *words]
        environment = {**self.environment, "UV_HTTP_RETRIES": "1"}
        return not subprocess.run(command, env=environment, capture_output=True).returncode

    def install(self, *words: str) -> None:
        """Install, with the tool's own progress on stderr. Raises `UserError`."""
        command = [*self.command, "install", *self.options, *words]
        process = subprocess.Popen(
            command, env=dict(self.environment), stdout=sys.stderr, stderr=subprocess.PIPE, text=True, errors="replace"
        )
        said: list[str] = []
        for line in process.stderr or ():
            if line.startswith("Downloading ") and line in said:  # uv begins a download again without saying why
                say(f"set-up: the download of {line.split()[1]} stalled or broke off; again:")
            said.append(line)
            say(line, end="")
        if process.wait():
            raise UserError(reason("".join(said)))

    def check(self) -> None:
        """Raises `UserError` where the installed packages do not fit each other."""
        if subprocess.run([*self.command, "check", *self.options[:2]], stdout=sys.stderr).returncode:
            raise UserError("the locked packages do not fit each other; write the lock files again: bash .ci/relock")


def say(line: str, end: str = "\n") -> None:
    """Show progress on stderr, at once."""
    print(line, end=end, file=sys.stderr, flush=True)


def reason(said: str) -> str:
    """One sentence for a failed installation, from what the tool said."""
    if NO_SPACE in said:
        return "the disk is full: free 3 GB for .venv and the package cache, and run the same command again"
    if any(mark in said for mark in MISMATCH):
        return (
            "a package is not the locked one (its SHA-256 differs, see above) and was not installed; ask who runs the "
            "package index, or set NO_HASHES=1 to take the pinned versions as they come"
        )
    return (
        "the packages could not be installed (see above); connect to a package index, or carry wheels here and set "
        "PIP_NO_INDEX=1 and PIP_FIND_LINKS=/path/to/wheels (docs/offline.md)"
    )


def find_installer() -> Installer:
    """uv with pip's settings: the one of this environment or of PATH, else installed by its hash; else pip."""
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    listed = subprocess.run([*pip, "config", "list"], capture_output=True, text=True).stdout
    settings = pip_settings.read_listing(listed)
    own = Path(sys.executable).with_name("uv")
    uv = next((path for path in (str(own), shutil.which("uv")) if path and _new_enough(path)), None)
    if not uv:
        words = ("--quiet", "--require-hashes", "--no-deps", "--requirement", str(UV_LOCK))
        if subprocess.run([*pip, "install", *words], capture_output=True).returncode or not _new_enough(str(own)):
            say("set-up: uv cannot be had, so pip installs (minutes)")
            return Installer(pip)
        uv = str(own)
    from pip._internal.models.index import PyPI  # where pip looks by default

    handed_on = pip_settings.uv_environment(settings, os.environ, PyPI.simple_url)
    # A download without a byte for so many seconds is begun again, so many times.
    environment = {"UV_HTTP_TIMEOUT": "30", "UV_HTTP_RETRIES": "5", **os.environ, **handed_on}
    options = ("--no-index",) if pip_settings.no_index(settings) else ()
    return Installer((uv, "pip"), ("--python", sys.executable, *options), environment)


def _new_enough(uv: str) -> bool:
    try:
        answer = subprocess.run([uv, "--version"], capture_output=True, text=True).stdout
    except OSError:
        return False
    found = re.match(r"uv (\d+)\.(\d+)", answer)
    return found is not None and (int(found[1]), int(found[2])) >= OLDEST_UV
