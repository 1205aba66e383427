"""Plan a run: resolve a recipe and the options for this machine, prepare the data, write the run folder.

Run as: python -m plan [recipe] [options] (bash run_sft.sh does it)

Prints what will run to stderr and the run folder to stdout.
"""

import contextlib
import sys

from plan.options import parse_options
from workspace.errors import run_main


def main(argv: list[str] | None = None) -> int:
    """Plan, prepare, write, and print the run folder."""
    words = sys.argv[1:] if argv is None else argv
    options = parse_options(words)
    # Below here so that --help needs nothing but Python.
    from plan.planning import carry_out, make_plan

    with contextlib.redirect_stdout(sys.stderr):
        plan = make_plan(options, words)
    carry_out(plan)
    return 0


if __name__ == "__main__":
    run_main(main)
