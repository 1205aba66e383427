"""A dataset folder that is replaced as a whole: it holds the old files or the new, and a failure leaves the old."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data_prep.manifest import Manifest, has_manifest
from workspace.errors import REASONS, MachineFault, UserError, fault_sentence
from workspace.files import sha256_file, sync_folder
from workspace.folder_lock import alone, check_unread
from workspace.gate import check_folder
from workspace.marker import MARKER, is_ours, mark
from workspace.paths import shown


@contextmanager
def replaced_folder(out: Path) -> Iterator[Path]:
    """A new folder next to `out` to write into; it takes the place of `out` when the block succeeds.

    Files in the old folder that the block did not write are carried over. When the block raises, or the process is
    killed, `out` is as it was, at the latest when it is written again. One process at a time writes it.
    Raises UserError when `out` is something else than a dataset folder: it would be lost.
    """
    out = Path(os.path.realpath(out))  # a link stays, what it points to is replaced
    check_replaceable(out)
    new, old = (out.with_name(f".{out.name}.{name}.partial") for name in ("new", "old"))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with alone(out.with_name(f".{out.name}.lock"), f"prep: another process writes {shown(out)}: waiting for it"):
            _recover(out, new, old)
            check_replaceable(out)  # again: it may have been made while this process waited
            check_unread(out)
            if new.exists():
                raise UserError(f"{shown(new)} is in the way, and this project did not make it: remove it")
            try:
                new.mkdir()
                mark(new, "dataset")
                yield new
                _carry_over(out, new)
                check_unread(out)
                if out.exists():
                    out.rename(old)
                new.rename(out)
                sync_folder(out.parent)
            finally:
                _recover(out, new, old)
    except OSError as error:
        if error.errno in REASONS:
            raise MachineFault(f"{shown(out)} cannot be written: {fault_sentence(error)}") from error
        raise UserError(f"{shown(out)} cannot be written ({error.strerror or error}): choose another --out") from error


def check_replaceable(out: Path) -> None:
    """Raise UserError when `out` is a file, or a folder with files in it that is no dataset of ours."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{shown(out)} is a file: choose a folder with --out")
    if out.is_dir() and any(out.iterdir()) and not is_dataset(out):
        raise UserError(f"{shown(out)} has files in it but is no dataset folder: choose another --out")
    if out.is_dir():
        check_folder(out, "dataset")


def is_dataset(folder: Path) -> bool:
    """Whether this project made `folder` as a dataset: its marker says so, or, before there were markers, its
    manifest.json."""
    return is_ours(folder, "dataset") or (not os.path.lexists(folder / MARKER) and has_manifest(folder))


def up_to_date(out: Path, inputs: dict[str, Any]) -> bool:
    """Whether `out` was made from just these inputs and its files are still there, byte for byte."""
    try:
        manifest = Manifest.read(out)
        return manifest.inputs == inputs and all(
            sha256_file(out / name) == digest for name, digest in manifest.files.items()
        )
    except (UserError, OSError):
        return False


def _recover(out: Path, new: Path, old: Path) -> None:
    """Clear what an interruption left; the old folder is put back where the new one did not take its place."""
    if is_dataset(old) and not out.exists():
        old.rename(out)
    for path in (new, old):
        if (
            path.is_dir()
            and not path.is_symlink()
            and (is_dataset(path) or all(MARKER in file.name for file in path.iterdir()))
        ):
            shutil.rmtree(path, ignore_errors=True)


def _carry_over(out: Path, new: Path) -> None:
    for path in out.iterdir() if out.exists() else ():
        target = new / path.name
        if os.path.lexists(target):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, target, symlinks=True)
        else:
            shutil.copy2(path, target, follow_symlinks=False)
