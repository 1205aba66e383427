"""A recipe for the machine at hand: dtype, batch and paths filled in, ready for `swift sft` and `swift infer`."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.chat.frame import chat_frame, is_known
from plan.cpu_kernels import can_be_fused, trains_fused
from plan.distributed import ACCUMULATION, BATCH, Processes, share_batch, smaller_batch, wanted_processes, whole_number
from plan.gpu_kernels import HALF, answers_side_by_side, fused_layers, gpu_attention, larger_evaluation
from plan.hardware import Machine, dtype_flags
from plan.memory import EVAL_BATCH
from plan.option_values import is_true
from plan.recipes import Recipe
from plan.result_values import ROW_CHECK
from plan.training_memory import ModelShape, room_gib, step_gib
from workspace.errors import UserError
from workspace.paths import ROOT
from workspace.swift_registry import registry

EMPTY_THOUGHT = re.compile(r"\s*<think>\s*</think>")
HEAD_PLUGIN = ROOT / "plugins" / "label_head.py"
TASK_TYPES = ("causal_lm", "seq_cls")
UNKNOWN_CHAT = 64  # tokens more for a template that lengths could not be counted in: no row is dropped for them


def resolve_sft(
    recipe: Recipe,
    options: dict[str, Any],
    machine: Machine,
    model: Path,
    dataset: Path,
    run: Path,
    environ: Mapping[str, str] = os.environ,
) -> dict[str, Any]:
    """The keys of `swift sft` for this run: the recipe, what the machine asks for and it does not name, the `options`.

    The number of processes is that of `environ` (NPROC_PER_NODE, NNODES), else the recipe's.
    """
    flags = precision([*recipe.sft_layers, options], machine)
    values = {
        **flags,
        **recipe.sft,
        "model": str(model),
        "system": recipe.task.system,  # empty: none, not the template's own
        "dataset": [str(dataset / "train.jsonl")],
        "val_dataset": [str(dataset / "val.jsonl")],
        "output_dir": str(run / "train"),
    }
    # Absolute, because ms-swift writes them into each checkpoint's args.json and `swift infer` imports them again.
    plugins = recipe.sft.get("external_plugins", [])
    values["external_plugins"] = [str(ROOT / plugin) for plugin in ([plugins] if isinstance(plugins, str) else plugins)]
    values.update(options | flags)
    values.update(row_check(values))
    if str(values.setdefault("check_model", False)).lower() == "true":
        raise UserError(
            "check_model: true has ms-swift unpickle a hidden file of the model's folder, which can run code "
            "(CVE-2025-50472): leave it out; files from a hub are verified when they are downloaded"
        )
    values.update(quantised_in(values, options, machine) | one_device(values, machine))
    values.update(_matching_evaluation(values, options))
    values.update(head_values(values, options, len(recipe.task.label_words)))
    values.update(gpu_attention(values, machine))
    processes = wanted_processes(values, machine, environ)
    values.update(share_batch(values, options, processes))
    values.update(_launch_values(values, machine, processes))
    if machine.gpu is None:
        share = machine.memory_gib / processes.per_node
        values.update(_smaller_batch(values, share, model, _trains_fused(values, machine, model)))
    else:
        values.update(answers_side_by_side(values) | fused_layers(values, machine))
        if BATCH not in options:
            values.update(_smaller_batch(values, machine.memory_of(processes.per_node), model))
        if EVAL_BATCH not in options and recipe.sft.get(EVAL_BATCH) == recipe.files[0].values.get(EVAL_BATCH):
            values.update(larger_evaluation(values, machine, processes.per_node, model))
    return values


def precision(layers: Sequence[Mapping[str, Any]], machine: Machine) -> dict[str, Any]:
    """The dtype keys of `swift sft`: this machine's, in their place those that `layers` name, a later one before an
    earlier one, and what follows from them.

    `bf16` turns `fp16` off, and the other way round; on a GPU a dtype of two bytes decides both, and they a dtype of
    two bytes that nobody names. Raises `UserError` for both in one layer, and for bf16 on a card that has none: what
    ms-swift says of the first comes after the answers before tuning.
    """
    found = dtype_flags(machine, tunes_whole_weights({key: one[key] for one in layers for key in one}))
    for layer in layers:
        named = {key: layer[key] for key in found if key in layer}
        if is_true(named, "bf16") and is_true(named, "fp16"):
            raise UserError("bf16 and fp16 are both true, and weights are multiplied in one of them: leave one out")
        dtype = named.get("torch_dtype")
        if machine.gpu and dtype in HALF:
            found |= {"bf16": dtype == "bfloat16", "fp16": dtype == "float16"}
        for key, other in (("bf16", "fp16"), ("fp16", "bf16")):
            found |= {other: False} if is_true(named, key) else {}
        found |= named
    if machine.gpu and not machine.gpu_bf16 and is_true(found, "bf16"):
        raise UserError(
            f"{machine.gpu} does not multiply in bf16 (compute capability 8 and newer does): leave bf16 and "
            "torch_dtype: bfloat16 out, and it is float16"
        )
    mixed = [half for key, half in (("bf16", "bfloat16"), ("fp16", "float16")) if is_true(found, key)]
    nameless = not any("torch_dtype" in layer for layer in layers)
    return found | ({"torch_dtype": mixed[0]} if mixed and nameless and found["torch_dtype"] in HALF else {})


def tunes_whole_weights(values: Mapping[str, Any]) -> bool:
    """Whether `values` tune weights of the model itself, or a head's: LoRA's own are float32 whatever the model's.

    Quantised weights stay as they are.
    """
    whole = values.get("tuner_type", "lora") == "full" or values.get("task_type") == "seq_cls"
    return whole and not values.get("quant_bits")


def quantised_in(values: Mapping[str, Any], options: Mapping[str, Any], machine: Machine) -> dict[str, Any]:
    """The key of `swift sft` that has weights in 4 bits multiplied in float16 on a card without bfloat16."""
    key = "bnb_4bit_compute_dtype"
    wrong = machine.gpu is not None and not machine.gpu_bf16 and values.get(key) == "bfloat16" and key not in options
    return {key: "float16"} if wrong else {}


def one_device(values: Mapping[str, Any], machine: Machine) -> dict[str, Any]:
    """The key of `swift sft`, and of `swift infer` after it, that keeps a model on the CPU that computes.

    ms-swift loads models onto a device of Apple's or Huawei's where there is one, and trains on the CPU all the same.
    """
    by_cpu = machine.gpu is None and is_true(values, "use_cpu")
    apart = not machine.other_device or {"device_map", "deepspeed", "fsdp"} & values.keys()
    return {} if apart or not by_cpu else {"device_map": "cpu"}


def in_its_chat(values: Mapping[str, Any], system: str) -> dict[str, Any]:
    """The keys of `swift sft` for the chat template that they name, which may take no `system`: the rows carry it.

    A template that writes an empty thought before each answer of a row is to have it in the prompt when the model
    answers, too: then it is not learned.
    Raises `UserError` where the template has no place for a system prompt.
    """
    template, found = str(values["template"]), dict(values)
    thought = EMPTY_THOUGHT.match(chat_frame(template, system).before_answer)
    thinks = is_true(values, "enable_thinking") or values.get("task_type") == "seq_cls"
    if thought and not thinks:
        found = {"enable_thinking": False, "loss_scale": "ignore_empty_think", **found}
    if not registry().chats[template].own_system:
        del found["system"]
    if not is_known(template):
        found["max_length"] = whole_number(values, "max_length") + UNKNOWN_CHAT
    return found


def row_check(values: Mapping[str, Any]) -> dict[str, Any]:
    """The key of `swift sft` that has plugins/label_metric.py count rows before the first step, where it is used."""
    used = any(Path(plugin).name == "label_metric.py" for plugin in values.get("external_plugins", []))
    callbacks = values.get("callbacks", [])
    callbacks = [callbacks] if isinstance(callbacks, str) else callbacks
    return {"callbacks": [*callbacks, ROW_CHECK]} if used and ROW_CHECK not in callbacks else {}


def head_values(values: Mapping[str, Any], options: Mapping[str, Any], classes: int) -> dict[str, Any]:
    """The keys of `swift sft` that follow where `values` tune a classification head; none where they tune words.

    The head has one output a class of the task; plugins/label_head.py, without which ms-swift shows the head the
    answer, is added where it is missing. `options` are the user's. Raises `UserError` for what cannot be evaluated.
    """
    kind = values.get("task_type", "causal_lm")
    if kind not in TASK_TYPES:
        raise UserError(f"task_type {kind} cannot be evaluated here: use one of {', '.join(TASK_TYPES)}")
    if kind != "seq_cls":
        return {}
    if str(options.get("num_labels", classes)) != str(classes):
        raise UserError(f"--num_labels {options['num_labels']}: the task has {classes} labels; leave the option out")
    if (problem := values.get("problem_type", "single_label_classification")) != "single_label_classification":
        raise UserError(f"problem_type {problem}: every review has one label here; leave the option out")
    plugins = values.get("external_plugins", [])
    if not any(Path(plugin).name == HEAD_PLUGIN.name for plugin in plugins):
        plugins = [str(HEAD_PLUGIN), *plugins]
    return {"num_labels": classes, "external_plugins": plugins}


def _trains_fused(values: Mapping[str, Any], machine: Machine, model: Path) -> bool:
    by_cpu = machine.gpu is None and trains_fused(values)
    return by_cpu and can_be_fused(values, ModelShape.read(model).model_type)


def _matching_evaluation(values: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """What must change with the user's --eval_strategy: the best checkpoint needs saving and evaluating in step."""
    strategy = str(values.get("eval_strategy", "no"))
    if strategy == "no":
        return {"eval_strategy": "no", "load_best_model_at_end": False}
    matched = {"save_strategy": strategy}
    if strategy == "steps" and "eval_steps" in values:
        matched["save_steps"] = values["eval_steps"]
    return {key: value for key, value in matched.items() if key not in options}


def _launch_values(values: Mapping[str, Any], machine: Machine, processes: Processes) -> dict[str, Any]:
    """The keys that follow from the processes. On a CPU gradients are only exchanged by the backend gloo."""
    env = {key: value for key, value in (values.get("ENV") or {}).items() if key not in ("NPROC_PER_NODE", "NNODES")}
    env |= processes.env()
    backend = {"ddp_backend": "gloo"} if machine.gpu is None and processes.launched else {}
    return backend | ({"ENV": env} if env else {})


def _smaller_batch(values: dict[str, Any], memory_gib: float, model: Path, fused: bool = False) -> dict[str, Any]:
    """A smaller batch with accumulation where the recipe's would not fit: in a process's share of memory, or a GPU's.

    The effective batch stays the same.
    """
    shared = {BATCH: whole_number(values, BATCH), ACCUMULATION: whole_number(values, ACCUMULATION)}
    if is_true(values, "gradient_checkpointing", True):
        return {}
    room = room_gib(values, memory_gib, model)
    while step_gib(values, model, shared[BATCH], fused) > room and (less := smaller_batch(shared)):
        shared = less
    return shared
