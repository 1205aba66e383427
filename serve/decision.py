"""From a row's probabilities to its label, and whether a person should look at it: by what validation rows chose."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eval.scoring.costs import cost_matrix
from eval.scoring.thresholds import Threshold
from serve.classifier_file import ClassifierFile
from serve.describe import THRESHOLD


class Decided(NamedTuple):
    """Of each row: the label (n,) text, its probability (n,), and whether it is left to a person (n,) bool."""

    labels: NDArray[np.object_]
    confidence: NDArray[np.float64]
    abstained: NDArray[np.bool_]


def decide(file: ClassifierFile, probabilities: NDArray[np.float64], accept: float | None = None) -> Decided:
    """The labels of `probabilities` (n, labels of `file`), as the reading gave them that was measured.

    Where the task has costs the label is the one of least expected cost, as the report prices it (eval.scoring.costs).
    A row is left to a person where its label's probability is below `accept`. Without that the threshold counts that
    validation rows chose: the expected cost of the cheapest label, where the task has costs, else the confidence from
    which on the wanted accuracy was reached. None is left where there is neither.
    """
    expected = None if file.costs is None else probabilities @ cost_matrix(file.costs, file.labels)
    codes = _codes(file, probabilities) if expected is None else expected.argmin(axis=1)
    confidence = probabilities[np.arange(len(codes)), codes]
    if accept is None and expected is not None and file.thresholds.cost is not None:
        abstained = expected.min(axis=1) > file.thresholds.cost
    else:
        least = file.thresholds.selective if accept is None else accept
        abstained = confidence < (0.0 if least is None else least)
    return Decided(np.array(file.labels, object)[codes], confidence, abstained)


def _codes(file: ClassifierFile, probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
    chosen = file.thresholds.label
    if not file.reported.endswith(THRESHOLD) or chosen is None:
        return probabilities.argmax(axis=1)
    if isinstance(chosen, dict):
        biases = tuple(chosen[label] for label in file.labels)
        return Threshold(file.labels, None, biases, 0.0).apply(probabilities)
    return Threshold(file.labels, chosen, None, 0.0).apply(probabilities)
