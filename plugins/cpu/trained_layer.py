"""Training: a decoder layer in which adapters alone are trained, as one step of autograd."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.utils.checkpoint

from .families import linears_of
from .low_rank_product import LowRankProduct
from .own_layers import OwnLayers, check_arguments
from .rms_norm import normed, normed_gradient
from .varlen_attention import VarlenAttention
from .varlen_batch import VarlenBatch, varlen_batch

silu = torch.nn.functional.silu
# How gradient checkpointing ends a layer that it computes again: no fault.
STOPPED = getattr(torch.utils.checkpoint, "_StopRecomputationError", ())


class Batch:
    """The layout of the batch at hand, which all layers share."""

    def __init__(self) -> None:
        self.key: tuple[Any, ...] = ()
        self.packed: VarlenBatch | None = None
        self.passed_on = False
        self.logits_to_keep: int | torch.Tensor = 0

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
    ) -> VarlenBatch | None:
        """As `varlen_batch`, worked out by the first layer. The tensors are kept, so that no other can be at theirs."""
        key = (mask, positions, cos, sin)
        if not self.key or any(one is not other for one, other in zip(self.key, key, strict=True)):
            # Without a mask, positions that begin anew tell of several reviews in one row.
            one_each = positions is None or bool((positions.diff() >= 0).all())
            needed = self._needed(hidden.shape[1])
            found = varlen_batch(hidden, mask, cos, sin, self.passed_on, needed) if one_each else None
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

    def __init__(self, layer: Any, batch: Batch, own_layers: OwnLayers) -> None:
        attention, before, after = layer.self_attn, layer.input_layernorm, layer.post_attention_layernorm
        self.own, self.batch, self.own_layers = layer.forward, batch, own_layers
        self.first = self.last = True  # of the layers that pass their results on to each other
        self.epsilons = (before.variance_epsilon, after.variance_epsilon)
        query, key, value, out, gate, up, down = linears_of(layer)
        size = attention.head_dim
        heads, groups = query.out_features // size, key.out_features // size
        scale = torch.ones((heads + 2 * groups) * size, 1)
        # The scale of the attention is put on the queries: on their norm where they have one, which would undo it.
        weights, epsilon = None, 0.0
        if hasattr(attention, "q_norm"):
            norms = ((attention.q_norm, heads), (attention.k_norm, groups))
            weights = torch.cat([norm.weight.detach().expand(count, -1) for norm, count in norms])
            weights[:heads] *= attention.scaling
            epsilon = attention.q_norm.variance_epsilon
        else:
            scale[: heads * size] = attention.scaling
        self.attention = VarlenAttention(heads, groups, size, weights, epsilon)
        self.qkv = LowRankProduct([query, key, value], before.weight, scale)
        self.out = LowRankProduct([out])
        self.gate_up = LowRankProduct([gate, up], after.weight)
        self.down = LowRankProduct([down])
        self.products = (self.qkv, self.out, self.gate_up, self.down)

    def __call__(self, hidden_states: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """As the layer's own `forward`: `hidden_states` and the result are [rows, tokens, hidden size].

        Between layers that pass on what is packed they are [1, packed, hidden size]; what goes wrong there is for the
        whole model to compute again. Elsewhere the layer's own function computes instead.
        """
        try:
            result = self.fused(hidden_states, **kwargs)
        except STOPPED:
            raise
        except Exception as error:
            if self.batch.passed_on:
                raise
            self.own_layers.put_back(error)
            result = None
        return self.own(hidden_states, **kwargs) if result is None else result

    def fused(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Any = None,
        position_embeddings: tuple[torch.Tensor, torch.Tensor] = (),  # type: ignore[assignment]
        **kwargs: Any,
    ) -> torch.Tensor | None:
        """The result, or None where it is left to the layer's own function."""
        check_arguments(kwargs)
        if past_key_values is not None or not self.is_adapted() or hidden_states.dtype != torch.float32:
            return None
        packed = self.batch.packed_as(hidden_states, attention_mask, position_ids, *position_embeddings)
        if packed is None:
            return None
        lower = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if lower else hidden_states.dtype
        given = {
            "attention_mask": attention_mask, "position_ids": position_ids, "position_embeddings": position_embeddings
        }  # fmt: skip
        return _Layer.apply(self, packed, dtype, given, hidden_states, *self.factors())

    def is_adapted(self) -> bool:
        """Whether its adapters are at work."""
        return all(product.is_adapted() for product in self.products)

    def factors(self) -> list[torch.Tensor]:
        """What is trained, product by product."""
        return [factor for product in self.products for factor in product.factors()]

    def kept_at(self, packed: VarlenBatch) -> torch.Tensor | None:
        """Which packed tokens' results are needed; None for all."""
        return packed.kept if self.last else None

    def forward(
        self, x: torch.Tensor, packed: VarlenBatch, dtype: torch.dtype, factors: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, list[list[Any]]]:
        """[packed, hidden size] for `x` of that shape, with products in `dtype`; and what `backward` needs.

        The last layer's result is [kept, hidden size] where not all are needed.
        """
        own = iter(factors)
        qkv_factors, out_factors, gate_up_factors, down_factors = (
            tuple(next(own) for _ in range(2 * len(product.places))) for product in self.products
        )
        first, first_inverse = normed(x, self.epsilons[0], dtype)
        qkv, qkv_saved = self.qkv.forward(first, qkv_factors)
        kept_at = self.kept_at(packed)
        attended, attention_saved = self.attention.forward(qkv, packed, kept_at is not None)
        if kept_at is not None:  # what concerns a token alone is computed for those that are needed
            x, attended = x[kept_at], attended[kept_at]
        result, out_saved = self.out.forward(attended, out_factors)
        x = x + result
        second, second_inverse = normed(x, self.epsilons[1], dtype)
        gate_up, gate_up_saved = self.gate_up.forward(second, gate_up_factors)
        gate, up = gate_up.chunk(2, -1)
        opened = silu(gate)
        result, down_saved = self.down.forward(opened * up, down_factors)
        saved: list[list[Any]] = [
            [first, first_inverse, attended, second, second_inverse, gate_up, opened],
            attention_saved,
        ]
        return x + result, [*saved, *map(list, (qkv_saved, out_saved, gate_up_saved, down_saved))]

    def backward(
        self, gradient: torch.Tensor, packed: VarlenBatch, saved: list[list[Any]], needs_grad_x: bool
    ) -> tuple[torch.Tensor | None, list[torch.Tensor]]:
        """The gradients of `x`, unless `needs_grad_x` is false, and of each factor, for that of the result."""
        (first, first_inverse, attended, second, second_inverse, gate_up, opened), attention_saved, *products_saved = (
            saved
        )
        qkv_saved, out_saved, gate_up_saved, down_saved = products_saved
        gate, up = gate_up.chunk(2, -1)
        grad_gated, grad_down = self.down.backward(gradient.to(first.dtype), opened * up, down_saved)
        grad_gates = torch.empty_like(gate_up)
        grad_gate, grad_up = grad_gates.chunk(2, -1)
        torch.mul(grad_gated, opened, out=grad_up)
        torch.ops.aten.silu_backward.grad_input(grad_gated.mul_(up), gate, grad_input=grad_gate)
        grad_second, grad_gate_up = self.gate_up.backward(grad_gates, second, gate_up_saved)
        gradient = normed_gradient(grad_second, second, second_inverse).add_(gradient)
        grad_attended, grad_out = self.out.backward(gradient.to(first.dtype), attended, out_saved)
        kept_at = self.kept_at(packed)
        if kept_at is not None:
            grad_attended, gradient = (
                one.new_zeros(len(first), one.shape[-1]).index_copy_(0, kept_at, one)
                for one in (grad_attended, gradient)
            )
        grad_qkv = self.attention.backward(grad_attended, packed, attention_saved, kept_at is not None)
        grad_first, grad_factors = self.qkv.backward(grad_qkv, first, qkv_saved, needs_grad_x)
        if grad_first is not None:
            grad_first = normed_gradient(grad_first, first, first_inverse).add_(gradient)
        return grad_first, [*grad_factors, *grad_out, *grad_gate_up, *grad_down]

    def own_backward(
        self, gradient: torch.Tensor, x: torch.Tensor, packed: VarlenBatch, dtype: torch.dtype, given: dict[str, Any]
    ) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
        """As `backward`, by the layer's own function, computed again: `gradient` and that of `x` are padded."""
        start = packed.unpack_all(x).requires_grad_()
        factors = self.factors()
        trained = [factor for factor in factors if factor.requires_grad]
        with torch.enable_grad(), torch.autocast("cpu", dtype, enabled=dtype != x.dtype):
            result = self.own(start, **given)
        grad_start, *grads = torch.autograd.grad(result, [start, *trained], gradient)
        found = iter(grads)
        return grad_start, [next(found) if factor.requires_grad else None for factor in factors]


class _Layer(torch.autograd.Function):
    """A whole layer as one step of autograd."""

    @staticmethod
    def forward(
        ctx: Any, layer: TrainedLayer, packed: VarlenBatch, dtype: torch.dtype, given: Any, hidden: Any, *factors: Any
    ) -> Any:
        ctx.layer, ctx.packed, ctx.dtype, ctx.given = layer, packed, dtype, given
        ctx.packed_before, ctx.packed_after = (packed.passed_on and not end for end in (layer.first, layer.last))
        x = hidden[0] if ctx.packed_before else packed.pack(hidden)
        with torch.autocast("cpu", enabled=False):
            result, saved = layer.forward(x, packed, dtype, factors)
        ctx.counts = [len(part) for part in saved]
        ctx.save_for_backward(*(tensor for part in saved for tensor in part))
        return result.unsqueeze(0) if ctx.packed_after else packed.unpack(result)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        tensors, layer, packed = iter(ctx.saved_tensors), ctx.layer, ctx.packed
        saved = [[next(tensors) for _ in range(count)] for count in ctx.counts]
        try:
            grad_result = gradient[0] if ctx.packed_after else packed.unpack_gradient(gradient)
            with torch.autocast("cpu", enabled=False):
                grad_input, grad_factors = layer.backward(grad_result, packed, saved, ctx.needs_input_grad[4])
            if grad_input is not None:
                grad_input = grad_input.unsqueeze(0) if ctx.packed_before else packed.pack_gradient(grad_input)
        except Exception as error:
            layer.own_layers.put_back(error)
            normed_x, inverse = saved[0][:2]
            x = normed_x.float() / inverse
            padded = packed.pack_gradient(gradient[0]) if ctx.packed_after else gradient
            grad_input, grad_factors = layer.own_backward(padded, x, packed, ctx.dtype, ctx.given)
            if ctx.packed_before:
                grad_input = packed.unpack_all_gradient(grad_input).unsqueeze(0)
        return None, None, None, None, grad_input, *grad_factors
