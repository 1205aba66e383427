"""The two baselines that need no language model: the majority label, and character TF-IDF with a linear model.

Run as: python -m eval.baselines RUN. Both learn from the run's train rows. The linear model reads what the language
model is shown, cut where that is; its regularisation is chosen on the validation rows, as the checkpoint is. Writes
RUN/baselines.json and RUN/baselines/tfidf_linear/*.jsonl.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from eval.evaluate import load_run_task
from eval.scoring.baseline_records import ANSWERS, BASELINES_RECORD, LINEAR, Baselines
from eval.scoring.cross_fit import FOLDS, has_enough, out_of_fold
from eval.scoring.metrics import classify
from eval.scoring.responses import Response, Split, SplitName, as_shown, load_split, write_responses
from plan.provenance import made_by
from plan.run import Run, locked_run
from workspace import stages
from workspace.command_line import Parser, given_path
from workspace.errors import UserError, run_main
from workspace.files import sha256_file, write_json
from workspace.paths import shown

STAGE = "baselines"
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")

# Features and grid were settled on validation rows of the real hotel reviews; see `fit_linear`.
NGRAMS = (1, 3)
MIN_ROWS_A_TERM = 2
# Below this many train rows most n-grams occur once, and dropping them would leave next to nothing.
FEW_ROWS = 200
C_GRID = (0.3, 1.0, 3.0, 10.0, 30.0)
DEFAULT_C = 10.0  # of a run without validation rows


class Choice(NamedTuple):
    """A fitted classifier; trials: (C, validation metric) of each C tried.

    parameters counts the classifier's coefficients and intercepts. held_out: probabilities (m, labels) of the
    validation rows, each with the C that the other folds choose; where a label has fewer rows than folds, the one C.
    """

    classifier: LogisticRegression
    c: float
    trials: tuple[tuple[float, float], ...]
    parameters: int
    held_out: NDArray[np.float64] | None


@dataclass(frozen=True)
class LinearModel:
    """A fitted vectoriser and its classifier, as in `Choice`; seconds: all of fitting."""

    vectorizer: TfidfVectorizer
    classifier: LogisticRegression
    labels: tuple[str, ...]
    c: float
    trials: tuple[tuple[float, float], ...]
    parameters: int
    held_out: NDArray[np.float64] | None
    seconds: float

    def probabilities(self, reviews: Sequence[str]) -> NDArray[np.float64]:
        """Label probabilities (n, labels); 0 for a label that no train row has."""
        if not reviews:
            return np.zeros((0, len(self.labels)))
        return spread(self.classifier, self.vectorizer.transform(reviews), len(self.labels))


def majority_label(train: Split, labels: Sequence[str]) -> str:
    """The label with most train rows; of several, the first in `labels`."""
    return max(labels, key=train.gold.count)


def fit_linear(
    train: Split,
    val: Split | None,
    labels: Sequence[str],
    c: float = DEFAULT_C,
    metric: str = "macro_f1",
) -> LinearModel:
    """TF-IDF of character 1- to 3-grams (sublinear tf, those in at least two rows) and logistic regression.

    The classifier is `choose_classifier`'s. Classes are weighted by 1 / frequency, whatever the recipe does: unweighted
    the model is the weaker one (hotel reviews: accuracy 88.5 for 89.4 %, macro F1 0.864 for 0.880). Nothing is random.
    """
    begin = time.perf_counter()
    vectorizer = TfidfVectorizer(
        analyzer="char",
        ngram_range=NGRAMS,
        min_df=MIN_ROWS_A_TERM if len(train) >= FEW_ROWS else 1,
        sublinear_tf=True,
        dtype=np.float32,
    )
    features = vectorizer.fit_transform(train.reviews)
    held_out = vectorizer.transform(val.reviews) if val is not None and len(val) else None
    choice = choose_classifier(train, features, val, held_out, labels, C_GRID, c, metric)
    seconds = time.perf_counter() - begin
    return LinearModel(vectorizer, labels=tuple(labels), seconds=seconds, **choice._asdict())


def choose_classifier(
    train: Split,
    features: Any,
    val: Split | None,
    held_out: Any,
    labels: Sequence[str],
    grid: Sequence[float],
    c: float,
    metric: str,
) -> Choice:
    """Logistic regression on `features` [train rows, features], classes weighted by 1 / frequency.

    C is the one of `grid` with the best `metric` (a field of `Classification`) on the validation rows, of which
    `held_out` are the features, of several that with the least log loss there, and `c` without validation rows.
    Raises `UserError` when the train rows are all of one label.
    """
    if len(set(train.gold)) < 2:
        raise UserError(f"{shown(train.path)} has rows of one label only: a model needs rows of two to learn from")
    codes = train.codes(labels)

    def fit(c: float) -> LogisticRegression:
        return LogisticRegression(C=c, class_weight="balanced", max_iter=1000).fit(features, codes)

    def reached(tried: float, rows: NDArray[np.int64]) -> tuple[float, float]:
        known = [labels[code] for code in gold[rows]], [labels[code] for code in shares[tried][rows].argmax(axis=1)]
        loss = log_loss(gold[rows], shares[tried][rows], labels=np.arange(len(labels)))
        return getattr(classify(*known, labels), metric), -loss

    def best(rows: NDArray[np.int64]) -> float:
        return max(grid, key=lambda tried: reached(tried, rows))

    fitted, trials, answers = {}, {}, None
    if val is not None and len(val):
        gold, every = val.codes(labels), np.arange(len(val))
        fitted = {tried: fit(tried) for tried in grid}
        shares = {tried: spread(fitted[tried], held_out, len(labels)) for tried in grid}
        trials, c = {tried: reached(tried, every)[0] for tried in grid}, best(every)
        answers = shares[c]
        if has_enough(gold, FOLDS):
            answers = out_of_fold(lambda known, asked: shares[best(known)][asked], gold, len(labels))
    classifier = fitted.get(c) or fit(c)
    size = int(classifier.coef_.size + classifier.intercept_.size)
    return Choice(classifier, c, tuple(trials.items()), size, answers)


def splits_as_shown(run: Run) -> dict[SplitName, Split]:
    """The run's train, val and test rows, with the texts as its model is shown them. Raises `UserError`."""
    read = (load_split(run.dataset, name, run.labels) for name in SPLITS)
    return dict(zip(SPLITS, as_shown(*read), strict=True))


def primary_metric(run: Run) -> str:
    """What decides in the run's task: C is chosen by it."""
    task = load_run_task(run)
    return getattr(task, "primary_metric", "macro_f1")


def make_baselines(folder: Path) -> bool:
    """Fit both baselines for the run in `folder` and save what they answer, unless that is done; whether it was not.

    Raises `UserError` when the run or its dataset is missing or unfit.
    """
    run = Run.read(folder)
    splits = splits_as_shown(run)
    metric = primary_metric(run)
    inputs = {name: sha256_file(split.path) for name, split in splits.items()} | {
        "labels": list(run.labels),
        "settings": [*NGRAMS, MIN_ROWS_A_TERM, FEW_ROWS, *C_GRID, DEFAULT_C, FOLDS, metric],
        "scikit-learn": sklearn.__version__,
    }
    if stages.finished(run.folder, STAGE, inputs):
        return False
    stages.forget(run.folder, STAGE)
    begin = time.perf_counter()
    majority = majority_label(splits["train"], run.labels)
    majority_seconds = time.perf_counter() - begin
    model = fit_linear(splits["train"], splits["val"], run.labels, metric=metric)
    outputs, ms_per_review = [run.folder / BASELINES_RECORD], None
    for split in (splits["val"], splits["test"]):
        asked = time.perf_counter()
        probabilities = model.probabilities(split.reviews)
        if len(split):
            ms_per_review = 1000 * (time.perf_counter() - asked) / len(split)
        if split is splits["val"] and model.held_out is not None:
            probabilities = model.held_out
        outputs.append(run.folder / ANSWERS[LINEAR] / split.path.name)
        shares = (dict(zip(run.labels, row, strict=True)) for row in probabilities.tolist())
        rows = zip(split.ids, split.gold, shares, strict=True)
        write_responses(outputs[-1], (Response(key, gold, probabilities=share) for key, gold, share in rows))
    record = {
        "majority": {"label": majority, "parameters": 0, "train_seconds": majority_seconds, "ms_per_review": 0.0},
        "tfidf_linear": {
            "c": model.c,
            "metric": metric,
            "class_weight": "balanced",
            "validation": [{"c": c, metric: score} for c, score in model.trials],
            "parameters": model.parameters,
            "train_seconds": model.seconds,
            "ms_per_review": ms_per_review,
        },
    }
    write_json(outputs[0], record)
    stages.record(run.folder, STAGE, inputs, outputs, time.perf_counter() - begin, made_by([]))
    return True


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = Parser("python -m eval.baselines", __doc__)
    parser.add_argument("run", type=given_path, metavar="RUN", help="the run's folder; its run.json names the dataset")
    options = parser.parse_args(argv)
    with locked_run(options.run):
        made = make_baselines(options.run)
    if made and (found := Baselines.read(options.run)):
        linear = found.tfidf_linear
        print(f"linear baseline: C = {linear.c:g}, {linear.parameters:,} parameters, {linear.train_seconds:.1f} s")
    return 0


def spread(classifier: LogisticRegression, features: Any, classes: int) -> NDArray[np.float64]:
    """predict_proba with a column for every label: the classifier knows only those it was trained on."""
    known = classifier.predict_proba(features)
    result = np.zeros((known.shape[0], classes))
    result[:, classifier.classes_] = known
    return result / result.sum(axis=1, keepdims=True)  # float32 sums to 1 but for rounding


if __name__ == "__main__":
    run_main(main)
