"""The options that the installed ms-swift knows, with their types: a slip is reported before anything slow starts."""

import difflib
import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

from plan.option_values import environment_fault, limits_fault, reserved
from workspace.errors import UserError
from workspace.gate import check_options
from workspace.swift_registry import Option, registry

KINDS = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "text"}
BOOLEANS = {"true", "false", "yes", "no", "t", "f", "y", "n", "1", "0"}

# Packages that an option needs and that are not among the pins: (option, value) -> (module, what pip installs); "*"
# is any value.
PACKAGES = {
    ("report_to", "tensorboard"): ("tensorboard", "tensorboard"),
    ("report_to", "wandb"): ("wandb", "wandb"),
    ("report_to", "swanlab"): ("swanlab", "swanlab"),
    ("quant_method", "bnb"): ("bitsandbytes", "bitsandbytes==0.50.2"),
    ("attn_impl", "flash_attn"): ("flash_attn", "flash-attn"),
    ("attn_impl", "flash_attention_2"): ("flash_attn", "flash-attn"),
    ("infer_backend", "vllm"): ("vllm", "vllm==0.32.0"),  # the one for the pinned torch 2.13: see requirements-vllm.txt
    ("use_liger_kernel", "true"): ("liger_kernel", "liger-kernel==0.8.5"),
    ("deepspeed", "*"): ("deepspeed", "deepspeed"),
}
OWN_SET = "on a GPU put REQUIREMENTS=requirements-vllm.txt before the command, on a CPU leave vLLM out"


def known_options(command: str) -> dict[str, Option]:
    """The options of `swift <command>` (sft or infer), by name. Raises `UserError` when ms-swift cannot be asked."""
    return getattr(registry(), command)


def check_values(
    values: Mapping[Any, Any], command: str, place: Callable[[str], str], decided: Mapping[str, str] = {}
) -> None:
    """Raise `UserError` for the first key or value of `values` that `swift <command>` would not take as it is meant,
    and for what the gate refuses.

    `place` gives file, line and key for a message; `decided` are keys that the pipeline sets itself. ms-swift takes
    prefixes of option names without a word, and turns `null` into the text "None".
    """
    known = known_options(command) if values else {}
    for key, value in values.items():
        if key == "ENV":
            fault = environment_fault(value)
        elif key not in known:
            raise UserError(f"{place(str(key))}: {_unknown(str(key), command)}")
        else:
            fault = reserved(key, value, decided) or _fault(key, value, known[key])
        if fault:
            raise UserError(f"{place(key)} {fault}")
    check_options(values, place)


def check_packages(values: Mapping[str, Any]) -> None:
    """Raise `UserError` for an option whose package is not installed, with the command that installs it."""
    for (option, wanted), (module, package) in PACKAGES.items():
        given = values.get(option)
        words = [str(one).lower() for one in (given if isinstance(given, list) else [given]) if one is not None]
        if words and (wanted == "*" or wanted in words) and importlib.util.find_spec(module) is None:
            remedy = OWN_SET if module == "vllm" else f"pip install {package}"
            raise UserError(f"{option}: {given} needs the package {package}: {remedy}")


def _unknown(key: str, command: str) -> str:
    other = {"sft": "infer", "infer": "sft"}[command]
    if key in known_options(other):
        return f"`swift {command}` has no option {key}; it is one of `swift {other}`"
    near = difflib.get_close_matches(key, known_options(command), 1)
    return f"`swift {command}` has no option {key}{f'; did you mean {near[0]}?' if near else ''}"


def _fault(key: str, value: Any, option: Option) -> str | None:
    """What is wrong with a value, as the end of a sentence; None when it is right."""
    if value is None or (isinstance(value, list) and None in value):
        return "is null, which ms-swift reads as the text None; leave the key out"
    if isinstance(value, list):
        if not option.many:
            return f"is the list {value}, expected one value: {KINDS[option.kind]}"
        if not value:
            return "is an empty list, which ms-swift does not take; leave the key out"
        return next((fault for one in value if (fault := _fault(key, one, option))), None)
    if isinstance(value, dict):
        # Some text options hold JSON (model_kwargs, deepspeed, ...).
        return None if option.kind == "str" and not option.choices else f"is a mapping, expected {KINDS[option.kind]}"
    if option.kind == "str" and isinstance(value, bool):
        word = "yes or no, on or off, true or false"
        wanted = f", one of {', '.join(option.choices)}" if option.choices else ""
        return f"is read by YAML as {str(value).lower()} ({word}), expected text{wanted}: put the value in quotes"
    if option.kind == "bool" and str(value).lower() not in BOOLEANS:
        return f"is {value!r}, expected {KINDS[option.kind]}"
    if option.choices and str(value) not in option.choices:
        near = difflib.get_close_matches(str(value), option.choices, 1)
        return (
            f"is {value!r}, expected one of {', '.join(option.choices)}{f'; did you mean {near[0]}?' if near else ''}"
        )
    return limits_fault(key, value, option.kind)
