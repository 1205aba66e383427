"""Measurements that the README quotes, one subcommand each.

Run as: python -m bench goals|prep|inference|training|scaling|stages [options]; --help tells each one's
"""

import argparse
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench import goals, inference, prep, scaling, stages, training
from workspace.errors import run_main

# The parameters of the benches' `run` on the command line: --NAME, or a word where there is no default.
OPTIONS: dict[str, dict[str, Any]] = {
    "folder": {"type": Path, "metavar": "FOLDER", "help": "goals: figures and pictures, those there are kept; "
               "prep: for the tables, 2 GB at a million rows"},
    "rows": {"type": int, "metavar": "N", "help": "rows, or the sizes to measure; default: %(default)s"},
    "repeat": {"type": int, "metavar": "N", "help": "repetitions; default: %(default)s"},
    "csv": {"type": Path, "metavar": "FILE", "help": "reviews with columns label and review; default: the demo's"},
    "model": {"type": Path, "metavar": "DIR", "help": "default: the demo's"},
    "json": {"type": Path, "metavar": "FILE", "help": "write the figures there too"},
    "picture": {"type": Path, "metavar": "FILE", "help": "draw them as a PNG"},
    "alone": {"action": "store_true", "help": "no other tools: this project and the defaults"},
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench that is named; its exit status is 0 when its limits are kept, 1 when not."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").splitlines()[0])
    benches = parser.add_subparsers(metavar="BENCH", required=True)
    for bench in (goals, prep, inference, training, scaling, stages):
        help_text = (bench.__doc__ or "").splitlines()[0]
        _add_options(benches.add_parser(bench.__name__.removeprefix("bench."), help=help_text), bench.run)
    options = vars(parser.parse_args(argv))
    return options.pop("run")(**options)


def _add_options(parser: argparse.ArgumentParser, run: Callable[..., int]) -> None:
    for name, parameter in inspect.signature(run).parameters.items():
        if parameter.default is parameter.empty:
            parser.add_argument(name, **OPTIONS[name])
        else:
            several: dict[str, Any] = {"nargs": "+"} if isinstance(parameter.default, tuple) else {}
            parser.add_argument(f"--{name}", default=parameter.default, **OPTIONS[name], **several)
    parser.set_defaults(run=run)


if __name__ == "__main__":
    run_main(main)
