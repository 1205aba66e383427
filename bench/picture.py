"""Throughput against what the arithmetic allows, as bars."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.limits import rows_a_second

NAMES = {"float32": "float32 (MKL)", "onednn": "float32 (oneDNN)", "bf16": "bf16"}
COLOUR, LIMIT = "#2563a8", "#b4472a"


def draw_shares(path: Path, found: Mapping[str, Any], operations: int, limited_by: Sequence[str]) -> None:
    """A PNG of the rates that a bench found: a bar for the median of each way, its lowest and highest.

    A line for each limit of `operations` a parameter and token at the machine's rates named in `limited_by`.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rates: dict[str, list[float]] = found["rates"]
    limits = {
        f"{operations}·N·T, {NAMES[name]}": rows_a_second(
            found["limits"][name], found["parameters"], found["tokens"], operations
        )
        for name in limited_by
    }
    middles = [statistics.median(values) for values in rates.values()]
    spread = [
        [middle - min(values) for middle, values in zip(middles, rates.values(), strict=True)],
        [max(values) - middle for middle, values in zip(middles, rates.values(), strict=True)],
    ]
    widest = max(*middles, *limits.values())
    figure, axes = plt.subplots(figsize=(9, 1.2 + 0.5 * len(rates)), layout="constrained")
    axes.barh(
        range(len(rates)), middles, xerr=spread, color=COLOUR, height=0.6, error_kw={"ecolor": "#333", "capsize": 3}
    )
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
