"""Where things are in a checkout, and the cache outside it."""

import os
from pathlib import Path

from workspace.terminal import printable

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "swift_configs"
DATASETS = ROOT / "dataset_jsonl"
RUNS = ROOT / "runs"


def cache_folder() -> Path:
    """The folder for downloads that outlive a checkout: $SWIFT_SFT_CACHE, else the user's cache folder."""
    if chosen := os.environ.get("SWIFT_SFT_CACHE"):
        return Path(chosen).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(base).expanduser().absolute() / "swift-sft"
    except RuntimeError:  # no home folder, as in some containers
        return ROOT / ".cache"


def shown(path: Path) -> str:
    """`path` as a user would type it: relative to the working folder where it lies below it, on one line."""
    try:
        return printable(str(Path(path).absolute().relative_to(Path.cwd())))
    except ValueError:
        return printable(str(path))
