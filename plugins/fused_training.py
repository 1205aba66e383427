"""External plugin for `swift sft` on a CPU: LoRA through decoder layers in fewer, larger steps, without padding.

`external_plugins: [plugins/fused_training.py]` with `callbacks: [fused_training]`. When training begins, each decoder
layer gets a forward function that gives the model's own result and gradients, to the last digits of float32 or, under
autocast, of bfloat16:
  padding   is left out, and a prompt that all rows begin with is there once (plugins/packed_rows.py)
  products  by frozen weights that are converted once, with what LoRA adds (plugins/low_rank_product.py); the scale of
            a norm is part of the weights that follow; queries, keys and values are one, gate and up another
  attention by plain products within each row (plugins/packed_attention.py)
  gradients are written out, of the whole layer at once: nothing is kept that they do not need
            (plugins/trained_layer.py); the last layer's MLP is computed for the tokens that logits are asked of

For the families of plugins/fused_layers.py; each layer is compared with the model's own, gradients too, before it takes
its place. Left as they are: layers with weights of their own that are trained, dropout, DoRA, several adapters; and at
any call with a cache, with a mask that hides more than padding and later tokens, or with adapters switched off.
"""

import functools
from typing import Any

import torch
from fused_layers import PROBE, linears_of, near, of_a_family  # beside this file
from low_rank_product import LowRankProduct, plain_adapter
from swift.callbacks import TrainerCallback, callbacks_map
from swift.utils import get_logger
from trained_layer import Batch, TrainedLayer


class FusedModel:
    """The forward function of a model whose decoder layers are all fused.

    Where nothing else sees what goes from layer to layer, it stays packed, what all rows begin with is computed once,
    and in the last layer what concerns a token alone is computed where it is looked at.
    """

    def __init__(self, model: torch.nn.Module, layers: list[TrainedLayer], batch: Batch) -> None:
        self.own, self.model, self.layers, self.batch = model.forward, model, layers, batch
        functools.update_wrapper(self, self.own)  # ms-swift and transformers look at its signature
        for layer in layers:
            layer.first, layer.last = layer is layers[0], layer is layers[-1]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """As the model's own `forward`."""
        states = kwargs.get("output_hidden_states") or self.model.config.output_hidden_states
        again = any(getattr(layer, "gradient_checkpointing", False) for layer in self.model.model.layers)
        if states or again or not all(layer.is_adapted() for layer in self.layers):
            return self.own(*args, **kwargs)
        writes = type(self.model).__name__.endswith("ForCausalLM")
        with self.batch.passing_on(kwargs.get("logits_to_keep", 0) if writes else 0):
            return self.own(*args, **kwargs)


def fuse_for_training(model: torch.nn.Module) -> int:
    """Give the model's decoder layers, where they are supported, their fused function; returns how many got it."""
    model = model.get_base_model() if hasattr(model, "get_base_model") else model
    decoder, batch, fused = getattr(model, "model", None), Batch(), []
    for layer in getattr(decoder, "layers", []):
        if not isinstance(layer.forward, TrainedLayer) and _supported(layer, decoder.config):
            one = TrainedLayer(layer, batch)
            if _alike(decoder, one):
                layer.forward = one
                fused.append(one)
    if fused and len(fused) == len(decoder.layers):
        model.forward = FusedModel(model, fused, batch)
    return len(fused)


def _supported(layer: torch.nn.Module, config: Any) -> bool:
    if not of_a_family(layer, config) or getattr(config, "attention_dropout", 0.0):
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


def _alike(decoder: torch.nn.Module, layer: TrainedLayer) -> bool:
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
        for forward in (layer.own, layer):
            start = hidden.clone().requires_grad_()
            result = forward(start, attention_mask=mask, position_embeddings=turns)
            pairs.append([result[:, :length], *torch.autograd.grad(result, [start, *factors], upstream)])
    for product in layer.products:
        product.converted.clear()
    return all(near(found, own) for own, found in zip(*pairs, strict=True))


class FusedTraining(TrainerCallback):
    """Puts the fused functions in place when training begins, but for weights that processes hold in pieces."""

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """After the weights of a checkpoint have been read, before the first step."""
        in_pieces = getattr(args, "fsdp", None) or getattr(args, "deepspeed", None)
        get_logger().info(f"fused_training: {0 if in_pieces else fuse_for_training(model)} decoder layers")


callbacks_map["fused_training"] = FusedTraining
