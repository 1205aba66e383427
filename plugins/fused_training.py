"""External plugin for `swift sft` on a CPU: LoRA through decoder layers in fewer, larger steps, without padding.

`external_plugins: [plugins/fused_training.py]` with `callbacks: [fused_training]`. When training begins, each decoder
layer gets a forward function that gives the model's own result and gradients, to the last digits of float32 or, under
autocast, of bfloat16:
  padding   is left out: products see the tokens of the rows alone (plugins/packed_rows.py)
  products  by frozen weights that are converted once, with what LoRA adds (plugins/low_rank_product.py); the scale of
            a norm is part of the weights that follow; queries, keys and values are one, gate and up another
  attention by plain products within each row (plugins/packed_attention.py)
  gradients are written out, of the whole layer at once: nothing is kept that they do not need

For the families of plugins/fused_layers.py; each layer is compared with the model's own, gradients too, before it takes
its place. Left as they are: layers with weights of their own that are trained, dropout, DoRA, several adapters; and at
any call with a cache, with a mask that hides more than padding and later tokens, or with adapters switched off.
"""

from typing import Any

import torch
from fused_layers import PROBE, linears_of, near, of_a_family  # beside this file
from low_rank_product import LowRankProduct, plain_adapter
from packed_attention import PackedAttention
from packed_rows import PackedRows, packed_rows
from rms_norm import normed, normed_gradient
from swift.callbacks import TrainerCallback, callbacks_map
from swift.utils import get_logger

silu = torch.nn.functional.silu


class Batch:
    """The layout of the batch at hand, which all layers share."""

    def __init__(self) -> None:
        self.key: tuple[Any, ...] = ()
        self.packed: PackedRows | None = None

    def packed_as(self, shape: torch.Size, mask: torch.Tensor | None, cos: torch.Tensor, sin: torch.Tensor) -> Any:
        """As `packed_rows`, worked out by the first layer. The tensors are kept, so that no other can be at theirs."""
        if not self.key or any(one is not other for one, other in zip(self.key, (mask, cos, sin), strict=True)):
            self.key, self.packed = (mask, cos, sin), packed_rows(shape, mask, cos, sin)
        return self.packed


class TrainedLayer:
    """The forward function of one decoder layer of a supported family in which adapters alone are trained."""

    def __init__(self, layer: torch.nn.Module, batch: Batch) -> None:
        attention, before, after = layer.self_attn, layer.input_layernorm, layer.post_attention_layernorm
        self.own, self.batch = layer.forward, batch
        self.epsilons = (before.variance_epsilon, after.variance_epsilon)
        query, key, value, out, gate, up, down = linears_of(layer)
        size = attention.head_dim
        heads, groups = query.out_features // size, key.out_features // size
        order, scale = torch.arange((heads + 2 * groups) * size), torch.ones((heads + 2 * groups) * size, 1)
        turned = order[: (heads + groups) * size]
        turned.copy_(_interleaved(turned.view(-1, size)).flatten())
        # The scale of the attention is put on the queries: on their norm where they have one, which would undo it.
        weights, epsilon = None, 0.0
        if hasattr(attention, "q_norm"):
            norms = (attention.q_norm, attention.k_norm)
            weights = torch.cat(
                [
                    _interleaved(norm.weight.detach()).expand(count, -1)
                    for norm, count in zip(norms, (heads, groups), strict=True)
                ]
            )
            weights[:heads] *= attention.scaling
            epsilon = norms[0].variance_epsilon
        else:
            scale[: heads * size] = attention.scaling
        self.attention = PackedAttention(heads, groups, size, weights, epsilon)
        self.qkv = LowRankProduct([query, key, value], before.weight, order, scale)
        self.out = LowRankProduct([out])
        self.gate_up = LowRankProduct([gate, up], after.weight)
        self.down = LowRankProduct([down])
        self.products = (self.qkv, self.out, self.gate_up, self.down)

    def __call__(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Any = None,
        position_embeddings: tuple[torch.Tensor, torch.Tensor] | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """As the layer's own `forward`: `hidden_states` and the result are [rows, tokens, hidden size]."""
        packed = None
        # Without a mask, positions that begin anew tell of several reviews in one row.
        one_each = position_ids is None or bool((position_ids.diff() >= 0).all())
        if one_each and past_key_values is None and all(product.is_adapted() for product in self.products):
            packed = self.batch.packed_as(hidden_states.shape, attention_mask, *position_embeddings)
        if packed is None or hidden_states.dtype != torch.float32:
            return self.own(
                hidden_states, attention_mask=attention_mask, position_ids=position_ids,
                past_key_values=past_key_values, position_embeddings=position_embeddings, **kwargs,
            )  # fmt: skip
        lower = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if lower else hidden_states.dtype
        return _Layer.apply(self, packed, dtype, hidden_states, *self.factors())

    def factors(self) -> list[torch.Tensor]:
        """What is trained, product by product."""
        return [factor for product in self.products for factor in product.factors()]

    def forward(
        self, x: torch.Tensor, packed: PackedRows, dtype: torch.dtype, factors: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, list[list[torch.Tensor | None]]]:
        """[packed, hidden size] for `x` of that shape, with products in `dtype`; and what `backward` needs."""
        own = iter(factors)
        of_qkv, of_out, of_gate_up, of_down = (
            tuple(next(own) for _ in range(2 * len(product.places))) for product in self.products
        )
        first, first_inverse = normed(x, self.epsilons[0], dtype)
        qkv, qkv_kept = self.qkv.forward(first, of_qkv)
        attended, attention_kept = self.attention.forward(qkv, packed)
        result, out_kept = self.out.forward(attended, of_out)
        x = x + result
        second, second_inverse = normed(x, self.epsilons[1], dtype)
        gate_up, gate_up_kept = self.gate_up.forward(second, of_gate_up)
        gate, up = gate_up.chunk(2, -1)
        opened = silu(gate)
        result, down_kept = self.down.forward(opened * up, of_down)
        kept = [[first, first_inverse, attended, second, second_inverse, gate_up, opened], attention_kept]
        return x + result, [*kept, *map(list, (qkv_kept, out_kept, gate_up_kept, down_kept))]

    def backward(
        self, gradient: torch.Tensor, packed: PackedRows, kept: list[list[torch.Tensor | None]], of_input: bool
    ) -> tuple[torch.Tensor | None, list[torch.Tensor]]:
        """The gradients of `x`, unless `of_input` is false, and of each factor, for that of the result."""
        (first, first_inverse, attended, second, second_inverse, gate_up, opened), attention_kept, *products_kept = kept
        qkv_kept, out_kept, gate_up_kept, down_kept = products_kept
        # Behind the last layer few tokens have a loss, and what concerns a token alone is computed for those.
        all_tokens, some = gradient, gradient.any(-1).nonzero().squeeze(1)
        few = 2 * len(some) < len(gradient)
        if few:
            gradient, tokens = gradient[some], (attended, second, second_inverse, gate_up, opened)
            attended, second, second_inverse, gate_up, opened = (one[some] for one in tokens)
            for kept_of_product in (out_kept, gate_up_kept, down_kept):
                if kept_of_product[0] is not None:
                    kept_of_product[0] = kept_of_product[0][some]
        gate, up = gate_up.chunk(2, -1)
        of_gated, of_down = self.down.backward(gradient.to(first.dtype), opened * up, down_kept)
        of_gates = torch.empty_like(gate_up)
        of_gate, of_up = of_gates.chunk(2, -1)
        torch.mul(of_gated, opened, out=of_up)
        torch.ops.aten.silu_backward.grad_input(of_gated.mul_(up), gate, grad_input=of_gate)
        of_second, of_gate_up = self.gate_up.backward(of_gates, second, gate_up_kept)
        gradient = normed_gradient(of_second, second, second_inverse).add_(gradient)
        of_attended, of_out = self.out.backward(gradient.to(first.dtype), attended, out_kept)
        if few:
            zeros = of_attended.new_zeros(len(first), of_attended.shape[-1])
            of_attended = zeros.index_copy_(0, some, of_attended)
            gradient = all_tokens.index_copy_(0, some, gradient)
        of_qkv = self.attention.backward(of_attended, packed, attention_kept)
        of_first, of_factors = self.qkv.backward(of_qkv, first, qkv_kept, of_input)
        if of_first is not None:
            of_first = normed_gradient(of_first, first, first_inverse).add_(gradient)
        return of_first, [*of_factors, *of_out, *of_gate_up, *of_down]


class _Layer(torch.autograd.Function):
    """A whole layer as one step of autograd."""

    @staticmethod
    def forward(
        ctx: Any, layer: TrainedLayer, packed: PackedRows, dtype: torch.dtype, hidden: Any, *factors: Any
    ) -> Any:
        ctx.layer, ctx.packed, ctx.shape = layer, packed, hidden.shape
        with torch.autocast("cpu", enabled=False):
            result, kept = layer.forward(packed.pack(hidden), packed, dtype, factors)
        ctx.counts = [len(part) for part in kept]
        ctx.save_for_backward(*(tensor for part in kept for tensor in part))
        return packed.unpack(result, hidden.shape)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        saved, packed = iter(ctx.saved_tensors), ctx.packed
        kept = [[next(saved) for _ in range(count)] for count in ctx.counts]
        with torch.autocast("cpu", enabled=False):
            of_input, of_factors = ctx.layer.backward(
                packed.pack_gradient(gradient), packed, kept, ctx.needs_input_grad[3]
            )
        return None, None, None, None if of_input is None else packed.unpack(of_input, ctx.shape), *of_factors


def fuse_for_training(model: torch.nn.Module) -> int:
    """Give the model's decoder layers, where they are supported, their fused function; returns how many got it."""
    model = model.get_base_model() if hasattr(model, "get_base_model") else model
    decoder, batch, fused = getattr(model, "model", None), Batch(), 0
    for layer in getattr(decoder, "layers", []):
        if not isinstance(layer.forward, TrainedLayer) and _supported(layer, decoder.config):
            one = TrainedLayer(layer, batch)
            if _alike(decoder, one):
                layer.forward = one
                fused += 1
    return fused


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


def _interleaved(heads: torch.Tensor) -> torch.Tensor:
    """The last dimension's two halves interleaved."""
    return torch.stack(heads.chunk(2, -1), -1).flatten(-2)


class FusedTraining(TrainerCallback):
    """Puts the fused functions in place when training begins, but for weights that processes hold in pieces."""

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """After the weights of a checkpoint have been read, before the first step."""
        in_pieces = getattr(args, "fsdp", None) or getattr(args, "deepspeed", None)
        get_logger().info(f"fused_training: {0 if in_pieces else fuse_for_training(model)} decoder layers")


callbacks_map["fused_training"] = FusedTraining
