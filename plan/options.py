"""The command line of run_sft.sh: its own options, and those handed on to `swift sft`."""

import argparse
import os
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from workspace.errors import UserError

EPILOG = """\
A recipe is <task>/<model>, or <task> for the task's default; <task> may be the path of a folder of your own with a
task.yaml. swift_configs/README.md lists recipes and overrides.
Without a recipe the default one runs; where its weights can be had nowhere, the demo runs and says so.
Any other `--key value` goes to `swift sft`, for example --learning_rate 5e-5 --num_train_epochs 1.
"""


# Options of `swift sft` that the pipeline decides itself, and what to use instead.
RESERVED = {
    "output_dir": "use --run DIR",
    "add_version": "checkpoints are looked for in RUN/train",
    "dataset": "use --csv PATH",
    "val_dataset": "use --csv PATH; the validation rows are split off by prep",
    "cached_dataset": "use --csv PATH",
    "split_dataset_ratio": "the splits are made by prep, from `split` in task.yaml",
    "system": "set `system` in task.yaml: the rows carry it",
    "resume_from_checkpoint": "the same command goes on by itself",
    "save_only_model": "going on after an interruption needs the optimiser's state",
    # Whatever is on the command line or in a YAML is written into the run, and into every checkpoint.
    "hub_token": "set HF_TOKEN or MODELSCOPE_API_TOKEN in the environment",
    "swanlab_token": "set SWANLAB_API_KEY in the environment",
    "swanlab_secret": "send messages when the run is done: it would be written into the run",
    "push_to_hub": "upload RUN/train/checkpoint-N when the run is done",
    "external_plugins": "put the plugin into plugins/ and name it in a recipe of your own",
}
LISTS = ("target_modules", "modules_to_save", "report_to", "callbacks", "columns", "freeze_parameters")
TUNERS = ("lora", "longlora", "adalora", "lora_ga", "full")  # whose checkpoints can be answered with


class Options(NamedTuple):
    """The command line of run_sft.sh. Paths as typed; `swift` holds the options meant for `swift sft`."""

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
    # The recipe comes first, so that the value of an option for ms-swift is never taken for it.
    recipe = words.pop(0) if words and not words[0].startswith("-") else None
    parser = _Parser(
        prog="bash run_sft.sh",
        usage="bash run_sft.sh [recipe] [options]",
        description="From a CSV of labelled reviews to a tuned model and an honest before/after report.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--model", help="folder or hub id of the model to tune, in place of the recipe's")
    parser.add_argument("--csv", type=Path, help="the labelled reviews, in place of the task's")
    parser.add_argument("--limit", type=int, metavar="N", help="N training rows, stratified, and N//4 test rows")
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
    parser.add_argument("--run", type=Path, metavar="DIR", help="folder of this run (default: runs/<task>/<model>)")
    parser.add_argument("--fresh", action="store_true", help="start the run over; otherwise finished steps are skipped")
    parser.add_argument(
        "--auto-batch", action="store_true", help="when memory runs out, go on by itself with a smaller batch"
    )
    known, rest = parser.parse_known_args(words)
    if known.limit is not None and known.limit < 2:
        raise UserError(f"--limit {known.limit}: at least 2 training rows are needed")
    for name in ("csv", "run"):
        if (path := getattr(known, name)) is not None:
            setattr(known, name, _from_caller(path))
    if known.model and _from_caller(Path(known.model)).exists():
        known.model = str(_from_caller(Path(known.model)))
    known.overrides = tuple(known.overrides)
    return Options(recipe=recipe, **vars(known), swift=_swift_options(rest))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see `bash run_sft.sh --help`")


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
        if not values:
            raise UserError(f"option --{key} has no value; see `bash run_sft.sh --help`")
        if key in RESERVED:
            raise UserError(f"option --{key} is decided by the pipeline: {RESERVED[key]}")
        if key == "tuner_type" and values[0] not in TUNERS:
            raise UserError(
                f"--tuner_type {values[0]} leaves no checkpoint to answer with: use one of {', '.join(TUNERS)}"
            )
        if len(values) > 1 and key not in LISTS:
            raise UserError(f"option --{key} has {len(values)} values ({' '.join(values)}); the recipe comes first")
    return {key: values if key in LISTS else values[0] for key, values in result.items()}


def caller_folder() -> Path:
    """The folder in which run_sft.sh was called: relative paths are taken from it."""
    return Path(os.environ.get("RUN_SFT_CALLER") or Path.cwd())


def _from_caller(path: Path) -> Path:
    return caller_folder() / path.expanduser()
