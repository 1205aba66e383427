"""A dataset folder that is replaced as a whole: it holds the old files or the new, and a failure leaves the old."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workspace.errors import UserError
from workspace.files import read_json, sha256_file
from workspace.paths import shown

MANIFEST = "manifest.json"


@contextmanager
def replaced_folder(out: Path) -> Iterator[Path]:
    """A new folder beside `out` to write into; it takes the place of `out` when the block succeeds.

    Files in the old folder that the block did not write are carried over. When the block raises, `out` is untouched.
    Raises UserError when `out` is something else than a dataset folder: it would be lost.
    """
    out = Path(os.path.realpath(out))  # a link stays, what it points to is replaced
    check_replaceable(out)
    fresh = out.with_name(f".{out.name}.{os.getpid()}.partial")
    old = out.with_name(f".{out.name}.{os.getpid()}.old.partial")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        fresh.mkdir()
        yield fresh
        if out.exists():
            for path in out.iterdir():
                target = fresh / path.name
                if not target.exists():
                    (shutil.copytree if path.is_dir() else shutil.copy2)(path, target)
            out.rename(old)
            try:
                fresh.rename(out)
            except OSError:
                old.rename(out)
                raise
        else:
            fresh.rename(out)
    except OSError as error:
        raise UserError(f"{shown(out)} cannot be written ({error.strerror or error}): choose another --out") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        if out.exists():
            shutil.rmtree(old, ignore_errors=True)


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
