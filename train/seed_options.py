"""The option --seeds of commands that tune several models."""

from collections.abc import Sequence

from plan.options import parse_options
from workspace.command_line import Parser, given_number
from workspace.errors import UserError
from workspace.ranges import SEED


def add_seeds(parser: Parser, default: Sequence[int] | None = None) -> None:
    """The option `--seeds`, whose values `check_seeds` looks at."""
    listed = " ".join(map(str, default or ()))
    parser.add_argument(
        "--seeds",
        nargs="+",
        type=given_number(SEED),
        default=default,
        required=default is None,
        metavar="N",
        help="each trains a model of its own" + (f"; default: {listed}" if listed else ""),
    )


def check_seeds(seeds: Sequence[int], words: Sequence[str], fewest: int = 1) -> None:
    """Raise `UserError` for a seed that is named twice, for fewer than `fewest`, and for one of all trials' own."""
    given = " ".join(map(str, seeds))
    if len(set(seeds)) < len(seeds):
        raise UserError(f"--seeds {given} names a seed twice: name each once")
    if len(seeds) < fewest:
        raise UserError(f"--seeds {given} is one run, which says nothing about another: name three seeds or more")
    for key in ("seed", "data_seed"):
        if key in parse_options(list(words)).swift:
            raise UserError(f"--{key} is given next to --seeds: leave it out, for each of --seeds is one")
