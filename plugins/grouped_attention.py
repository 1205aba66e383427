"""External plugin for `swift infer` on a CPU: plain attention that copies no keys and values.

With `attn_impl: eager` transformers repeats the keys and values for each query head of their group: for each new token
the whole cache is written out several times. Here a group's query heads are the rows of one product. The scale is
put on the queries, the mask is added in place.

For the models whose own function computes just that; all others keep theirs.
"""

import sys
from typing import Any

import torch
from transformers import AttentionInterface

FAMILIES = {"llama", "mistral", "qwen2", "qwen3"}  # their eager_attention_forward is the formula below, and no more


def grouped_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Softmax(scaling * query @ key.T + mask) @ value.

    `query` [rows, heads, tokens, size], `key` and `value` [rows, groups, cached tokens, size]; `attention_mask` is
    added to [rows, heads, tokens, cached tokens]. Returns (output [rows, tokens, heads, size], weights).
    """
    if module.training or type(module).__module__.split(".")[-2] not in FAMILIES:
        own = sys.modules[type(module).__module__].eager_attention_forward
        return own(module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs)
    rows, heads, tokens, size = query.shape
    groups, cached = key.shape[1:3]
    together = (query * scaling).reshape(rows * groups, heads // groups * tokens, size)
    weights = torch.bmm(together, key.reshape(rows * groups, cached, size).transpose(1, 2))
    weights = weights.view(rows, heads, tokens, cached)
    if attention_mask is not None:
        weights += attention_mask
    weights = torch.softmax(weights, -1, dtype=torch.float32).to(query.dtype)
    output = torch.bmm(weights.view(rows * groups, -1, cached), value.reshape(rows * groups, cached, size))
    return output.view(rows, heads, tokens, size).transpose(1, 2).contiguous(), weights


AttentionInterface.register("eager", grouped_attention)
