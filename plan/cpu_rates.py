"""What a CPU computes fastest, measured: one product in three ways, attention in two, for training and for answers."""

import statistics
import time
from collections.abc import Callable

SHAPE = (1024, 1024, 1408)  # tokens of a batch, inner and outer size of a layer
ATTENTION = (8, 8, 200, 64)  # rows, heads, tokens and inner size: a batch of reviews
GROUPS = 2  # of heads with the same keys and values
ANSWERED = (32, 16)  # rows that are answered together, and new tokens of an answer
ROUNDS, PRODUCTS = 9, 4
EXACT = 1e-5  # relative error above float32's own (4e-7): bfloat16 has 4e-3


def measure() -> dict[str, float]:
    """The fields of plan.cpu_kernels.Precision, of medians of interleaved rounds."""
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
    gains = (round(_training_gain(), 2), round(_answering_gain(), 2))
    float32, onednn, bf16 = (round(rate, 1) for rate in rates)
    return {
        "float32": float32, "onednn": onednn, "bf16": bf16, "error": error, "attention": gains[0], "answers": gains[1],
    }  # fmt: skip


def _training_gain() -> float:
    """Seconds of torch's fused attention over those of plain products, forward and backward, causal."""
    import torch

    query, key, value = (torch.randn(ATTENTION, requires_grad=True) for _ in range(3))
    mask = torch.full((ATTENTION[2], ATTENTION[2]), -1e9).triu(1)

    def plain() -> None:
        weights = query @ key.transpose(2, 3) * ATTENTION[3] ** -0.5 + mask
        (weights.softmax(-1) @ value).sum().backward()

    def fused() -> None:
        torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask).sum().backward()

    return _times_faster(plain, fused)


def _answering_gain() -> float:
    """The same for a batch of answers: prompts in passes of a few rows, then token by token all rows together."""
    import torch

    rows, heads, tokens, size = ATTENTION
    answered, steps = ANSWERED
    query, mask = torch.randn(ATTENTION), torch.full((rows, 1, tokens, tokens), -1e9).triu(1)
    new, seen = torch.randn(answered, heads, 1, size), torch.zeros(answered, 1, 1, tokens)
    key, value = (torch.randn(answered, GROUPS, tokens, size) for _ in range(2))

    def plain() -> None:
        for queries, rows_mask, times in ((query, mask, answered // rows), (new, seen, steps)):
            groups = len(queries) * GROUPS
            for _ in range(times):
                keys, values = (part[: len(queries)].reshape(groups, tokens, size) for part in (key, value))
                together = (queries * size**-0.5).reshape(groups, -1, size)
                weights = torch.bmm(together, keys.transpose(1, 2)).view(len(queries), heads, -1, tokens)
                weights += rows_mask
                torch.bmm(weights.softmax(-1).view(groups, -1, tokens), values)

    def fused() -> None:
        for queries, rows_mask, times in ((query, mask, answered // rows), (new, seen, steps)):
            for _ in range(times):
                keys, values = (
                    part[: len(queries)].repeat_interleave(heads // GROUPS, 1) for part in (key, value)
                )  # as transformers does where there is a mask
                torch.nn.functional.scaled_dot_product_attention(queries, keys, values, attn_mask=rows_mask)

    with torch.inference_mode():
        return _times_faster(plain, fused)


def _times_faster(way: Callable[[], None], other: Callable[[], None]) -> float:
    """Seconds of `other` over those of `way`, medians of interleaved rounds."""
    spent: dict[Callable[[], None], list[float]] = {other: [], way: []}
    for _ in range(ROUNDS):
        for run, seconds in spent.items():
            begin = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - begin)
    return statistics.median(spent[other]) / statistics.median(spent[way])
