"""Precision at other shares of a class, and the ceiling that wrong gold labels make."""

from functools import cache

import numpy as np
import pytest

from eval.scoring.metrics import classify
from eval.scoring.prevalence import noise_ceiling, prevalence_shift


def test_precision_follows_from_bayes_rule():
    gold = ["b"] * 100 + ["a"] * 100
    predicted = ["b"] * 80 + ["a"] * 20 + ["b"] * 10 + ["a"] * 88 + [None] * 2
    got = {one.label: one for one in prevalence_shift(classify(gold, predicted, ("a", "b", "c")), ("a", "b", "c"))}
    assert set(got) == {"a", "b"}  # c has no gold rows
    b = got["b"]
    assert (b.share, b.recall, b.false_positive_rate) == (0.5, 0.8, 0.1)
    by_share = {one.share: one for one in b.elsewhere}
    assert by_share[0.5].precision == pytest.approx(b.precision) == pytest.approx(80 / 90)
    assert by_share[0.01].precision == pytest.approx(0.008 / (0.008 + 0.099))
    assert all(one.interval[0] < one.precision < one.interval[1] for one in b.elsewhere)
    assert got["a"].false_positive_rate == 0.2  # an unparsed answer has the label of no class


def test_without_one_parsed_answer_there_is_a_recall_of_none():
    """As a random model leaves it; scikit-learn then counts in floats."""
    found = prevalence_shift(classify(["a"] * 6 + ["b"] * 6, [None] * 12, ("a", "b")), ("a", "b"))
    assert [(one.label, one.recall, one.recall_ci[0], one.precision) for one in found] == [
        ("a", 0, 0, None),
        ("b", 0, 0, None),
    ]


def test_a_class_that_is_never_predicted_has_no_precision():
    one = prevalence_shift(classify(["a", "b"], ["a", "a"], ("a", "b")), ("a", "b"))[1]
    assert one.precision is None and {part.precision for part in one.elsewhere} == {None}


@cache
def shown(hits, support, wrong, n):
    gold = ["b"] * support + ["a"] * (n - support)
    predicted = ["b"] * hits + ["a"] * (support - hits) + ["b"] * wrong + ["a"] * (n - support - wrong)
    return prevalence_shift(classify(gold, predicted, ("a", "b")), ("b",))[0].elsewhere


def coverage(draws, sizes, generator):
    """The least share of intervals that hold the true precision, over recall, false-positive rate and sizes."""
    least = 1.0
    for n in sizes:
        for recall, rate, share in ((0.9, 0.05, 0.5), (0.7, 0.2, 0.25), (0.95, 0.02, 0.4)):
            support = int(n * share)
            found = np.zeros(5)
            for _ in range(draws):
                hits, wrong = generator.binomial(support, recall), generator.binomial(n - support, rate)
                told = shown(hits, support, wrong, n)
                truths = [p.share * recall / (p.share * recall + (1 - p.share) * rate) for p in told]
                spans = [p.interval for p in told]
                found += [low <= truth <= high for (low, high), truth in zip(spans, truths, strict=True)]
            least = min(least, *(found / draws))
    return least


def test_the_interval_holds_the_true_precision():
    assert coverage(60, (200,), np.random.default_rng(0)) >= 0.85


@pytest.mark.all
def test_the_interval_holds_the_true_precision_in_2000_draws():
    assert coverage(2_000, (80, 200, 800), np.random.default_rng(1)) >= 0.93


def test_the_ceiling_is_what_the_disputed_labels_leave():
    got = noise_ceiling(7, 100)
    assert got.accuracy == pytest.approx(0.93) and got.accuracy_ci[0] < 0.93 < got.accuracy_ci[1]
    assert noise_ceiling(0, 100).accuracy == 1
