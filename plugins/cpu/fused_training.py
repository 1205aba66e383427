"""Training LoRA: decoder layers in fewer, larger steps, without padding (README.md has the equations).

When training begins, each decoder layer gets a forward function that gives the model's own result and gradients, to the
last digits of float32 or, under autocast, of bfloat16:
  padding   is left out, and a prompt that all rows begin with is there once (varlen_batch.py)
  products  by frozen weights that are converted once, with what LoRA adds (low_rank_product.py); the scale of a norm is
            part of the weights that follow; queries, keys and values are one, gate and up another
  attention by plain products within each row (varlen_attention.py)
  gradients are written out, of the whole layer at once: nothing is kept that they do not need (trained_layer.py); the
            last layer's MLP is computed for the tokens that logits are asked of

Each layer is compared with the model's own, gradients too, before it takes its place. Left as they are: layers with
weights of their own that are trained, dropout, DoRA, several adapters; and at any call with a cache, with a mask that
hides more than padding and later tokens, or with adapters switched off.
"""

import functools
import logging
from typing import Any

import torch

from .families import PROBE, linears_of, near, of_a_family
from .low_rank_product import LowRankProduct, plain_adapter
from .own_layers import OwnLayers
from .trained_layer import Batch, TrainedLayer


class FusedModel:
    """The forward function of a model whose decoder layers are all fused.

    Where nothing else sees what goes from layer to layer, it stays packed, what all rows begin with is computed once,
    and in the last layer what concerns a token alone is computed where it is looked at.
    """

    def __init__(self, model: Any, layers: list[TrainedLayer], batch: Batch, own_layers: OwnLayers) -> None:
        self.own, self.model, self.layers, self.batch = model.forward, model, layers, batch
        self.own_layers = own_layers
        functools.update_wrapper(self, self.own)  # ms-swift and transformers look at its signature
        for layer in layers:
            layer.first, layer.last = layer is layers[0], layer is layers[-1]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """As the model's own `forward`, which computes all again when anything goes wrong."""
        states = kwargs.get("output_hidden_states") or self.model.config.output_hidden_states
        again = any(getattr(layer, "gradient_checkpointing", False) for layer in self.model.model.layers)
        if states or again or not all(layer.is_adapted() for layer in self.layers):
            return self.own(*args, **kwargs)
        writes = type(self.model).__name__.endswith("ForCausalLM")
        try:
            with self.batch.passing_on(kwargs.get("logits_to_keep", 0) if writes else 0):
                return self.own(*args, **kwargs)
        except Exception as error:
            self.own_layers.put_back(error)
        return self.own(*args, **kwargs)


def fuse_for_training(model: Any) -> int:
    """Give the model's decoder layers, where they are supported, their fused function; returns how many got it.

    Never raises: a model that cannot be read so keeps all its own layers.
    """
    own_layers = OwnLayers("fused_training")
    try:
        fused = _fuse(model, own_layers)
    except Exception as error:
        own_layers.put_back(error)
        return 0
    logging.getLogger("swift").info(f"fused_training: {fused} decoder layers")
    return fused


def _fuse(model: Any, own_layers: OwnLayers) -> int:
    model = model.get_base_model() if hasattr(model, "get_base_model") else model
    decoder, batch, fused = getattr(model, "model", None), Batch(), []
    if decoder is None:
        return 0
    for layer in getattr(decoder, "layers", []):
        if not isinstance(layer.forward, TrainedLayer) and _supported(layer, decoder.config):
            one = TrainedLayer(layer, batch, own_layers)
            if _alike(decoder, one):
                own_layers.replace(layer, one)
                fused.append(one)
    if fused and len(fused) == len(decoder.layers):
        own_layers.replace(model, FusedModel(model, fused, batch, own_layers))
    return len(fused)


def _supported(layer: Any, config: Any) -> bool:
    if not of_a_family(layer, config) or bool(getattr(config, "attention_dropout", None)):
        return False
    linears = linears_of(layer)
    if not all(plain_adapter(one) for one in linears):
        return False
    biases = [getattr(one, "base_layer", one).bias is None for one in linears]
    factors = {id(one) for product in linears for one in LowRankProduct([product]).factors()}
    parameters = list(layer.parameters())
    return (
        len(set(biases[:3])) == len(set(biases[4:6])) == 1
        and all(type(one) is torch.nn.Parameter and one.numel() for one in parameters)  # no piece of one
        and all(one.dtype == torch.float32 and one.device.type == "cpu" for one in parameters)
        and {id(one) for one in parameters if one.requires_grad} == factors
    )


def _alike(decoder: Any, layer: TrainedLayer) -> bool:
    """Whether the layer's own function gives the same for random tokens, of which the last few are padding."""
    rows, tokens = PROBE
    length, chance = tokens - 3, torch.Generator().manual_seed(0)
    hidden, upstream = (torch.randn(rows, tokens, decoder.config.hidden_size, generator=chance) for _ in range(2))
    turns = decoder.rotary_emb(hidden, torch.arange(tokens).unsqueeze(0))
    mask = torch.full((tokens, tokens), torch.finfo(hidden.dtype).min).triu(1).expand(rows, 1, -1, -1).clone()
    mask[:, :, :, length:], upstream[:, length:] = torch.finfo(hidden.dtype).min, 0.0
    factors = [factor for factor in layer.factors() if factor.requires_grad]
    pairs = []
    with torch.enable_grad():
        for forward in (layer.own, layer.fused):
            start = hidden.clone().requires_grad_()
            result = forward(start, attention_mask=mask, position_embeddings=turns)
            if result is None:
                return False
            pairs.append([result[:, :length], *torch.autograd.grad(result, [start, *factors], upstream)])
    for product in layer.products:
        product.converted.clear()
    return all(near(found, own) for own, found in zip(*pairs, strict=True))
