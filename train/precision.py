"""How a CPU computes fastest without answering differently: measured for two seconds, once a machine, never guessed.

float32 is kept for all answers. Three things are measured against what torch does by itself:
  oneDNN   plugins/onednn_matmul.py: taken where it is faster and as accurate as float32 (on AMD, MKL has AVX2 alone)
  bf16     products in bfloat16 under autocast, weights in float32: taken for training where the processor has them in
           hardware and they are faster still
  eager    attention by plain matrix products, in place of torch's fused kernel: that kernel saves memory, and on a CPU
           takes longer than what it replaces for reviews of up to about 500 tokens

Run as: python -m train.precision, to see what was measured.
"""

import hashlib
import importlib.metadata
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from train.machine import Machine, this_machine
from workspace.errors import run_main
from workspace.files import read_json, write_json
from workspace.paths import ROOT, cache_folder

ONEDNN = ROOT / "plugins" / "onednn_matmul.py"
WHOLE = ROOT / "plugins" / "whole_batches.py"  # on every CPU: it costs nothing
PLUGINS = (str(WHOLE), str(ONEDNN))
SHAPE = (1024, 1024, 1408)  # tokens of a batch, inner and outer size of a layer
ATTENTION = (8, 8, 200, 64)  # rows, heads, tokens and inner size: a batch of reviews
ROUNDS, PRODUCTS = 9, 4
FASTER = 1.25  # what another way must reach at least to be taken
EXACT = 1e-5  # relative error above float32's own (4e-7): bfloat16 has 4e-3
FORMAT = 2  # raised when what is measured changes


class Precision(NamedTuple):
    """Rates in GFLOP/s of float32, float32 by oneDNN and bfloat16; oneDNN's error relative to the largest entry.

    `attention` is the time of the fused kernel over that of plain products, forward and backward.
    """

    float32: float
    onednn: float
    bf16: float
    error: float
    attention: float

    @property
    def by_onednn(self) -> bool:
        """Whether float32 products are left to oneDNN."""
        return self.onednn > FASTER * self.float32 and self.error < EXACT

    @property
    def trains_in_bf16(self) -> bool:
        """Whether training multiplies in bfloat16."""
        return self.bf16 > FASTER * max(self.float32, self.onednn if self.by_onednn else 0.0)

    @property
    def by_eager(self) -> bool:
        """Whether attention is left to plain matrix products."""
        return self.attention > FASTER

    def describe(self) -> str:
        """One line for the terminal."""
        words = [f"float32 {self.float32:.0f} GFLOP/s"]
        words += [f"by oneDNN {self.onednn:.0f}, taken"] if self.by_onednn else []
        words += [f"bf16 {self.bf16:.0f}, taken for training"] if self.trains_in_bf16 else []
        words += [f"attention by plain products {self.attention:.1f}x, taken"] if self.by_eager else []
        return ", ".join(words)


def cpu_precision(machine: Machine) -> Precision | None:
    """What was measured on this machine, now or earlier; None where a GPU computes, or torch cannot be asked."""
    if machine.gpu is not None:
        return None
    path = cache_folder() / "precision" / f"{_machine_key(machine)}.json"
    if not path.is_file():
        # In a process of its own: importing torch takes seconds and memory that the plan does not need otherwise.
        command = [sys.executable, "-m", "train.precision", "--measure"]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if result.returncode:
            return None
        write_json(path, json.loads(result.stdout.splitlines()[-1]))
    try:
        return Precision(**read_json(path))
    except (ValueError, TypeError):
        path.unlink()
        return cpu_precision(machine)


def sft_values(precision: Precision | None, values: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """The keys of `swift sft` in `values` that change with what was measured. The user's `overrides` stand."""
    if precision is None or values.get("torch_dtype") != "float32":
        return {}
    changed: dict[str, Any] = {"external_plugins": [*values.get("external_plugins", []), *_plugins(precision)]}
    # DeepSpeed and FSDP have settings of their own for mixed precision.
    if (
        precision.trains_in_bf16
        and not {"bf16", "fp16"} & overrides.keys()
        and not {"deepspeed", "fsdp"} & values.keys()
    ):
        changed["bf16"] = True
    return changed | _attention(precision, values)


def infer_values(precision: Precision | None, values: dict[str, Any], sft: dict[str, Any]) -> dict[str, Any]:
    """The keys of `swift infer` that change with what was measured: answers stay float32.

    What infer.yaml names takes the place of the plugins that a checkpoint names, which are those of `sft`: it needs
    them all, above all the one that keeps the answer out of a head's input.
    """
    if precision is None or values.get("infer_backend", "transformers") != "transformers":
        return {}
    if values.get("torch_dtype") != "float32":
        return {}
    tuned_with = [plugin for plugin in sft.get("external_plugins", []) if plugin not in PLUGINS]
    return {"external_plugins": [*tuned_with, *_plugins(precision)]} | _attention(precision, values)


def _plugins(precision: Precision) -> list[str]:
    return [str(WHOLE), *([str(ONEDNN)] if precision.by_onednn else [])]


def _attention(precision: Precision, values: dict[str, Any]) -> dict[str, Any]:
    """`attn_impl`, where neither the recipe nor the user names one."""
    return {"attn_impl": "eager"} if precision.by_eager and "attn_impl" not in values else {}


def measure() -> Precision:
    """Rates of one product in three ways, oneDNN's error, and attention in two ways: medians of interleaved rounds."""
    import torch

    torch.manual_seed(0)
    rows, inner, outer = SHAPE
    x, weight = torch.randn(rows, inner), torch.randn(outer, inner)
    low, low_weight = x.bfloat16(), weight.bfloat16()
    linear = torch.nn.functional.linear

    def seconds(precision: str, product: Callable[[], torch.Tensor]) -> float:
        torch.set_float32_matmul_precision(precision)
        product()
        begin = time.perf_counter()
        for _ in range(PRODUCTS):
            product()
        return (time.perf_counter() - begin) / PRODUCTS

    ways = (("highest", lambda: linear(x, weight)), ("medium", lambda: linear(x, weight)),
            ("highest", lambda: linear(low, low_weight)))  # fmt: skip
    spent = [[seconds(*way) for way in ways] for _ in range(ROUNDS)]
    rates = [2 * rows * inner * outer / statistics.median(column) / 1e9 for column in zip(*spent, strict=True)]
    torch.set_float32_matmul_precision("medium")
    exact = x.double() @ weight.double().T
    error = float((linear(x, weight) - exact).abs().max() / exact.abs().max())
    torch.set_float32_matmul_precision("medium" if error < EXACT else "highest")
    return Precision(*(round(rate, 1) for rate in rates), error, round(_attention_gain(), 2))


def _attention_gain() -> float:
    """Seconds of torch's fused attention over those of plain products, forward and backward, causal."""
    import torch

    query, key, value = (torch.randn(ATTENTION, requires_grad=True) for _ in range(3))
    mask = torch.full((ATTENTION[2], ATTENTION[2]), -1e9).triu(1)

    def plain() -> torch.Tensor:
        weights = query @ key.transpose(2, 3) * ATTENTION[3] ** -0.5 + mask
        return weights.softmax(-1) @ value

    def fused() -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)

    spent: dict[Callable[[], torch.Tensor], list[float]] = {fused: [], plain: []}
    for _ in range(ROUNDS):
        for way, seconds in spent.items():
            begin = time.perf_counter()
            way().sum().backward()
            seconds.append(time.perf_counter() - begin)
    return statistics.median(spent[fused]) / statistics.median(spent[plain])


def _machine_key(machine: Machine) -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines() if cpuinfo.is_file() else []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    known = [machine.cpu, machine.cores, flags, importlib.metadata.version("torch"), FORMAT]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]


def main() -> None:
    """Print what this machine was measured at, or measure."""
    if sys.argv[1:] == ["--measure"]:
        print(json.dumps(measure()._asdict()))
        return
    precision = cpu_precision(this_machine())
    print(precision.describe() if precision else "a GPU computes here, or torch is not installed")


if __name__ == "__main__":
    run_main(main)
