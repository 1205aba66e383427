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
import timeit
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from plan.hardware import IDLE_THREADS
from workspace.paths import ROOT
from workspace.safetensors_header import read_header

BYTES = 2**28  # copied at once to measure the bandwidth; far beyond any cache
NAMES = {"float32": "float32 (MKL)", "onednn": "float32 (oneDNN)", "bf16": "bf16"}
COLOUR, LIMIT = "#2563a8", "#b4472a"


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


def draw_shares(path: Path, found: Mapping[str, Any], operations: int, limited_by: Sequence[str]) -> None:
    """A PNG of the rates that a bench found: a bar for the median of each way, its lowest and highest.

    A line for each limit of `operations` a parameter and token at the machine's rates named in `limited_by`.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rates: dict[str, list[float]] = found["rates"]
    size = found["parameters"], found["tokens"], operations
    limits = {f"{operations}·N·T, {NAMES[name]}": rows_a_second(found["limits"][name], *size) for name in limited_by}
    middles = [statistics.median(values) for values in rates.values()]
    spread = [
        [middle - min(values) for middle, values in zip(middles, rates.values(), strict=True)],
        [max(values) - middle for middle, values in zip(middles, rates.values(), strict=True)],
    ]
    widest = max(*middles, *limits.values())
    figure, axes = plt.subplots(figsize=(9, 1.2 + 0.5 * len(rates)), layout="constrained")
    whiskers = {"ecolor": "#333", "capsize": 3}
    axes.barh(range(len(rates)), middles, xerr=spread, color=COLOUR, height=0.6, error_kw=whiskers)
    for at, middle in enumerate(middles):
        white = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # or a limit's line would run through it
        axes.text(middle + spread[1][at] + 0.01 * widest, at, f"{middle:.1f}", va="center", bbox=white)
    for style, (name, value) in zip(("--", ":", "-."), limits.items(), strict=False):
        axes.axvline(value, color=LIMIT, linestyle=style, label=f"{name}: {value:.1f}")
    axes.set_yticks(range(len(rates)), list(rates))
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12 * widest)
    title = f"{found['bench'].capitalize()}, {found['rows']} reviews of {found['tokens']:.0f} tokens, rows/s"
    axes.set_title(title, loc="left")
    figure.legend(loc="outside lower right", ncols=len(limits), fontsize="small")  # clear of every bar
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=140)
    plt.close(figure)


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
    found = {name: max(measured[name]) for name in NAMES}
    block = torch.ones(BYTES // 4)
    target = torch.empty_like(block)
    spent = timeit.repeat(lambda: target.copy_(block), number=1, repeat=5)
    json.dump(found | {"bandwidth": 2 * BYTES / statistics.median(spent) / 1e9}, sys.stdout)


if __name__ == "__main__":
    os.environ.update(IDLE_THREADS | os.environ)
    main()
