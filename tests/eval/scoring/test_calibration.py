from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from eval.scoring.calibration import (
    calibration_error,
    confidence_of,
    probability_metrics,
    reliability,
    risk_coverage,
)


def binary(first: list[float]) -> np.ndarray:
    p = np.array(first, dtype=float)
    return np.stack([p, 1 - p], axis=1)


def test_binary_by_hand():
    got = probability_metrics(binary([0.9, 0.6, 0.7, 0.2]), np.array([0, 0, 1, 1]))
    assert got.roc_auc == pytest.approx(3 / 4)  # of four pairs only (0.6, 0.7) is the wrong way round
    assert got.log_loss == pytest.approx(-np.log([0.9, 0.6, 0.3, 0.8]).mean())
    assert got.brier == pytest.approx(np.mean([0.1**2, 0.4**2, 0.7**2, 0.2**2]))
    # four rows are one bin: confidence 0.75, three of four right
    assert (got.ece, got.ece_bins, got.reliability[0].accuracy, got.reliability[0].n) == (0, 1, 0.75, 4)
    assert [(p.n, p.threshold, p.accuracy) for p in got.risk_coverage] == [
        (1, 0.9, 1),
        (2, 0.8, 1),
        (3, 0.7, pytest.approx(2 / 3)),
        (4, 0.6, pytest.approx(3 / 4)),
    ]


def test_one_class_only_still_has_the_rest():
    got = probability_metrics(binary([0.9, 0.8]), np.array([0, 0]))
    assert got.roc_auc is None
    assert got.log_loss == pytest.approx(-np.log([0.9, 0.8]).mean())
    assert got.brier == pytest.approx((0.01 + 0.04) / 2)


def test_certain_and_wrong_stays_finite():
    assert np.isfinite(probability_metrics(binary([0.0, 1.0]), np.array([0, 1])).log_loss)


@st.composite
def cases(draw):
    classes = draw(st.integers(2, 4))
    n = draw(st.integers(classes, 40))
    generator = np.random.default_rng(draw(st.integers(0, 10_000)))
    gold = np.concatenate([np.arange(classes), generator.integers(0, classes, n - classes)])
    probabilities = generator.dirichlet(np.ones(classes), n)
    if draw(st.booleans()):  # ties
        probabilities = (probabilities * 4).round() + 0.5
        probabilities /= probabilities.sum(axis=1, keepdims=True)
    return probabilities, gold


@settings(max_examples=60)
@given(cases())
def test_equals_scikit_learn_and_plain_loops(case):
    probabilities, gold = case
    n, classes = probabilities.shape
    got = probability_metrics(probabilities, gold)
    if classes == 2:
        assert got.roc_auc == pytest.approx(sk.roc_auc_score(gold == 0, probabilities[:, 0]))
        assert got.brier == pytest.approx(sk.brier_score_loss(1 - gold, probabilities[:, 0]))
    else:
        expected = sk.roc_auc_score(gold, probabilities, multi_class="ovr", average="macro")
        assert got.roc_auc == pytest.approx(expected)
        assert got.brier == pytest.approx(((probabilities - np.eye(classes)[gold]) ** 2).sum(axis=1).mean())
    assert got.log_loss == pytest.approx(-np.log(probabilities[np.arange(n), gold]).mean())
    assert sum(b.n for b in got.reliability) == n
    assert all(b.low - 1e-12 <= b.confidence <= b.high + 1e-12 and b.accuracy_ci for b in got.reliability)
    error, (low, high) = calibration_error(got.reliability)
    assert low <= error == got.ece <= high
    # risk and coverage by a loop over thresholds
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == gold
    assert len(got.risk_coverage) == len(set(confidence))
    for point in got.risk_coverage:
        answered = confidence >= point.threshold
        assert (point.n, point.coverage) == (answered.sum(), pytest.approx(answered.mean()))
        assert point.accuracy == pytest.approx(right[answered].mean())


def test_risk_coverage_is_thinned_but_keeps_both_ends():
    confidence = np.linspace(0.5, 1, 1000)
    got = risk_coverage(confidence, np.ones(1000, dtype=bool))
    assert len(got) == 100
    assert (got[0].n, got[-1].n, got[-1].coverage) == (1, 1000, 1)


def test_bins_hold_equally_many_rows_and_never_part_equal_ones():
    confidence = np.append(np.linspace(0.5, 1, 90), np.full(10, 0.7))
    got = reliability(confidence, np.ones(100, dtype=bool))
    assert len(got) == 5 and sum(b.n for b in got) == 100 and min(b.n for b in got) >= 15
    assert all(one.high < other.low for one, other in pairwise(got))
    assert len(reliability(np.linspace(0.5, 1, 5_000), np.ones(5_000, dtype=bool))) == 15
    assert [b.n for b in reliability(np.full(60, 0.9), np.ones(60, dtype=bool))] == [60]


def drawn(n, generator, truth=lambda p: p):
    """n rows whose confidence c is right with the probability truth(c): their bins."""
    confidence = 0.5 + 0.5 * generator.beta(3, 1, n)
    return reliability(confidence, generator.random(n) < truth(confidence))


def test_the_error_of_a_perfectly_calibrated_model_of_100_rows_is_near_0():
    """Audited: 0.081 without the part that chance gives."""
    generator = np.random.default_rng(1)
    found = [calibration_error(drawn(100, generator)) for _ in range(100)]
    assert np.mean([error for error, _ in found]) < 0.02
    assert np.mean([low == 0 for _, (low, _) in found]) >= 0.95


def test_an_error_that_is_there_is_still_found():
    generator = np.random.default_rng(2)
    found = [calibration_error(drawn(800, generator, lambda p: p - 0.15)) for _ in range(20)]
    assert np.mean([error for error, _ in found]) == pytest.approx(0.14, abs=0.02)
    assert all(low > 0.05 for _, (low, _) in found)


def test_with_too_few_rows_of_a_class_the_error_has_no_interval():
    """As every other figure: 19 rows of a label are too few, 20 are enough."""
    for fewest, there in ((19, False), (20, True)):
        gold = np.repeat([0, 1], [60, fewest])
        got = probability_metrics(binary(np.where(gold == 0, 0.9, 0.2).tolist()), gold)
        assert (got.ece_ci is not None) is (got.roc_auc_ci is not None) is there and got.ece >= 0


def coverage_of_the_interval(draws, sizes, generator):
    """(least coverage, mean width by rows) over perfect, overconfident, squeezed and wavy models."""
    truths = (lambda p: p, lambda p: p - 0.05, lambda p: 0.2 + 0.6 * p, lambda p: p + 0.1 * np.sin(12 * p) * (p < 0.9))
    least, widths = 1.0, {}
    for n in sizes:
        for truth in truths:
            many = 0.5 + 0.5 * generator.beta(3, 1, 200_000)
            error = np.abs(truth(many) - many).mean()
            spans = [calibration_error(drawn(n, generator, truth))[1] for _ in range(draws)]
            least = min(least, np.mean([low <= error <= high for low, high in spans]))
            widths[n] = max(widths.get(n, 0), np.mean([high - low for low, high in spans]))
    return least, widths


def test_the_interval_of_the_error_holds_it():
    least, widths = coverage_of_the_interval(50, (50, 800), np.random.default_rng(3))
    assert least >= 0.93 and widths[800] < 0.11


@pytest.mark.all
def test_the_interval_of_the_error_holds_it_in_2000_draws():
    least, widths = coverage_of_the_interval(2_000, (50, 100, 200, 800), np.random.default_rng(4))
    assert least >= 0.93 and widths[50] < 0.27 and widths[800] < 0.11, (least, widths)


def test_confidence_is_the_greatest_probability():
    confidence, right = confidence_of(np.array([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]]), np.array([1, 2]))
    assert confidence.tolist() == [0.5, 0.6] and right.tolist() == [True, False]
