"""The stack takes from both models what the other does not know, from validation rows alone."""

import numpy as np
import pytest

from eval.scoring.roc import roc_auc
from eval.scoring.stack import FEWEST, stacked


def two_models(rows: int, labels: int, seed: int, noise: float = 1.6) -> tuple[list[np.ndarray], np.ndarray]:
    """Probabilities of two models with errors of their own, and the gold."""
    rng = np.random.default_rng(seed)
    gold = rng.integers(0, labels, rows)
    models = []
    for _ in range(2):
        logits = np.eye(labels)[gold] * 2 + rng.normal(0, noise, (rows, labels))
        models.append(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))
    return models, gold


@pytest.mark.parametrize("labels", [2, 4])
def test_two_models_with_errors_of_their_own_are_better_together(labels: int) -> None:
    (on_val, gold), (on_test, truth) = two_models(300, labels, 1), two_models(2000, labels, 2)
    val, test = stacked(on_val, on_test, gold)
    accuracy = [float((shares.argmax(axis=1) == truth).mean()) for shares in (*on_test, test)]
    assert accuracy[2] > max(accuracy[:2]) + 0.03
    assert test.shape == (2000, labels) and test.sum(axis=1) == pytest.approx(1)
    assert val.shape == (300, labels)


def test_a_validation_row_is_answered_by_a_model_that_has_not_seen_it() -> None:
    """Probabilities that tell nothing: fitted and asked on the same rows, they would seem to."""
    aucs = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        gold = np.repeat([0, 1], FEWEST)
        noise = [rng.dirichlet([1, 1], len(gold)) for _ in range(2)]
        aucs.append(roc_auc(stacked(noise, noise, gold)[0], gold)[0])
    assert np.mean(aucs) < 0.55


def test_too_few_rows_of_a_class_make_no_stack() -> None:
    models, _ = two_models(60, 2, 1)
    gold = np.array([0] * (61 - FEWEST) + [1] * (FEWEST - 1))
    assert stacked(models, models, gold) is None
