"""How a CPU computes fastest without answering differently: measured for two seconds, once a machine, never guessed.

float32 is kept for all answers. Where adapters alone are trained, plugins/fused_training.py takes the place of the
decoder layers' own functions: the same gradients, sooner; padding costs nothing, and the prompt that all rows begin
with is computed once a batch. Three things are measured against what torch does by itself:
  oneDNN   plugins/onednn_matmul.py: taken where it is faster and as accurate as float32 (on AMD, MKL has AVX2 alone)
  bf16     products in bfloat16 under autocast, weights in float32: taken for training where the processor has them in
           hardware and they are faster still
  eager    attention by plain matrix products, in place of torch's fused kernel: that kernel saves memory, and on a CPU
           takes longer than what it replaces for reviews of up to about 500 tokens. For answers it lets
           plugins/fused_layers.py take the place of whole layers

Run as: python -m plan.cpu_kernels, to see what was measured.
"""

import hashlib
import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from plan.cpu_rates import EXACT, measure
from plan.hardware import Machine, this_machine
from workspace.errors import run_main
from workspace.files import read_json, write_json
from workspace.paths import ROOT, cache_folder

KERNELS = ROOT / "plugins" / "cpu_kernels.py"  # on every CPU
ONEDNN = ROOT / "plugins" / "cpu" / "onednn_matmul.py"
PLUGINS = (str(KERNELS), str(ONEDNN))
CALLBACK = "fused_training"  # where adapters are trained: it looks for itself whether it can
FASTER = 1.25  # what another way must reach at least to be taken
FASTER_ALIKE = 1.05  # and one that computes the same for answers, in the same memory
FORMAT = 3  # raised when what is measured changes


class Precision(NamedTuple):
    """Rates in GFLOP/s of float32, float32 by oneDNN and bfloat16; oneDNN's error relative to the largest entry.

    `attention` is the time of the fused kernel over that of plain products, forward and backward; `answers` the same
    for a batch of answers, by products that copy no keys and values.
    """

    float32: float
    onednn: float
    bf16: float
    error: float
    attention: float
    answers: float

    @property
    def by_onednn(self) -> bool:
        """Whether float32 products are left to oneDNN."""
        return self.onednn > FASTER_ALIKE * self.float32 and self.error < EXACT

    @property
    def trains_in_bf16(self) -> bool:
        """Whether training multiplies in bfloat16."""
        return self.bf16 > FASTER * max(self.float32, self.onednn if self.by_onednn else 0.0)

    @property
    def by_eager(self) -> bool:
        """Whether attention is left to plain matrix products."""
        return self.attention > FASTER

    @property
    def answers_by_eager(self) -> bool:
        """Whether attention is left to plain matrix products when reviews are answered."""
        return self.answers > FASTER_ALIKE

    def describe(self) -> str:
        """One line for the terminal."""
        words = [f"float32 {self.float32:.0f} GFLOP/s"]
        words += [f"by oneDNN {self.onednn:.0f}, taken"] if self.by_onednn else []
        words += [f"bf16 {self.bf16:.0f}, taken for training"] if self.trains_in_bf16 else []
        words += [f"attention by plain products {self.attention:.1f}x, taken for training"] if self.by_eager else []
        words += [f"attention {self.answers:.1f}x, taken for answers"] if self.answers_by_eager else []
        return ", ".join(words)


def cpu_precision(machine: Machine) -> Precision | None:
    """What was measured on this machine, now or earlier; None where a GPU computes, or torch cannot be asked."""
    if machine.gpu is not None:
        return None
    path = cache_folder() / "precision" / f"{_machine_key(machine)}.json"
    if not path.is_file():
        # In a process of its own: importing torch takes seconds and memory that the plan does not need otherwise.
        command = [sys.executable, "-m", "plan.cpu_kernels", "--measure"]
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
    plugins = [*values.get("external_plugins", []), *_plugins(precision)]
    changed: dict[str, Any] = {"external_plugins": plugins}
    # DeepSpeed and FSDP have settings of their own for mixed precision, and hold the weights in pieces.
    if not {"deepspeed", "fsdp"} & values.keys():
        if precision.trains_in_bf16 and not {"bf16", "fp16"} & overrides.keys():
            changed["bf16"] = True
        if "attn_impl" not in values:
            callbacks = values.get("callbacks", [])
            changed["callbacks"] = [*([callbacks] if isinstance(callbacks, str) else callbacks), CALLBACK]
            if "padding_side" not in values:  # answers end side by side: logits are computed of the last tokens alone
                changed["padding_side"] = "left"
    return changed | ({"attn_impl": "eager"} if precision.by_eager and "attn_impl" not in values else {})


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
    plugins = [*tuned_with, *_plugins(precision)]
    if not precision.answers_by_eager or values.get("attn_impl", "eager") != "eager":
        return {"external_plugins": plugins}
    return {"external_plugins": plugins, "attn_impl": "eager"}


def _plugins(precision: Precision) -> list[str]:
    return [str(KERNELS), *([str(ONEDNN)] if precision.by_onednn else [])]


def _machine_key(machine: Machine) -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines() if cpuinfo.is_file() else []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    known = [machine.cpu, machine.cores, flags, importlib.metadata.version("torch"), FORMAT]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]


def main() -> None:
    """Print what this machine was measured at, or measure."""
    if sys.argv[1:] == ["--measure"]:
        print(json.dumps(measure()))
        return
    precision = cpu_precision(this_machine())
    print(precision.describe() if precision else "a GPU computes here, or torch is not installed")


if __name__ == "__main__":
    run_main(main)
