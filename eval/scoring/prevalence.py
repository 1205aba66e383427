"""What a figure would be under other conditions than the test's: precision at another share of a class, and how high
accuracy can be where gold labels are wrong."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eval.scoring.metrics import Classification
from eval.scoring.significance import DRAWS, SEED, Interval, percentiles, wilson

SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)


@dataclass(frozen=True)
class Precision:
    """The precision of one class where it makes up `share` of the rows, with its 95 % interval."""

    share: float
    precision: float | None
    interval: Interval


@dataclass(frozen=True)
class Prevalence:
    """One class: its share of the test rows, the recall and the share of other rows that get its label, and what its
    precision becomes at other shares. Each with a 95 % Wilson interval."""

    label: str
    share: float
    precision: float | None
    recall: float
    recall_ci: Interval | None
    false_positive_rate: float
    false_positive_ci: Interval | None
    elsewhere: list[Precision]


@dataclass(frozen=True)
class Ceiling:
    """The accuracy that answers which are all right would be counted with, were the disputed labels wrong."""

    n: int
    disputed: int
    accuracy: float
    accuracy_ci: Interval | None


def prevalence_shift(score: Classification, labels: Sequence[str]) -> list[Prevalence]:
    """Every class that has gold rows, and others beside it.

    By Bayes' rule precision is share x recall / (share x recall + (1 - share) x false-positive rate): recall and
    false-positive rate stay as they are where only the shares of classes change, among the other classes in
    proportion. The interval draws both from their posteriors under Jeffreys' prior (Brown, Cai and DasGupta 2001).
    """
    found = []
    for label in labels:
        one = score.per_class[label]
        others, hits = score.n - one.support, round(one.recall * one.support)
        if not one.support or not others:
            continue
        wrong = one.predicted - hits
        generator = np.random.default_rng(SEED)
        recall = generator.beta(hits + 0.5, one.support - hits + 0.5, DRAWS)
        rate = generator.beta(wrong + 0.5, others - wrong + 0.5, DRAWS)
        elsewhere = [
            Precision(
                share,
                _precision(share, one.recall, wrong / others) if one.predicted else None,
                percentiles(share * recall / (share * recall + (1 - share) * rate)),
            )
            for share in SHARES
        ]
        found.append(
            Prevalence(
                label,
                one.support / score.n,
                one.precision if one.predicted else None,
                one.recall,
                wilson(hits, one.support),
                wrong / others,
                wilson(wrong, others),
                elsewhere,
            )
        )
    return found


def noise_ceiling(disputed: int, n: int) -> Ceiling:
    """The ceiling that `disputed` of n test labels make, where they are the wrong ones; the interval is Wilson's."""
    return Ceiling(n, disputed, 1 - disputed / n, wilson(n - disputed, n))


def _precision(share: float, recall: float, rate: float) -> float:
    return share * recall / (share * recall + (1 - share) * rate)
