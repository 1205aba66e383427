"""The texts of prompts as the model is shown them: cut where they were too long, without the prompt around them."""

from collections.abc import Sequence
from itertools import takewhile


def around(questions: Sequence[str]) -> tuple[int, int]:
    """How many characters all `questions` begin and end with: the prompt's wording, whatever task it is of.

    Characters that all texts share at an end count as the prompt's; they tell no text from another. (0, 0) for fewer
    than two different questions.
    """
    if len(set(questions)) < 2:
        return 0, 0
    start = _same(questions)
    return start, _same([question[start:][::-1] for question in questions])


def shown_texts(questions: Sequence[str], edges: tuple[int, int]) -> list[str]:
    """`questions` without the so many characters at their beginning and end that `around` found."""
    start, end = edges
    return [question[start : len(question) - end] for question in questions]


def _same(texts: Sequence[str]) -> int:
    return sum(1 for _ in takewhile(lambda characters: len(set(characters)) == 1, zip(*texts, strict=False)))
