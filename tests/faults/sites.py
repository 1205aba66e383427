"""Every write, fsync and rename of our own code as a numbered site, and one of them, or all from one on, that fails.

In the manner of SQLite's tests: a first pass counts the sites, the next passes fail the Nth. A failing write has put
half of its bytes on the disk, as a full disk or a killed process does.
"""

import builtins
import errno
import io
import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Fault(NamedTuple):
    """What happens at site `at` (from 1): ENOSPC, EIO or SIGKILL; `lasting`: at every later site too."""

    kind: str
    at: int
    lasting: bool


class Sites:
    """Counts the sites below `roots` in this process, and fails where `fault` says. `install` cannot be undone."""

    def __init__(self, roots: Sequence[Path], fault: Fault | None) -> None:
        self.roots = [str(root) for root in roots]
        self.fault = fault
        self.count = 0

    def install(self) -> None:
        """Put this in the way of the calls by which Python writes, for the rest of the process."""
        plain_open, plain_fsync = io.open, os.fsync

        def opened(file: Any, mode: str = "r", buffering: int = -1, *args: Any, **options: Any) -> Any:
            if isinstance(file, int) or not set(mode) & set("wax+") or not self.watches(file):
                return plain_open(file, mode, buffering, *args, **options)
            raw = FailingFile(self, file, mode.replace("b", "").replace("t", ""))
            binary = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            return binary if "b" in mode else io.TextIOWrapper(binary, *args, **options)

        def fsynced(descriptor: int) -> None:
            name = os.readlink(f"/proc/self/fd/{descriptor}")
            if self.watches(name):
                self.reach(name)
            plain_fsync(descriptor)

        builtins.open = io.open = opened
        os.fsync = fsynced
        os.rename, os.replace = self.moving(os.rename), self.moving(os.replace)
        shutil._USE_CP_SENDFILE = False  # copies go through `open`

    def moving(self, plain: Any) -> Any:
        """`plain`, a rename, as a site."""

        def moved(source: Any, target: Any, **options: Any) -> None:
            if self.watches(source) or self.watches(target):
                self.reach(target)
            plain(source, target, **options)

        return moved

    def watches(self, path: Any) -> bool:
        """Whether `path` lies below the roots, or beside one under a name made from its name."""
        name = os.path.abspath(os.fsdecode(path))
        return any(name.startswith(root) or _beside(name, root) for root in self.roots)

    def reach(self, path: Any, stream: io.FileIO | None = None, data: bytes = b"") -> None:
        """Count a site; when it is one that fails, write half of `data` to `stream` and fail."""
        self.count += 1
        fault = self.fault
        if fault is None or not (self.count == fault.at or (fault.lasting and self.count > fault.at)):
            return
        if stream is not None and data:
            io.FileIO.write(stream, data[: len(data) // 2])
        if fault.kind == "SIGKILL":
            os.kill(os.getpid(), signal.SIGKILL)
        number = getattr(errno, fault.kind)
        raise OSError(number, os.strerror(number), os.fsdecode(path))


class FailingFile(io.FileIO):
    """A file whose every write is a site."""

    def __init__(self, sites: Sites, name: Any, mode: str) -> None:
        super().__init__(name, mode)
        self.sites = sites

    def write(self, data: Any) -> int:
        """Write, or fail half-way."""
        self.sites.reach(self.name, self, bytes(data))
        return super().write(data)


def _beside(name: str, root: str) -> bool:
    """Whether `name` is, or lies in, something in the folder of `root` that has its name in its own."""
    folder = os.path.dirname(root) + os.sep
    return name.startswith(folder) and os.path.basename(root) in name.removeprefix(folder).split(os.sep)[0]
