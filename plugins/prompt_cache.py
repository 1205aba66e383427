"""The cache that a prompt is read into, for whatever kind of layers a model has, so that it can be gone on from anew.

Layers with a sliding window keep the last tokens alone, and then none can be taken off again. Kept whole they compute
the same, because the attention mask leaves out what is beyond the window. Layers with a running state (linear
attention, convolutions) cannot be kept whole: their cache is copied.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers.cache_utils import (
    DynamicCache,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionCacheLayerMixin,
)


def new_cache(model: Any) -> Any:
    """An empty cache for prompts of `model`, whose layers keep all tokens where they are of the kinds that can."""
    usual = DynamicCache(config=model.config)
    return DynamicCache() if _kinds(usual) <= {DynamicLayer, DynamicSlidingWindowLayer} else usual


def can_be_cropped(cache: Any) -> bool:
    """Whether tokens can be taken off the end of a cache: no layer has a window or a running state."""
    state = any(isinstance(layer, LinearAttentionCacheLayerMixin) for layer in cache.layers)
    return cache.is_croppable and not state and not any(cache.is_sliding)


def sees_all(model: Any) -> bool:
    """Whether every layer of `model` attends to all tokens before.

    Only then may padding stand between the beginning that prompts share and the rest of them: a window counts it.
    """
    return _kinds(DynamicCache(config=model.config)) <= {DynamicLayer}


@contextmanager
def continued(cache: Any, tokens: int) -> Iterator[Any]:
    """A cache to read `tokens` tokens more into; `cache` is afterwards as it was."""
    if can_be_cropped(cache):
        yield cache
        if tokens:
            cache.crop(-tokens)
    else:
        yield copy.deepcopy(cache)


def _kinds(cache: Any) -> set[type]:
    return {type(layer) for layer in cache.layers}
