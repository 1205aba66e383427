"""The command line of run_sft.sh: its own options, and those handed on to `swift sft`."""

import argparse
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

from plan.option_values import LISTS, OF_SEVERAL, PLUGINS, RANGES, RESERVED, limits_fault, reserved
from workspace.command_line import Parser, check_words, from_caller, given_number, given_path
from workspace.errors import UserError
from workspace.ranges import ROWS

EPILOG = """\
A recipe is <task>/<model>, or <task> for the task's default; <task> may be the path of a folder of your own with a
task.yaml. swift_configs/README.md lists recipes and overrides.
Without a recipe the default one runs; where its weights can be had nowhere, the demo runs and says so.
In place of one run (docs/own-data.md):
  --seeds N N N            one a seed, and a verdict on the recipe; python -m eval.report A.seeds B.seeds compares two
    --soup                 and the average of their adapters, one adapter more, against the best of them
  curve RECIPE             one for each number of rows and each seed: what more labels would bring (curve --help)
  sweep RECIPE             one for each point of a grid, chosen on validation (sweep --help)
  verify [RECIPE]          a whole run, then whether it came out as expected: on a machine for the first time
  --cv K [--repeats N]     cross-validation, for tables of a few hundred rows
Any other `--key value` goes to `swift sft`, for example --learning_rate 5e-5 --num_train_epochs 1.
"""
CHECKED = {*RANGES, "tuner_type"}  # without asking ms-swift


class Options(NamedTuple):
    """The command line of run_sft.sh. Paths are absolute; `swift` holds the options meant for `swift sft`."""

    recipe: str | None
    model: str | None
    csv: Path | None
    limit: int | None
    prompt: str | None
    overrides: tuple[str, ...]
    run: Path | None
    fresh: bool
    auto_batch: bool
    swift: dict[str, Any]
    adapters: Path | None = None

    def number(self, key: str, default: Any) -> int:
        """The whole number given for an option of `swift sft`, or `default`. Raises `UserError` for another value."""
        value = self.swift.get(key, default)
        try:
            return int(value)
        except (TypeError, ValueError):
            raise UserError(f"option --{key} is {value!r}, expected a whole number") from None


def parse_options(argv: list[str] | None) -> Options:
    """The options on a command line. Raises `UserError` for one that cannot be read."""
    words = list(sys.argv[1:] if argv is None else argv)
    check_words(words[:1])  # the parser sees the others
    # The recipe comes first, so that the value of an option for ms-swift is never taken for it.
    recipe = words.pop(0) if words and not words[0].startswith("-") else None
    parser = Parser(
        "bash run_sft.sh",
        "From a CSV of labelled reviews to a tuned model and an honest before/after report.",
        usage="bash run_sft.sh [recipe] [options]",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--model", help="folder or hub id of the model to tune, in place of the recipe's")
    parser.add_argument(
        "--adapters", type=given_path, metavar="DIR", help="go on from this adapter; “before” is the model with it"
    )
    parser.add_argument("--csv", type=given_path, help="the labelled reviews, in place of the task's")
    parser.add_argument(
        "--limit",
        type=given_number(ROWS._replace(low=2)),
        metavar="N",
        help="N training rows, stratified, 4N test and N//4 validation rows",
    )
    parser.add_argument("--prompt", metavar="NAME", help="another prompt of the task, by its name in task.yaml")
    parser.add_argument(
        "--with",
        dest="overrides",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help="overrides of the recipe, by name or path: rank64, dora, clean, ...",
    )
    parser.add_argument(
        "--run", type=given_path, metavar="DIR", help="folder of this run, by default runs/<task>/<model>"
    )
    parser.add_argument("--fresh", action="store_true", help="start the run over; otherwise finished steps are skipped")
    parser.add_argument(
        "--auto-batch", action="store_true", help="when memory runs out, go on by itself with a smaller batch"
    )
    known, rest = parser.parse_known_args(words)
    if known.model is not None:
        try:
            folder = from_caller(known.model)
        except UserError as error:
            raise UserError(f"--model {error}") from None
        known.model = str(folder) if folder.exists() else known.model
    known.overrides = tuple(known.overrides)
    return Options(recipe=recipe, **vars(known), swift=_swift_options(rest))


def _swift_options(rest: list[str]) -> dict[str, Any]:
    """`--key value [value …]` pairs. Values stay text: ms-swift parses them as on its own command line."""
    result: dict[str, Any] = {}
    key = None
    for word in rest:
        if re.fullmatch(r"--[A-Za-z][\w-]*(=.*)?", word, re.DOTALL):
            key, has_value, value = word[2:].partition("=")
            key = key.replace("-", "_")
            result[key] = [value] if has_value else []
        elif key is None:
            raise UserError(
                f"unexpected argument {word!r}: options have the form --key value; see `bash run_sft.sh --help`"
            )
        else:
            result[key].append(word)
    for key, values in result.items():
        if remedy := reserved(key, values[0] if values else "", RESERVED | OF_SEVERAL | PLUGINS):
            raise UserError(f"option --{key} {remedy}")
        if not values:
            raise UserError(f"option --{key} has no value; see `bash run_sft.sh --help`")
        if len(values) > 1 and key not in LISTS:
            raise UserError(f"option --{key} has {len(values)} values ({' '.join(values)}); the recipe comes first")
        if key in CHECKED and (fault := limits_fault(key, values[0])):
            raise UserError(f"option --{key} {fault}")
    return {key: values if key in LISTS else values[0] for key, values in result.items()}
