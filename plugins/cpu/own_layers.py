"""The way back: a model's own forward functions, put in place again with one line in the log when a fused one fails."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch

# Arguments that transformers hands to every decoder layer, and that change nothing of what a fused layer computes.
HARMLESS = {"cache_position", "num_items_in_batch", "output_hidden_states", "position_ids", "return_dict", "use_cache"}


class UnknownArgument(TypeError):
    """A decoder layer was called with an argument whose meaning is not known here."""


def check_arguments(given: Mapping[str, Any]) -> None:
    """Raise UnknownArgument for what is not HARMLESS and asks for something."""
    unknown = [
        name for name, value in given.items() if name not in HARMLESS and value is not None and value is not False
    ]
    if unknown:
        raise UnknownArgument(f"a decoder layer was called with {', '.join(unknown)}, which fused layers do not know")


class OwnLayers:
    """The forward functions that fused ones have replaced."""

    def __init__(self, name: str) -> None:
        """`name` is that of the fused layers, for the log."""
        self.name = name
        self.replaced: list[tuple[torch.nn.Module, Callable[..., Any]]] = []
        self.failed = False

    def replace(self, module: torch.nn.Module, forward: Callable[..., Any]) -> None:
        """Have `forward` compute what `module.forward` does."""
        self.replaced.append((module, module.forward))
        module.forward = forward  # type: ignore[method-assign]

    def put_back(self, error: Exception) -> None:
        """Put every function back, and say why in one line of ms-swift's log: of the first error alone."""
        for module, own in reversed(self.replaced):
            module.forward = own  # type: ignore[method-assign]
        self.replaced.clear()
        if self.failed:  # several layers of one backward pass
            return
        self.failed = True
        why = " ".join(f"{type(error).__name__}: {error}".split())
        logging.getLogger("swift").warning(f"{self.name}: the model's own layers compute instead, slower: {why}")
