"""The decision threshold of a score reading, chosen on validation probabilities alone.

Two labels: a threshold t on p(labels[0]), labels[0] being answered when p >= t. More: a bias per label, the answer
being the label with the greatest log p + bias. Both maximise validation macro F1, and neither draws a random number:
the same validation rows give the same threshold.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.scoring.metrics import macro_f1

# Probabilities below this are taken for this in log space: a label word with p = 0 must not outweigh every bias.
_FLOOR = 1e-12
_SWEEPS = 20
_TURNS = 240  # of labels in all sweeps: with many labels the later sweeps take minutes and gain next to nothing
_GAIN = 1e-12

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Threshold:
    """`cut` for two labels, `biases` (in the order of labels, mean 0) for more; macro_f1 is the validation's."""

    labels: tuple[str, ...]
    cut: float | None
    biases: tuple[float, ...] | None
    macro_f1: float

    def apply(self, probabilities: FloatArray) -> IntArray:
        """Positions in `labels` that are answered; probabilities (n, labels), result (n,)."""
        if self.cut is not None:
            return np.where(probabilities[:, 0] >= self.cut, 0, 1)
        return (_log(probabilities) + np.array(self.biases)).argmax(axis=1)

    def value(self) -> float | dict[str, float]:
        """The threshold as metrics.json has it: a number for two labels, else label -> bias."""
        return dict(zip(self.labels, self.biases or (), strict=True)) if self.cut is None else self.cut


def choose(probabilities: FloatArray, gold: IntArray, labels: Sequence[str]) -> Threshold:
    """The threshold with the best macro F1 on validation rows: probabilities (n, labels), gold positions (n,).

    Raises ValueError when there are no rows or the shapes do not fit.
    """
    if probabilities.shape != (len(gold), len(labels)) or len(gold) == 0:
        raise ValueError(f"{len(gold)} gold rows, probabilities {probabilities.shape}, {len(labels)} labels")
    if len(labels) == 2:
        cut, score = _binary_cut(probabilities[:, 0], gold)
        return Threshold(tuple(labels), cut, None, score)
    biases, score = _biases(_log(probabilities), gold)
    return Threshold(tuple(labels), None, tuple(float(b) for b in biases - biases.mean()), score)


def _binary_cut(first: FloatArray, gold: IntArray) -> tuple[float, float]:
    """The best cut in [0, 1] on p(labels[0]) and its macro F1.

    Every cut in the gap between two neighbouring probabilities answers alike. Neighbouring gaps that are equally good
    are one; of several, the widest is taken, then the one with its middle nearest to 0.5, then the lowest; the cut is
    its middle, the farthest from the rows it was chosen on.
    """
    values = np.unique(first)
    low = np.concatenate([[0.0], values])
    high = np.concatenate([values, [1.0]])
    if values[-1] >= 1.0:  # no cut within [0, 1] lies above a probability of 1
        low, high = low[:-1], high[:-1]
    ordered = np.sort(first), np.sort(first[gold == 0])
    answered, right = (len(a) - np.searchsorted(a, high, side="left") for a in ordered)
    positives, n = len(ordered[1]), len(first)
    wrong = answered - right
    scores = macro_f1(
        np.stack([right, n - positives - wrong], axis=1),
        np.stack([answered, n - answered], axis=1),
        np.array([positives, n - positives]),
    )
    best = np.flatnonzero(scores >= scores.max() - _GAIN)
    runs = np.split(best, np.flatnonzero(np.diff(best) > 1) + 1)
    start, end = min(
        ((low[run[0]], high[run[-1]]) for run in runs),
        key=lambda gap: (-(gap[1] - gap[0]), abs((gap[0] + gap[1]) / 2 - 0.5), gap[0]),
    )
    middle = (start + end) / 2
    # Two neighbouring floats have no number between them; the cut must stay above the lower one.
    return float(middle if middle > start or start == end else end), float(scores.max())


def _biases(logs: FloatArray, gold: IntArray) -> tuple[FloatArray, float]:
    """Coordinate ascent from zero biases: each label's best bias given the others, until a sweep gains nothing.

    Of more than 12 labels there are fewer sweeps.
    """
    biases = np.zeros(logs.shape[1])
    best = _score((logs + biases).argmax(axis=1), gold, logs.shape[1])
    for _ in range(min(_SWEEPS, max(1, _TURNS // logs.shape[1]))):
        before = best
        for label in range(logs.shape[1]):
            trial = biases.copy()
            trial[label] = _best_bias(logs, biases, gold, label)
            score = _score((logs + trial).argmax(axis=1), gold, logs.shape[1])
            if score > best + _GAIN:
                biases, best = trial, score
        if best <= before + _GAIN:
            break
    return biases, best


def _best_bias(logs: FloatArray, biases: FloatArray, gold: IntArray, label: int) -> float:
    """The bias of `label` with the best macro F1, the others fixed: the middle of the widest gap between the points
    at which a row changes to `label` (the outermost gaps, which have no end, count as 2 wide)."""
    classes = logs.shape[1]
    others = logs + biases
    others[:, label] = -np.inf
    rival = others.argmax(axis=1)
    margin = others.max(axis=1) - logs[:, label]  # a row answers `label` once its bias passes this
    order = np.argsort(margin, kind="stable")
    eye = np.eye(classes)
    tp_rival = eye[gold] * (rival == gold)[:, None]
    tp_label = eye[gold] * (gold == label)[:, None]
    change_tp = np.cumsum((tp_label - tp_rival)[order], axis=0)
    change_predicted = np.cumsum((eye[label] - eye[rival])[order], axis=0)
    zero = np.zeros((1, classes))
    tp = tp_rival.sum(axis=0) + np.concatenate([zero, change_tp])
    predicted = eye[rival].sum(axis=0) + np.concatenate([zero, change_predicted])
    scores = macro_f1(tp, predicted, eye[gold].sum(axis=0))
    points = margin[order]
    low = np.concatenate([[points[0] - 2], points])
    high = np.concatenate([points, [points[-1] + 2]])
    scores = np.where(high > low, scores, -1)  # rows with one and the same margin change together
    best = np.flatnonzero(scores >= scores.max() - _GAIN)
    widest = best[np.argmax((high - low)[best])]
    return float((low[widest] + high[widest]) / 2)


def _score(answers: IntArray, gold: IntArray, classes: int) -> float:
    eye = np.eye(classes)
    hits = eye[gold] * (answers == gold)[:, None]
    return float(macro_f1(hits.sum(axis=0), eye[answers].sum(axis=0), eye[gold].sum(axis=0)))


def _log(probabilities: FloatArray) -> FloatArray:
    return np.log(np.maximum(probabilities, _FLOOR))
