"""When a chat model's answer need not go on: it is decided, or the model repeats itself.

An untuned model explains itself after its answer, or falls into a loop, up to max_new_tokens. Neither tells more:

- **decided**: the first sentence is a label word alone and the model begins another. What is kept ends with that
  beginning, so that the answer does not pass for the bare label word;
- **repeats**: the last `REPEATED` tokens are one sequence of tokens at least three times over, to the end.
"""

import re
from collections.abc import Sequence
from typing import Any

import torch
from score_lines import FinishReason  # next to this file
from transformers import StoppingCriteria

LOOK_EVERY = 4  # tokens: reading them back costs as much as a small model's step
REPEATED = 24  # tokens, of a sequence of at most a third
AFTER_LABEL = 16  # tokens behind the longest label word, within which its sentence ends if it is alone
_MARKS = r"[\s\"'“”‘’「」『』《》*_`#:：()（）\[\]【】-]*"
_SENTENCE_END = r"[。.!！;；\n]"


def decided(text: str, labels: Sequence[str]) -> bool:
    """Whether `text` is one of `labels` alone in its sentence, marks around it aside, and then another sentence."""
    words = "|".join(re.escape(label) for label in sorted(labels, key=len, reverse=True))
    return re.match(rf"{_MARKS}(?:{words}){_MARKS}{_SENTENCE_END}{_MARKS}\w", text) is not None


def repeats(tokens: Sequence[int]) -> bool:
    """Whether the last `REPEATED` of `tokens` repeat a sequence of at most a third of them."""
    last = tokens[-REPEATED:]
    periods = range(1, REPEATED // 3 + 1)
    return len(last) == REPEATED and any(last[period:] == last[:-period] for period in periods)


class AnswerEnd(StoppingCriteria):
    """Ends each row of a batch by itself. `reasons` [rows]: why it was ended here, None where it was not."""

    def __init__(self, tokenizer: Any, labels: Sequence[str], used: int, rows: int) -> None:
        """`used`: tokens of the padded prompts, which are not looked at."""
        self.tokenizer, self.labels, self.used = tokenizer, labels, used
        self.within = AFTER_LABEL + max(len(tokenizer.encode(one, add_special_tokens=False)) for one in labels)
        self.reasons: list[FinishReason | None] = [None] * rows

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        """[rows] whether each is at its end; `input_ids` [rows, tokens so far]."""
        written = input_ids.shape[1] - self.used
        if written % LOOK_EVERY == 0:
            stops = {self.tokenizer.eos_token_id, self.tokenizer.pad_token_id}
            for row, tokens in enumerate(input_ids[:, self.used :].tolist()):
                if self.reasons[row] is None and not stops & set(tokens):
                    self.reasons[row] = self._reason(tokens)
        return torch.tensor([reason is not None for reason in self.reasons], device=input_ids.device)

    def _reason(self, tokens: list[int]) -> FinishReason | None:
        if len(tokens) <= self.within and decided(self.tokenizer.decode(tokens), self.labels):
            return "decided"
        return "repeats" if repeats(tokens) else None
