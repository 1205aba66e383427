"""What the arithmetic allows on this machine: matrix rates and bandwidth, measured in a process of its own.

A forward pass takes 2·N·T floating-point operations for N parameters and T tokens, and tuning with LoRA 4·N·T: forward,
and the gradients of the inputs; those of the frozen weights are not needed. Attention and LoRA's own are left out. (The
count of Kaplan et al., 2020, "Scaling laws for neural language models", section 2.1.)
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from plan.hardware import IDLE_THREADS
from workspace.paths import ROOT
from workspace.safetensors_header import read_header

BYTES = 2**28  # copied at once to measure the bandwidth; far beyond any cache


def measured_limits() -> dict[str, float]:
    """GFLOP/s of float32 by MKL, float32 by oneDNN and bfloat16, and GB/s of memory, read and written."""
    command = [sys.executable, "-m", "bench.limits"]
    return json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)


def medians(found: Sequence[dict[str, float]]) -> dict[str, float]:
    """The median of each limit over the repetitions."""
    return {name: round(statistics.median(one[name] for one in found), 1) for name in found[0]}


def parameters(model: Path) -> int:
    """The number of parameters in a model folder's safetensors files."""
    return sum(read_header(path).parameters for path in model.glob("*.safetensors"))


def rows_a_second(gflops: float, parameters: int, tokens: float, operations: int) -> float:
    """The most rows of `tokens` tokens that can be done in a second; `operations` a parameter and token: 2 or 4."""
    return gflops * 1e9 / (operations * parameters * tokens)


def share(found: Mapping[str, Any], way: str, operations: int, rate: str) -> float:
    """What share of the limit of `operations` at the machine's `rate` a bench found a way to reach, by medians."""
    limit = rows_a_second(found["limits"][rate], found["parameters"], found["tokens"], operations)
    return statistics.median(found["rates"][way]) / limit


def heading(found: Mapping[str, Any]) -> list[str]:
    """What was measured on which machine, as the first lines of a report."""
    limits = found["limits"]
    return [
        f"{found['bench']}: {found['rows']} rows of {found['tokens']} tokens, {found['model']} "
        f"({found['parameters'] / 1e6:.1f}M), {found['machine']}; stolen by the host {found['stolen']:.1%}",
        f"float32 {limits['float32']:.0f} GFLOP/s by MKL, {limits['onednn']:.0f} by oneDNN; bf16 {limits['bf16']:.0f}; "
        f"memory {limits['bandwidth']:.0f} GB/s",
    ]


class Stolen:
    """The share of processor time that the host gave to others while the block ran; 0 where it does not tell."""

    def __enter__(self) -> "Stolen":
        self.before, self.share = psutil.cpu_times(), 0.0
        return self

    def __exit__(self, *failure: object) -> None:
        spent = {key: at - self.before._asdict()[key] for key, at in psutil.cpu_times()._asdict().items()}
        every = sum(seconds for key, seconds in spent.items() if not key.startswith("guest"))  # those are in user
        self.share = spent.get("steal", 0.0) / max(every, 0.01)


def main() -> None:
    """Measure here and print one line of JSON."""
    import torch

    from plan.cpu_rates import measure

    measured = measure()
    found: dict[str, Any] = {name: max(measured[name]) for name in ("float32", "onednn", "bf16")}
    block = torch.ones(BYTES // 4)
    target = torch.empty_like(block)
    spent = []
    for _ in range(5):
        begin = time.perf_counter()
        target.copy_(block)
        spent.append(time.perf_counter() - begin)
    found["bandwidth"] = 2 * BYTES / statistics.median(spent) / 1e9
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    os.environ.update(IDLE_THREADS | os.environ)
    main()
