"""Measurements that the README quotes, one subcommand each.

Run as: python -m bench goals|prep|inference|training|scaling|stages [options]; --help tells each one's
"""

import argparse
from collections.abc import Sequence

from bench import goals, inference, prep, scaling, stages, training
from workspace.errors import run_main


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench that is named; its exit status is 0 when its limits are kept, 1 when not."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").splitlines()[0])
    benches = parser.add_subparsers(dest="bench", metavar="BENCH", required=True)
    for bench in (goals, prep, inference, training, scaling, stages):
        name = bench.__name__.removeprefix("bench.")
        bench.register(benches.add_parser(name, help=(bench.__doc__ or "").splitlines()[0]))
    options = vars(parser.parse_args(argv))
    del options["bench"]
    return options.pop("run")(**options)


if __name__ == "__main__":
    run_main(main)
