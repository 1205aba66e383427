"""Log probabilities of words after prompts by a transformers model, and the key/value caches that this leaves.

What is computed is defined in word_tree.py.
"""

from collections.abc import Sequence
from typing import Any

import torch
from last_layer import last_tokens_alone  # next to this file
from prompt_cache import can_be_cropped, continued, new_cache, sees_all  # next to this file
from transformers.cache_utils import DynamicLayer
from word_tree import Tokens, WordTree  # next to this file

ROOM = 32  # tokens that are made room for at once
LOGITS = 64_000_000  # logits of one pass over the tree: 256 MB in float32
MIN_SHARED_TOKENS = 8  # below this, copying the shared cache costs more than it saves
PASS_TOKENS = 1024  # in one pass on a CPU: more are no faster, and padded more; text is generated for all together


class RoomyLayer(DynamicLayer):
    """A layer of a cache that writes a new token into spare room, where its base class copies out all before it."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, used: int | None = None) -> None:
        """`keys` and `values` [rows, groups, tokens, size]: the first `used` tokens are held, all by default."""
        super().__init__()
        self.lazy_initialization(keys, values)
        self.room = (keys, values)
        self.keys, self.values = (room[:, :, :used] for room in self.room)

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """Add `key_states` and `value_states` [rows, groups, new tokens, size]; returns all, in the same layout."""
        keys: torch.Tensor = self.keys  # type: ignore[assignment]
        values: torch.Tensor = self.values  # type: ignore[assignment]
        used, new = keys.shape[2], key_states.shape[2]
        moved = keys.data_ptr() != self.room[0].data_ptr()  # other rows were chosen
        if moved or used + new > self.room[0].shape[2]:
            self.room = (_roomier(keys, new + ROOM), _roomier(values, new + ROOM))
        for room, states in zip(self.room, (key_states, value_states), strict=True):
            room[:, :, used : used + new] = states
        self.keys, self.values = (room[:, :, : used + new] for room in self.room)
        return self.keys, self.values


def _roomier(states: torch.Tensor, more: int) -> torch.Tensor:
    rows, groups, used, size = states.shape
    room = states.new_empty(rows, groups, used + more, size)
    room[:, :, :used] = states
    return room


def score_words(
    model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, words: Sequence[Sequence[int]], past: Any = None
) -> tuple[torch.Tensor, Any]:
    """Log P* (see word_tree.py) of the labels with these `words` after each prompt.

    `input_ids` [rows, tokens], padded on the left; `attention_mask` [rows, tokens in `past` + tokens]. Returns
    (log P* [rows, words] in float32, key/value cache of the prompts). One pass over the prompts, then one over the
    tree's other heads, each once, next to the prompts' one cache: each sees the prompt and the tokens on its way.
    """
    tree = WordTree.of(words)
    rows, length = attention_mask.shape
    padded = bool((attention_mask == 0).any())
    past = new_cache(model) if past is None else past
    positions = (attention_mask.cumsum(-1) - 1).clamp(min=0)
    steps: dict[Tokens, torch.Tensor] = {}

    def row_of(tokens: Sequence[int]) -> torch.Tensor:
        return torch.tensor(tokens, dtype=input_ids.dtype, device=input_ids.device).expand(rows, -1)

    def forward(tokens: torch.Tensor, cache: Any, keep: int, **given: Any) -> Any:
        total = cache.get_seq_length() + tokens.shape[1]
        after = torch.arange(1, total - length + 1, device=tokens.device)
        where = torch.cat([positions, positions[:, -1:] + after], 1)[:, -tokens.shape[1] :]
        # Without a mask the attention kernel takes its fast causal path.
        mask = torch.cat([attention_mask, attention_mask.new_ones(rows, len(after))], 1) if padded else None
        asked = {"attention_mask": mask, "position_ids": where, "past_key_values": cache, **given}
        with last_tokens_alone(model, tokens.shape[1], keep):
            return model(input_ids=tokens, use_cache=True, logits_to_keep=keep, **asked)

    def take(heads: Sequence[Tokens], logits: torch.Tensor) -> None:
        for place, head in enumerate(heads):
            if (*head, tree.next_tokens[head][0]) in steps:
                continue
            exact = logits[:, place].double() if head in tree.exact else logits[:, place].float()
            found = torch.log_softmax(exact, -1)
            steps.update({(*head, token): found[:, token] for token in tree.next_tokens[head]})

    # The longest head runs along with the prompt: a pass over a few tokens costs nearly as much as its weights' way
    # from memory.
    along = tree.deepest() if can_be_cropped(past) else ()
    output = forward(torch.cat([input_ids, row_of(along)], 1), past, len(along) + 1)
    cache = output.past_key_values
    take(beginnings(along), output.logits)
    done = set(beginnings(along))
    if along:
        cache.crop(-len(along))
    left = [chain for chain in tree.chains() if chain not in done]
    if len(left) > 1 and sees_branches(model):
        on_the_way = {head for chain in left for head in beginnings(chain)[1:]}
        heads = [head for head in tree.heads if head in on_the_way]
        size = max(1, LOGITS // (rows * output.logits.shape[-1]))
        for part in (heads[start : start + size] for start in range(0, len(heads), size)):
            held = cache.get_seq_length() - length
            seen = tree_mask(heads[: held + len(part)], held, attention_mask, model)
            where = positions[:, -1:] + torch.tensor([len(head) for head in part], device=positions.device)
            inputs = row_of([head[-1] for head in part])
            take(part, forward(inputs, cache, len(part), attention_mask=seen, position_ids=where).logits)
        cache.crop(-len(heads))
    else:
        for chain in left:
            with continued(cache, len(chain)) as branch:
                take(beginnings(chain)[1:], forward(row_of(chain), branch, len(chain)).logits)
    return tree.logprobs(steps), cache


def merge_adapter(model: Any) -> None:
    """Add an adapter's product to the weights it belongs to, in memory: two small products a layer less to compute.

    Where the weights are float32 alone: in others the sum is rounded, and an answer might change.
    """
    if hasattr(model, "merge_adapter") and all(weight.dtype == torch.float32 for weight in model.parameters()):
        model.merge_adapter()


def beginnings(head: Tokens) -> list[Tokens]:
    """The heads on the way to `head`: the root first, itself last."""
    return [head[:end] for end in range(len(head) + 1)]


def sees_branches(model: Any) -> bool:
    """Whether branches can be read side by side: attention heeds a mask of which token sees which, in every layer.

    Other kernels take none, and a window would count the tokens of other branches.
    """
    return getattr(model.config, "_attn_implementation", None) in ("sdpa", "eager") and sees_all(model)


def tree_mask(heads: Sequence[Tokens], held: int, attention_mask: torch.Tensor, model: Any) -> torch.Tensor:
    """[rows, 1, new heads, tokens]: the prompt's tokens and, of the `heads` after them, those on the way to each.

    The first `held` heads are in the cache already. As attention takes it: true, or 0, for what is seen.
    """
    places = {head: place for place, head in enumerate(heads)}
    ways = torch.zeros(len(heads) - held, len(heads), dtype=torch.bool, device=attention_mask.device)
    for row, head in enumerate(heads[held:]):
        ways[row, [places[one] for one in beginnings(head)[1:]]] = True
    rows, (new, _) = len(attention_mask), ways.shape
    prompts = attention_mask.bool()[:, None].expand(rows, new, -1)
    seen = torch.cat([prompts, ways.expand(rows, -1, -1)], -1)[:, None]
    if model.config._attn_implementation == "sdpa":
        return seen
    return torch.zeros(seen.shape, dtype=model.dtype, device=seen.device).masked_fill(
        ~seen, torch.finfo(model.dtype).min
    )


def shared_prefix(prompts: list[list[int]]) -> list[int]:
    """The tokens that all `prompts` begin with, short of each prompt's last token."""
    first, last = min(prompts), max(prompts)
    limit = min(map(len, prompts)) - 1
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), limit)
    return first[: min(same, limit)]


def pad_left(prompts: list[list[int]], pad: int, device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """(input_ids, attention_mask), both [rows, longest prompt]."""
    width = max(map(len, prompts))
    ids = [[pad] * (width - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def joined(caches: list[Any], shared: int) -> Any:
    """One key/value cache of the rows of all `caches`, filled up to the longest after the first `shared` tokens.

    What is filled in is where the attention mask is 0. The first cache is changed; it has room for new tokens.
    """
    width = max(cache.get_seq_length() for cache in caches)

    def together(parts: list[torch.Tensor]) -> torch.Tensor:
        rows = sum(map(len, parts))
        states = parts[0].new_zeros(rows, parts[0].shape[1], width + ROOM, parts[0].shape[3])
        start = 0
        for part in parts:
            end = start + len(part)
            states[start:end, :, :shared] = part[:, :, :shared]
            states[start:end, :, width - part.shape[2] + shared : width] = part[:, :, shared:]
            start = end
        return states

    for index, layers in enumerate(zip(*(cache.layers for cache in caches), strict=True)):
        keys, values = (together([getattr(layer, name) for layer in layers]) for name in ("keys", "values"))
        caches[0].layers[index] = RoomyLayer(keys, values, width)
        for layer in layers:
            layer.keys = layer.values = None  # its memory can go
    return caches[0]


def passes(lengths: list[int], tokens: int) -> list[slice]:
    """Neighbouring rows that are read in one pass: as many as have no more than `tokens` tokens, padding included."""
    found, start = [], 0
    for end in range(1, len(lengths) + 1):
        if end == len(lengths) or max(lengths[start : end + 1]) * (end + 1 - start) > tokens:
            found.append(slice(start, end))
            start = end
    return found
