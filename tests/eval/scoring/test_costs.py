"""Costs of answers: the cheapest threshold on validation, and what it costs on test."""

import numpy as np
import pytest

from data_prep.decision_settings import Costs
from eval.scoring.costs import choose_threshold, cost_matrix, cost_record, costs_of, mean_cost

LABELS = ("a", "b")


def shares(first):
    first = np.asarray(first, float)
    return np.stack([first, 1 - first], axis=1)


def test_what_is_not_named_costs_1_and_what_is_right_nothing():
    got = cost_matrix(Costs(confusions={"a": {"b": 10}}), ("a", "b", "c"))
    assert got.tolist() == [[0, 10, 1], [1, 0, 1], [1, 1, 0]]


def test_an_expensive_confusion_is_avoided():
    matrix = cost_matrix(Costs(confusions={"a": {"b": 10}}), LABELS)
    paid = costs_of(shares([0.2, 0.05]), np.array([0, 0]), matrix, None, matrix.max())
    assert paid.tolist() == [0, 10]  # p(a) = 0.2 is enough to answer a: 2 against 0.8


def test_the_threshold_is_the_cheapest_of_all():
    generator = np.random.default_rng(0)
    for trial in range(20):
        probabilities, gold = generator.dirichlet(np.ones(3), 40), generator.integers(0, 3, 40)
        matrix = cost_matrix(Costs(confusions={"a": {"b": 3}}), ("a", "b", "c"))
        ask = (0.0, 0.3, 0.6, 2.0)[trial % 4]
        got = choose_threshold(probabilities, gold, matrix, ask)
        expected = (probabilities @ matrix).min(axis=1)
        every = [costs_of(probabilities, gold, matrix, ask, one).sum() for one in (None, *expected, matrix.max())]
        assert costs_of(probabilities, gold, matrix, ask, got).sum() == pytest.approx(min(every))


def test_without_asking_every_row_is_answered_and_where_asking_is_dear_too():
    matrix, gold = cost_matrix(Costs(), LABELS), np.array([0, 1, 1])
    assert choose_threshold(shares([0.9, 0.9, 0.2]), gold, matrix, None) == 1
    assert choose_threshold(shares([0.9, 0.9, 0.2]), gold, matrix, 5.0) == 1
    assert choose_threshold(shares([0.9, 0.9, 0.9]), np.array([1, 1, 1]), matrix, 0.1) is None  # ask about every row


def test_an_interval_has_a_width_where_no_row_was_wrong():
    mean, (low, high) = mean_cost(np.zeros(50), np.array([0, 1, 10.0]))
    assert mean == 0 == low and 20 < high < 1_500  # 10 a row, in up to some per cent of rows


def coverage(draws, sizes, generator):
    least = 1.0
    for n in sizes:
        for p in ([0.9, 0.08, 0.02], [0.6, 0.3, 0.1], [0.97, 0.0, 0.03]):
            values = np.array([0.0, 1.0, 5.0])
            truth, tables = 1_000 * values @ p, generator.multinomial(n, p, draws)
            tables, times = np.unique(tables, axis=0, return_counts=True)
            spans = np.array([mean_cost(np.repeat(values, one), values, 1_000)[1] for one in tables])
            held = times @ ((spans[:, 0] <= truth) & (truth <= spans[:, 1])) / draws
            width = times @ (spans[:, 1] - spans[:, 0]) / draws
            print(f"n {n}, shares of costs 0, 1, 5 {p}: held {held:.3f}, mean width {width:.0f} of {truth:.0f}")
            least = min(least, held)
    return least


def test_the_interval_holds_the_true_cost():
    assert coverage(150, (200,), np.random.default_rng(1)) >= 0.9


@pytest.mark.all
def test_the_interval_holds_the_true_cost_in_2000_draws():
    assert coverage(2_000, (50, 200, 800), np.random.default_rng(2)) >= 0.93


def test_the_record_has_every_reading_and_the_cheapest():
    generator = np.random.default_rng(3)
    gold = generator.integers(0, 2, 200)
    sharp = shares(np.where(gold == 0, 0.95, 0.05))
    blunt = shares(np.where(generator.random(200) < 0.7, gold, 1 - gold) * -0.2 + 0.6)
    readings = {"tfidf_linear": blunt, "after_score": sharp}
    got = cost_record(readings, readings, (gold, gold), LABELS, Costs(ask=0.2))
    assert got["cheapest_on_validation"] == "after_score" and got["ask_all"] == 200
    assert got["readings"]["after_score"]["test"] == 0 and got["readings"]["after_score"]["n_answered"] == 200
    assert got["readings"]["tfidf_linear"]["test"] == 200  # wrong in 30 %: asking is cheaper
    assert cost_record(readings, readings, (gold, gold), LABELS, None) is None
    assert cost_record({}, readings, (gold, gold), LABELS, Costs()) is None
