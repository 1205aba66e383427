"""A dataset folder that is replaced as a whole: it holds the old files or the new, and a failure leaves the old."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workspace.errors import REASONS, MachineFault, UserError, fault_sentence
from workspace.files import read_json, sha256_file, sync_folder
from workspace.folder_lock import alone
from workspace.paths import shown

MANIFEST = "manifest.json"


@contextmanager
def replaced_folder(out: Path) -> Iterator[Path]:
    """A new folder beside `out` to write into; it takes the place of `out` when the block succeeds.

    Files in the old folder that the block did not write are carried over. When the block raises, or the process is
    killed, `out` is as it was, at the latest when it is written again. One process at a time writes it.
    Raises UserError when `out` is something else than a dataset folder: it would be lost.
    """
    out = Path(os.path.realpath(out))  # a link stays, what it points to is replaced
    check_replaceable(out)
    fresh, old = (out.with_name(f".{out.name}.{name}.partial") for name in ("new", "old"))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with alone(out.with_name(f".{out.name}.lock"), f"prep: another process writes {shown(out)}: waiting for it"):
            _recover(out, fresh, old)
            try:
                fresh.mkdir()
                yield fresh
                _carry_over(out, fresh)
                if out.exists():
                    out.rename(old)
                fresh.rename(out)
                sync_folder(out.parent)
            finally:
                _recover(out, fresh, old)
    except OSError as error:
        if error.errno in REASONS:
            raise MachineFault(f"{shown(out)} cannot be written: {fault_sentence(error)}") from error
        raise UserError(f"{shown(out)} cannot be written ({error.strerror or error}): choose another --out") from error


def _recover(out: Path, fresh: Path, old: Path) -> None:
    """What an interruption left: the old folder is put back where the new one did not take its place."""
    if old.exists() and not out.exists():
        old.rename(out)
    for path in (fresh, old):
        shutil.rmtree(path, ignore_errors=True)


def _carry_over(out: Path, fresh: Path) -> None:
    for path in out.iterdir() if out.exists() else ():
        target = fresh / path.name
        if not target.exists():
            (shutil.copytree if path.is_dir() else shutil.copy2)(path, target)


def check_replaceable(out: Path) -> None:
    """Raise UserError when `out` is a file, or a folder with files in it and none of ours."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{shown(out)} is a file: choose a folder with --out")
    if out.is_dir() and not (out / MANIFEST).is_file() and any(out.iterdir()):
        raise UserError(f"{shown(out)} has files in it but is no dataset folder: choose another --out")


def up_to_date(out: Path, inputs: dict[str, Any]) -> bool:
    """Whether `out` was made from just these inputs and its files are still there, byte for byte."""
    try:
        manifest = read_json(out / MANIFEST)
        return manifest["inputs"] == inputs and all(
            sha256_file(out / name) == digest for name, digest in manifest["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
