"""Which texts would teach a classifier most: those it doubts, and of those some that are unlike each other.

By Zhdanov, "Diverse mini-batch Active Learning", 2019, arXiv:1901.05954: of the texts with the smallest margin between
the two most probable labels, ten times as many as are wanted, the one nearest to the centre of each cluster of
k-means, in which a text weighs as much as it is doubted.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import pairwise_distances_argmin
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from eval.baselines import NGRAMS

CANDIDATES = 10  # times as many as are wanted, among which unlike ones are sought; as in the paper
DIMENSIONS = 100  # of the texts' TF-IDF vectors (of the linear model's n-grams) for clustering
SEED = 42


def margins(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """The probability of the first label less that of the second (n,): 0 where a row is wholly in doubt."""
    two = np.sort(probabilities, axis=1)[:, -2:]
    return np.asarray(two[:, 1] - two[:, 0])


def most_informative(
    texts: Sequence[str], probabilities: NDArray[np.float64], count: int, candidates: int = CANDIDATES, seed: int = SEED
) -> NDArray[np.int64]:
    """The positions of `count` of the texts, or of all where they are fewer, the most doubted first.

    `probabilities` (n, labels) are the classifier's. `candidates` = 1 goes by the margin alone.
    """
    margin = margins(probabilities)
    doubted = np.argsort(margin, kind="stable")[: candidates * count]
    if len(doubted) <= count or candidates == 1:
        return doubted[:count]
    features = _features([texts[at] for at in doubted], seed)
    clusters = KMeans(count, n_init=1, random_state=seed).fit(features, sample_weight=1 - margin[doubted] + 1e-6)
    nearest = pairwise_distances_argmin(clusters.cluster_centers_, features)
    # Two centres may have one text nearest to both; the most doubted of the others take its place.
    chosen = np.unique(nearest)
    rest = np.setdiff1d(np.arange(len(doubted)), chosen)[: count - len(chosen)]
    return doubted[np.sort(np.append(chosen, rest))]


def surest(probabilities: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """The positions of the rows whose answers are surest, `count` at most and as many of each label, label by label.

    `probabilities` (n, labels) are the classifier's. A label that has few answers keeps the others as few: rows that a
    model labels itself are to tell it nothing about the labels' shares.
    """
    labels, best = probabilities.shape[1], probabilities.argmax(axis=1)
    each = min(count // labels, int(np.bincount(best, minlength=labels).min()))
    order = np.argsort(-probabilities.max(axis=1), kind="stable")
    return np.concatenate([order[best[order] == label][:each] for label in range(labels)])


def _features(texts: Sequence[str], seed: int) -> NDArray[np.float64]:
    vectors = TfidfVectorizer(analyzer="char", ngram_range=NGRAMS, sublinear_tf=True, dtype=np.float32).fit_transform(
        texts
    )
    if vectors.shape[1] <= DIMENSIONS:
        return np.asarray(vectors.toarray())
    return np.asarray(make_pipeline(TruncatedSVD(DIMENSIONS, random_state=seed), Normalizer()).fit_transform(vectors))
