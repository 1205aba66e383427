"""Which characters weigh: how much the answer loses without each piece of a text (occlusion, Zeiler and Fergus 2014).

A hint and no explanation: pieces that matter together alone show nothing, and a text with a hole is none that the
classifier was tuned on.
"""

import re

import numpy as np
from numpy.typing import NDArray

PIECES = 40  # at most: each is one more row to score
_FLOOR = 1e-9
_SPLIT = re.compile(r"[a-zA-Z0-9]+\s*|.\s*", re.DOTALL)  # a word of letters stays whole


def pieces_of(text: str, most: int = PIECES) -> list[str]:
    """A text in at most `most` pieces of about the same number of characters or words; joined they are the text."""
    parts = _SPLIT.findall(text)
    head = text[: len(text) - sum(map(len, parts))]
    if head:
        parts.insert(0, head)
    size = -(-len(parts) // most)
    return ["".join(parts[at : at + size]) for at in range(0, len(parts), size)]


def weights(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much the log odds fall without each piece (n,), from the probability of the whole text's label: first with
    the whole text, then without each piece (1 + n,)."""
    p = np.clip(probabilities, _FLOOR, 1 - _FLOOR)
    odds = np.log(p) - np.log1p(-p)
    return odds[0] - odds[1:]
