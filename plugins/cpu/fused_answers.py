"""Answers in float32: the forward function of decoder layers in fewer, larger steps (README.md has the equations).

transformers computes a layer in some forty operations, each of which reads and writes the whole batch once. Here the
scale of a norm is part of the weights that follow; queries, keys and values are one product; SiLU, the gate and the
residual are part of the products around them (oneDNN's post-operations); weights are laid out for the processor once.

The results differ from the model's own in the last digits of float32. Each fused layer is compared with the model's own
before it takes its place; where it fails later, the model's own layers go on with the call that failed, since keys and
values are cached as they cache them.
"""

import logging
from typing import Any

import torch

from .families import PROBE, linears_of, near, of_a_family
from .own_layers import OwnLayers, check_arguments
from .rms_norm import inverse_root
from .rotary import half_turns, rotate

BLOCK = 128  # queries in one product: blocks of 64 to 256 are about as fast


class FusedLayer:
    """The forward function of one decoder layer of a supported family, merged weights and no gradients."""

    def __init__(self, layer: Any, own_layers: OwnLayers) -> None:
        attention = layer.self_attn
        self.own, self.own_layers = layer.forward, own_layers
        before, after = layer.input_layernorm, layer.post_attention_layernorm
        self.index, self.size = attention.layer_idx, attention.head_dim
        self.norms = (before.variance_epsilon, after.variance_epsilon)
        query, key, value, out, gate, up, down = _linears(layer)
        self.heads, self.groups = len(query.weight) // self.size, len(key.weight) // self.size
        # The scale of the attention is put on the queries: on their norm where they have one, which would undo it.
        norms = [getattr(attention, name, None) for name in ("q_norm", "k_norm")]
        scales = (1.0 if norms[0] else attention.scaling, 1.0)
        self.head_norms = [
            (norm.weight * scale, norm.variance_epsilon)
            for norm, scale in zip(norms, (attention.scaling, 1.0), strict=True)
            if norm is not None
        ]
        weights = [one.weight * scale for one, scale in zip((query, key), scales, strict=True)]
        self.qkv = _packed(torch.cat([*weights, value.weight]) * before.weight)
        self.qkv_bias = None
        if query.bias is not None:
            self.qkv_bias = torch.cat([query.bias * scales[0], key.bias, value.bias])
        self.gate, self.up = (_packed(one.weight * after.weight) for one in (gate, up))
        self.out, self.down = _packed(out.weight), _packed(down.weight)
        self.biases = (gate.bias, up.bias, out.bias, down.bias)

    def __call__(self, hidden_states: torch.Tensor, past_key_values: Any = None, **kwargs: Any) -> torch.Tensor:
        """As the layer's own `forward`, which computes instead when anything goes wrong."""
        cached = None if past_key_values is None else _CachedOnce(past_key_values)
        try:
            return self.forward(hidden_states, past_key_values=cached, **kwargs)
        except Exception as error:
            self.own_layers.put_back(error)
        return self.own(hidden_states, past_key_values=cached, **kwargs)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_embeddings: tuple[torch.Tensor, torch.Tensor] = (),  # type: ignore[assignment]
        past_key_values: Any = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """`hidden_states` and the result are [rows, tokens, hidden size]."""
        check_arguments(kwargs)
        rows, tokens, width = hidden_states.shape
        gate_bias, up_bias, out_bias, down_bias = self.biases
        hidden = hidden_states.reshape(-1, width)
        qkv = _product(hidden * inverse_root(hidden, self.norms[0]), self.qkv, self.qkv_bias)
        qkv = qkv.view(rows, tokens, -1, self.size)
        self._rotate(qkv, *position_embeddings)
        query, key, value = qkv.transpose(1, 2).split([self.heads, self.groups, self.groups], 1)
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.index)
        attended = self._attend(query, key, value, attention_mask)
        hidden = _product_with(attended.view(rows * tokens, -1), self.out, out_bias, "add", hidden)
        normed = hidden * inverse_root(hidden, self.norms[1])
        gate = _product(normed, self.gate, gate_bias, "swish")
        gated = _product_with(normed, self.up, up_bias, "mul", gate)
        return _product_with(gated, self.down, down_bias, "add", hidden).view(rows, tokens, width)

    def _rotate(self, qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> None:
        """Turn queries and keys in place; `cos` and `sin` are [rows or 1, tokens, head size], both halves alike."""
        queries, keys, _ = qkv.split([self.heads, self.groups, self.groups], 2)
        for (weight, epsilon), part in zip(self.head_norms, (queries, keys), strict=False):
            part.mul_(torch.rsqrt(part.square().mean(-1, keepdim=True) + epsilon)).mul_(weight)
        cos, sin = half_turns(cos, sin)
        rotate(qkv[:, :, : self.heads + self.groups], cos.unsqueeze(2), sin.unsqueeze(2))

    def _attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """Causal attention: `query` [rows, heads, tokens, size], `key`, `value` [rows, groups, cached tokens, size].

        `mask` [rows or 1, 1, tokens, cached tokens] is added; without one, every key is seen by every query, as by
        that of a single token. Returns [rows, tokens, heads, size].
        """
        rows, heads, tokens, size = query.shape
        batch, cached = rows * self.groups, key.shape[2]
        key, value = (part.reshape(batch, cached, size) for part in (key, value))
        output = query.new_empty(rows, tokens, heads, size)
        for start in range(0, tokens, BLOCK):
            end = min(start + BLOCK, tokens)
            seen = cached - tokens + end
            block = query[:, :, start:end].reshape(batch, -1, size)
            weights = torch.bmm(block, key[:, :seen].transpose(1, 2)).view(rows, heads, end - start, seen)
            if mask is not None:
                weights += mask[:, :, start:end, :seen]
            weights = torch.softmax(weights, -1)
            found = torch.bmm(weights.view(batch, -1, seen), value[:, :seen])
            output[:, start:end] = found.view(rows, heads, end - start, size).transpose(1, 2)
        return output


class _CachedOnce:
    """A key/value cache for one call of one layer, to which a second function may hand its keys and values again."""

    def __init__(self, cache: Any) -> None:
        self.cache, self.updated = cache, None

    def update(self, *args: Any, **kwargs: Any) -> Any:
        self.updated = self.updated or self.cache.update(*args, **kwargs)
        return self.updated

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cache, name)


def fuse_layers(model: Any) -> int:
    """Put fused layers in place of the model's decoder layers; returns how many it put there.

    Left as they are: other families, other dtypes than float32, other attention than `eager` (only its masks say all
    that is hidden), adapters that are not merged, sliding windows, activations other than SiLU, and layers whose fused
    result is not alike. Never raises: a model that cannot be read so keeps all its own layers.
    """
    own_layers = OwnLayers("fused_answers")
    try:
        fused = _fuse(model, own_layers)
    except Exception as error:
        own_layers.put_back(error)
        return 0
    logging.getLogger("swift").info(f"fused_answers: {fused} decoder layers")
    return fused


def _fuse(model: Any, own_layers: OwnLayers) -> int:
    model = model.get_base_model() if hasattr(model, "get_base_model") else model
    decoder = getattr(model, "model", None)
    if decoder is None or getattr(model.config, "_attn_implementation", None) != "eager":
        return 0
    for layer in getattr(decoder, "layers", []):
        if not isinstance(layer.forward, FusedLayer) and _supported(layer, decoder.config):
            with torch.inference_mode():
                fused = FusedLayer(layer, own_layers)
                if _alike(decoder, layer, fused):
                    own_layers.replace(layer, fused)
    return len(own_layers.replaced)


def _linears(layer: Any) -> list[Any]:
    return [_linear_of(one) for one in linears_of(layer)]


def _linear_of(module: Any) -> Any:
    """The linear layer itself, under an adapter that has been merged into it."""
    return module.base_layer if getattr(module, "merged", False) else module


def _supported(layer: Any, config: Any) -> bool:
    if not of_a_family(layer, config) or not torch.backends.mkldnn.is_available():
        return False
    linears = _linears(layer)
    biases = {one.bias is None for one in linears[:3] if type(one) is torch.nn.Linear}
    return (
        all(type(one) is torch.nn.Linear for one in linears)
        and len(biases) == 1
        and all(one.dtype == torch.float32 and one.device.type == "cpu" for one in layer.parameters())
    )


def _alike(decoder: Any, layer: Any, fused: FusedLayer) -> bool:
    """Whether both layers give the same for random tokens of which none sees a later one."""
    rows, tokens = PROBE
    hidden = torch.randn(rows, tokens, decoder.config.hidden_size, generator=torch.Generator().manual_seed(0))
    turns = decoder.rotary_emb(hidden, torch.arange(tokens).unsqueeze(0))
    mask = torch.full((1, 1, tokens, tokens), torch.finfo(hidden.dtype).min).triu(1)
    ways = (layer.forward, fused.forward)
    own, found = (forward(hidden, attention_mask=mask, position_embeddings=turns) for forward in ways)
    return near(found, own)


# Operators of torch that its own compiler uses, in a build with oneDNN alone: asked for by name when they are needed.
def _product(
    rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, activation: str = "none"
) -> torch.Tensor:
    """activation(rows @ weight.T + bias)."""
    return torch.ops.mkldnn._linear_pointwise(rows, weight, bias, activation, [], "")


def _product_with(
    rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, operation: str, other: torch.Tensor
) -> torch.Tensor:
    """rows @ weight.T + bias, then `operation` (add or mul) with `other`."""
    return torch.ops.mkldnn._linear_pointwise.binary(rows, other, weight, bias, operation)


def _packed(weight: torch.Tensor) -> torch.Tensor:
    """A weight as oneDNN multiplies by it: laid out for it once, not at every product."""
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), None)
