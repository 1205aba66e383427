"""The marker in every folder that this project makes: nothing is removed or replaced where it is missing."""

import json
from pathlib import Path
from typing import Literal

from workspace.files import write_json

MARKER = ".swift-sft.json"
TOOL = "swift-sft"
Kind = Literal["run", "dataset", "sweep", "cache", "bundle"]


def mark(folder: Path, kind: Kind) -> None:
    """Write the marker, making the folder where it is not there."""
    write_json(folder / MARKER, {"tool": TOOL, "kind": kind})


def is_ours(folder: Path, kind: Kind) -> bool:
    """Whether `folder` holds our marker of this kind; a damaged or linked one counts as none."""
    path = folder / MARKER
    if path.is_symlink() or not path.is_file():
        return False
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.get("tool") == TOOL and found.get("kind") == kind
