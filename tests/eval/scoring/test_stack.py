"""The stack takes from both models what the other does not know, from validation rows alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss

from eval.scoring.cross_fit import FEWEST
from eval.scoring.decisions import stack_record
from eval.scoring.judgement import compare_all, compare_predictions, judge_all
from eval.scoring.log_linear import LogLinear
from eval.scoring.metrics import classify
from eval.scoring.predictions import Predictions, RunPredictions, by_score
from eval.scoring.reading_names import READINGS
from eval.scoring.responses import Split
from eval.scoring.roc import roc_auc
from eval.scoring.stack import fit_stack, stacked
from eval.scoring.temperature import calibrate


def two_models(rows: int, labels: int, seed: int, noise: float = 1.6) -> tuple[list[np.ndarray], np.ndarray]:
    """Probabilities of two models with errors of their own, and the gold."""
    rng = np.random.default_rng(seed)
    gold = rng.integers(0, labels, rows)
    models = []
    for _ in range(2):
        logits = np.eye(labels)[gold] * 2 + rng.normal(0, noise, (rows, labels))
        models.append(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))
    return models, gold


@pytest.mark.parametrize("labels", [2, 4])
def test_two_models_with_errors_of_their_own_are_better_together(labels: int) -> None:
    (on_val, gold), (on_test, truth) = two_models(300, labels, 1), two_models(2000, labels, 2)
    _, val, test, _ = stacked(on_val, on_test, gold)
    accuracy = [float((shares.argmax(axis=1) == truth).mean()) for shares in (*on_test, test)]
    assert accuracy[2] > max(accuracy[:2]) + 0.03
    assert test.shape == (2000, labels) and test.sum(axis=1) == pytest.approx(1)
    assert val.shape == (300, labels)


def test_a_validation_row_is_answered_by_a_model_that_has_not_seen_it() -> None:
    """Probabilities that tell nothing: fitted and asked on the same rows, they would seem to."""
    aucs = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        gold = np.repeat([0, 1], FEWEST)
        noise = [rng.dirichlet([1, 1], len(gold)) for _ in range(2)]
        aucs.append(roc_auc(stacked(noise, noise, gold).on_val, gold)[0])
    assert np.mean(aucs) < 0.55


def test_too_few_rows_of_a_class_make_no_stack() -> None:
    models, _ = two_models(60, 2, 1)
    gold = np.array([0] * (61 - FEWEST) + [1] * (FEWEST - 1))
    assert stacked(models, models, gold) is None


def one_model(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """True probabilities, and the gold that is drawn from them."""
    rng = np.random.default_rng(seed)
    shares = softmax(rng.normal(0, 2, (rows, 2)), axis=1)
    return shares, (shares[:, 1] > rng.random(rows)).astype(int)


def noise(rows: int, seed: int) -> np.ndarray:
    """A model that knows nothing and says so with confidence."""
    return softmax(np.random.default_rng(seed).normal(0, 2, (rows, 2)), axis=1)


def test_a_model_that_is_noise_costs_no_more_than_noise() -> None:
    """Over 20 samples of 100 validation rows: accuracy, log loss and AUC are those of the good model alone."""
    lost = []
    for seed in range(20):
        (val, gold), (test, truth) = one_model(100, seed), one_model(2000, 100 + seed)
        found = stacked([val, noise(100, 200 + seed)], [test, noise(2000, 300 + seed)], gold).on_test
        alone = calibrate(val, gold, may_have_biases=False).apply(test)
        right = [float((shares.argmax(axis=1) == truth).mean()) for shares in (alone, found)]
        losses = [log_loss(truth, shares) for shares in (alone, found)]
        aucs = [roc_auc(shares, truth)[0] for shares in (alone, found)]
        lost.append((right[0] - right[1], losses[1] - losses[0], aucs[0] - aucs[1]))
    assert (np.mean(lost, axis=0) < [0.015, 0.03, 0.015]).all()
    # The mean of both, which knows nothing of validation rows, loses some times as much.
    even = LogLinear((0.5, 0.5)).apply([test, noise(2000, 319)])
    assert np.mean(lost, axis=0)[0] < (right[0] - float((even.argmax(axis=1) == truth).mean())) / 3


def test_weights_are_drawn_towards_equal_ones_and_are_never_negative() -> None:
    """Two models that are equally good have nearly equal weights from few rows already; one that is wrong is not taken
    the other way round."""
    weights = np.array([fit_stack(*two_models(60, 2, seed)).weights for seed in range(20)])
    share = weights[:, 0] / weights.sum(axis=1)
    assert share.mean() == pytest.approx(0.5, abs=0.06) and share.std() < 0.2
    val, gold = one_model(300, 1)
    wrong = fit_stack([val, val[:, ::-1]], gold)
    assert min(wrong.weights) >= 0
    assert (wrong.apply([val, val[:, ::-1]]).argmax(axis=1) == val.argmax(axis=1)).all()


def run_of(models: list[np.ndarray], gold: np.ndarray) -> tuple[RunPredictions, Split]:
    """A run whose validation rows are its test rows, too."""
    labels = ("正面", "负面")
    found = stacked(models, models, gold)
    shares = dict(zip(("tfidf_linear", "after_score", "stack"), (models[1], models[0], found.on_val), strict=True))
    test: dict[str, Predictions] = {name: by_score(name, one, labels) for name, one in shares.items()}
    words, ids = tuple(labels[code] for code in gold), tuple(map(str, range(len(gold))))
    rows = Split(Path("x"), ids, ids, words, (False,) * len(gold))
    return RunPredictions(test, test, rows, shares, found), rows


@pytest.mark.parametrize("helps", [True, False])
def test_validation_rows_decide_whether_the_stack_may_be_advised(helps: bool) -> None:
    models, gold = two_models(1000, 2, 3)
    if not helps:  # tuned is the better one by far, and linear holds nothing besides
        models = [one_model(1000, 5)[0], noise(1000, 6)]
        gold = one_model(1000, 5)[1]
    predictions, rows = run_of(models, gold)
    labels = ("正面", "负面")
    record = stack_record(predictions, rows, labels, "macro_f1")
    assert record["helps"] is helps and record["rows"] == 1000
    assert list(record["validation"]) == ["after_score", "tfidf_linear", "stack"]
    scores = {name: classify(rows.gold, one.predicted, labels) for name, one in predictions.test.items()}
    comparisons = compare_predictions(predictions.test, rows.gold, labels)
    assert {("after_score", "stack"), ("tfidf_linear", "stack")} <= comparisons.keys()

    def advised(*off: str) -> str | None:
        return judge_all(predictions, rows, scores, comparisons, labels, READINGS, off=off)[0].advised

    assert advised("stack") in ("after_score", "tfidf_linear")
    assert not helps or advised() == "stack"


def test_no_reading_is_weighed_against_a_stack_that_is_not_advised() -> None:
    """The stack is the highest of the test rows, and the readings below it are still compared with each other."""
    predictions, rows = run_of(*two_models(1000, 2, 3))
    labels, gold = ("正面", "负面"), rows.gold
    other = tuple(labels[1 - labels.index(word)] for word in gold)

    def right(name: str, count: int) -> Predictions:
        return Predictions(name, gold[:count] + other[count:])

    reached = {"embedding_linear": 860, "tfidf_linear": 830, "after_generate": 890, "after_score": 900, "stack": 910}
    readings = {name: right(name, count) for name, count in reached.items()}
    found = RunPredictions(readings, readings, rows, predictions.validation, predictions.stack)
    scores = {name: classify(gold, one.predicted, labels) for name, one in readings.items()}
    off = ("stack",)
    comparisons = compare_all(found, rows, labels, off=off)
    decision, _ = judge_all(found, rows, scores, comparisons, labels, READINGS, off=off)
    assert (decision.advised, decision.code) == ("after_score", "better")


def test_of_a_run_without_a_stack_nothing_is_said() -> None:
    predictions, rows = run_of(*two_models(100, 2, 1))
    assert stack_record(replace(predictions, stack=None), rows, ("a", "b"), "accuracy") is None


def leaning_model(gold: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A model that knows much and leans towards one label by far."""
    logits = np.eye(2)[gold] * 3 + rng.normal(0, 1, (len(gold), 2)) + np.array([3.0, 0.0])
    return softmax(logits, axis=1)


@pytest.mark.parametrize("rarest", [20, 22, 26])
def test_validation_rows_judge_the_kind_of_stack_that_answers(rarest: int) -> None:
    """With few rows of a label the folds had no biases where the stack has them, and it looked worse than it is."""
    shown = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        gold = np.repeat([0, 1], [30, rarest])
        models = [leaning_model(gold, rng), leaning_model(gold, rng)]
        pool, on_val, on_test, alone = stacked(models, models, gold)
        if pool.biases is None:
            continue
        unseen, fitted = (float((shares.argmax(axis=1) == gold).mean()) for shares in (on_val, on_test))
        shown.append(fitted - unseen)
        assert alone.shape == on_val.shape and (alone != calibrate(models[0], gold, True).apply(models[0])).all()
    assert len(shown) >= 8 and np.mean(shown) < 0.05
