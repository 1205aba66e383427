"""How far a table is from the validation rows that a classifier was measured on, and whether that is more than chance.

The population stability index of two distributions over the same bins, of expected shares e and actual shares a, is

    PSI = sum of (a - e) ln(a / e)

(Siddiqi, Credit Risk Scorecards, 2006: below 0.1 no change, above 0.25 another population). Were n and m rows drawn
from one population over B bins, PSI / (1/n + 1/m) would follow about a chi-squared distribution with B - 1 degrees of
freedom (Yurdakul, Statistical Properties of Population Stability Index, 2018): an index counts as drift where it is
above 0.25 and above what chance alone exceeds once in a hundred times.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline

from serve.classifier_file import Expected

OTHER, CHANCE = 0.25, 0.99
APART = 0.8  # AUC from which on a table's texts count as others than those of the run
SAMPLE = 2_000  # texts of each side that a domain classifier looks at
LEAST = 20  # rows, below which nothing is said


@dataclass(frozen=True)
class Stability:
    """The index of one distribution, and what chance alone exceeds once in a hundred times."""

    psi: float
    by_chance: float

    @property
    def drifted(self) -> bool:
        """Whether it is another population."""
        return self.psi > max(OTHER, self.by_chance)


@dataclass(frozen=True)
class Drift:
    """The indices of the answered labels, of confidences and of lengths. `domain_auc`: how well a linear model tells
    the table's texts from the run's, 0.5 where not at all, None where the run is not at hand."""

    n: int
    labels: Stability
    confidence: Stability
    length: Stability
    domain_auc: float | None = None

    @property
    def drifted(self) -> list[str]:
        """What is another population."""
        names = [name for name in ("labels", "confidence", "length") if getattr(self, name).drifted]
        return names + ["texts"] * (self.domain_auc is not None and self.domain_auc >= APART)

    def as_json(self) -> dict[str, Any]:
        """For a manifest."""
        return asdict(self) | {"drifted": self.drifted}

    def describe(self) -> str:
        """One line for the terminal."""
        told = [f"{name} {getattr(self, name).psi:.3f}" for name in ("labels", "confidence", "length")]
        domain = "" if self.domain_auc is None else f"; texts told apart with an AUC of {self.domain_auc:.2f}"
        found = f"another population by its {', '.join(self.drifted)}" if self.drifted else "no drift shown"
        return f"stability index against the validation rows: {', '.join(told)}{domain}: {found}"


def stability(expected: Sequence[float], counts: NDArray[np.int64], m: int) -> Stability:
    """The index of the rows in each bin (`counts`) against the `expected` shares of `m` rows.

    Half a row is added to each bin of both, so that an empty one is no infinite drift.
    """
    n, bins = int(counts.sum()), len(expected)
    actual = (counts + 0.5) / (n + 0.5 * bins)
    wanted = (np.asarray(expected) * m + 0.5) / (m + 0.5 * bins)
    psi = float(((actual - wanted) * np.log(actual / wanted)).sum())
    return Stability(psi, float(chi2.ppf(CHANCE, max(bins - 1, 1)) * (1 / n + 1 / m)))


@dataclass
class Tally:
    """What the answered rows of a table look like, counted as they come, in the bins of `expected`."""

    expected: Expected

    def __post_init__(self) -> None:
        self.labels = np.zeros(len(self.expected.labels), np.int64)
        self.confidence = np.zeros(len(self.expected.confidence_shares), np.int64)
        self.length = np.zeros(len(self.expected.length_shares), np.int64)

    def add(self, labels: Sequence[str], confidence: Sequence[float], characters: Sequence[int]) -> None:
        """Count answered rows."""
        names = list(self.expected.labels)
        self.labels += np.bincount([names.index(label) for label in labels], minlength=len(names))
        for counts, bounds, values in (
            (self.confidence, self.expected.confidence_bounds, confidence),
            (self.length, self.expected.length_bounds, characters),
        ):
            counts += np.bincount(np.searchsorted(bounds, values), minlength=len(counts))

    def drift(self, domain_auc: float | None = None) -> Drift | None:
        """The drift of all that was counted; None of fewer rows than LEAST."""
        n, m = int(self.labels.sum()), self.expected.n
        if n < LEAST:
            return None
        return Drift(
            n,
            stability(list(self.expected.labels.values()), self.labels, m),
            stability(self.expected.confidence_shares, self.confidence, m),
            stability(self.expected.length_shares, self.length, m),
            domain_auc,
        )


def domain_auc(known: Sequence[str], others: Sequence[str]) -> float | None:
    """How well a linear model over character TF-IDF tells `others` from `known` texts; None of too few texts.

    It is the AUC of answers to held-out texts (Lopez-Paz and Oquab, Revisiting Classifier Two-Sample Tests, 2017).
    """
    if min(len(known), len(others)) < LEAST:
        return None
    texts, side = [*known, *others], np.repeat([0, 1], [len(known), len(others)])
    model = make_pipeline(
        TfidfVectorizer(analyzer="char", ngram_range=(1, 2), min_df=2, sublinear_tf=True, dtype=np.float32),
        LogisticRegression(class_weight="balanced"),
    )
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    found = cross_val_predict(model, texts, side, cv=folds, method="decision_function")
    return float(roc_auc_score(side, found))


def sampled(texts: Sequence[str], count: int = SAMPLE) -> list[str]:
    """At most `count` of the texts, spread evenly."""
    places = np.unique(np.linspace(0, len(texts) - 1, min(count, len(texts))).astype(int))
    return [texts[at] for at in places.tolist()]
