"""The MLP of a model's last layer on a CPU, for the tokens alone whose logits are asked for.

What the last layer makes of the other tokens is read by nothing: their keys and values come before its MLP, and the
output layer is given the last tokens. Of the demo model's eight layers that is 9 % of a pass.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

FAMILIES = {"llama", "mistral", "qwen2", "qwen3"}  # whose MLP makes of each token a token, by itself


@contextmanager
def last_tokens_alone(model: Any, tokens: int, keep: int) -> Iterator[None]:
    """While this is open, the last MLP computes the last `keep` of the `tokens` of each row; the others get zeros."""
    config = model.config
    if tokens <= keep or model.device.type != "cpu" or config.model_type not in FAMILIES:
        yield
        return
    mlp = model.get_decoder().layers[-1].mlp

    def cut(_: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (inputs[0][:, -keep:], *inputs[1:])

    def filled(_: Any, __: Any, output: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pad(output, (0, 0, tokens - keep, 0))

    hooks = [mlp.register_forward_pre_hook(cut), mlp.register_forward_hook(filled)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
