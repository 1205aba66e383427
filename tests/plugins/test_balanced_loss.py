"""The class-balanced loss, against a weighted cross entropy written out by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.swift


def balanced(rows, training=True):
    from plugins.balanced_loss import BalancedLoss

    trainer = SimpleNamespace(train_dataset=rows, model=SimpleNamespace(training=training))
    return BalancedLoss(SimpleNamespace(), trainer)


def test_weights_are_scikit_learns() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    from plugins.balanced_loss import class_weights

    answers = [0] * 7 + [1] * 2 + [2]
    expected = compute_class_weight("balanced", classes=np.arange(3), y=answers)
    assert [class_weights(answers)[code] for code in range(3)] == pytest.approx(expected)


@pytest.mark.parametrize("training", [True, False])
def test_words(training: bool) -> None:
    """Two answers, one of two tokens; three training rows to one."""
    long, short = [-100, -100, 5, 6, 2], [-100, 7, 2]
    loss = balanced([{"labels": long}] * 3 + [{"labels": short}], training)
    labels = torch.tensor([long, [-100, -100, -100, 7, 2]])
    logits = torch.randn(2, 5, 9, generator=torch.Generator().manual_seed(1))
    steps = torch.log_softmax(logits, -1)
    weights = {"long": 4 / (2 * 3), "short": 4 / (2 * 1)} if training else {"long": 1, "short": 1}
    by_hand = -weights["long"] * (steps[0, 1, 5] + steps[0, 2, 6] + steps[0, 3, 2])
    by_hand -= weights["short"] * (steps[1, 2, 7] + steps[1, 3, 2])
    outputs = SimpleNamespace(logits=logits)
    assert loss(outputs, labels).item() == pytest.approx(by_hand.item() / 5, rel=1e-5)
    assert loss(outputs, labels, num_items_in_batch=10).item() == pytest.approx(by_hand.item() / 10, rel=1e-5)


def test_head() -> None:
    loss = balanced([{"labels": 0}] * 3 + [{"labels": 1}])
    logits = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    steps = torch.log_softmax(logits, -1)
    by_hand = -(4 / 6 * steps[0, 0] + 2 * steps[1, 1]) / 2
    assert loss(SimpleNamespace(logits=logits), torch.tensor([0, 1])).item() == pytest.approx(by_hand.item())
