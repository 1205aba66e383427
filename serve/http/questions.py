"""Typed questions to a classifier that answers one: which of its labels a text has.

A question is answered where it can only mean that one; every other is refused with a sentence that names the labels.
The probabilities are the classifier's own, put in the order of the question's options.

`confidence` on these wires is 1 where one option has all the probability and 0 where all have the same:
(k p - 1) / (k - 1) for the greatest p of k options. It is not the chance of being right; p is nearer to that.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data_prep.label_words import labels_by_word, normal, shortened, strip_marks
from serve.classifier_file import ClassifierFile
from serve.http.refusal import Refusal

LONGEST = 200  # characters of an option: no label word is longer
_QUESTION = "?？吗嘛 "


class Labels:
    """The labels of a classifier, and the words that mean them."""

    def __init__(self, file: ClassifierFile) -> None:
        self.names = file.labels
        self.words = labels_by_word(file.labels, file.synonyms)
        shown = shortened(self.names, 20)
        extra = [f"{words[0]} counts as {label}" for label, words in file.synonyms.items() if words]
        self.sentence = f"its labels are {shown}" + (f" ({shortened(extra, 3)})" if extra else "")

    def place(self, word: object) -> int | None:
        """The position of the label that a word means, None where it means none."""
        if not isinstance(word, str) or len(word) > LONGEST:
            return None
        label = self.words.get(strip_marks(normal(word)))
        return None if label is None else self.names.index(label)

    def places(self, options: Sequence[object], param: str, what: str = "options") -> list[int]:
        """The label that each option means. Raises `Refusal` (422) unless all labels are there, each once."""
        places = [self.place(option) for option in options]
        if unknown := [_shown(o) for o, place in zip(options, places, strict=True) if place is None]:
            raise Refusal(422, f"the {what} {shortened(unknown)} are not of this classifier: {self.sentence}", param)
        found = [place for place in places if place is not None]
        if len(found) != len(set(found)):
            raise Refusal(422, f"two of the {what} mean one label of this classifier: {self.sentence}", param)
        if missing := [name for at, name in enumerate(self.names) if at not in found]:
            lacks = f"the {what} lack {shortened(missing)}: this classifier chooses among all of them"
            raise Refusal(422, f"{lacks}, as {self.sentence}", param)
        return found

    def statement(self, text: object, param: str) -> int:
        """The label that a yes/no question is about: its statement is a label word and nothing else.

        Raises `Refusal` (422) for any other, as what it asks was not learned.
        """
        words = text.strip().rstrip(_QUESTION) if isinstance(text, str) and len(text) <= LONGEST else None
        if words is None or (place := self.place(words)) is None:
            how = f"ask whether the text is one of its labels, such as {self.names[0]}, by that word alone"
            raise Refusal(422, f"this classifier cannot answer {_shown(text)}: {how}; {self.sentence}", param)
        return place


def confidence(probabilities: NDArray[np.float64]) -> float:
    """That of the module's text, of probabilities (k,), k > 0, that sum to 1; in [0, 1]."""
    k = len(probabilities)
    return 1.0 if k == 1 else float(np.clip((k * probabilities.max() - 1) / (k - 1), 0, 1))


def expectation(probabilities: NDArray[np.float64]) -> float:
    """The mean level of probabilities (k,) of the levels 0 … k - 1."""
    return float(probabilities @ np.arange(len(probabilities)))


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else type(value).__name__
    return f"“{text if len(text) <= 40 else text[:39] + '…'}”"
