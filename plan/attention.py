"""The attention kernel on a GPU: flash-attn with batches free of padding, where it is installed and can be used."""

import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

from plan.hardware import Machine

HALF = ("bfloat16", "float16")  # what flash-attn computes in
# With these ms-swift or our plugins need a batch's rows apart, or have an attention of their own.
ROWS_APART = ("loss_type", "deepspeed", "fsdp", "packing", "use_liger_kernel")


def flash_attention_works() -> bool:
    """Whether flash-attn can be imported. Tried in a process of its own: built for another torch it fails, or worse."""
    command = [sys.executable, "-c", "from flash_attn import flash_attn_varlen_func"]
    return subprocess.run(command, capture_output=True).returncode == 0


def gpu_attention(
    values: Mapping[str, Any], machine: Machine, works: Callable[[], bool] = flash_attention_works
) -> dict[str, Any]:
    """The keys of `swift sft` that have a batch be one long row of its reviews, so that no padding is computed.

    Needs a GPU of compute capability 8 or newer and the package flash-attn; `values` are those of the recipe and the
    user, whose own choice of `attn_impl` or `padding_free` stands. A head keeps its rows apart.
    """
    named = {"attn_impl", "padding_free"} & values.keys()
    if named or not machine.gpu_bf16 or values.get("torch_dtype") not in HALF:
        return {}
    if values.get("task_type") == "seq_cls" or any(values.get(key) for key in ROWS_APART):
        return {}
    return {"attn_impl": "flash_attn", "padding_free": True} if works() else {}
