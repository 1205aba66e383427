"""Label probabilities of rows, from a model that did not learn from them."""

import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eval.scoring.label_rows import LabelRows
from workspace.errors import UserError
from workspace.files import read_jsonl
from workspace.paths import shown

FOLDS = 5
SEED = 42
# As the linear baseline of the evaluation; C is not searched for: what is asked here is an order, not an accuracy.
NGRAMS = (1, 3)
MIN_ROWS_A_TERM = 2
FEW_ROWS = 200  # with fewer rows most n-grams occur once
C = 3.0


def held_out_probabilities(
    rows: LabelRows, labels: Sequence[str], train: LabelRows | None = None
) -> NDArray[np.float64]:
    """Label probabilities (n, labels): out of fold (5 folds, stratified, seed 42), or from a model of the rows `train`.

    TF-IDF of character 1- to 3-grams and logistic regression, classes weighted by 1 / frequency. Raises UserError
    when a label has fewer learning rows than there are folds.
    """
    # Here, because it takes seconds to load.
    from sklearn.model_selection import StratifiedKFold

    learned = train or rows
    counts = Counter(learned.given)
    for word in labels:
        if counts[word] < FOLDS:
            raise UserError(
                f"{shown(learned.path)} has {counts[word]} rows of {word}, expected at least {FOLDS}: add some"
            )
    if train is not None:
        return _fit_predict(train.reviews, train.codes(labels), rows.reviews)
    reviews, codes = np.array(rows.reviews, dtype=object), rows.codes(labels)
    result = np.zeros((len(codes), len(labels)))
    for inner, outer in StratifiedKFold(FOLDS, shuffle=True, random_state=SEED).split(reviews, codes):
        result[outer] = _fit_predict(reviews[inner], codes[inner], reviews[outer])
    return result


def saved_probabilities(run: Path, split: str, rows: LabelRows, labels: Sequence[str]) -> NDArray[np.float64] | None:
    """The tuned model's label probabilities (n, labels) in RUN/after/<split>.jsonl; None where it saved none.

    Raises UserError when the folder is no run, or the answers are to other rows.
    """
    if not (run / "run.json").is_file():
        raise UserError(f"{shown(run)} is not a run (no run.json): name a folder that run_sft.sh made")
    path = run / "after" / f"{split}.jsonl"
    if not path.is_file():
        return None
    try:
        answers = {str(row["id"]): row for row in read_jsonl(path)}
        shares = [answers[key]["probabilities"] for key in rows.ids]
        if any(share is None for share in shares):
            return None
        if len(answers) != len(rows.ids) or any(
            answers[key]["gold"] != given for key, given in zip(rows.ids, rows.given, strict=True)
        ):
            raise KeyError("other rows")
        matrix = np.array([[share[word] for word in labels] for share in shares], float)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{shown(path)} does not answer the rows of {shown(rows.path)} ({error!r}): name the run of this dataset"
        ) from error
    if not np.isfinite(matrix).all() or (matrix < 0).any() or (matrix.sum(axis=1) <= 0).any():
        raise UserError(f"{shown(path)} holds probabilities that are none: run the inference again")
    return matrix / matrix.sum(axis=1, keepdims=True)


def _fit_predict(reviews: Sequence[str], codes: NDArray[np.int64], others: Sequence[str]) -> NDArray[np.float64]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    vectorizer = TfidfVectorizer(
        analyzer="char",
        ngram_range=NGRAMS,
        min_df=MIN_ROWS_A_TERM if len(reviews) >= FEW_ROWS else 1,
        sublinear_tf=True,
        dtype=np.float32,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # an order is good enough long before
        model = LogisticRegression(C=C, class_weight="balanced").fit(vectorizer.fit_transform(reviews), codes)
    return model.predict_proba(vectorizer.transform(others))
