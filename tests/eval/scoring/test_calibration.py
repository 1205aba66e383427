import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from eval.scoring.calibration import (
    check_selective,
    choose_selective,
    probability_metrics,
    reliability,
    risk_coverage,
    roc_auc,
)


def binary(first: list[float]) -> np.ndarray:
    p = np.array(first, dtype=float)
    return np.stack([p, 1 - p], axis=1)


def test_binary_by_hand():
    got = probability_metrics(binary([0.9, 0.6, 0.7, 0.2]), np.array([0, 0, 1, 1]))
    assert got.roc_auc == pytest.approx(3 / 4)  # of four pairs only (0.6, 0.7) is the wrong way round
    assert got.log_loss == pytest.approx(-np.log([0.9, 0.6, 0.3, 0.8]).mean())
    assert got.brier == pytest.approx(np.mean([0.1**2, 0.4**2, 0.7**2, 0.2**2]))
    # confidences 0.9, 0.6, 0.7, 0.8 lie in four different bins of 1/15; right, right, wrong, right
    assert got.ece == pytest.approx((0.1 + 0.4 + 0.7 + 0.2) / 4)
    assert got.ece_bins == 15
    assert [(p.n, p.threshold, p.accuracy) for p in got.risk_coverage] == [
        (1, 0.9, 1),
        (2, 0.8, 1),
        (3, 0.7, pytest.approx(2 / 3)),
        (4, 0.6, pytest.approx(3 / 4)),
    ]


def test_auc_of_ties_is_a_half_and_of_one_class_undefined():
    assert roc_auc(binary([0.5, 0.5, 0.5]), np.array([0, 1, 1])) == pytest.approx(0.5)
    assert roc_auc(binary([0.5, 0.4]), np.array([1, 1])) is None
    assert roc_auc(np.full((2, 3), 1 / 3), np.array([0, 1])) is None


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
    # calibration error by a loop over rows
    bins: dict[int, list[tuple[float, bool]]] = {}
    for row, label in zip(probabilities, gold, strict=True):
        place = next(b for b in range(15) if row.max() <= np.linspace(0, 1, 16)[b + 1] or b == 14)
        bins.setdefault(place, []).append((row.max(), row.argmax() == label))
    ece = sum(abs(sum(c for c, _ in rows) - sum(r for _, r in rows)) for rows in bins.values()) / n
    assert got.ece == pytest.approx(ece)
    assert sum(b.n for b in got.reliability) == n
    assert all(b.low < b.confidence <= b.high + 1e-12 for b in got.reliability)
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


def test_bins_are_closed_above():
    got = reliability(np.array([1 / 15, 1.0, 0.0]), np.array([True, True, False]))
    assert [(b.n, round(b.low * 15)) for b in got] == [(2, 0), (1, 14)]


def test_selective_takes_the_largest_coverage_at_the_target():
    # From the surest on: 8 right, then wrong, right, ... accuracy 1 up to 8 of 12, then 8/9, 9/10, 10/11, 10/12.
    right = [True] * 8 + [False, True, True, False]
    first = np.linspace(0.99, 0.6, 12)
    gold = np.array([0 if r else 1 for r in right])
    got = choose_selective(binary(first), gold, targets=(0.9,))
    assert (got.target_accuracy, got.n) == (0.9, 12)
    assert got.threshold == pytest.approx(first[10])  # 10 of 11 is above 0.9, though 8 of 9 before it is not
    assert got.coverage == pytest.approx(11 / 12)
    assert got.accuracy == pytest.approx(10 / 11)
    assert choose_selective(binary(first), gold).target_accuracy == 0.97
    assert choose_selective(binary(first), gold).coverage == pytest.approx(8 / 12)


def test_selective_falls_to_the_next_target_when_too_few_rows_reach_the_first():
    first = np.linspace(0.99, 0.6, 100)
    wrong = {3, *range(23, 100, 12)}
    gold = np.array([1 if i in wrong else 0 for i in range(100)])
    got = choose_selective(binary(first), gold)
    assert got.target_accuracy == 0.95
    assert got.coverage == pytest.approx(0.23)
    assert choose_selective(binary([0.9] * 10), np.array([0, 1] * 5)) is None
    assert choose_selective(np.zeros((0, 2)), np.array([], dtype=int)) is None


def test_selective_is_checked_on_other_rows():
    got = check_selective(0.8, binary([0.9, 0.85, 0.1, 0.6]), np.array([0, 1, 1, 0]))
    assert (got.n, got.n_answered, got.coverage) == (4, 3, 0.75)
    assert got.accuracy == pytest.approx(2 / 3)
    assert got.accuracy_ci[0] < 2 / 3 < got.accuracy_ci[1]
    none = check_selective(0.99, binary([0.9]), np.array([0]))
    assert (none.n_answered, none.coverage, none.accuracy, none.accuracy_ci) == (0, 0, None, None)
