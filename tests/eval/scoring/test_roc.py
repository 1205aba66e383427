"""AUC and its interval: by hand, as scikit-learn has it, and how often it holds a truth that is known."""

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from eval.scoring.roc import roc_auc


def binary(first):
    return np.stack([np.array(first, float), 1 - np.array(first, float)], axis=1)


def test_ties_are_a_half_and_one_class_is_undefined():
    assert roc_auc(binary([0.5, 0.5, 0.5]), np.array([0, 1, 1])) == (pytest.approx(0.5), None)
    assert roc_auc(binary([0.9, 0.6, 0.7, 0.2]), np.array([0, 0, 1, 1]))[0] == pytest.approx(3 / 4)
    assert roc_auc(binary([0.5, 0.4]), np.array([1, 1])) is None
    assert roc_auc(np.full((2, 3), 1 / 3), np.array([0, 1])) is None


def test_with_many_rows_the_interval_is_delongs():
    """A and its standard error of a binormal sample, by the two sides' placements counted pair by pair."""
    generator = np.random.default_rng(3)
    gold = np.arange(600) % 3 // 2
    scores = np.round(generator.normal(size=600) - 1.2 * gold, 1)  # ties among them
    wins = (scores[gold == 0][:, None] > scores[gold == 1]) + 0.5 * (scores[gold == 0][:, None] == scores[gold == 1])
    sides = wins.mean(axis=1), wins.mean(axis=0)
    error = 1.96 * np.sqrt(sum(side.var(ddof=1) / len(side) for side in sides))
    auc, (low, high) = roc_auc(binary(1 / (1 + np.exp(-scores))), gold)
    assert auc == pytest.approx(wins.mean()) == pytest.approx(roc_auc_score(1 - gold, scores))
    assert (low, high) == pytest.approx((auc - error, auc + error), abs=0.004)


def test_no_interval_has_a_width_of_0_and_few_rows_have_none():
    gold = np.repeat([0, 1], 25)
    auc, (low, high) = roc_auc(binary(1 - gold), gold)
    assert auc == high == 1 and 0.75 < low < 0.95
    assert roc_auc(binary(1 - gold[6:]), gold[6:]) == (1.0, None)


def coverage(n, share, auc, draws):
    """How often the interval holds the AUC of two normal distributions, and its mean width."""
    generator, apart, held, widths = np.random.default_rng(26), float(norm.ppf(auc)) * np.sqrt(2), [], []
    for _ in range(draws):
        gold = (generator.random(n) >= share).astype(int)
        scores = generator.normal(size=n) - apart * gold
        found = roc_auc(binary(norm.cdf(scores)), gold)
        if found and found[1]:
            held.append(found[1][0] <= auc <= found[1][1])
            widths.append(found[1][1] - found[1][0])
    return np.mean(held), np.mean(widths)


def coverage_of_three(n, draws):
    """The same for three labels, whose truth is that of very many rows."""
    generator = np.random.default_rng(26)

    def sample(rows):
        gold = generator.choice(3, rows, p=[0.5, 0.3, 0.2])
        return softmax(generator.normal(size=(rows, 3)) + 1.5 * np.eye(3)[gold], axis=1), gold

    truth = roc_auc(*sample(200_000))[0]
    found = [one[1] for one in (roc_auc(*sample(n)) for _ in range(draws)) if one[1]]
    return np.mean([low <= truth <= high for low, high in found])


@pytest.mark.parametrize(("n", "share", "auc"), [(60, 0.5, 0.99), (200, 0.2, 0.9)])
def test_intervals_hold_the_truth(n, share, auc):
    held, width = coverage(n, share, auc, 150)
    assert held >= 0.9 and width < 0.2


@pytest.mark.all
@pytest.mark.parametrize("auc", [0.55, 0.8, 0.95, 0.99])
@pytest.mark.parametrize(("n", "share"), [(50, 0.5), (200, 0.5), (200, 0.2), (800, 0.5), (800, 0.05)])
def test_intervals_hold_the_truth_in_2000_draws(n, share, auc):
    held, width = coverage(n, share, auc, 2000)
    print(f"n {n}, rarer class {share}, AUC {auc}: held {held}, mean width {width}")
    assert held >= 0.93 and width < 2.5 / np.sqrt(n * min(share, 0.5))


@pytest.mark.all
def test_intervals_of_three_labels_hold_the_truth_in_2000_draws():
    held = coverage_of_three(200, 2000)
    print(f"three labels: held {held}")
    assert held >= 0.93
