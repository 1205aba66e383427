"""For plugins/fused_training.py: a decoder layer in which adapters alone are trained, as one step of autograd."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from fused_layers import linears_of  # beside this file
from low_rank_product import LowRankProduct
from packed_attention import PackedAttention
from packed_rows import PackedRows, packed_rows
from rms_norm import normed, normed_gradient

silu = torch.nn.functional.silu


class Batch:
    """The layout of the batch at hand, which all layers share."""

    def __init__(self) -> None:
        self.key: tuple[Any, ...] = ()
        self.packed: PackedRows | None = None
        self.passed_on, self.logits_to_keep = False, 0

    @contextmanager
    def passing_on(self, logits_to_keep: int | torch.Tensor) -> Iterator[None]:
        """A call of the whole model, whose layers are all fused: they pass their results on as they are packed.

        After the last one nothing is looked at but `logits_to_keep`, as transformers has it: how many tokens at the end
        of each row, or which ones; 0 for all.
        """
        self.passed_on, self.logits_to_keep = True, logits_to_keep
        try:
            yield
        finally:
            self.passed_on, self.logits_to_keep = False, 0

    def packed_as(
        self,
        hidden: torch.Tensor,
        mask: torch.Tensor | None,
        positions: torch.Tensor | None,
        cos: torch.Tensor,
        sin: torch.Tensor,
    ) -> PackedRows | None:
        """As `packed_rows`, worked out by the first layer. The tensors are kept, so that no other can be at theirs."""
        key = (mask, positions, cos, sin)
        if not self.key or any(one is not other for one, other in zip(self.key, key, strict=True)):
            # Without a mask, positions that begin anew tell of several reviews in one row.
            one_each = positions is None or bool((positions.diff() >= 0).all())
            needed = self._needed(hidden.shape[1])
            found = packed_rows(hidden, mask, cos, sin, self.passed_on, needed) if one_each else None
            self.key, self.packed = key, found
        return self.packed

    def _needed(self, tokens: int) -> torch.Tensor | None:
        """[tokens] true where `logits_to_keep` has them."""
        asked = self.logits_to_keep
        if isinstance(asked, int):
            return torch.arange(tokens) >= tokens - asked if asked else None
        return asked if asked.dtype == torch.bool else torch.zeros(tokens, dtype=torch.bool).index_fill_(0, asked, True)


class TrainedLayer:
    """The forward function of one decoder layer of a supported family in which adapters alone are trained."""

    def __init__(self, layer: torch.nn.Module, batch: Batch) -> None:
        attention, before, after = layer.self_attn, layer.input_layernorm, layer.post_attention_layernorm
        self.own, self.batch = layer.forward, batch
        self.first = self.last = True  # of the layers that pass their results on to each other
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
        """As the layer's own `forward`: `hidden_states` and the result are [rows, tokens, hidden size].

        Between layers that pass on what is packed they are [1, packed, hidden size].
        """
        packed = None
        if past_key_values is None and self.is_adapted() and hidden_states.dtype == torch.float32:
            packed = self.batch.packed_as(hidden_states, attention_mask, position_ids, *position_embeddings)
        if packed is None:
            return self.own(
                hidden_states, attention_mask=attention_mask, position_ids=position_ids,
                past_key_values=past_key_values, position_embeddings=position_embeddings, **kwargs,
            )  # fmt: skip
        lower = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if lower else hidden_states.dtype
        return _Layer.apply(self, packed, dtype, hidden_states, *self.factors())

    def is_adapted(self) -> bool:
        """Whether its adapters are at work."""
        return all(product.is_adapted() for product in self.products)

    def factors(self) -> list[torch.Tensor]:
        """What is trained, product by product."""
        return [factor for product in self.products for factor in product.factors()]

    def kept_at(self, packed: PackedRows) -> torch.Tensor | None:
        """Which packed tokens' results are needed; None for all."""
        return packed.kept if self.last else None

    def forward(
        self, x: torch.Tensor, packed: PackedRows, dtype: torch.dtype, factors: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, list[list[torch.Tensor | None]]]:
        """[packed, hidden size] for `x` of that shape, with products in `dtype`; and what `backward` needs.

        The last layer's result is [kept, hidden size] where not all are needed.
        """
        own = iter(factors)
        of_qkv, of_out, of_gate_up, of_down = (
            tuple(next(own) for _ in range(2 * len(product.places))) for product in self.products
        )
        first, first_inverse = normed(x, self.epsilons[0], dtype)
        qkv, qkv_kept = self.qkv.forward(first, of_qkv)
        kept_at = self.kept_at(packed)
        attended, attention_kept = self.attention.forward(qkv, packed, kept_at is not None)
        if kept_at is not None:  # what concerns a token alone is computed for those that are needed
            x, attended = x[kept_at], attended[kept_at]
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
        gate, up = gate_up.chunk(2, -1)
        of_gated, of_down = self.down.backward(gradient.to(first.dtype), opened * up, down_kept)
        of_gates = torch.empty_like(gate_up)
        of_gate, of_up = of_gates.chunk(2, -1)
        torch.mul(of_gated, opened, out=of_up)
        torch.ops.aten.silu_backward.grad_input(of_gated.mul_(up), gate, grad_input=of_gate)
        of_second, of_gate_up = self.gate_up.backward(of_gates, second, gate_up_kept)
        gradient = normed_gradient(of_second, second, second_inverse).add_(gradient)
        of_attended, of_out = self.out.backward(gradient.to(first.dtype), attended, out_kept)
        kept_at = self.kept_at(packed)
        if kept_at is not None:
            of_attended, gradient = (
                one.new_zeros(len(first), one.shape[-1]).index_copy_(0, kept_at, one) for one in (of_attended, gradient)
            )
        of_qkv = self.attention.backward(of_attended, packed, attention_kept, kept_at is not None)
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
        ctx.layer, ctx.packed = layer, packed
        ctx.packed_before, ctx.packed_after = (packed.passed_on and not end for end in (layer.first, layer.last))
        x = hidden[0] if ctx.packed_before else packed.pack(hidden)
        with torch.autocast("cpu", enabled=False):
            result, kept = layer.forward(x, packed, dtype, factors)
        ctx.counts = [len(part) for part in kept]
        ctx.save_for_backward(*(tensor for part in kept for tensor in part))
        return result.unsqueeze(0) if ctx.packed_after else packed.unpack(result)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        saved, layer, packed = iter(ctx.saved_tensors), ctx.layer, ctx.packed
        kept = [[next(saved) for _ in range(count)] for count in ctx.counts]
        of_result = gradient[0] if ctx.packed_after else packed.unpack_gradient(gradient)
        with torch.autocast("cpu", enabled=False):
            of_input, of_factors = layer.backward(of_result, packed, kept, ctx.needs_input_grad[3])
        if of_input is not None:
            of_input = of_input.unsqueeze(0) if ctx.packed_before else packed.pack_gradient(of_input)
        return None, None, None, of_input, *of_factors


def _interleaved(heads: torch.Tensor) -> torch.Tensor:
    """The last dimension's two halves interleaved."""
    return torch.stack(heads.chunk(2, -1), -1).flatten(-2)
