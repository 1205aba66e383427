"""The most confident mistakes of the tuned model, each with the training rows that it resembles most.

A mistake whose neighbours bear the label that was answered was learned: these labels, or the row's own, are worth a
look. One without near neighbours is of a kind that training did not see.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics.pairwise import linear_kernel

from eval.scoring.predictions import Predictions
from eval.scoring.responses import Split

MISTAKES = 10
NEAREST = 3
NGRAMS = (1, 3)  # characters, as the linear model reads them
CHARACTERS = 300  # of a training row's text that are kept


@dataclass(frozen=True)
class Neighbour:
    """A training row and the cosine of its TF-IDF features with the mistake's, from 0 to 1."""

    id: str
    label: str
    similarity: float
    review: str


@dataclass(frozen=True)
class Mistake:
    """A test row that got the wrong label with the probability p, and its neighbours, the nearest first."""

    id: str
    gold: str
    label: str
    p: float
    nearest: list[Neighbour]


def confident_mistakes(reading: Predictions | None, test: Split, train: Split) -> list[Mistake]:
    """The `MISTAKES` rows that `reading` has wrong with the highest probability, the surest first; of equals the first.

    Empty where it has no probabilities, and where there is no training row with a text. Nothing is random.
    """
    if reading is None or reading.confidence is None or not any(review.strip() for review in train.reviews):
        return []
    confidence = np.asarray(reading.confidence)
    wrong = [at for at, label in enumerate(reading.predicted) if label is not None and label != test.gold[at]]
    wrong = sorted(wrong, key=lambda at: -confidence[at])[:MISTAKES]
    if not wrong:
        return []
    near = nearest_rows([test.reviews[at] for at in wrong], train)
    return [
        Mistake(test.ids[at], test.gold[at], str(reading.predicted[at]), float(confidence[at]), rows)
        for at, rows in zip(wrong, near, strict=True)
    ]


def nearest_rows(reviews: Sequence[str], train: Split) -> list[list[Neighbour]]:
    """For each of `reviews` the `NEAREST` rows of `train` that share a feature with it; of equals the first."""
    vectorizer = TfidfVectorizer(analyzer="char", ngram_range=NGRAMS, sublinear_tf=True, dtype=np.float32)
    known = vectorizer.fit_transform(train.reviews)
    similarities = linear_kernel(vectorizer.transform(reviews), known)
    found = []
    for row in similarities:
        order = np.argsort(-row, kind="stable")[:NEAREST]
        found.append(
            [
                Neighbour(train.ids[at], train.gold[at], round(float(row[at]), 3), train.reviews[at][:CHARACTERS])
                for at in order.tolist()
                if row[at] > 0
            ]
        )
    return found
