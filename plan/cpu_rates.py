"""What a CPU computes fastest, measured: one product in three ways, attention in two."""

import time
from collections.abc import Callable, Mapping
from typing import Any

SHAPE = (1024, 1024, 1408)  # tokens of a batch, inner and outer size of a layer
ATTENTION = (8, 8, 200, 64)  # rows, heads, tokens and inner size: a batch of reviews
HOPELESS = 3  # times the fastest way's seconds: a way that needs more is not run again (bf16 on AVX2 alone: 6 times)
REPEATS, ROUNDS = 3, 4  # measurements of each way, and the runs of which each is the best
EXACT = 1e-5  # relative error above float32's own (4e-7): bfloat16 has 4e-3


def measure() -> dict[str, Any]:
    """The fields of plan.cpu_kernels.Precision: REPEATS values of each rate, of interleaved runs."""
    import psutil
    import torch

    torch.manual_seed(0)
    rows, inner, outer = SHAPE
    x, weight = torch.randn(rows, inner), torch.randn(outer, inner)
    low, low_weight = x.bfloat16(), weight.bfloat16()
    linear = torch.nn.functional.linear

    def product(precision: str, *factors: torch.Tensor) -> Callable[[], None]:
        def way() -> None:
            torch.set_float32_matmul_precision(precision)
            linear(*factors)

        return way

    before, own_before = psutil.cpu_times(), time.process_time()
    ways = {
        "float32": product("highest", x, weight),
        "onednn": product("medium", x, weight),
        "bf16": product("highest", low, low_weight),
    }
    spent = interleaved(ways).items()
    rates = {name: [round(2 * rows * inner * outer / one / 1e9, 1) for one in every] for name, every in spent}
    torch.set_float32_matmul_precision("medium")
    exact = x.double() @ weight.double().T
    error = float((linear(x, weight) - exact).abs().max() / exact.abs().max())
    torch.set_float32_matmul_precision("medium" if error < EXACT else "highest")
    training = times_faster(interleaved(_training()))
    others = others_share(before, psutil.cpu_times(), time.process_time() - own_before)
    return {**rates, "error": error, "attention": training, "others": others}


def interleaved(
    ways: Mapping[str, Callable[[], None]], clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """REPEATS values of the seconds of each way, each the best of ROUNDS runs that take turns with the other ways'.

    A way that is hopeless in its second run has that run's value, REPEATS times.
    """
    for run in ways.values():
        run()
    first = {name: _seconds(run, clock) for name, run in ways.items()}
    hopeless = {name for name, one in first.items() if one > HOPELESS * min(first.values())}
    spent: dict[str, list[float]] = {name: [first[name]] * REPEATS if name in hopeless else [] for name in ways}
    ways = {name: run for name, run in ways.items() if name not in hopeless}
    for _ in range(REPEATS):
        runs: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, run in ways.items():
                runs[name].append(_seconds(run, clock))
        for name, every in runs.items():
            spent[name].append(min(every))
    return spent


def _seconds(run: Callable[[], None], clock: Callable[[], float]) -> float:
    begin = clock()
    run()
    return clock() - begin


def times_faster(spent: Mapping[str, list[float]]) -> list[float]:
    """Seconds of the fused attention over those of plain products, of each repeat."""
    return [round(fused / plain, 2) for plain, fused in zip(spent["plain"], spent["fused"], strict=True)]


def others_share(before: Any, after: Any, own: float) -> float:
    """The share of processor time that other work had, or the host took: of two `psutil.cpu_times`, `own` seconds."""
    spent = {name: getattr(after, name) - getattr(before, name) for name in before._fields}
    every = sum(spent.values()) - spent.get("guest", 0.0) - spent.get("guest_nice", 0.0)  # in user and nice already
    idle = spent["idle"] + spent.get("iowait", 0.0)
    return round(max(0.0, every - idle - own) / max(every, 1e-9), 2)


def _training() -> dict[str, Callable[[], None]]:
    """Attention forward and backward, causal."""
    import torch

    query, key, value = (torch.randn(ATTENTION, requires_grad=True) for _ in range(3))
    mask = torch.full((ATTENTION[2], ATTENTION[2]), -1e9).triu(1)

    def plain() -> None:
        weights = query @ key.transpose(2, 3) * ATTENTION[3] ** -0.5 + mask
        (weights.softmax(-1) @ value).sum().backward()

    def fused() -> None:
        torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask).sum().backward()

    return {"plain": plain, "fused": fused}
