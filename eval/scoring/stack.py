"""The tuned model and the linear model together: stacking (Wolpert 1992), learned on validation rows alone.

Logistic regression on the log-odds that both give the labels. It shows whether either knows what the other does not.
Test rows are answered by the model of all validation rows; a validation row by one that has not seen it
(cross-fitting), so that a threshold chosen on these probabilities is not chosen on what they were learned from. The
validation rows have chosen the checkpoint and the linear model's C before.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict

FEWEST = 20  # validation rows of each class: below it the weights are those of chance
FOLDS = 5
LEAST = 1e-6  # of a probability

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def stacked(
    on_val: Sequence[FloatArray], on_test: Sequence[FloatArray], gold: IntArray
) -> tuple[FloatArray, FloatArray] | None:
    """Probabilities (m, labels) of the validation and (n, labels) of the test rows, from those of each model.

    `gold` (m,) are the validation rows' positions in the labels. None where a label has fewer than `FEWEST` of them.
    """
    if (model := fit_stack(on_val, gold)) is None:
        return None
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    out_of_fold = cross_val_predict(_unfitted(), log_odds(on_val), gold, cv=folds, method="predict_proba")
    return out_of_fold, model.predict_proba(log_odds(on_test))


def fit_stack(on_val: Sequence[FloatArray], gold: IntArray) -> LogisticRegression | None:
    """The model of all validation rows, as in `stacked`; None where a label has too few."""
    if np.bincount(gold, minlength=on_val[0].shape[1]).min() < FEWEST:
        return None
    return _unfitted().fit(log_odds(on_val), gold)


def _unfitted() -> LogisticRegression:
    return LogisticRegression(max_iter=1000)


def log_odds(models: Sequence[FloatArray]) -> FloatArray:
    """[rows, models * (labels - 1)]: of each model's probabilities, against the last label."""
    logs = (np.log(np.maximum(shares, LEAST)) for shares in models)
    return np.concatenate([log[:, :-1] - log[:, -1:] for log in logs], axis=1)
