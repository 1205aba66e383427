"""Log probabilities of words after prompts by vLLM, which gives those of named tokens after a prompt.

What is computed is defined in word_tree.py. Where words go on, the prompt is asked again with their beginning after it;
by then vLLM has its keys and values (prefix caching).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from word_tree import WordTree  # next to this file

ROWS = 256  # prompts at a time: no more run side by side by default, and what was computed is still there
NAMED = 128  # tokens that vLLM takes in one request
ONE_TOKEN: dict[str, Any] = {"max_tokens": 1, "temperature": 0.0, "detokenize": False}
# Token ids of prompts, and of each the token ids that are asked for -> of each prompt the log probability of each.
Ask = Callable[[list[list[int]], list[list[int]]], Sequence[Mapping[int, float]]]


def word_logprobs(ask: Ask, prompts: Sequence[Sequence[int]], words: Sequence[Sequence[int]]) -> torch.Tensor:
    """[prompts, words] log P* in float32 of `words` after each of `prompts`, both token ids."""
    tree = WordTree.of(words)
    following = tree.next_tokens
    steps = {(*head, token): torch.zeros(len(prompts)) for head in tree.heads for token in following[head]}
    for length in sorted({len(head) for head in tree.heads}):
        asked = [
            (row, head, following[head][start : start + NAMED])
            for row in range(len(prompts))
            for head in tree.heads
            if len(head) == length
            for start in range(0, len(following[head]), NAMED)
        ]
        found = ask([[*prompts[row], *head] for row, head, _ in asked], [tokens for _, _, tokens in asked])
        for (row, head, tokens), logprobs in zip(asked, found, strict=True):
            for token in tokens:
                steps[*head, token][row] = logprobs[token]
    return tree.logprobs(steps)


def named_logprobs(output: Any) -> dict[int, float]:
    """The log probabilities of the tokens that a request of `ONE_TOKEN` asked for, from vLLM's answer to it."""
    return {token: one.logprob for token, one in output.outputs[0].logprobs[0].items()}
