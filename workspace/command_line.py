"""Command lines: what cannot be read is one sentence, numbers have a range, and paths are the caller's."""

import argparse
import errno
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from workspace.errors import BAD_PATHS, UserError
from workspace.paths import NAME_BYTES, expanded, printable
from workspace.ranges import Range


class Parser(argparse.ArgumentParser):
    """argparse, with a module's docstring as the description and one sentence where the words cannot be read."""

    def __init__(self, prog: str, doc: str | None = None, **more: Any) -> None:
        # There is no docstring under PYTHONOPTIMIZE=2.
        super().__init__(prog=prog, description=(doc or "").split("\n")[0], **more)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does. Raises `UserError` for a word that is not UTF-8."""
        check_words(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Raise `UserError`."""
        what = message.removeprefix("argument ").replace(": is ", " is ", 1)
        raise UserError(f"{what}; see `{self.prog} --help`")


def check_words(words: Sequence[str]) -> None:
    """Raise `UserError` for a word that is not UTF-8: no record could hold it."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise UserError(
                f"{printable(word)} is not UTF-8: rename what it names (convmv renames whole folders)"
            ) from None


def given_number(limits: Range) -> Callable[[str], Any]:
    """The type of an option whose value is a number of a range."""

    def read(text: str) -> int | float:
        if fault := limits.fault(text):
            raise argparse.ArgumentTypeError(fault)
        return int(text) if limits.is_whole else float(text)

    return read


def given_path(text: str) -> Path:
    """The type of an option whose value is a path, there or not; a relative one is taken from the caller's folder."""
    try:
        found = from_caller(text)
        os.stat(found)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    except OSError as error:
        if error.errno in BAD_PATHS:
            raise argparse.ArgumentTypeError(f"{text}: {BAD_PATHS[error.errno]}") from None
    return found


def given_model(text: str) -> str:
    """The type of an option whose value is a model: its folder, as `given_path` has it, or its id."""
    return str(found) if (found := given_path(text)).is_dir() else text


def from_caller(text: str) -> Path:
    """A path that was typed. Raises `UserError` where it is empty, too long for a disk, or below no known home."""
    if not text.strip():
        raise UserError("is empty: name a path, or leave the option out")
    if any(len(os.fsencode(part)) > NAME_BYTES for part in Path(text).parts):
        raise UserError(f"{text}: {BAD_PATHS[errno.ENAMETOOLONG]}")
    return caller_folder() / expanded(text)


def caller_folder() -> Path:
    """The folder in which run_sft.sh was called: relative paths are taken from it."""
    return Path(os.environ.get("RUN_SFT_CALLER") or Path.cwd())
