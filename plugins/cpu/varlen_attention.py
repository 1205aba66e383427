"""Training: causal attention over the rows of a batch without padding, and its gradient.

A group's heads are the rows of one product, without copies of keys and values; queries go in blocks, so that what the
causal mask hides is mostly not computed. Weights after the softmax are saved for the gradient, in the dtype of the
rest.
"""

from collections.abc import Iterator

import torch

from .rms_norm import normed, normed_gradient
from .rotary import rotate
from .varlen_batch import Block, VarlenBatch

QUERIES = 128  # of one product: blocks of 64 to 256 are about as fast


class VarlenAttention:
    """The attention of a decoder layer, between the product that gives queries, keys and values and that of its output.

    Expects queries that are scaled; where the model norms heads, `weights` [heads + groups, head size] are the norms'
    own, in that order and scaled, and `epsilon` theirs.
    """

    def __init__(
        self, heads: int, groups: int, size: int, weights: torch.Tensor | None = None, epsilon: float = 0.0
    ) -> None:
        self.heads, self.groups, self.size = heads, groups, size
        self.weights, self.epsilon = weights, epsilon

    def forward(
        self, qkv: torch.Tensor, packed: VarlenBatch, only_needed: bool = False
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """[packed, heads * size] for `qkv` [packed, (heads + 2 * groups) * size]; and what `backward` needs.

        With `only_needed`, tokens before the first of a row that is needed have no result.
        """
        qkv = qkv.view(len(qkv), -1, self.size)
        turned, saved = qkv[:, : self.heads + self.groups].float(), []
        if self.weights is not None:
            saved = [*normed(turned, self.epsilon, qkv.dtype)]
            turned = saved[0] * self.weights
        rotate(turned, packed.cos, packed.sin)
        output = qkv.new_empty(len(qkv), self.heads * self.size)
        later = torch.full((QUERIES, QUERIES), -torch.inf, dtype=qkv.dtype).triu_(1)
        for block in packed.blocks:
            query = self._heads_first(turned[:, : self.heads], block, qkv.dtype)
            key = self._heads_first(turned[:, self.heads :], block, qkv.dtype, block.before).flatten(0, 1)
            value = self._heads_first(qkv[:, self.heads + self.groups :], block, qkv.dtype, block.before).flatten(0, 1)
            saved += [query, key, value]
            shape = (block.rows, block.tokens, self.heads, self.size)
            goal = output[block.places].view(shape)
            for start, end in _parts(block, only_needed):
                seen = block.before + end
                weights = torch.bmm(self._grouped(query[:, :, start:end]), key[:, :seen].transpose(1, 2))
                weights.view(-1, end - start, seen)[:, :, block.before + start :] += later[: end - start, : end - start]
                weights = torch.softmax(weights, -1)
                saved.append(weights)
                found = torch.bmm(weights, value[:, :seen])
                goal[:, start:end] = found.view(block.rows, self.heads, -1, self.size).transpose(1, 2)
        return output, saved

    def backward(
        self, gradient: torch.Tensor, packed: VarlenBatch, saved: list[torch.Tensor], only_needed: bool = False
    ) -> torch.Tensor:
        """The gradient of `qkv` for that of the result."""
        tensors = iter(saved)
        norms = (next(tensors), next(tensors)) if self.weights is not None else None
        heads, keys = self.heads, self.heads + self.groups
        grad_turned = torch.empty(len(gradient), keys, self.size)
        grad_qkv = gradient.new_empty(len(gradient), keys + self.groups, self.size)
        blocks = [
            (block, [next(tensors) for _ in range(3)], [next(tensors) for _ in _parts(block, only_needed)])
            for block in packed.blocks
        ]
        grad_shared: list[torch.Tensor | float] = [0.0, 0.0]
        for block, (query, key, value), parts in reversed(blocks):  # what is shared comes last: all rows have seen it
            shape = (block.rows, block.tokens, -1, self.size)
            goal, grad_rows = grad_turned[block.places].view(shape), gradient[block.places].view(shape)
            grad_key, grad_value = (torch.zeros(key.shape) for _ in range(2))
            if only_needed:
                goal[:, : block.needed, :heads] = 0.0
            for (start, end), weights in zip(_parts(block, only_needed), parts, strict=True):
                seen = block.before + end
                grad_output = self._grouped(grad_rows[:, start:end].transpose(1, 2))
                grad_value[:, :seen] += torch.bmm(weights.transpose(1, 2), grad_output)
                grad_weights = torch.bmm(grad_output, value[:, :seen].transpose(1, 2))
                grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
                grad_query = torch.bmm(grad_scores, key[:, :seen]).view(block.rows, heads, -1, self.size)
                goal[:, start:end, :heads] = grad_query.transpose(1, 2)
                grad_key[:, :seen] += torch.bmm(grad_scores.transpose(1, 2), self._grouped(query[:, :, start:end]))
            grad_key, grad_value = (one.view(block.rows, self.groups, -1, self.size) for one in (grad_key, grad_value))
            if block.before:
                for at, one in enumerate((grad_key, grad_value)):
                    grad_shared[at] = grad_shared[at] + one[:, :, : block.before].sum(0)
            elif packed.shared:
                grad_key, grad_value = grad_key + grad_shared[0], grad_value + grad_shared[1]
            goal[:, :, heads:] = grad_key[:, :, block.before :].transpose(1, 2)
            grad_qkv[block.places].view(shape)[:, :, keys:] = grad_value[:, :, block.before :].transpose(1, 2)
        rotate(grad_turned, packed.cos, packed.sin, back=True)
        if norms is not None and self.weights is not None:
            grad_turned = normed_gradient(grad_turned * self.weights, *norms)
        grad_qkv[:, :keys] = grad_turned
        return grad_qkv.view(len(gradient), -1)

    def _heads_first(self, tokens: torch.Tensor, block: Block, dtype: torch.dtype, before: int = 0) -> torch.Tensor:
        """[packed, heads, size] as [rows, heads, before + tokens, size] of a block, in memory too."""
        own = tokens[block.places].view(block.rows, block.tokens, -1, self.size).transpose(1, 2)
        whole = torch.empty(block.rows, own.shape[1], before + block.tokens, self.size, dtype=dtype)
        whole[:, :, before:] = own
        whole[:, :, :before] = tokens[:before].transpose(0, 1)
        return whole

    def _grouped(self, heads: torch.Tensor) -> torch.Tensor:
        """[rows, heads, tokens, size] as [rows * groups, heads of a group * tokens, size]."""
        return heads.reshape(len(heads) * self.groups, -1, self.size)


def _parts(block: Block, only_needed: bool) -> Iterator[tuple[int, int]]:
    for start in range(block.needed if only_needed else 0, block.tokens, QUERIES):
        yield start, min(start + QUERIES, block.tokens)
