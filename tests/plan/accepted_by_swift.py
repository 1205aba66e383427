"""Whether ms-swift's own argument classes take resolved YAMLs as they are meant, with a GPU and without.

Run as: python -m tests.plan.accepted_by_swift JOBS OUT
JOBS is JSON: {"none" | "float16" | "bfloat16": [[command, path of a YAML], ...]}. ms-swift is imported once; each kind
of machine is a fork in which torch names such a card, or none.
"""

import json
import os
import sys
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

# Where both have it, what the YAML says and what the arguments end as must be the same.
SAME = ("torch_dtype", "bf16", "fp16", "use_cpu", "per_device_train_batch_size", "gradient_accumulation_steps",
        "padding_side", "attn_impl", "max_batch_size", "device_map", "bnb_4bit_compute_dtype", "quant_bits",
        "learning_rate", "max_length", "loss_scale", "task_type", "num_labels")  # fmt: skip


def have_a_card(bf16: bool) -> None:
    """Have torch name one card, so that nothing but its arguments is looked at."""
    import torch
    from transformers.utils import import_utils

    capability = (8, 0) if bf16 else (7, 5)
    properties = SimpleNamespace(name="a card", total_memory=16 * 2**30, major=capability[0], minor=capability[1])
    faked: dict[str, Any] = {
        "is_available": lambda: True, "device_count": lambda: 1, "current_device": lambda: 0, "set_device": lambda _: 0,
        "is_bf16_supported": lambda *_: bf16, "get_device_capability": lambda *_: capability,
        "get_device_properties": lambda *_: properties, "mem_get_info": lambda *_: (15 * 2**30, 16 * 2**30),
        "get_device_name": lambda *_: "a card",
    }  # fmt: skip
    for name, value in faked.items():
        setattr(torch.cuda, name, value)
    torch.version.cuda = "13.0"
    for name in dir(import_utils):
        if name.startswith("is_torch") and hasattr(getattr(import_utils, name), "cache_clear"):
            getattr(import_utils, name).cache_clear()


def fault(command: str, path: str) -> str:
    """What is wrong with a YAML for `swift COMMAND`; nothing where it arrives as it says."""
    from swift.arguments import InferArguments, SftArguments
    from swift.cli.main import parse_yaml_args
    from swift.utils import parse_args

    argv = [path]
    parse_yaml_args(argv)
    try:
        arguments, rest = parse_args({"sft": SftArguments, "infer": InferArguments}[command], argv)
    except BaseException:
        return traceback.format_exc()[-1500:]
    if rest:
        return f"left over: {rest}"
    said = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    training = getattr(arguments, "training_args", arguments)
    wrong = []
    for key in SAME:
        if key in said and hasattr(arguments, key):
            given, ended = str(said[key]).lower(), getattr(arguments, key)
            ended = getattr(training, key) if key in ("bf16", "fp16", "use_cpu") else ended
            ended = str(ended).removeprefix("torch.").lower()
            if given != ended and float_of(given) != float_of(ended):
                wrong.append(f"{key}: {given} became {ended}")
    return "; ".join(wrong)


def float_of(text: str) -> float | str:
    """A number as such, another word as it is."""
    try:
        return float(text)
    except ValueError:
        return text


def main(jobs: Path, out: Path) -> None:
    """Write {path: fault} of every job."""
    import swift.arguments  # once for all forks
    from swift.pipelines import infer_main, sft_main  # noqa: F401 - what the commands import

    assert swift.arguments
    found: dict[str, str] = {}
    for kind, files in json.loads(jobs.read_text(encoding="utf-8")).items():
        part = out.with_suffix(f".{kind}")
        if not (child := os.fork()):
            status = 1
            try:
                if kind != "none":
                    have_a_card(kind == "bfloat16")
                part.write_text(json.dumps({path: fault(command, path) for command, path in files}), encoding="utf-8")
                status = 0
            finally:
                os._exit(status)
        if os.waitpid(child, 0)[1]:
            sys.exit(f"the fork for {kind} failed")
        found |= json.loads(part.read_text(encoding="utf-8"))
    out.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
