"""A bundle: the folder that `export` writes, opened only where every file is as classifier.json says."""

import os
from pathlib import Path

from serve.classifier_file import FORMAT, NAME, ClassifierFile, path_in
from workspace.errors import UserError
from workspace.files import sha256_file
from workspace.gate import check_folder
from workspace.paths import shown
from workspace.records import read

ADAPTER = "adapter"  # the folder of an adapter in a bundle
EXPORT = "export it again with `bash run_sft.sh export RUN`, or copy it anew"


def is_bundle(path: Path) -> bool:
    """Whether a folder is a bundle, rather than a run."""
    return path_in(path).is_file()


def open_bundle(path: Path) -> tuple[ClassifierFile, Path]:
    """What a bundle answers, and its folder.

    Raises `UserError` where it is none, or a file in it is missing, was changed or added.
    """
    if not path.is_dir() or not is_bundle(path):
        raise UserError(f"{shown(path)} is no bundle (it has no {NAME}): {EXPORT}")
    check_folder(path, "bundle")
    file = read(path_in(path), ClassifierFile, EXPORT)
    if file.format != FORMAT:
        raise UserError(f"{shown(path_in(path))} has the format {file.format}, and {FORMAT} is read here: {EXPORT}")
    found = files_in(path)
    for name, digest in file.files.items():
        if name not in found:
            raise UserError(f"{shown(path)} has lost {name}: {EXPORT}")
        if sha256_file(found[name]) != digest:
            raise UserError(f"{shown(path / name)} was changed since it was exported: {EXPORT}")
    if added := sorted(found.keys() - file.files.keys()):
        raise UserError(f"{shown(path / added[0])} is no file of the bundle: take it out of the folder")
    return file, path


def files_in(bundle: Path) -> dict[str, Path]:
    """Every file of a bundle but classifier.json, by its path below it, in order; hidden ones, such as a hub's, are
    none of it."""
    found = {}
    for at, folders, files in os.walk(bundle):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = Path(at, name)
            if not name.startswith(".") and path != path_in(bundle):
                found[path.relative_to(bundle).as_posix()] = path
    return dict(sorted(found.items()))
