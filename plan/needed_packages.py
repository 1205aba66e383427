"""Packages that an option of ms-swift needs and that are not among the pins: told before a model is loaded."""

import importlib.util
from collections.abc import Mapping
from typing import Any

from workspace.errors import UserError

# (option, value) -> (module, what pip installs); "*" stands for any value.
PACKAGES = {
    ("report_to", "tensorboard"): ("tensorboard", "tensorboard"),
    ("report_to", "wandb"): ("wandb", "wandb"),
    ("report_to", "swanlab"): ("swanlab", "swanlab"),
    ("quant_method", "bnb"): ("bitsandbytes", "bitsandbytes"),
    ("attn_impl", "flash_attn"): ("flash_attn", "flash-attn"),
    ("attn_impl", "flash_attention_2"): ("flash_attn", "flash-attn"),
    ("infer_backend", "vllm"): ("vllm", "vllm==0.32.0"),  # the one for the pinned torch 2.13
    ("use_liger_kernel", "true"): ("liger_kernel", "liger-kernel"),
    ("deepspeed", "*"): ("deepspeed", "deepspeed"),
}


def check_packages(values: Mapping[str, Any]) -> None:
    """Raise `UserError` for an option whose package is not installed, with the command that installs it."""
    for (option, wanted), (module, package) in PACKAGES.items():
        given = values.get(option)
        words = [str(one).lower() for one in (given if isinstance(given, list) else [given]) if one is not None]
        if words and (wanted == "*" or wanted in words) and importlib.util.find_spec(module) is None:
            raise UserError(f"{option}: {given} needs the package {package}: pip install {package}")
