"""Tiny random models of the families that transformers knows by itself, as code and as folders with a tokenizer."""

from typing import Any

import torch

SHAPE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
SHAPE |= {"num_key_value_heads": 2, "initializer_range": 0.5, "pad_token_id": 0}
WINDOW = 8  # tokens that a sliding layer sees


def random_model(family: str, vocabulary: int) -> Any:
    """A causal language model of a family with random weights, the same ones at each call."""
    import transformers

    name, settings = CAUSAL[family]
    config = getattr(transformers, f"{name}Config")(vocab_size=vocabulary, **{**SHAPE, **settings})
    torch.manual_seed(0)
    return getattr(transformers, f"{name.removesuffix('Text')}ForCausalLM")(config).eval()


CAUSAL: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2": ("Qwen2", {}),
    "qwen3": ("Qwen3", {"head_dim": 8}),
    "llama": ("Llama", {}),
    "gemma3": ("Gemma3Text", {"head_dim": 8, "sliding_window": WINDOW, "sliding_window_pattern": 2}),
    "mistral": ("Mistral", {"sliding_window": WINDOW}),
    "phi3": ("Phi3", {"sliding_window": WINDOW}),
    "glm": ("Glm", {"head_dim": 8}),
    "lfm2": ("Lfm2", {"layer_types": ["conv", "full_attention"]}),  # a state instead of keys and values
}
