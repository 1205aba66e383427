"""A recipe and options, resolved for this machine, become a run folder with its data prepared, before anything slow.

The dataset is built first, so that a table that cannot be read leaves an earlier run as it was; then sft.yaml,
infer.yaml, packages.txt, data.json and run.json are written.
"""

import contextlib
import dataclasses
import shlex
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from data_prep.build import build, with_options
from data_prep.chat.family import recognise
from data_prep.task import find_task, word_for
from hub.find import ModelUnavailable, find_model, fingerprint
from plan.cpu_kernels import cpu_precision, infer_values, sft_values
from plan.dataset_place import dataset_folder
from plan.disk import check_space, dataset_cache, needed_space
from plan.distributed import ACCUMULATION, BATCH, batch_line, planned_processes, throughput_line
from plan.hardware import check_usable, this_machine, used_by
from plan.memory import answers_as_begun, bf16_as_begun, found_before, recipe_batch, shared_as_begun
from plan.option_values import PLUGINS, RESERVED
from plan.options import Options
from plan.provenance import PACKAGES_FILE, record_data, software, write_packages
from plan.recipes import DEFAULT_TASK, DEMO_MODEL, Recipe, check_recipe, ensure_task, load_recipe
from plan.resolve import in_its_chat, precision, resolve_sft
from plan.resolve_infer import is_chosen, resolve_infer, room_for_labels
from plan.run import RECORD, Notice, Run, check_no_pattern, check_run_folder, remove_earlier, tell_folder
from plan.start_adapter import adapter_notice, adapter_values, check_adapter
from plan.swift_schema import check_packages, check_values
from plan.texts import check_texts, find_texts, prepare_texts
from plan.training_memory import check_room
from workspace.command_line import caller_folder
from workspace.errors import UserError
from workspace.files import sha256_json
from workspace.folder_lock import locked
from workspace.gate import check_options
from workspace.marker import mark
from workspace.paths import RUNS, shown

FALLBACK_TASK = "demo"


class Plan(NamedTuple):
    """A run that is not written yet: its record, its keys of `swift sft` and `swift infer`, its table if one is named.

    The fields of `run` that say how its data is prepared are those that `data_prep.build` is called with.
    """

    run: Run
    sft: dict[str, Any]
    infer: dict[str, Any]
    csv: Path | None


def carry_out(plan: Plan) -> None:
    """Build the dataset, write the run's folder, and tell it."""
    check_run_folder(plan.run.folder, plan.run.fresh)
    with locked(plan.run.folder):  # until it is told: what the stages go by must be this plan
        with contextlib.redirect_stdout(sys.stderr):
            write_run(plan)
        tell_folder(plan.run.folder)


def write_run(plan: Plan) -> None:
    """Build the dataset and write the run's folder; with `fresh`, in place of what an earlier run left there.

    Raises `UserError` where the data cannot be prepared, and the folder is then as it was.
    """
    run = plan.run
    check_run_folder(run.folder, run.fresh)
    with locked(run.folder):
        build(
            str(run.task_file),
            csv=plan.csv,
            model=run.model_folder,
            limit=run.limit,
            out=run.dataset,
            prompt=run.prompt,
            max_length=run.max_length,
            override=run.task_overrides,
            template=plan.sft.get("template"),
        )
        texts = find_texts(run, task := find_task(str(run.task_file), run.task_overrides))
        check_run_folder(run.folder, run.fresh)
        mark(run.folder, "run")
        if run.fresh:
            remove_earlier(run.folder)
        # run.json last, and none while the others change: a plan that was cut off is no plan.
        (run.folder / RECORD).unlink(missing_ok=True)
        origin = f"as in {shown(run.again_of)}" if run.again_of else f"resolved for this machine: {run.machine_text}"
        for command, values in (("sft", plan.sft), ("infer", plan.infer)):
            path = shown(run.folder / f"{command}.yaml")
            run.write_yaml(command, values, f"# {run.recipe}, {origin}\n# Run as: swift {command} {path}")
        write_packages(run.folder / PACKAGES_FILE)
        record_data(run.dataset, run.folder)
        prepare_texts(run, task, texts)
        if run.start_adapter:
            run = dataclasses.replace(run, notice=adapter_notice(run.start_adapter, run.dataset, task))
        run.write()


def make_plan(options: Options, argv: list[str]) -> Plan:
    """Resolve everything for this machine. Writes nothing but what is fetched, the model and the demo's table, and the
    task of a table that has none.

    Raises `UserError` for what cannot run, before anything slow starts.
    """
    ensure_task(options.recipe)
    recipe, notice = _checked_recipe(options.recipe or DEFAULT_TASK, options), None
    asked = {**recipe.sft, **options.swift}
    check_usable(machine := used_by(asked, this_machine()), asked)
    precision([*recipe.sft_layers, options.swift], machine)  # this and the next before the model is fetched
    check_packages({**recipe.sft, **recipe.infer, **options.swift})
    try:
        model = _model_folder(recipe, options)
    except ModelUnavailable as error:
        if options.model:
            raise
        if options.recipe or options.csv:
            name = word_for(recipe.task.path)
            raise ModelUnavailable(f"{error}; or tune the demo's: `bash run_sft.sh {name}/{DEMO_MODEL}`") from error
        notice = _fallback_notice(recipe.sft["model"])
        _say(f"{notice['en']} ({error})")
        recipe = _checked_recipe(FALLBACK_TASK, options)
        model = _model_folder(recipe, options)
    family = recognise(model, recipe.sft, options.swift, options.model is None)
    recipe = recipe._replace(sft={**recipe.sft, **family._asdict()})
    task, folder = recipe.task, _run_folder(recipe, options)
    if machine.unused:
        _say(f"machine  {machine.unused}")
    if not options.csv and task.name == FALLBACK_TASK:
        from demo.reviews import DEFAULT_TARGET, ensure_reviews

        ensure_reviews(DEFAULT_TARGET)
    limit = options.limit or task.limit
    max_length = options.number("max_length", recipe.sft.get("max_length", task.max_length))
    dataset = dataset_folder(task, options, model, max_length, recipe)
    check_no_pattern(dataset)
    sft = in_its_chat(resolve_sft(recipe, options.swift, machine, model, dataset, folder), task.system)
    if options.adapters:
        chosen_values = {key: value for change in recipe.overrides for key, value in change.values["sft"].items()}
        sft |= adapter_values(options.adapters, folder, chosen_values | options.swift, sft, fingerprint(model))
    check_texts(task, sft, model, machine, options.adapters)
    check_room(sft, machine, model)
    found = found_before(folder) if options.auto_batch else {}
    sft |= found
    begun = None if options.fresh else answers_as_begun(folder, sft, dataset / "test.jsonl")
    infer = resolve_infer(recipe, sft, machine, dataset, "torch_dtype" in options.swift, begun)
    infer |= room_for_labels(infer, sft, task.label_words, model)
    measured = cpu_precision(machine)
    named = {*recipe.sft, *options.swift}
    chosen = sft_values(measured, sft, named)
    decided = {"bf16", "fp16", "torch_dtype"} & named or {"deepspeed", "fsdp"} & sft.keys()
    bf16 = None if measured is None or decided else bool(chosen.get("bf16"))
    if bf16 is not None and not options.fresh:
        bf16 = bf16_as_begun(folder, bf16)
    sft |= chosen | ({} if bf16 is None else {"bf16": bf16})
    named_batch = {BATCH, ACCUMULATION} & {*options.swift, *found}
    if not options.fresh and not named_batch:
        sft |= shared_as_begun(folder, sft, machine, recipe.sft)
    infer |= infer_values(measured, infer, sft)
    check_packages({**sft, **infer})
    check_options(sft, lambda key: f"option --{key}", folder)
    table = options.csv or task.main_table or Path()
    check_space(
        needed_space(sft, folder, dataset, table, model, limit), {folder: "--run", dataset_cache(): "MODELSCOPE_CACHE"}
    )
    prompt, changes = options.prompt or task.prompt, tuple(str(c.path) for c in recipe.overrides if c.values["task"])
    prepared = [str(task.path), changes, str(model), str(dataset), limit, prompt, max_length]
    run = Run(
        folder=folder,
        recipe=recipe.name,
        task=task.name,
        labels=task.label_words,
        dataset=dataset,
        task_file=task.path,
        task_overrides=changes,
        overrides=tuple(shown(change.path) for change in recipe.overrides),
        model=recipe.sft.get("model", model.name) if options.model is None else options.model,
        model_folder=model,
        model_fingerprint=fingerprint(model),
        csv=str(options.csv or task.main_table),
        limit=limit,
        prompt=prompt,
        max_length=max_length,
        seed=options.number("seed", sft.get("seed", 42)),
        config_sha256=sha256_json([sft, infer, prepared]),
        machine=machine.as_dict(),
        machine_text=machine.describe(),
        precision=measured._asdict() if measured else None,
        measured_bf16=bf16,
        chosen_dtype=infer["torch_dtype"] if is_chosen(infer, machine, recipe, options.swift) else None,
        recipe_batch=None if named_batch else recipe_batch(recipe.sft),
        command=shlex.join(["bash", "run_sft.sh", *argv]),
        fresh=options.fresh,
        auto_batch=options.auto_batch,
        planned=time.strftime("%Y-%m-%d %H:%M:%S"),
        notice=notice,
        start_adapter=options.adapters,
        **software(),
    )
    lines = {
        "recipe": recipe.name,
        "model": f"{shown(model)} ({sft['model_type']}, template {sft['template']})",
        "machine": machine.describe(),
        "cpu": measured.describe() if measured else None,
        "process": batch_line({**recipe.sft, **options.swift}, sft) if planned_processes(sft).launched else None,
        "batch": throughput_line(sft, machine),
        "run": shown(folder),
    }
    _say("\n".join(f"{name:<9}{line}" for name, line in lines.items() if line))
    return Plan(run, sft, infer, options.csv)


def _checked_recipe(name: str, options: Options) -> Recipe:
    """The recipe, checked with all that the options change. Raises `UserError` before anything is fetched."""
    recipe = load_recipe(name, options.overrides, caller_folder())
    check_values(options.swift, "sft", lambda key: f"command line: --{key}", RESERVED | PLUGINS)
    check_recipe(recipe)
    with_options(recipe.task, options.prompt, None, options.limit)
    check_run_folder(_run_folder(recipe, options), options.fresh)
    if options.adapters:
        check_adapter(options.adapters)
    return recipe


def _run_folder(recipe: Recipe, options: Options) -> Path:
    return (options.run or RUNS / recipe.name).absolute()


def _model_folder(recipe: Recipe, options: Options) -> Path:
    if options.model is None and recipe.is_demo_model:
        from demo.model import ensure_model

        return ensure_model()
    if not (model := options.model or recipe.sft.get("model")):
        raise UserError(f"{shown(recipe.path)} names no model: add a line `model:`, or give --model PATH_OR_ID")
    return find_model(model)


def _fallback_notice(model: str) -> Notice:
    return {
        "zh": f"默认配方的模型 {model} 不在本机、也无法从模型库下载，因此本次运行的是演示（demo）配方。",
        "en": f"The default recipe's model {model} is neither on this machine nor to be had from a hub; "
        "this is the demo instead.",
    }


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
