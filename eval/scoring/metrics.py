"""Classification metrics over label words, where an answer that names no label (unparsed) counts as wrong.

Formulas are scikit-learn's. Unparsed is a predicted class of its own: it adds a column to the confusion matrix and a
class to MCC, and it never leaves a denominator. Macro F1 is defined once, in `macro_f1`, for the whole project.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, matthews_corrcoef, precision_recall_fscore_support

UNPARSED = "unparsed"


@dataclass(frozen=True)
class ClassMetrics:
    """One label's precision, recall and F1 (0 where undefined), its gold rows and its predicted rows."""

    precision: float
    recall: float
    f1: float
    support: int
    predicted: int


@dataclass(frozen=True)
class Classification:
    """Metrics of one reading's predictions. Rates lie in [0, 1]; MCC in [-1, 1].

    confusion: one row a gold label, one column a label and a last one for unparsed, in the task's order of labels.
    strict, strict_rate: answers that are the bare label word, right or wrong; None where no text was generated.
    """

    n: int
    correct: int
    accuracy: float
    macro_f1: float
    balanced_accuracy: float
    mcc: float
    per_class: dict[str, ClassMetrics]
    confusion: list[list[int]]
    unparsed: int
    unparsed_rate: float
    strict: int | None
    strict_rate: float | None


def encode(values: Sequence[str | None], labels: Sequence[str]) -> NDArray[np.int64]:
    """Label words as their positions in `labels`, None (unparsed) as len(labels); shape (n,).

    Raises ValueError for a word that is not in `labels`.
    """
    codes: dict[str | None, int] = {label: code for code, label in enumerate(labels)}
    codes[None] = len(labels)
    try:
        return np.fromiter((codes[value] for value in values), dtype=np.int64, count=len(values))
    except KeyError as error:
        raise ValueError(f"{error.args[0]!r} is none of the labels {list(labels)}") from None


def macro_f1(hits: NDArray, predicted: NDArray, support: NDArray) -> NDArray[np.float64]:
    """The mean F1 of the labels that have gold rows; a label without any says nothing about the predictions.

    hits (right predictions), predicted and support (gold rows) are counts a label, shape (..., labels); result (...).
    scikit-learn's `f1_score(gold, predicted, labels=np.unique(gold), average="macro")`.
    """
    present = np.broadcast_to(support > 0, np.shape(hits))
    f1 = np.divide(2.0 * hits, predicted + support, out=np.zeros(np.shape(hits)), where=present)
    return f1.sum(axis=-1) / present.sum(axis=-1)


def classify(
    gold: Sequence[str],
    predicted: Sequence[str | None],
    labels: Sequence[str],
    strict: Sequence[bool] | None = None,
) -> Classification:
    """Metrics of `predicted` against `gold`, row by row; `strict` marks the answers that are a bare label word.

    Macro F1 (see `macro_f1`) and balanced accuracy (mean recall) are over the labels that have gold rows. MCC is
    Gorodkin's multi-class form, 0 where it is undefined.

    Raises ValueError when there are no rows, when lengths differ, or for a word that is not in `labels`.
    """
    n = len(gold)
    if n == 0 or len(predicted) != n or (strict is not None and len(strict) != n):
        raise ValueError(f"{n} gold rows and {len(predicted)} predictions: both must be the same, and not 0")
    gold_codes, codes = encode(gold, labels), encode(predicted, labels)
    if (gold_codes == len(labels)).any():
        raise ValueError("a gold label is missing")
    known = np.arange(len(labels))
    scores = precision_recall_fscore_support(gold_codes, codes, labels=known, average=None, zero_division=0)[:3]
    recall = scores[1]
    confusion = confusion_matrix(gold_codes, codes, labels=np.arange(len(labels) + 1))[:-1]
    support = confusion.sum(axis=1)  # scikit-learn's counts are floats where no answer is one of the labels
    *predicted_counts, unparsed = confusion.sum(axis=0).tolist()
    correct = int((gold_codes == codes).sum())
    bare = None if strict is None else int(sum(strict))
    one_class = len(np.unique(gold_codes)) == 1 or len(np.unique(codes)) == 1
    per_class = zip(*(column.tolist() for column in (*scores, support)), predicted_counts, strict=True)
    return Classification(
        n=n,
        correct=correct,
        accuracy=correct / n,
        macro_f1=float(macro_f1(confusion.diagonal(), np.array(predicted_counts), support)),
        balanced_accuracy=float(recall[support > 0].mean()),
        mcc=0.0 if one_class else float(matthews_corrcoef(gold_codes, codes)),
        per_class={label: ClassMetrics(*row) for label, row in zip(labels, per_class, strict=True)},
        confusion=confusion.tolist(),
        unparsed=unparsed,
        unparsed_rate=unparsed / n,
        strict=bare,
        strict_rate=None if bare is None else bare / n,
    )
