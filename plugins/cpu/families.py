"""Which decoder layers are fused, and what they are compared by."""

from typing import Any

import torch

FAMILIES = {"llama", "mistral", "qwen2", "qwen3"}  # their layers are just this
ALIKE = 1e-4  # largest difference that is let through, relative to the largest entry
PROBE = (2, 24)  # rows and tokens that are compared


def linears_of(layer: Any) -> list[Any]:
    """The layers of a decoder layer that multiply: queries, keys, values, output; gate, up and down."""
    attention, mlp = layer.self_attn, layer.mlp
    own = [attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj]
    return [*own, mlp.gate_proj, mlp.up_proj, mlp.down_proj]


def of_a_family(layer: Any, config: Any) -> bool:
    """Whether a decoder layer is one of FAMILIES, with SiLU and without a sliding window."""
    known = not FAMILIES.isdisjoint(type(layer).__module__.split("."))
    return known and config.hidden_act == "silu" and not getattr(config, "sliding_window", None)


def near(found: torch.Tensor, own: torch.Tensor) -> bool:
    """Whether a fused result is that of the model's own layer, but for the last digits."""
    return bool((own - found).abs().max() <= ALIKE * own.abs().max())
