"""Resolve a recipe and the options for this machine into a run folder, before anything slow starts.

Run as: python -m train.plan [recipe] [options] (bash run_sft.sh does). Prints what will run to stderr and the run
folder to stdout; writes run.json, sft.yaml, infer.yaml and prep.args into it.
"""

import argparse
import contextlib
import importlib.metadata
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from workspace.errors import UserError, run_main
from workspace.paths import DATASETS, ROOT, RUNS, shown

PACKAGES = ("ms_swift", "torch", "transformers", "peft", "datasets", "accelerate", "scikit-learn", "pandas")
FALLBACK_TASK = "demo"
EPILOG = """\
A recipe is <task>/<name>, or <task> for the task's default; swift_configs/README.md lists them.
Without a recipe the default one runs; where its weights can be had nowhere, the demo runs and says so.
Any other `--key value` goes to `swift sft`, for example --learning_rate 5e-5 --num_train_epochs 1.
"""


class Options(NamedTuple):
    """The command line of run_sft.sh. Paths as typed; `swift` holds the options meant for `swift sft`."""

    recipe: str | None
    model: str | None
    csv: Path | None
    limit: int | None
    prompt: str | None
    run: Path | None
    fresh: bool
    swift: dict[str, Any]


def parse_options(argv: list[str] | None) -> Options:
    """The options on a command line. Raises `UserError` for one that cannot be read."""
    words = list(sys.argv[1:] if argv is None else argv)
    # The recipe comes first, so that the value of an option for ms-swift is never taken for it.
    recipe = words.pop(0) if words and not words[0].startswith("-") else None
    parser = argparse.ArgumentParser(
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
    parser.add_argument("--run", type=Path, metavar="DIR", help="folder of this run (default: runs/<task>/<name>)")
    parser.add_argument("--fresh", action="store_true", help="start the run anew; otherwise finished steps are skipped")
    parser.error = _refuse  # type: ignore[method-assign]
    known, rest = parser.parse_known_args(words)
    if known.limit is not None and known.limit < 2:
        raise UserError(f"--limit {known.limit}: at least 2 training rows are needed")
    return Options(recipe=recipe, **vars(known), swift=_swift_options(rest))


def main(argv: list[str] | None = None) -> int:
    """Write the run folder; print its path."""
    options = parse_options(argv)
    # stdout is for the run folder alone: run_sft.sh reads it.
    with contextlib.redirect_stdout(sys.stderr):
        run = make_plan(options, argv if argv is not None else sys.argv[1:])
    print(run)
    return 0


def make_plan(options: Options, argv: list[str]) -> Path:
    """Resolve everything and write the run folder. Returns its absolute path."""
    # Below here so that --help needs nothing but Python.
    import yaml

    from train.machine import this_machine
    from train.models import ModelUnavailable, fingerprint
    from train.recipes import DEFAULT_TASK, load_recipe
    from train.resolve import resolve_infer, resolve_sft
    from train.swift_arguments import check_keys
    from workspace.files import sha256_json, write_json, write_text

    recipe = load_recipe(options.recipe or DEFAULT_TASK)
    check_keys(options.swift, "sft", "command line")
    notice = None
    try:
        model = _model_folder(recipe, options)
    except ModelUnavailable as error:
        if options.recipe or options.model or options.csv:
            raise
        notice = _fallback_notice(recipe.sft["model"])
        _say(f"{notice['en']} ({error})")
        recipe = load_recipe(FALLBACK_TASK)
        model = _model_folder(recipe, options)
    check_keys(recipe.sft, "sft", shown(recipe.path))
    check_keys(recipe.infer, "infer", shown(recipe.path.parent / "infer.yaml"))

    task, machine = recipe.task, this_machine()
    run = (options.run or RUNS / recipe.name).absolute()
    _clear(run, options.fresh)
    if not options.csv:
        _fetch_demo_csv(task.name)
    limit = options.limit or task.limit
    max_length = int(options.swift.get("max_length", recipe.sft.get("max_length", task.max_length)))
    prompt = options.prompt or task.prompt
    dataset = _dataset_folder(task, options, model, max_length, recipe)
    sft = resolve_sft(recipe, options.swift, machine, model, dataset, run)
    infer = resolve_infer(recipe, sft, machine, dataset)

    prep = [
        task.name,
        "--out",
        str(dataset),
        "--model",
        str(model),
        "--max-length",
        str(max_length),
        "--prompt",
        prompt,
    ]
    prep += ["--csv", str(options.csv)] if options.csv else []
    prep += ["--limit", str(limit)] if limit else []
    header = f"# {recipe.name}, resolved for this machine: {machine.describe()}\n# Run as: swift {{}} {{}}\n"
    write_text(run / "sft.yaml", header.format("sft", shown(run / "sft.yaml")) + _dump(yaml, sft))
    write_text(run / "infer.yaml", header.format("infer", shown(run / "infer.yaml")) + _dump(yaml, infer))
    write_text(run / "prep.args", "\n".join(prep) + "\n")
    write_json(
        run / "run.json",
        {
            "recipe": recipe.name,
            "task": task.name,
            "task_file": str(recipe.path.parent / "task.yaml"),
            "labels": list(task.label_words),
            "model": recipe.sft.get("model", model.name) if options.model is None else options.model,
            "model_folder": str(model),
            "model_fingerprint": fingerprint(model),
            "csv": str(options.csv or task.csv),
            "limit": limit,
            "prompt": prompt,
            "max_length": max_length,
            "seed": int(sft.get("seed", 42)),
            "dataset": str(dataset),
            "config_sha256": sha256_json([sft, infer, prep]),
            "machine": machine.as_dict(),
            "machine_text": machine.describe(),
            "versions": {name.replace("_", "-"): importlib.metadata.version(name) for name in PACKAGES},
            "python": sys.version.split()[0],
            "git": _git_revision(),
            "command": shlex.join(["bash", "run_sft.sh", *argv]),
            "planned": time.strftime("%Y-%m-%d %H:%M:%S"),
            "notice": notice,
        },
    )
    _say(f"recipe   {recipe.name}")
    _say(f"model    {shown(model)}")
    _say(f"machine  {machine.describe()}")
    _say(f"run      {shown(run)}")
    return run


def _refuse(message: str) -> None:
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
    return {key: values[0] if len(values) == 1 else values for key, values in result.items()}


def _model_folder(recipe: Any, options: Options) -> Path:
    from train.models import find_model

    if options.model is None and recipe.task.name == FALLBACK_TASK:
        from demo.model import ensure_model

        return ensure_model()
    return find_model(options.model or recipe.sft["model"])


def _fetch_demo_csv(task_name: str) -> None:
    if task_name == FALLBACK_TASK:
        from demo.reviews import DEFAULT_TARGET, ensure_reviews

        ensure_reviews(DEFAULT_TARGET)


def _dataset_folder(task: Any, options: Options, model: Path, max_length: int, recipe: Any) -> Path:
    """dataset_jsonl/<task>, or a folder beside it when an option makes the data another than the task's own."""
    from workspace.files import sha256_json

    changed = {
        "csv": str(options.csv.expanduser().absolute()) if options.csv else None,
        "limit": options.limit,
        "prompt": options.prompt if options.prompt != task.prompt else None,
        "max_length": max_length if max_length != task.max_length else None,
        # Another tokenizer cuts long reviews elsewhere.
        "model": str(model) if options.model else None,
        "recipe": recipe.path.stem if recipe.path.stem != task.default_recipe else None,
    }
    changed = {key: value for key, value in changed.items() if value is not None}
    if not changed:
        return DATASETS / task.name
    limit = f"limit{options.limit}-" if options.limit else ""
    return DATASETS / f"{task.name}@{limit}{sha256_json(changed)[:8]}"


def _fallback_notice(model: str) -> dict[str, str]:
    return {
        "zh": f"默认配方的模型 {model} 不在本机、也无法从模型库下载，因此本次运行的是演示（demo）配方。",
        "en": f"The default recipe's model {model} is neither on this machine nor to be had from a hub; "
        "this is the demo instead.",
    }


def _clear(run: Path, fresh: bool) -> None:
    """Remove an old run for --fresh. Only a folder that is a run is ever removed."""
    if run.exists() and not run.is_dir():
        raise UserError(f"--run {shown(run)} is a file: name a folder")
    if not fresh or not run.exists() or not any(run.iterdir()):
        return
    if not (run / "run.json").is_file():
        raise UserError(
            f"--fresh: {shown(run)} holds something other than a run (no run.json); name another --run folder"
        )
    shutil.rmtree(run)


def _dump(yaml: Any, values: dict[str, Any]) -> str:
    return yaml.safe_dump(values, allow_unicode=True, sort_keys=False, width=1000)


def _git_revision() -> str | None:
    try:
        result = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=ROOT, capture_output=True, text=True
        )
    except OSError:
        return None
    return result.stdout.strip() or None


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    run_main(main)
