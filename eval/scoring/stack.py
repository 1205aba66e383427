"""The tuned model and the linear model together: stacking (Wolpert 1992), learned on validation rows alone.

A log-linear pool of both (log_linear.py), whose weights are drawn towards equal ones of the calibrated models. It shows
whether either knows what the other does not. Test rows are answered by the pool of all validation rows; a validation
row by one that has not seen it (cross-fitting), calibration and all, so that a threshold chosen on these probabilities
is not chosen on what they were learned from. The linear model's C is cross-fitted too (eval/baselines.py); the
validation rows have chosen the tuned model's checkpoint before.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from eval.scoring.cross_fit import has_all
from eval.scoring.log_linear import (
    FloatArray,
    IntArray,
    LogLinear,
    Models,
    answer_out_of_fold,
    fit,
    fit_with_biases_that_help,
)
from eval.scoring.temperature import calibrate, calibrated_out_of_fold


class Stack(NamedTuple):
    """The pool of all validation rows, on the models' probabilities as they are stored, and what it answers:
    validation rows (m, labels), each by a pool without it, and test rows (n, labels). alone (m, labels): the first
    model's answers to the validation rows, calibrated without the row likewise; what the pool is to be better than."""

    pool: LogLinear
    on_val: FloatArray
    on_test: FloatArray
    alone: FloatArray


def stacked(on_val: Models, on_test: Models, gold: IntArray) -> Stack | None:
    """The stack of models by their probabilities of validation and test rows, uncalibrated.

    `gold` (m,) are the validation rows' positions in the labels. None where a label has fewer than `FEWEST` of them.
    """
    if not has_all(gold, on_val[0].shape[1]):
        return None
    pool = fit_stack(on_val, gold)
    unseen = answer_out_of_fold(_fit, on_val, gold, pool.biases is not None)
    biased = calibrate(on_val[0], gold, True).biases is not None
    return Stack(pool, unseen, pool.apply(on_test), calibrated_out_of_fold(on_val[0], gold, biased))


def fit_stack(models: Sequence[FloatArray], gold: IntArray) -> LogLinear:
    """The pool of `models` by the rows of the labels `gold` (n,)."""
    return fit_with_biases_that_help(_fit, models, gold)


def _fit(models: Models, gold: IntArray, biased: bool) -> LogLinear:
    """Towards the models' geometric mean, each of them calibrated, and the mean as well."""
    own = [calibrate(shares, gold, False) for shares in models]
    sure = [one.apply(shares) for one, shares in zip(own, models, strict=True)]
    mean = LogLinear((1 / len(sure),) * len(sure)).apply(sure)
    simple = calibrate(mean, gold, False).apply(mean)
    pool = fit(sure, gold, simple, biased)
    # On probabilities as they are stored: a temperature divides all log-odds alike.
    weights = (weight / one.temperature for weight, one in zip(pool.weights, own, strict=True))
    return LogLinear(tuple(np.array(list(weights)).tolist()), pool.biases)
