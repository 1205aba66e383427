"""A recipe for the machine at hand: dtype, batch and paths filled in, ready for `swift sft` and `swift infer`."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plan.attention import gpu_attention
from plan.distributed import ACCUMULATION, BATCH, Processes, share_batch, wanted_processes, whole_number
from plan.hardware import Machine, dtype_flags
from plan.head import head_values
from plan.recipes import Recipe
from workspace.errors import UserError
from workspace.paths import ROOT

GPU_INFER_BATCH = 64
ACTIVATION_BYTES = 110
# How a model is loaded and its chat is written: `swift infer` must do both as `swift sft` did.
MODEL_KEYS = (
    "model", "model_type", "template", "system", "enable_thinking", "quant_method", "quant_bits",
    "bnb_4bit_quant_type", "bnb_4bit_use_double_quant", "bnb_4bit_compute_dtype",
)  # fmt: skip
RUNTIME_GIB = 0.5  # Python, torch and ms-swift themselves
MEMORY_SHARE = 0.7  # of the machine's memory that training may take


def resolve_sft(
    recipe: Recipe,
    overrides: dict[str, Any],
    machine: Machine,
    model: Path,
    dataset: Path,
    run: Path,
    environ: Mapping[str, str] = os.environ,
) -> dict[str, Any]:
    """The keys of `swift sft` for this run: the recipe, then what the machine asks for, then the user's overrides.

    The number of processes is that of `environ` (NPROC_PER_NODE, NNODES), else the recipe's.
    """
    values = {
        **recipe.sft,
        "model": str(model),
        "system": recipe.task.system,
        "dataset": [str(dataset / "train.jsonl")],
        "val_dataset": [str(dataset / "val.jsonl")],
        "output_dir": str(run / "train"),
        **dtype_flags(machine),
    }
    # Absolute, because ms-swift writes them into each checkpoint's args.json and `swift infer` imports them again.
    plugins = recipe.sft.get("external_plugins", [])
    values["external_plugins"] = [str(ROOT / plugin) for plugin in ([plugins] if isinstance(plugins, str) else plugins)]
    values.update(overrides)
    if str(values.setdefault("check_model", False)).lower() == "true":
        raise UserError(
            "check_model: true has ms-swift unpickle a hidden file of the model's folder, which can run code "
            "(CVE-2025-50472): leave it out; files from a hub are verified when they are downloaded"
        )
    values.update(_matching_evaluation(values, overrides))
    values.update(head_values(values, overrides, len(recipe.task.label_words)))
    values.update(gpu_attention(values, machine))
    processes = wanted_processes(values, machine, environ)
    values.update(share_batch(values, overrides, processes))
    if machine.gpu is None:
        values.update(_smaller_batch(values, machine.memory_gib / processes.per_node, model))
    elif BATCH not in overrides:
        values.update(_smaller_batch(values, machine.gpu_memory_gib, model))
    return values | _launch_values(values, machine, processes)


def resolve_infer(recipe: Recipe, sft: dict[str, Any], machine: Machine, dataset: Path) -> dict[str, Any]:
    """The keys of `swift infer`, the same before and after tuning but for adapter, rows and result path."""
    values = {
        **recipe.infer,
        **{key: sft[key] for key in MODEL_KEYS if key in sft},
        "torch_dtype": sft["torch_dtype"],
        "val_dataset": [str(dataset / "test.jsonl")],
    }
    by_vllm = values.get("infer_backend") == "vllm"
    if "attn_impl" in sft and not by_vllm:
        values.setdefault("attn_impl", sft["attn_impl"])  # a checkpoint names it, the untuned model does not
    if by_vllm:
        if sft.get("task_type") == "seq_cls":
            raise UserError("infer_backend vllm answers in words: for a classification head leave it out")
        if machine.gpu is None:
            values["vllm_enforce_eager"] = True  # compiling takes longer than the answers
    elif machine.gpu is not None:
        values["max_batch_size"] = max(GPU_INFER_BATCH, int(values.get("max_batch_size", 1)))
    return values


def training_gib(model: Path, batch: int, tokens: int, torch_dtype: str = "float32") -> float:
    """Estimated memory, in GiB, of a LoRA step without gradient checkpointing: weights and activations.

    A layer keeps, for each token, hidden states (ACTIVATION_BYTES times hidden size), the MLP's four inner states and
    a row of attention weights a head. ACTIVATION_BYTES was fitted to a measured peak: 10.7 GiB for the shape of
    Qwen1.5-0.5B in float32 at batch 4 and 512 tokens with `attn_impl: eager` (swift_configs/README.md); bf16 and
    torch's fused attention need less. In a `torch_dtype` of two bytes all is taken to need half; on a GPU this was
    not measured.
    """
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    hidden, layers = config.get("hidden_size", 1024), config.get("num_hidden_layers", 24)
    inner, heads = config.get("intermediate_size", 4 * hidden), config.get("num_attention_heads", 16)
    stored = config.get("dtype") or config.get("torch_dtype")
    weights = sum(path.stat().st_size for path in model.glob("*.safetensors")) * (1 if stored == "float32" else 2)
    per_token = layers * (ACTIVATION_BYTES * hidden + 4 * 4 * inner + 4 * heads * tokens)
    share = 1.0 if torch_dtype == "float32" else 0.5
    return RUNTIME_GIB + share * (weights + batch * tokens * per_token) / 2**30


def _matching_evaluation(values: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """What must change with the user's --eval_strategy: the best checkpoint needs saving and evaluating in step."""
    strategy = str(values.get("eval_strategy", "no"))
    if strategy == "no":
        return {"eval_strategy": "no", "load_best_model_at_end": False}
    matched = {"save_strategy": strategy}
    if strategy == "steps" and "eval_steps" in values:
        matched["save_steps"] = values["eval_steps"]
    return {key: value for key, value in matched.items() if key not in overrides}


def _launch_values(values: Mapping[str, Any], machine: Machine, processes: Processes) -> dict[str, Any]:
    """The keys that follow from the processes. On a CPU gradients are only exchanged by the backend gloo."""
    env = {key: value for key, value in (values.get("ENV") or {}).items() if key not in ("NPROC_PER_NODE", "NNODES")}
    env |= processes.env()
    backend = {"ddp_backend": "gloo"} if machine.gpu is None and processes.launched else {}
    return backend | ({"ENV": env} if env else {})


def _smaller_batch(values: dict[str, Any], memory_gib: float, model: Path) -> dict[str, Any]:
    """A smaller batch with accumulation where the recipe's would not fit: in a process's share of memory, or a GPU's.

    The effective batch stays the same.
    """
    batch, accumulation = whole_number(values, BATCH), whole_number(values, ACCUMULATION)
    tokens = whole_number(values, "max_length", 512)
    if str(values.get("gradient_checkpointing", True)).lower() == "true":
        return {}
    room = memory_gib * MEMORY_SHARE
    while batch > 1 and batch % 2 == 0 and training_gib(model, batch, tokens, str(values["torch_dtype"])) > room:
        batch, accumulation = batch // 2, accumulation * 2
    return {BATCH: batch, ACCUMULATION: accumulation}
