"""Label probabilities made of one or several models': p(k) in proportion to exp(sum of w_m log p_m(k) + b_k).

Of one model this is temperature scaling, w being 1 / temperature (Guo et al. 2017), with biases its bias-corrected form
(Alexandari, Kundaje and Shrikumar 2020). Of several it is a log-linear opinion pool (Genest and Zidek 1986); for two
labels that is logistic regression on the log-odds, with weights that are never negative.

Weights and biases have the least log loss on n validation rows and on `PRIOR_ROWS` further ones that answer as a
simpler model says: a catalytic prior (Huang, Stein, Rubin and Kou 2020, PNAS). For the loss, that model is a share
PRIOR_ROWS / (n + PRIOR_ROWS) of every row's label. So 30 rows go half the way, 600 nearly all of it, and rows that are
all answered rightly do not make an answer certain.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.metrics import f1_score

from eval.scoring.cross_fit import has_all, out_of_fold

LEAST = 1e-30  # of a probability: a label with p = 0 has no log-odds
# Simulated with 2 and 5 labels, 30 to 300 rows and true temperatures of 0.7 to 2.5: fewer lose on 30 calibrated rows,
# more on 100 rows of a model that is far too sure.
PRIOR_ROWS = 30

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Models = Sequence[FloatArray]  # of each model the probabilities (n, labels)


@dataclass(frozen=True)
class LogLinear:
    """The weight of each model, and a bias a label (mean 0); without biases None."""

    weights: tuple[float, ...]
    biases: tuple[float, ...] | None = None

    def apply(self, models: Models) -> FloatArray:
        """Probabilities (n, labels) from those of each model, in the order of the weights."""
        logits = np.tensordot(self.weights, np.stack([_logs(shares) for shares in models]), 1)
        return np.asarray(softmax(logits if self.biases is None else logits + np.array(self.biases), axis=1))


Fitter = Callable[[Models, IntArray, bool], LogLinear]  # from models, gold (n,), and whether there are biases


def fit(
    models: Models, gold: IntArray, prior: FloatArray, biased: bool, least: float = 0.0, most: float = np.inf
) -> LogLinear:
    """What has the least log loss on rows of the labels `gold` (n,), n > 0, and on those of `prior` (n, labels).

    Each weight is from `least` to `most`. The loss is convex, and nothing is random.
    """
    columns = np.stack([_logs(shares) for shares in models])  # [models, n, labels]
    count, n, labels = columns.shape
    wanted = (np.eye(labels)[gold] * n + prior * PRIOR_ROWS) / (n + PRIOR_ROWS)
    free = labels if biased else 0

    def loss(values: FloatArray) -> tuple[float, FloatArray]:
        logits = np.tensordot(values[:count], columns, 1) + (values[count:] if biased else 0.0)
        found = log_softmax(logits, axis=1)
        off = (np.exp(found) - wanted) / n
        return -float((wanted * found).sum() / n), np.append(np.tensordot(columns, off, 2), off.sum(axis=0)[:free])

    start = np.append(np.full(count, 1 / count), np.zeros(free))
    bounds = [(least, most)] * count + [(None, None)] * free
    options = {"ftol": 1e-13, "gtol": 1e-7, "maxiter": 500}
    values = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
    biases = tuple((values[count:] - values[count:].mean()).tolist()) if biased else None
    return LogLinear(tuple(values[:count].tolist()), biases)


def answer_out_of_fold(fitter: Fitter, models: Models, gold: IntArray, biased: bool) -> FloatArray:
    """Probabilities (n, labels) of each row by what was fitted without it.

    `biased` as what all rows are answered by has it: folds would decide otherwise, having fewer rows.
    """

    def answer(known: IntArray, asked: IntArray) -> FloatArray:
        return fitter([one[known] for one in models], gold[known], biased).apply([one[asked] for one in models])

    return out_of_fold(answer, gold, models[0].shape[1])


def fit_with_biases_that_help(fitter: Fitter, models: Models, gold: IntArray) -> LogLinear:
    """With biases only where they gain more log loss than as many free values do by chance, by the Bayesian information
    criterion (Schwarz 1978), and cost no macro F1. They may change a row's label.
    """
    n, labels = models[0].shape
    plain = fitter(models, gold, False)
    if not has_all(gold, labels):
        return plain
    biased = fitter(models, gold, True)
    before, after = (one.apply(models) for one in (plain, biased))
    at = np.arange(n), gold
    gain = 2 * float((_logs(after)[at] - _logs(before)[at]).sum())
    by_f1 = [f1_score(gold, shares.argmax(axis=1), average="macro") for shares in (before, after)]
    return biased if by_f1[1] >= by_f1[0] and gain > (labels - 1) * np.log(n) else plain


def _logs(probabilities: FloatArray) -> FloatArray:
    return np.log(np.maximum(probabilities, LEAST))
