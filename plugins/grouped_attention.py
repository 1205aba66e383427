"""Attention on a CPU where keys and values serve several query heads each (Ainslie et al. 2023), without copies.

transformers repeats keys and values for every head wherever there is a mask, because other devices' kernels want it: of
a batch of 32 prompts that costs four times what the attention of one more token does. torch's CPU kernel takes the
groups as they are, with the same result to the bit.
"""

from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

OTHER = ("position_bias", "cache")  # arguments that change more than the mask does


def grouped_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """As transformers' own `sdpa`: `query` [rows, heads, tokens, size], `key` and `value` [rows, groups, seen, size].

    Returns ([rows, tokens, heads, size], None).
    """
    grouped = query.shape[1] > key.shape[1] and attention_mask is not None and not dropout
    if not grouped or query.device.type != "cpu" or any(more.get(name) is not None for name in OTHER):
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **more)
    found = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=attention_mask, scale=scaling, enable_gqa=True
    )
    return found.transpose(1, 2).contiguous(), None


def install() -> None:
    """Every model of this process that attends by `sdpa` attends by `grouped_attention`."""
    AttentionInterface.register("sdpa", grouped_attention)
