"""What a GPU computes fastest, where the packages for it are installed and neither recipe nor user says otherwise."""

import importlib.util
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from plan.hardware import Machine
from plan.memory import EVAL_BATCH
from plan.training_memory import MEMORY_SHARE, training_gib

HALF = ("bfloat16", "float16")  # what flash-attn computes in
# With these ms-swift or our plugins need a batch's rows apart, or have an attention of their own.
ROWS_APART = ("loss_type", "deepspeed", "fsdp", "packing", "use_liger_kernel")
# With these a loss, a model or a launch of its own meets liger's kernels, which was never run.
OWN_WAY = ("loss_type", "deepspeed", "fsdp", "packing", "padding_free", "quant_bits", "torch_compile")
EVAL_BATCHES = (64, 32, 16)  # a GPU takes as long for one row as for many (docs/results.md, H100)


def flash_attention_works() -> bool:
    """Whether flash-attn can be imported. Tried in a process of its own: built for another torch it fails, or worse."""
    command = [sys.executable, "-c", "from flash_attn import flash_attn_varlen_func"]
    return subprocess.run(command, capture_output=True).returncode == 0


def liger_works() -> bool:
    """Whether liger-kernel is there, and what Triton compiles its kernels with: a C compiler, Python's headers."""
    packages = all(importlib.util.find_spec(name) for name in ("liger_kernel", "triton"))
    header = Path(sysconfig.get_path("include"), "Python.h")
    return packages and any(map(shutil.which, ("gcc", "clang", "cc"))) and header.is_file()


def gpu_attention(
    values: Mapping[str, Any], machine: Machine, works: Callable[[], bool] = flash_attention_works
) -> dict[str, Any]:
    """The keys of `swift sft` that have a batch be one long row of its reviews, so that no padding is computed.

    Needs a GPU of compute capability 8 or newer and the package flash-attn; `values` are those of the recipe and the
    user, whose own choice of `attn_impl` or `padding_free` wins. A head keeps its rows apart.
    """
    named = {"attn_impl", "padding_free"} & values.keys()
    if named or not machine.gpu_bf16 or values.get("torch_dtype") not in HALF:
        return {}
    if values.get("task_type") == "seq_cls" or any(values.get(key) for key in ROWS_APART):
        return {}
    return {"attn_impl": "flash_attn", "padding_free": True} if works() else {}


def answers_side_by_side(values: Mapping[str, Any]) -> dict[str, Any]:
    """The key of `swift sft` with which answers end side by side, so that logits are computed of their tokens alone.

    Padded on the right, a batch keeps the logits of all positions from the shortest row's answer on.
    """
    apart = {"padding_side", "deepspeed", "fsdp"} & values.keys() or values.get("padding_free")
    return {} if apart or values.get("task_type") == "seq_cls" else {"padding_side": "left"}


def fused_layers(
    values: Mapping[str, Any], machine: Machine, works: Callable[[], bool] = liger_works
) -> dict[str, Any]:
    """The key of `swift sft` that has liger's kernels compute norms, rotary positions, the MLP's product and the loss.

    A step then has fewer launches, which are what a GPU waits for, and keeps less. Needs compute capability 8 or newer
    and the package liger-kernel; the recipe's or user's own choice wins, and so does padding-free.
    """
    if "use_liger_kernel" in values or not machine.gpu_bf16 or values.get("task_type") == "seq_cls":
        return {}
    if any(str(values.get(key, False)).lower() not in ("false", "none", "0") for key in OWN_WAY):
        return {}
    return {"use_liger_kernel": True} if works() else {}


def larger_evaluation(values: Mapping[str, Any], machine: Machine, processes: int, model: Path) -> dict[str, Any]:
    """The key of `swift sft` for the most validation rows at a time whose training would fit a GPU; they take less."""
    room = MEMORY_SHARE * machine.memory_of(processes)
    tokens, dtype = int(values.get("max_length", 512)), str(values["torch_dtype"])
    if machine.gpu is None or values.get("quant_bits") or {"deepspeed", "fsdp"} & values.keys():
        return {}
    for batch in EVAL_BATCHES:
        if batch <= int(values.get(EVAL_BATCH, 8)):
            return {}
        if training_gib(model, batch, tokens, dtype) <= room:
            return {EVAL_BATCH: batch}
    return {}
