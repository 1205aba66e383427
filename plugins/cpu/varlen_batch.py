"""Training: the rows of a padded batch one after the other, without their padding.

Nearly all of a layer's work is products that treat each token alike: without padding there are fewer of them, and
fewer still where all rows begin with the same tokens, the prompt's, which are then there once. Rows are rounded up to a
few tokens more, so that rows of like length make one block for the attention and fewer shapes come up, each of which
oneDNN prepares for when it first meets it.
"""

from typing import NamedTuple

import torch

from .rotary import half_turns

ROUNDED = 16  # tokens: multiples of 8 to 32 are about as fast


class Block(NamedTuple):
    """Rows of one rounded length, next to each other from token `start` of the packed ones.

    `before` tokens, those of the block of what is shared, come before each row's own. `needed` is the first of its own
    tokens whose result a layer needs that knows which tokens have a loss.
    """

    start: int
    rows: int
    tokens: int
    before: int = 0
    needed: int = 0

    @property
    def places(self) -> slice:
        """Where its tokens are."""
        return slice(self.start, self.start + self.rows * self.tokens)


class VarlenBatch:
    """Where each token of a batch goes; `cos` and `sin` [packed, 1, half head size] are those of its angles.

    `kept` [tokens] are the places of the tokens whose results are needed in the end; None for all.
    """

    def __init__(
        self,
        lengths: list[int],
        firsts: list[int],
        tokens: int,
        turns: torch.Tensor,
        passed_on: bool = False,
        shared: int = 0,
        needed: torch.Tensor | None = None,
    ) -> None:
        """For rows of `tokens` places, of which `lengths` from `firsts` on are no padding.

        `passed_on` says whether layers leave packed what goes from one to the next.
        `turns` [rows or 1, tokens, head size], cosines then sines of half a head each: one row of them counts from each
        row's own first token. `shared`
        tokens are those that all rows begin with. `needed` [tokens] is true at places whose result is needed.
        """
        self.rows, self.tokens = len(lengths), tokens
        self.passed_on, self.shared = passed_on, shared
        rounded = [-(-(length - shared) // ROUNDED) * ROUNDED for length in lengths]
        order = sorted((row for row, size in enumerate(rounded) if size), key=lambda row: rounded[row])
        spans = [(0, 0, shared, shared)] if shared else []
        spans += [(row, shared, lengths[row] - shared, rounded[row]) for row in order]
        self.blocks: list[Block] = []
        sources, positions, real, start = [], [], [], 0
        for row, begin, length, size in spans:
            last = self.blocks[-1] if self.blocks else None
            if last and (last.tokens, last.before) == (size, begin):
                self.blocks[-1] = last._replace(rows=last.rows + 1)
            else:
                self.blocks.append(Block(start, 1, size, begin))
            # What fills a row up is some token of the batch, which none of the row's own can see.
            places = torch.arange(begin, begin + size)
            sources.append(row * tokens + (places + firsts[row]).clamp_(max=tokens - 1))
            positions.append(places.clamp(max=tokens - 1) if len(turns) == 1 else sources[-1])
            real.append(torch.arange(start, start + length))
            start += size
        self.source, self.real = torch.cat(sources), torch.cat(real)
        self.cos, self.sin = turns.reshape(-1, 1, turns.shape[-1])[torch.cat(positions)].chunk(2, -1)
        heads = [row * tokens + firsts[row] + torch.arange(shared) for row in range(self.rows)]
        self.origin = torch.cat([torch.arange(shared).repeat(len(heads)), self.real[shared:]])
        self.goal = self.places = torch.cat([*heads, self.source[self.real[shared:]]])
        self.kept: torch.Tensor | None = None
        if needed is not None:
            self._keep(needed, shared)

    def _keep(self, needed: torch.Tensor, shared: int) -> None:
        """Note what is `needed`, where that is less than half and not among what is shared."""
        chosen = needed[self.goal % self.tokens]
        kept = self.origin[chosen]
        if 2 * len(kept) >= len(self.source) or bool((kept < shared).any()):
            return
        self.kept, self.goal = kept, self.goal[chosen]
        for at, block in enumerate(self.blocks):
            inside = kept[(kept >= block.places.start) & (kept < block.places.stop)] - block.start
            first = int((inside % block.tokens).min()) if len(inside) else block.tokens
            self.blocks[at] = block._replace(needed=first)

    def pack(self, padded: torch.Tensor) -> torch.Tensor:
        """[rows, tokens, width] as [packed, width]."""
        return padded.reshape(-1, padded.shape[-1])[self.source]

    def pack_gradient(self, grad_packed: torch.Tensor) -> torch.Tensor:
        """The gradient of what was packed, for that of the result."""
        padded = grad_packed.new_zeros(self.rows * self.tokens, grad_packed.shape[-1])
        padded.index_copy_(0, self.source[self.real], grad_packed[self.real])
        return padded.view(self.rows, self.tokens, -1)

    def unpack(self, packed: torch.Tensor) -> torch.Tensor:
        """[packed or kept, width] as [rows, tokens, width], zero elsewhere."""
        if self.kept is None:
            return self.unpack_all(packed)
        padded = packed.new_zeros(self.rows * self.tokens, packed.shape[-1])
        return padded.index_copy_(0, self.goal, packed).view(self.rows, self.tokens, -1)

    def unpack_all(self, packed: torch.Tensor) -> torch.Tensor:
        """[packed, width] as [rows, tokens, width], whatever is needed in the end; zero at padding."""
        padded = packed.new_zeros(self.rows * self.tokens, packed.shape[-1])
        return padded.index_copy_(0, self.places, packed[self.origin]).view(self.rows, self.tokens, -1)

    def unpack_all_gradient(self, grad_padded: torch.Tensor) -> torch.Tensor:
        """The gradient of what `unpack_all` was given, for that of its result."""
        chosen = grad_padded.reshape(-1, grad_padded.shape[-1])[self.places]
        return chosen.new_zeros(len(self.source), chosen.shape[-1]).index_add_(0, self.origin, chosen)

    def unpack_gradient(self, grad_padded: torch.Tensor) -> torch.Tensor:
        """The gradient of what was unpacked, for that of the result; what fills rows up had no part in it."""
        if self.kept is None:
            return self.unpack_all_gradient(grad_padded)
        return grad_padded.reshape(-1, grad_padded.shape[-1])[self.goal]


def varlen_batch(
    hidden: torch.Tensor,
    mask: torch.Tensor | None,
    cos: torch.Tensor,
    sin: torch.Tensor,
    passed_on: bool = False,
    needed: torch.Tensor | None = None,
) -> VarlenBatch | None:
    """The layout of a batch; None where `mask` hides something else than padding and later tokens.

    `hidden` [rows, tokens, hidden size] is what the first layer gets. Where it is `passed_on` from layer to layer as it
    is packed, tokens that all rows begin with are taken as one. `mask` [rows or 1, 1, tokens, tokens] is true, or zero,
    where a token is seen; without one there is no padding. `cos` and `sin` [rows or 1, tokens, head size] hold each
    angle twice, in both halves. `needed` as `VarlenBatch` has it.
    """
    rows, tokens = hidden.shape[:2]
    turns = torch.cat(half_turns(cos, sin), -1)
    lengths, firsts = torch.full((rows,), tokens), torch.zeros(rows, dtype=torch.long)
    if mask is not None:
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
    shared = _shared(hidden, turns, lengths, firsts) if passed_on else 0
    return VarlenBatch(lengths.tolist(), firsts.tolist(), tokens, turns, passed_on, shared, needed)


def _shared(hidden: torch.Tensor, turns: torch.Tensor, lengths: torch.Tensor, firsts: torch.Tensor) -> int:
    """How many tokens all rows begin with, but for the last of the shortest; 0 where it would save too little."""
    rows, least = len(hidden), int(lengths.min()) - 1
    if rows == 1 or least < 1:
        return 0
    places = firsts.unsqueeze(1) + torch.arange(least)
    each = torch.arange(rows).unsqueeze(1)
    count = least
    # By one entry of each token first: few are left to be compared in full.
    for parts in (hidden[..., :1], hidden, *([turns] if len(turns) == rows else [])):
        begin = parts[each, places[:, :count]]
        count = int((begin == begin[:1]).all(-1).all(0).int().cumprod(0).sum())
    return count if (rows - 1) * count >= ROUNDED else 0
