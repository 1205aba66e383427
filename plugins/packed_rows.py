"""For plugins/fused_training.py: the rows of a padded batch one after the other, without their padding.

Nearly all of a layer's work is products that treat each token alike: without padding there are fewer of them. Rows are
rounded up to a few tokens more, so that rows of like length make one block for the attention and fewer shapes come up,
each of which oneDNN prepares for when it first meets it.
"""

from typing import NamedTuple

import torch

ROUNDED = 16  # tokens: multiples of 8 to 32 are about as fast


class Block(NamedTuple):
    """Rows of one rounded length, next to each other from token `start` of the packed ones."""

    start: int
    rows: int
    tokens: int

    @property
    def places(self) -> slice:
        """Where its tokens are."""
        return slice(self.start, self.start + self.rows * self.tokens)


class PackedRows:
    """Where each token of a batch goes; `turns` [packed, 1, half head size] are their positions, as complex numbers."""

    def __init__(self, lengths: list[int], firsts: list[int], tokens: int, turns: torch.Tensor) -> None:
        """For rows of `tokens` places, of which `lengths` from `firsts` on are no padding."""
        self.blocks: list[Block] = []
        rounded = [-(-length // ROUNDED) * ROUNDED for length in lengths]
        sources, fillers, start = [], [], 0
        for size in sorted(set(rounded) - {0}):
            rows = [row for row, length in enumerate(rounded) if length == size]
            self.blocks.append(Block(start, len(rows), size))
            for row in rows:
                # What fills a row up is some token of the batch, which none of the row's own can see.
                sources.append(
                    (row * tokens + torch.arange(firsts[row], firsts[row] + size)).clamp_(max=row * tokens + tokens - 1)
                )
                fillers.append(torch.arange(start + lengths[row], start + size))
                start += size
        self.source, self.filler = torch.cat(sources), torch.cat(fillers)
        real = torch.ones(start, dtype=torch.bool)
        real[self.filler] = False
        self.real = real.nonzero().squeeze(1)
        self.goal = self.source[self.real]
        each = turns.expand(len(lengths), -1, -1) if len(turns) == 1 else turns
        self.turns = each.reshape(-1, 1, turns.shape[-1])[self.source]

    def pack(self, padded: torch.Tensor) -> torch.Tensor:
        """[rows, tokens, width] as [packed, width]."""
        return padded.reshape(-1, padded.shape[-1])[self.source]

    def pack_gradient(self, padded: torch.Tensor) -> torch.Tensor:
        """The same of a gradient: what fills rows up had no part in the result."""
        return self.pack(padded).index_fill_(0, self.filler, 0.0)

    def unpack(self, packed: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """[packed, width] as [rows, tokens, width], zero where there is padding."""
        padded = packed.new_zeros(shape)
        padded.view(-1, shape[-1]).index_copy_(0, self.goal, packed[self.real])
        return padded


def packed_rows(
    shape: torch.Size, mask: torch.Tensor | None, cos: torch.Tensor, sin: torch.Tensor
) -> PackedRows | None:
    """The layout of a batch [rows, tokens, …]; None where `mask` hides something else than padding and later tokens.

    `mask` [rows or 1, 1, tokens, tokens] is true, or zero, where a token is seen; without one there is no padding.
    `cos` and `sin` [rows or 1, tokens, head size] hold each angle twice, in both halves.
    """
    rows, tokens = shape[:2]
    half = cos.shape[-1] // 2
    turns = torch.complex(cos[..., :half].float().contiguous(), sin[..., :half].float().contiguous())
    if mask is None:
        return PackedRows([tokens] * rows, [0] * rows, tokens, turns)
    seen = (mask if mask.dtype == torch.bool else mask == 0)[:, 0].expand(rows, -1, -1)
    if seen.shape[1:] != (tokens, tokens):
        return None
    keys = seen[:, -1]
    lengths, firsts = keys.sum(-1), keys.int().argmax(-1)
    places = torch.arange(tokens)
    together = (places >= firsts.unsqueeze(1)) & (places < (firsts + lengths).unsqueeze(1))
    causal = keys.unsqueeze(1) & (places <= places.unsqueeze(1))
    # Padding before a row sees nothing, or, so that its softmax is a number, everything.
    other = (seen != causal).any(-1) & ~(seen.all(-1) & ~keys)
    if other.any() or not keys.equal(together):
        return None
    return PackedRows(lengths.tolist(), firsts.tolist(), tokens, turns)
