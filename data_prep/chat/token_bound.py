"""How many tokens a text has at most, by its characters: counting them takes a hundred times as long.

Byte-level BPE starts from single bytes and joins neighbours until no two neighbouring tokens can be joined. So in what
it comes to, every token is in the vocabulary, and no two neighbours are one of its merges. For each character this
leaves few ways in which tokens can begin among its UTF-8 bytes; the greatest number of beginnings among those ways is
the character's. As each token begins somewhere, a text has at most the sum of its characters' numbers.
"""

import itertools
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np


class TokenBound:
    """The greatest number of tokens that can begin in each character, for one tokenizer."""

    def __init__(self, parts: dict[str, Any], control_tokens: Iterable[str] = ()):
        """`parts` is the content of a tokenizer.json of which `is_byte_level` is true."""
        sign = _sign_of_byte()
        byte = {sign[value]: value for value in range(256)}
        as_bytes = {
            word: bytes(map(byte.__getitem__, word)) for word in parts["model"]["vocab"] if byte.keys() >= set(word)
        }
        merges = (merge.split(" ") if isinstance(merge, str) else merge for merge in parts["model"]["merges"])
        self._merges = {(as_bytes[a], as_bytes[b]) for a, b in merges if a in as_bytes and b in as_bytes}
        self._tokens = set(as_bytes.values())
        # What tokens begin or end with that are longer: parts of them may lie in a neighbouring character.
        self._beginnings = {token[:size] for token in self._tokens for size in range(1, min(len(token), 5))}
        self._ends = {token[-size:] for token in self._tokens for size in range(1, min(len(token), 5))}
        self._control = re.compile("|".join(map(re.escape, control_tokens)) or "(?!)")
        self._most = np.zeros(0x110000, np.uint8)  # 0: not looked up yet

    def most_tokens(self, texts: Sequence[str]) -> np.ndarray:
        """At most how many tokens each text has: int64. Control tokens in a text count as their characters.

        The texts are taken as they are: a normaliser (NFC) must have nothing to change in them.
        """
        points = np.frombuffer("".join(texts).encode("utf-32-le"), np.uint32)
        for point in np.unique(points[self._most[points] == 0]).tolist():
            self._most[point] = self._most_beginnings(chr(point).encode())
        sums = np.concatenate([[0], np.cumsum(self._most[points], dtype=np.int64)])
        ends = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)))
        return np.diff(sums[ends], prepend=0)

    def room(self, frame: str, max_length: int, places: int = 1) -> int:
        """How many tokens are left for the texts that are put in `places` of `frame`, in which control tokens count as
        one.

        Where `frame` and text meet, NFC may make one character of two, and so at most 4 tokens more of them.
        """
        if not unicodedata.is_normalized("NFC", frame):
            return -1
        plain, controls = self._control.subn("", frame)
        return max_length - int(self.most_tokens([plain])[0]) - controls - 2 * 4 * places

    def _most_beginnings(self, char: bytes) -> int:
        for count in range(len(char), 1, -1):
            if any(self._possible(char, places) for places in itertools.combinations(range(len(char)), count)):
                return count
        return 1

    def _possible(self, char: bytes, places: Sequence[int]) -> bool:
        """Whether tokens may begin at just these places among the bytes of a character."""
        before = char[: places[0]]
        if before and before not in self._ends:
            return False
        inside = [char[start:end] for start, end in itertools.pairwise(places)]
        if any(token not in self._tokens for token in inside):
            return False
        if any(pair in self._merges for pair in itertools.pairwise(inside)):
            return False
        last = char[places[-1] :]
        if last in self._beginnings:  # of a token that goes on into the next character
            return True
        return last in self._tokens and (not inside or (inside[-1], last) not in self._merges)


def is_byte_level(parts: dict[str, Any]) -> bool:
    """Whether a tokenizer.json's content is plain byte-level BPE, as TokenBound needs it."""
    model, normalizer = parts["model"], parts["normalizer"]
    split = parts["pre_tokenizer"] or {}
    steps = split.get("pretokenizers", [split])
    return (
        model.get("type") == "BPE"
        and not any(model.get(key) for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"))
        and (normalizer is None or normalizer["type"] == "NFC")
        and any(step.get("type") == "ByteLevel" for step in steps)
        and all(step.get("type") in ("ByteLevel", "Split", "Digits", "Punctuation") for step in steps)
        and not any(step.get("add_prefix_space") for step in steps)
    )


def _sign_of_byte() -> list[str]:
    """The character by which tokenizer.json writes each byte, as GPT-2 did first: itself where it can be seen, else
    one from U+0100 on, in order."""
    seen = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in seen else next(others)) for byte in range(256)]
