"""External plugin for `swift sft`: cross entropy in which every class has the same weight.

`external_plugins: [plugins/balanced_loss.py]` with `loss_type: balanced`. A row of class c counts n / (k * n_c) times,
for n training rows in k classes, n_c of them in c: scikit-learn's class_weight="balanced". The mean weight of a
training row is 1, so the learning rate keeps its meaning. The validation loss stays unweighted, so that runs compare.
A row's class is its answer: the tokens that have a loss, or the integer label of a classification head.
"""

from collections import Counter
from collections.abc import Hashable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from swift.loss import loss_map
from swift.loss.base import BaseLoss

IGNORED = -100  # the label of a token without loss


def answer_of(labels: Any) -> Hashable:
    """A row's class: the ids of its answer's tokens, or the integer of a head."""
    if isinstance(labels, int):
        return labels
    return tuple(token for token in labels if token != IGNORED)


def class_weights(answers: Iterable[Hashable]) -> dict[Hashable, float]:
    """The weight of each class, from the classes of all training rows."""
    counts = Counter(answers)
    rows = sum(counts.values())
    return {answer: rows / (len(counts) * count) for answer, count in counts.items()}


class BalancedLoss(BaseLoss):
    """Cross entropy a token, weighted by the row's class, divided by the tokens of the whole batch."""

    weights: dict[Hashable, float] | None = None

    def __call__(
        self, outputs: Any, labels: torch.Tensor, *, num_items_in_batch: Any = None, **kwargs: Any
    ) -> torch.Tensor:
        """The loss of a batch: `labels` [rows, tokens] with -100 where there is no loss, or [rows] for a head."""
        if self.weights is None:
            self.weights = class_weights(answer_of(row["labels"]) for row in self.trainer.train_dataset)
        logits = outputs.logits.float()
        if labels.dim() == 1:
            targets, counted = labels, torch.tensor(len(labels))
            losses = F.cross_entropy(logits, targets.to(logits.device), reduction="none")
        else:
            targets = torch.roll(labels, -1, -1).to(logits.device)
            targets[:, -1] = IGNORED
            counted = (targets != IGNORED).sum()
            losses = F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=IGNORED, reduction="none")
        if self.trainer.model.training:
            weights = [self.weights[answer_of(row)] for row in labels.tolist()]
            shape = (-1, *[1] * (losses.dim() - 1))
            losses = losses * torch.tensor(weights, device=losses.device).view(shape)
        return losses.sum() / (counted if num_items_in_batch is None else num_items_in_batch)


loss_map["balanced"] = BalancedLoss
