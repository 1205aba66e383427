"""The prefix tree of the label words' tokens, and the one definition of a label's probability.

With w_1 … w_n the tokens of a label's word, encoded apart from the prompt and without an end token,

    P(w)      = prod_i p(w_i | prompt, w_1 … w_{i-1})
    P*(label) = P(w) - sum of P(v) over the shortest label words v that go on after w
    P(label)  = P*(label) / sum of P* over the task's labels

P* is the probability that an answer begins with the label's word and with no longer label word: of 推荐 and 推荐一般
the first does not get what is the second's, and where no word begins another, P* is P(w). A head's P* is the softmax
of its outputs. Training's metric (label_metric.py), scoring by transformers (label_scores.py) and by vLLM
(label_scores_vllm.py) and the head (label_head.py) all write log P*; eval/inference/journal.py divides by the sum.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import torch

LEAST = 1e-7  # of P(w), what is left to w at least: float32 tells no smaller share from none

Tokens = tuple[int, ...]


class WordTree(NamedTuple):
    """The words' beginnings that are gone on from (`heads`, each after its own beginning; the root () first).

    `next_tokens`: what each head is followed by. `longer`: of each word that begins others, the indices of the
    shortest. `exact`: the heads behind the end of a word, whose steps are subtracted from 1.
    """

    words: tuple[Tokens, ...]
    heads: tuple[Tokens, ...]
    next_tokens: dict[Tokens, list[int]]
    longer: dict[int, list[int]]
    exact: frozenset[Tokens]

    @classmethod
    def of(cls, words: Sequence[Sequence[int]]) -> "WordTree":
        """The tree of `words`, token ids. Raises `ValueError` when two words are the same, or one has no token."""
        return _tree(tuple(map(tuple, words)))

    def deepest(self) -> Tokens:
        """The longest head, the first of several."""
        return max(self.heads, key=len)

    def chains(self) -> list[Tokens]:
        """The heads that no other goes on from: all heads are on the way to one of them."""
        inner = {head[:-1] for head in self.heads}
        return [head for head in self.heads if head and head not in inner]

    def logprobs(self, steps: dict[Tokens, torch.Tensor]) -> torch.Tensor:
        """[rows, words] log P* in float32; `steps`: of each beginning of a word, its last token's log probability
        [rows], given what comes before it."""
        of_words = [sum(steps[word[: end + 1]].double() for end in range(len(word))) for word in self.words]
        own = torch.stack(of_words, 1)  # type: ignore[arg-type]  # a word has a token
        found = own.clone()
        for word, longer in self.longer.items():
            share = (own[:, longer] - own[:, word, None]).exp().sum(-1)
            found[:, word] += torch.log1p(-share.clamp(max=1 - LEAST))
        return found.float()


@cache
def _tree(words: tuple[Tokens, ...]) -> WordTree:
    if len(set(words)) < len(words) or not all(words):
        raise ValueError("two label words are the same tokens, or one has none: choose other words")
    after: dict[Tokens, set[int]] = {}
    for word in words:
        for step, token in enumerate(word):
            after.setdefault(word[:step], set()).add(token)
    heads = tuple(sorted(after, key=lambda head: (len(head), head)))
    longer: dict[int, list[int]] = {}
    places = {word: place for place, word in enumerate(words)}
    for place, word in enumerate(words):
        begun = [word[:end] for end in range(len(word) - 1, 0, -1) if word[:end] in places]
        if begun:
            longer.setdefault(places[begun[0]], []).append(place)
    exact = frozenset(head for head in heads if any(head[:end] in places for end in range(1, len(head) + 1)))
    return WordTree(words, heads, {head: sorted(after[head]) for head in heads}, longer, exact)


def word_tokens(tokenizer: Any, labels: Sequence[str]) -> list[list[int]]:
    """Token ids of each label word, as ms-swift encodes an answer: apart from the prompt before it, without its end."""
    return [tokenizer.encode(label, add_special_tokens=False) for label in labels]
