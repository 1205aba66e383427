"""Measurements that the README quotes, one subcommand each.

Run as: python -m bench goals|prep|inference|training|scaling|stages [options]; --help tells each one's
"""

import argparse
from collections.abc import Sequence

from bench import goals, inference, prep, scaling, stages, training
from workspace.errors import run_main


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench that is named; its exit status is 0 when its limits are kept, 1 when not."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    benches = parser.add_subparsers(dest="bench", metavar="BENCH", required=True)
    goals.register(benches.add_parser("goals", help=goals.__doc__.splitlines()[0]))
    prep.add_options(benches.add_parser("prep", help=prep.__doc__.splitlines()[0]))
    inference.register(benches.add_parser("inference", help=inference.__doc__.splitlines()[0]))
    training.register(benches.add_parser("training", help=training.__doc__.splitlines()[0]))
    scaling.register(benches.add_parser("scaling", help=scaling.__doc__.splitlines()[0]))
    stages.register(benches.add_parser("stages", help=stages.__doc__.splitlines()[0]))
    options = vars(parser.parse_args(argv))
    del options["bench"]
    return options.pop("run")(**options)


if __name__ == "__main__":
    run_main(main)
