"""Texts as the tokens that the model is shown: the same as prep and `swift infer` made of the test rows."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from data_prep.chat.frame import ChatFrame
from data_prep.chat.parts import filled
from data_prep.chat.prompt import control_pattern, neutralise
from data_prep.chat.tokenizer import ModelTokenizer
from data_prep.chat.truncation import fit_reviews
from data_prep.table.delimited import LONE_SURROGATES
from data_prep.table.encoding import REPLACEMENT
from serve.classifier_file import Prompt
from workspace.errors import UserError
from workspace.paths import shown
from workspace.swift_registry import ANSWER_MARK, FIRST_TOKENS, QUESTION_MARK

# What workspace/swift_registry.py's marks stand for besides the tokens that come first, as a tokenizer calls them.
NAMED = {-2: "eos_token_id", -3: "bos_token_id", -4: "pad_token_id", -5: "unk_token_id"}


class Encoded(NamedTuple):
    """The user's turns, their whole prompts' token ids, and whether each text was cut: bool (n,)."""

    questions: list[str]
    tokens: list[list[int]]
    cut: NDArray[np.bool_]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """How many tokens each prompt has (n,)."""
        return np.array([len(one) for one in self.tokens], np.int64)


class Scored(NamedTuple):
    """Of each text: the labels' probabilities (n, labels), whether it was cut (n,), and its prompt's tokens (n,)."""

    probabilities: NDArray[np.float64]
    cut: NDArray[np.bool_]
    tokens: NDArray[np.int64]


class PromptEncoder:
    """Encodes texts by a `Prompt`: control tokens made harmless, long texts cut, each part of the chat by itself."""

    def __init__(self, prompt: Prompt, labels: Sequence[str], tokenizer: ModelTokenizer, head: bool = False) -> None:
        """`head`: the question alone is asked, with nothing that an answer begins with."""
        self.prompt, self._tokenizer = prompt, tokenizer
        frame = ChatFrame(prompt.parts)
        self._frame = frame
        self._pattern = control_pattern((*frame.control_tokens, *tokenizer.control_tokens))
        self._longest = max(labels, key=lambda word: len(tokenizer.ids(word)))
        self._beside = frame.beside(self._longest, tokenizer)
        at = next(i for i, part in enumerate(frame.parts) if isinstance(part, str) and QUESTION_MARK in part)
        end = next(i for i, part in enumerate(frame.parts) if isinstance(part, str) and ANSWER_MARK in part)
        self._before = [token for part in frame.parts[:at] for token in self._part(part)]
        self._after = [token for part in frame.parts[at + 1 : end] for token in self._part(part)]
        self._after += [] if head else tokenizer.ids(frame.before_answer)

    def encode(self, texts: Sequence[str]) -> Encoded:
        """The prompt of each text; of several columns the texts are joined by data_prep.chat.parts.

        Raises `UserError` where the prompt has no room for any text.
        """
        texts = [as_in_a_table(text) for text in texts]
        questions = [self._question(text) for text in texts]
        tokens = self._ids_of(questions)
        cut = np.array([len(ids) + self._beside > self.prompt.max_length for ids in tokens], bool)
        if cut.any():
            long, settings = np.flatnonzero(cut), (self.prompt.max_length, self.prompt.keep_head)
            fitted = fit_reviews(texts, self._chat, self._tokenizer, *settings, long, self._beside)
            shorter = [self._question(fitted.cuts[row]) for row in long.tolist()]
            for row, question, ids in zip(long.tolist(), shorter, self._ids_of(shorter), strict=True):
                questions[row], tokens[row] = question, ids
        return Encoded(questions, [[*self._before, *ids, *self._after] for ids in tokens], cut)

    def _chat(self, text: str) -> str:
        return self._frame.around(self._question(text), self._longest)

    def _ids_of(self, questions: Sequence[str]) -> list[list[int]]:
        return self._tokenizer.ids_of([self._frame.around(question, "") for question in questions])

    def _question(self, text: str) -> str:
        return filled(self.prompt.template, self.prompt.places, neutralise(text, self._pattern))

    def _part(self, part: str | tuple[int, ...]) -> list[int]:
        if isinstance(part, str):
            return self._tokenizer.ids(part)
        return [token for number in part for token in self._numbered(number)]

    def _numbered(self, number: int) -> Sequence[int]:
        if number == FIRST_TOKENS:
            return self._tokenizer.first_tokens
        if number >= 0:
            return [number]
        from transformers import AutoTokenizer  # seconds, and few templates name tokens

        whole = AutoTokenizer.from_pretrained(self._tokenizer.folder, local_files_only=True)
        if (found := getattr(whole, NAMED.get(number, ""), None)) is None:
            raise UserError(
                f"the chat template {self.prompt.chat_template} names a token that the tokenizer in "
                f"{shown(self._tokenizer.folder)} has not: it is not that of the tuned model, export it again"
            )
        return [found]


def shares_of(logprobs: NDArray[np.float64]) -> NDArray[np.float64]:
    """[prompts, labels] probabilities from log P* (plugins/word_tree.py). Raises `UserError` where it is not finite."""
    if not np.isfinite(logprobs).all():
        raise UserError(
            "the model gives no finite probabilities, so training has diverged: tune again with a lower --learning_rate"
        )
    return np.asarray(softmax(logprobs, axis=1))


def as_in_a_table(text: str) -> str:
    """`text` as reading a table leaves it: without NUL characters, and with a mark for each half of a character."""
    return re.sub(LONE_SURROGATES, REPLACEMENT, text.replace("\0", ""))
