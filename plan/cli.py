"""Resolve a recipe and the options for this machine into a run folder, before anything slow starts.

Run as: python -m plan [recipe] [options], then, when the data is prepared, python -m plan --accept RUN
(bash run_sft.sh does both). The first prints what will run to stderr and the run folder to stdout, and writes run.json,
sft.yaml, infer.yaml and prep.args into RUN/next; the second moves them into RUN. So a table that cannot be read leaves
an earlier run as it was.
"""

import contextlib
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plan.options import Options, caller_folder, parse_options
from workspace.errors import UserError
from workspace.paths import DATASETS, ROOT, RUNS, shown

FALLBACK_TASK = "demo"
PLAN_FILES = {"next", "lock", "data.json", "sft.yaml", "infer.yaml", "prep.args", "packages.txt"}


def main(argv: list[str] | None = None) -> int:
    """Write the plan and print the run folder, or accept the plan that is there."""
    words = sys.argv[1:] if argv is None else argv
    if words[:1] == ["--accept"]:
        if len(words) != 2:
            raise UserError("--accept takes one run folder: python -m plan --accept RUN")
        accept(Path(words[1]).absolute())
        return 0
    options = parse_options(words)
    # stdout is for the run folder alone: run_sft.sh reads it.
    with contextlib.redirect_stdout(sys.stderr):
        run = make_plan(options, words)
    print(run)
    return 0


def accept(run: Path) -> None:
    """Move the plan in RUN/next into place; where it asked for a fresh start, remove the earlier run first.

    A plan that is in place already stays. Raises `UserError` where there is none.
    """
    from plan.provenance import record_data
    from workspace.folder_lock import locked

    next_plan = run / "next"
    if (run / "run.json").is_file() and not (next_plan.is_dir() and any(next_plan.iterdir())):
        if next_plan.is_dir():  # interrupted at the last moment
            next_plan.rmdir()
        return
    if not (next_plan / "run.json").is_file():
        raise UserError(f"{shown(run)} has no plan to accept: run `python -m plan` first")
    with locked(run):
        record_data(next_plan)
        _move_plan(run)


def _move_plan(run: Path) -> None:
    from workspace.files import read_json

    next_plan = run / "next"
    if read_json(next_plan / "run.json")["fresh"]:
        check_run_folder(run)
        # run.json last: without it a half-removed run would no longer be known as one.
        for path in sorted(run.iterdir(), key=lambda path: path.name == "run.json"):
            if path not in (next_plan, run / "lock"):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    # run.json last: it is what makes the folder a run.
    for path in sorted(next_plan.iterdir(), key=lambda path: path.name == "run.json"):
        path.replace(run / path.name)
    next_plan.rmdir()


def make_plan(options: Options, argv: list[str]) -> Path:
    """Resolve everything and write RUN/next. Returns RUN as an absolute path."""
    # Below here so that --help needs nothing but Python.
    import yaml

    from hub.find import ModelUnavailable, check_family, fingerprint
    from plan.cpu_kernels import cpu_precision, infer_values, sft_values
    from plan.disk import check_space, dataset_cache, needed_space
    from plan.distributed import batch_line, planned_processes
    from plan.hardware import this_machine
    from plan.memory import found_before
    from plan.needed_packages import check_packages
    from plan.provenance import PACKAGES_FILE, software, write_packages
    from plan.recipes import DEFAULT_TASK, check_recipe, load_recipe
    from plan.resolve import resolve_infer, resolve_sft
    from plan.swift_schema import check_values
    from workspace.files import sha256_json, write_json, write_text
    from workspace.folder_lock import locked

    recipe = load_recipe(options.recipe or DEFAULT_TASK, options.overrides, caller_folder())
    notice = None
    try:
        model = _model_folder(recipe, options)
    except ModelUnavailable as error:
        if options.recipe or options.model or options.csv:
            raise
        notice = _fallback_notice(recipe.sft["model"])
        _say(f"{notice['en']} ({error})")
        recipe = load_recipe(FALLBACK_TASK, options.overrides, caller_folder())
        model = _model_folder(recipe, options)
    check_values(options.swift, "sft", lambda key: f"command line: --{key}")
    check_recipe(recipe)
    check_family(model, {**recipe.sft, **options.swift}, options.swift)
    task, machine = recipe.task, this_machine()
    run = (options.run or RUNS / recipe.name).absolute()
    check_run_folder(run)
    next_plan = run / "next"
    if not options.csv:
        _fetch_demo_csv(task.name)
    limit = options.limit or task.limit
    max_length = options.number("max_length", recipe.sft.get("max_length", task.max_length))
    prompt = options.prompt or task.prompt
    dataset = _dataset_folder(task, options, model, max_length, recipe)
    sft = resolve_sft(recipe, options.swift, machine, model, dataset, run)
    if options.auto_batch:
        sft |= found_before(run)
    infer = resolve_infer(recipe, sft, machine, dataset)
    measured = cpu_precision(machine)
    sft |= sft_values(measured, sft, options.swift)
    infer |= infer_values(measured, infer, sft)
    check_packages({**sft, **infer})
    table = options.csv or task.csv or Path()
    needed = needed_space(sft, run, dataset, table, model, limit)
    check_space(needed, {run: "--run", dataset_cache(): "MODELSCOPE_CACHE"})

    changes = [str(change.path) for change in recipe.overrides if change.values["task"]]
    prep = [
        str(task.path),
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
    prep += ["--override", *changes] if changes else []
    record = {
        "recipe": recipe.name,
        "task": task.name,
        "task_file": str(task.path),
        "task_overrides": changes,
        "overrides": [shown(change.path) for change in recipe.overrides],
        "labels": list(task.label_words),
        "model": recipe.sft.get("model", model.name) if options.model is None else options.model,
        "model_folder": str(model),
        "model_fingerprint": fingerprint(model),
        "csv": str(options.csv or task.csv),
        "limit": limit,
        "prompt": prompt,
        "max_length": max_length,
        "seed": options.number("seed", sft.get("seed", 42)),
        "dataset": str(dataset),
        "config_sha256": sha256_json([sft, infer, prep]),
        "machine": machine.as_dict(),
        "machine_text": machine.describe(),
        "precision": measured._asdict() if measured else None,
        **software(),
        "command": shlex.join(["bash", "run_sft.sh", *argv]),
        "fresh": options.fresh,
        "auto_batch": options.auto_batch,
        "planned": time.strftime("%Y-%m-%d %H:%M:%S"),
        "notice": notice,
    }
    with locked(run):
        # run.json last, and none while the others change: a plan that was cut off is no plan.
        (next_plan / "run.json").unlink(missing_ok=True)
        header = f"# {recipe.name}, resolved for this machine: {machine.describe()}\n# Run as: swift {{}} {{}}\n"
        write_text(next_plan / "sft.yaml", header.format("sft", shown(run / "sft.yaml")) + _dump(yaml, sft))
        write_text(next_plan / "infer.yaml", header.format("infer", shown(run / "infer.yaml")) + _dump(yaml, infer))
        write_prep_words(next_plan, prep)
        write_packages(next_plan / PACKAGES_FILE)
        write_json(next_plan / "run.json", record)
    _say(f"recipe   {recipe.name}")
    _say(f"model    {shown(model)}")
    _say(f"machine  {machine.describe()}")
    if measured:
        _say(f"cpu      {measured.describe()}")
    if planned_processes(sft).launched:
        _say(f"process  {batch_line({**recipe.sft, **options.swift}, sft)}")
    _say(f"run      {shown(run)}")
    return run


def prep_words(plan: Path) -> list[str]:
    """The words of `python -m data_prep.build` in a plan's folder."""
    text = (plan / "prep.args").read_text(encoding="utf-8")
    return text.split("\0")[:-1] if "\0" in text else text.splitlines()  # lines: made by an earlier version


def write_prep_words(plan: Path, words: Sequence[str]) -> None:
    """Keep the words of `python -m data_prep.build`, each ended by NUL: a path may have a newline."""
    from workspace.files import write_text

    write_text(plan / "prep.args", "".join(f"{word}\0" for word in words))


def _model_folder(recipe: Any, options: Options) -> Path:
    from hub.find import find_model

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
        "csv": str(options.csv) if options.csv else None,
        "limit": options.limit,
        "prompt": options.prompt if options.prompt != task.prompt else None,
        "max_length": max_length if max_length != task.max_length else None,
        # Another tokenizer cuts long reviews elsewhere.
        "model": str(model) if options.model else None,
        "recipe": recipe.path.stem if recipe.path.stem != task.default_recipe else None,
        "overrides": [change.values["task"] for change in recipe.overrides if change.values["task"]] or None,
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


def check_run_folder(run: Path) -> None:
    """Raise `UserError` where the folder cannot be a run's: its files would be replaced or removed."""
    if run.exists() and not run.is_dir():
        raise UserError(f"--run {shown(run)} is a file: name a folder")
    there = {path.name for path in run.iterdir()} - PLAN_FILES if run.exists() else set()
    if (there and not (run / "run.json").is_file()) or ROOT.is_relative_to(run):
        raise UserError(f"--run {shown(run)} holds something other than a run (no run.json); name another folder")


def _dump(yaml: Any, values: dict[str, Any]) -> str:
    return yaml.safe_dump(values, allow_unicode=True, sort_keys=False, width=1000)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
