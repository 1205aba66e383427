import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from eval.scoring.thresholds import choose

TWO = ("正面", "负面")


def binary(first: list[float]) -> np.ndarray:
    p = np.array(first, dtype=float)
    return np.stack([p, 1 - p], axis=1)


def macro_f1(gold, answers, classes):
    return f1_score(gold, answers, labels=np.unique(gold), average="macro", zero_division=0)


def test_two_labels_by_hand_the_cut_is_the_middle_of_the_gap():
    got = choose(binary([0.9, 0.8, 0.7, 0.2]), np.array([0, 0, 1, 1]), TWO)
    assert got.cut == pytest.approx(0.75)
    assert got.macro_f1 == 1
    assert got.value() == got.cut
    assert got.apply(binary([0.75, 0.74, 1.0, 0.0])).tolist() == [0, 1, 0, 1]


def test_two_labels_tie_takes_the_widest_gap():
    # A cut in (0.4, 0.5] and one in (0.55, 0.95] leave one row wrong each, and the same macro F1.
    got = choose(binary([0.99, 0.95, 0.55, 0.5, 0.4, 0.05]), np.array([0, 0, 1, 0, 1, 1]), TWO)
    assert got.cut == pytest.approx(0.75)


def test_two_labels_tie_of_equal_width_takes_the_one_nearest_to_a_half():
    got = choose(binary([1.0, 0.75, 0.5, 0.25, 0.0, 0.0]), np.array([0, 0, 1, 0, 1, 1]), TWO)
    assert got.cut == pytest.approx(0.625)


def test_all_probabilities_alike():
    got = choose(binary([0.3, 0.3, 0.3]), np.array([0, 1, 0]), TWO)
    assert set(got.apply(binary([0.3, 0.3, 0.3])).tolist()) == {0}  # most rows are of the first label
    assert got.macro_f1 == pytest.approx(0.4)


def test_one_class_only():
    assert choose(binary([0.3, 0.4]), np.array([1, 1]), TWO).apply(binary([0.3, 0.4])).tolist() == [1, 1]
    assert choose(binary([0.3, 0.4]), np.array([0, 0]), TWO).apply(binary([0.3, 0.4])).tolist() == [0, 0]


@given(
    st.lists(
        st.tuples(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.25, 0.5, 1.0])), st.integers(0, 1)),
        min_size=1,
        max_size=30,
    )
)
def test_two_labels_no_cut_is_better(rows):
    first, gold = [p for p, _ in rows], np.array([g for _, g in rows])
    got = choose(binary(first), gold, TWO)
    assert 0 <= got.cut <= 1
    probabilities = np.stack([first, 1 - np.array(first)], axis=1)
    assert macro_f1(gold, got.apply(probabilities), 2) == pytest.approx(got.macro_f1)
    every_cut = [0.0, 1.0, *first, *np.nextafter(first, 1)]
    best = max(macro_f1(gold, np.where(np.array(first) >= cut, 0, 1), 2) for cut in every_cut)
    assert got.macro_f1 == pytest.approx(best)


def test_more_labels_undo_a_known_bias():
    generator = np.random.default_rng(0)
    gold = generator.integers(0, 3, 600)
    logits = generator.normal(size=(600, 3)) + 3 * np.eye(3)[gold]
    logits[:, 0] += 4  # the model is fond of the first label
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    plain = macro_f1(gold, probabilities.argmax(axis=1), 3)
    got = choose(probabilities, gold, ("x", "y", "z"))
    assert plain < 0.5
    assert got.macro_f1 > 0.9
    assert got.macro_f1 == pytest.approx(macro_f1(gold, got.apply(probabilities), 3))
    assert got.biases[0] - got.biases[1] == pytest.approx(-4, abs=1)
    assert sum(got.biases) == pytest.approx(0)
    assert got.value() == dict(zip(("x", "y", "z"), got.biases, strict=True))


def test_more_labels_near_the_best_of_a_grid():
    generator = np.random.default_rng(1)
    gold = generator.integers(0, 3, 60)
    probabilities = generator.dirichlet([1, 1, 1], 60) * 0.6 + 0.4 * np.eye(3)[gold] * [0.3, 1, 1]
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    got = choose(probabilities, gold, ("x", "y", "z"))
    grid = np.linspace(-3, 3, 31)
    best = max(
        macro_f1(gold, (np.log(probabilities) + np.array([0, b, c])).argmax(axis=1), 3)
        for b, c in itertools.product(grid, grid)
    )
    assert got.macro_f1 >= best - 0.03


@settings(max_examples=40)
@given(st.integers(3, 5), st.integers(1, 25), st.integers(0, 10_000))
def test_more_labels_never_worse_than_no_bias_and_deterministic(classes, n, seed):
    generator = np.random.default_rng(seed)
    gold = generator.integers(0, classes, n)
    probabilities = generator.dirichlet(np.full(classes, 0.3), n).round(2)
    labels = tuple(str(i) for i in range(classes))
    got = choose(probabilities, gold, labels)
    assert got == choose(probabilities.copy(), gold.copy(), labels)
    assert np.isfinite(got.biases).all()
    plain = macro_f1(gold, np.log(np.maximum(probabilities, 1e-12)).argmax(axis=1), classes)
    assert got.macro_f1 >= plain - 1e-12


def test_refuses_rows_that_do_not_fit():
    for probabilities, gold in [(np.zeros((0, 2)), []), (np.zeros((2, 3)), [0, 1]), (np.zeros((1, 2)), [0, 1])]:
        with pytest.raises(ValueError):
            choose(probabilities, np.array(gold, dtype=int), TWO)
