"""Measurements that the README quotes, one subcommand each.

Run as: python -m bench BENCH [options]; --help names them
"""

import inspect
from collections.abc import Sequence
from functools import partial
from typing import Any

from bench import goals, gpu, inference, labelling, predicting, prep, scaling, serving, stages, training
from bench.subject import publish
from workspace.command_line import Parser, given_number, given_path
from workspace.errors import run_main
from workspace.ranges import ROWS, whole

# The parameters of the benches' `run` on the command line: --NAME, or a word where there is no default.
OPTIONS: dict[str, dict[str, Any]] = {
    "folder": {"type": given_path, "metavar": "FOLDER", "help": "goals: figures and pictures, those there are kept; "
               "prep: for the tables, 2 GB at a million rows; serving, predicting: of a run or a bundle"},
    "rows": {"type": given_number(ROWS), "metavar": "N", "help": "rows, or the sizes to measure; default: %(default)s"},
    "reading": {"choices": ("tuned", "linear", "stack"), "help": "default: %(default)s"},
    "soak": {"type": given_number(whole(1, 1440)), "metavar": "MINUTES", "help": "under load; default: %(default)s"},
    "repeat": {"type": given_number(whole(1, 10_000)), "metavar": "N", "help": "repetitions; default: %(default)s"},
    "csv": {"type": given_path, "metavar": "FILE", "help": "with columns label and review; default: the demo's"},
    "model": {"type": given_path, "metavar": "DIR", "help": "default: the demo's"},
    "json": {"type": given_path, "metavar": "FILE", "help": "write the figures there too"},
    "picture": {"type": given_path, "metavar": "FILE", "help": "draw them as a PNG"},
    "minutes": {"type": given_number(whole(1, 1440)), "metavar": "N", "help": "for all of it; default: %(default)s"},
    "only": {"metavar": "WORDS", "help": "the ways that have this in their name"},
    "alone": {"action": "store_true", "help": "no other tools: this project and the defaults"},
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench that is named; its exit status is 0 when its limits are kept, 1 when not."""
    parser = Parser("python -m bench", __doc__)
    benches = parser.add_subparsers(metavar="BENCH", required=True)
    bench: Any
    for bench in (goals, prep, inference, training, gpu, scaling, stages, serving, predicting, labelling):
        own = benches.add_parser(bench.__name__.removeprefix("bench."), help=(bench.__doc__ or "").split("\n")[0])
        own.set_defaults(run=bench.run if bench is goals else partial(publish, bench))
        files = {"json": None} if bench is not goals else {}
        files |= {"picture": None} if hasattr(bench, "OPERATIONS") else {}
        defaults = {name: one.default for name, one in inspect.signature(bench.run).parameters.items()}
        for name, default in {**defaults, **files}.items():
            if default is inspect.Parameter.empty:
                own.add_argument(name, **OPTIONS[name])
            else:
                several: dict[str, Any] = {"nargs": "+"} if isinstance(default, tuple) else {}
                own.add_argument(f"--{name}", default=default, **OPTIONS[name], **several)
    options = vars(parser.parse_args(argv))
    return options.pop("run")(**options)


if __name__ == "__main__":
    run_main(main)
