"""How a CPU computes fastest without answering differently: measured for seconds, once a machine, never guessed.

float32 is kept for all answers. Where adapters alone are trained, the fused layers of plugins/cpu take the place of the
model's own: the same gradients, sooner. Three things are measured against what torch does by itself:
  oneDNN   plugins/cpu/onednn_matmul.py: taken where it is faster and as accurate as float32 (MKL has AVX2 alone on AMD)
  bf16     products in bfloat16 under autocast, weights in float32: taken for training where the processor has them in
           hardware and they are faster still
  eager    attention by plain matrix products, in place of torch's fused kernel: that kernel saves memory, and on a CPU
           takes longer than what it replaces for reviews of up to about 500 tokens. For training alone: answers keep
           torch's kernel

Each is measured several times and taken only where every time says so. What was measured while other work kept the
processor busy holds for the run at hand alone: the next one measures again.

Run as: python -m plan.cpu_kernels, to see what was measured.
"""

import hashlib
import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import FiniteFloat

from plan.cpu_rates import EXACT, measure
from plan.hardware import Machine, this_machine
from plan.option_values import is_true
from workspace.errors import run_main
from workspace.files import write_json
from workspace.paths import ROOT, cache_folder
from workspace.records import read_if_whole

KERNELS = ROOT / "plugins" / "cpu_kernels.py"  # on every CPU
ONEDNN = ROOT / "plugins" / "cpu" / "onednn_matmul.py"
PLUGINS = (str(KERNELS), str(ONEDNN))
# Files of the CPU's plugins, those of earlier versions included: they change speed alone.
PLUGIN_FILES = {KERNELS.name, ONEDNN.name, "fused_training.py", "whole_batches.py"}
FAMILIES = {"llama", "mistral", "qwen2", "qwen3"}  # as plugins/cpu/families.py has them
CALLBACK = "fused_training"  # where adapters are trained: it looks for itself whether it can
FASTER = 1.25  # what another way must reach at least to be taken
BUSY = 0.15  # of the processor time for other work: above it a measurement is not trusted for good
FORMAT = 5  # raised when what is measured changes


class Precision(NamedTuple):
    """Rates in GFLOP/s of float32, float32 by oneDNN and bfloat16; oneDNN's error relative to the largest entry.

    `attention` is the time of the fused kernel over that of plain products, forward and backward. Each has a value a
    repeat. `others` is the share of the processor time that other work had meanwhile.
    """

    float32: Sequence[FiniteFloat]
    onednn: Sequence[FiniteFloat]
    bf16: Sequence[FiniteFloat]
    error: FiniteFloat
    attention: Sequence[FiniteFloat]
    others: FiniteFloat = 0.0

    @property
    def by_onednn(self) -> bool:
        """Whether float32 products are left to oneDNN."""
        return _always(self.onednn, FASTER, self.float32) and self.error < EXACT

    @property
    def trains_in_bf16(self) -> bool:
        """Whether training multiplies in bfloat16."""
        onednn = self.onednn if self.by_onednn else self.float32
        return _always(self.bf16, FASTER, self.float32) and _always(self.bf16, FASTER, onednn)

    @property
    def by_eager(self) -> bool:
        """Whether attention is left to plain matrix products."""
        return min(self.attention) > FASTER

    def describe(self) -> str:
        """One line for the terminal."""
        words = [f"float32 {max(self.float32):.0f} GFLOP/s"]
        words += [f"by oneDNN {max(self.onednn):.0f}, taken"] if self.by_onednn else []
        words += [f"bf16 {max(self.bf16):.0f}, taken for training"] if self.trains_in_bf16 else []
        if self.by_eager:
            words.append(f"attention by plain products {max(self.attention):.1f}x, taken for training")
        if self.others > BUSY:
            words.append(
                f"measured while other work had {self.others:.0%} of the processor, so measured again next time"
            )
        return ", ".join(words)


def _always(rates: Sequence[float], factor: float, others: Sequence[float]) -> bool:
    """Whether every rate is more than `factor` times what the other way had in the same repeat."""
    return all(rate > factor * other for rate, other in zip(rates, others, strict=True))


def measured_now() -> Precision | None:
    """What is measured now, in a process of its own: importing torch takes memory that the plan does not need."""
    command = [sys.executable, "-m", "plan.cpu_kernels", "--measure"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return None if result.returncode else Precision(**json.loads(result.stdout.splitlines()[-1]))


def busy_now() -> float:
    """The share of the processor that is busy while this process sleeps for half a second."""
    import psutil

    return psutil.cpu_percent(0.5) / 100


def cpu_precision(
    machine: Machine, measure: Callable[[], Precision | None] = measured_now, busy: Callable[[], float] = busy_now
) -> Precision | None:
    """What was measured on this machine, now or earlier; None where a GPU computes, or torch cannot be asked.

    What was measured next to other work is measured again once that is over, and what had less of it is kept.
    """
    if machine.gpu is not None:
        return None
    path = cache_folder() / "precision" / f"{_machine_key(machine)}.json"
    kept = read_if_whole(path, Precision)
    if kept is not None and (kept.others <= BUSY or busy() > BUSY):
        return kept
    found = measure()
    if found is None or (kept is not None and kept.others <= found.others):
        return kept
    with suppress(OSError):  # measured again next time
        write_json(path, found._asdict())
    return found


def trains_fused(values: Mapping[str, Any]) -> bool:
    """Whether a plan names the fused layers for training: where no attention is named, and no weights in pieces."""
    return values.get("torch_dtype") == "float32" and not {"attn_impl", "deepspeed", "fsdp"} & values.keys()


def can_be_fused(values: Mapping[str, Any], model_type: str) -> bool:
    """Whether the fused layers take the place of the model's own: plain LoRA of one of the families they know."""
    lora = str(values.get("tuner_type", "lora")) == "lora" and float(values.get("lora_dropout", 0.05)) == 0
    return lora and not is_true(values, "use_dora") and model_type in FAMILIES


def sft_values(precision: Precision | None, values: dict[str, Any], named: Collection[str]) -> dict[str, Any]:
    """The keys of `swift sft` in `values` that change with what was measured; those that the recipe or the user has
    `named` stand."""
    if precision is None or values.get("torch_dtype") != "float32":
        return {}
    plugins = [*values.get("external_plugins", []), *_plugins(precision)]
    changed: dict[str, Any] = {"external_plugins": plugins}
    # DeepSpeed and FSDP have settings of their own for mixed precision, and hold the weights in pieces.
    if not {"deepspeed", "fsdp"} & values.keys():
        if precision.trains_in_bf16 and not {"bf16", "fp16"} & {*named}:
            changed["bf16"] = True
        if trains_fused(values):
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
    changed: dict[str, Any] = {"external_plugins": [*tuned_with, *_plugins(precision)]}
    # A checkpoint names the attention that was measured for its training; the untuned model has none.
    return changed | ({"attn_impl": "sdpa"} if "attn_impl" in sft and "attn_impl" not in values else {})


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
