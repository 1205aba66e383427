"""Log probabilities of words after prompts by a transformers model, and the key/value caches that this leaves.

P(word | prompt) is the product of the word's token probabilities. Where one word's tokens begin another's, the end
token is counted in for every word: without it the shorter word could never lose.
"""

from collections.abc import Sequence
from typing import Any

import torch
from prompt_cache import can_be_cropped, continued, new_cache  # next to this file
from transformers.cache_utils import DynamicLayer

ROOM = 32  # tokens that are made room for at once


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


def word_tokens(tokenizer: Any, labels: list[str]) -> list[list[int]]:
    """Token ids of each label word, as ms-swift encodes an answer: apart from the prompt before it."""
    words = [tokenizer.encode(label, add_special_tokens=False) for label in labels]
    for i, a in enumerate(words):
        for j, b in enumerate(words):
            if i != j and b[: len(a)] == a:
                return [[*word, tokenizer.eos_token_id] for word in words]
    return words


def score_words(
    model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, words: Sequence[list[int]], past: Any = None
) -> tuple[torch.Tensor, Any]:
    """Log probabilities of `words` after each prompt.

    `input_ids` [rows, tokens], padded on the left; `attention_mask` [rows, tokens in `past` + tokens]. Returns
    (log probabilities [rows, words] in float32, key/value cache of the prompts).
    """
    rows, length = attention_mask.shape
    padded = bool((attention_mask == 0).any())
    past = new_cache(model) if past is None else past
    positions = (attention_mask.cumsum(-1) - 1).clamp(min=0)

    def rows_of(tokens: tuple[int, ...]) -> torch.Tensor:
        return torch.tensor(tokens, dtype=input_ids.dtype, device=input_ids.device).expand(rows, -1)

    def forward(tokens: torch.Tensor, cache: Any, keep: int) -> Any:
        total = cache.get_seq_length() + tokens.shape[1]
        after = torch.arange(1, total - length + 1, device=tokens.device)
        where = torch.cat([positions, positions[:, -1:] + after], 1)[:, -tokens.shape[1] :]
        # Without a mask the attention kernel takes its fast causal path.
        mask = torch.cat([attention_mask, attention_mask.new_ones(rows, len(after))], 1) if padded else None
        return model(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=where,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=keep,
        )

    # The first word's tokens but its last run along with the prompt: a pass over a few tokens costs nearly as much as
    # its weights' way from memory. Those of other words run after it, from the same cache.
    heads = sorted({tuple(word[:-1]) for word in words if len(word) > 1})
    along = heads.pop(0) if heads and can_be_cropped(past) else ()
    output = forward(torch.cat([input_ids, rows_of(along)], 1), past, len(along) + 1)
    cache, logits = output.past_key_values, torch.log_softmax(output.logits.float(), -1)
    first, continued_by = logits[:, 0], {along: logits[:, 1:]}
    if along:
        cache.crop(-len(along))
    for head in heads:
        with continued(cache, len(head)) as branch:
            continued_by[head] = torch.log_softmax(forward(rows_of(head), branch, len(head)).logits.float(), -1)
    scores = torch.stack([first[:, word[0]] for word in words], 1)
    for index, word in enumerate(words):
        for step, token in enumerate(word[1:]):
            scores[:, index] += continued_by[tuple(word[:-1])][:, step, token]
    return scores, cache


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
