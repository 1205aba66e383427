"""Training: a product by frozen weights with what LoRA adds, and its gradients.

peft computes a layer with an adapter in a dozen steps, some of them over the whole batch in float32. Here it is one
product by a weight that was converted once and two narrow ones, y = x W^T + (x A^T) (s B)^T (Hu et al., 2021, LoRA),
for all layers of one input together.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

NOTHING = (None, None, None)


class Place(NamedTuple):
    """Where an adapter's rows of W and ranks of A and B are among those of the whole product, and its scale s."""

    rows: slice
    ranks: slice
    scaling: float


class LowRankProduct:
    """Linear layers of one input as one; those that peft has adapted with what their adapters add.

    `columns` [inputs] and `scale` [outputs, 1] are factors of the input and of the result that become part of the
    weights.
    """

    def __init__(
        self,
        linears: list[Any],
        columns: torch.Tensor | None = None,
        scale: torch.Tensor | None = None,
    ) -> None:
        self.bases = [getattr(one, "base_layer", one) for one in linears]
        self.columns = None if columns is None else columns.detach()
        self.scale = scale
        self.adapted = [one for one, base in zip(linears, self.bases, strict=True) if one is not base]
        self.places, row, rank = [], 0, 0
        for one, base in zip(linears, self.bases, strict=True):
            if one is not base:
                name = one.active_adapters[0]
                end = rank + one.lora_A[name].out_features
                self.places.append(Place(slice(row, row + base.out_features), slice(rank, end), one.scaling[name]))
                rank = end
            row += base.out_features
        self.outputs, self.ranks = row, rank
        self.converted: dict[torch.dtype, tuple[torch.Tensor, torch.Tensor | None]] = {}

    def factors(self) -> list[torch.Tensor]:
        """A [rank, inputs] and B [outputs, rank] of each adapter, in turn: the parameters that are trained."""
        names = [one.active_adapters[0] for one in self.adapted]
        pairs = [(one.lora_A[name], one.lora_B[name]) for one, name in zip(self.adapted, names, strict=True)]
        return [linear.weight for pair in pairs for linear in pair]

    def is_adapted(self) -> bool:
        """Whether its adapters are at work: neither switched off nor merged into the weights."""
        return not any(one.disable_adapters or one.merged for one in self.adapted)

    def forward(self, x: torch.Tensor, factors: Sequence[torch.Tensor]) -> tuple[torch.Tensor, tuple[Any, ...]]:
        """[tokens, outputs] for `x` [tokens, inputs], in its dtype; and what `backward` needs beside `x`."""
        weight, bias = self._frozen(x.dtype)
        y = torch.nn.functional.linear(x, weight, bias)
        if not factors:
            return y, NOTHING
        down, up = torch.cat(factors[::2]), x.new_zeros(self.outputs, self.ranks, dtype=factors[0].dtype)
        for place, b in zip(self.places, factors[1::2], strict=True):
            up[place.rows, place.ranks] = b * place.scaling
        down = (down if self.columns is None else down * self.columns).to(x.dtype)
        up = self._scaled(up).to(x.dtype)
        inner = x @ down.T
        return y.addmm_(inner, up.T), (inner, down, up)

    def backward(
        self, grad_y: torch.Tensor, x: torch.Tensor, saved: Sequence[Any], needs_grad_x: bool = True
    ) -> tuple[Any, list[torch.Tensor]]:
        """The gradients of `x`, unless `needs_grad_x` is false, and of each factor, for that of the result."""
        inner, down, up = saved
        grad_x = grad_y @ self._frozen(x.dtype)[0] if needs_grad_x else None
        if inner is None:
            return grad_x, []
        grad_inner = grad_y @ up
        if grad_x is not None:
            grad_x.addmm_(grad_inner, down)
        grad_down, grad_up = (grad_inner.T @ x).float(), (inner.T @ grad_y).float().T
        if self.columns is not None:
            grad_down *= self.columns
        grad_up = self._scaled(grad_up)
        pairs = [(grad_down[one.ranks], grad_up[one.rows, one.ranks] * one.scaling) for one in self.places]
        return grad_x, [gradient for pair in pairs for gradient in pair]

    def _frozen(self, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The weights [outputs, inputs] and biases [outputs], converted when they are first asked for."""
        if dtype not in self.converted:
            weights, biases = [one.weight.detach() for one in self.bases], [one.bias for one in self.bases]
            weight = self._scaled(weights[0] if len(weights) == 1 else torch.cat(weights))
            weight = (weight if self.columns is None else weight * self.columns).to(dtype)
            bias = None
            if biases[0] is not None:
                bias = self._scaled(torch.cat(biases).detach().unsqueeze(1)).squeeze(1).to(dtype)
            self.converted[dtype] = weight, bias
        return self.converted[dtype]

    def _scaled(self, rows: torch.Tensor) -> torch.Tensor:
        return rows if self.scale is None else rows * self.scale


def plain_adapter(linear: Any) -> bool:
    """Whether `linear` is a linear layer, or one under a single adapter of plain LoRA without dropout."""
    from peft.tuners import lora  # here, where what goes wrong leaves the model's own layers

    if type(linear) is torch.nn.Linear:
        return True
    if type(linear) is not lora.Linear or type(linear.base_layer) is not torch.nn.Linear:
        return False
    names = linear.active_adapters
    if len(names) != 1 or list(linear.lora_A) != names or linear.lora_variant or linear.merged:
        return False
    plain = type(linear.lora_dropout[names[0]]) is torch.nn.Identity and not linear.lora_bias[names[0]]
    return plain and not linear.fan_in_fan_out
