"""Where things are in a checkout, the cache outside it, and how paths and strangers' text are shown on a terminal."""

import os
import unicodedata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "swift_configs"
DATASETS = ROOT / "dataset_jsonl"
RUNS = ROOT / "runs"
NAME_BYTES = 255  # of a file's or a folder's name, on all usual disks
# Control characters (escape sequences, carriage returns), those that turn the direction, lone surrogates, line ends.
OBEYED = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def expanded(text: str | Path) -> Path:
    """A path with `~` written out. Raises `UserError` for a home folder that is not known."""
    found = os.path.expanduser(text)
    if str(text).startswith("~") and found == str(text):
        from workspace.errors import UserError  # which shows texts by this module

        raise UserError(f"{text}: that home folder is not known: write the path out")
    return Path(found)


def cache_folder() -> Path:
    """The folder for downloads that outlive a checkout: $SWIFT_SFT_CACHE, else the user's cache folder."""
    if chosen := os.environ.get("SWIFT_SFT_CACHE"):
        return expanded(chosen).absolute()
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


def printable(text: str, keep: str = "") -> str:
    """`text` with what a terminal would obey written out, as `\\x1b`; all but the characters of `keep`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(ascii(one)[1:-1] if unicodedata.category(one) in OBEYED and one not in keep else one for one in text)
