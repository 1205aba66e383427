"""A temperature recovers what is true, holds back where rows are few, and leaves every label as it is."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss

from eval.scoring import log_linear
from eval.scoring.calibration import calibration_error, confidence_of, reliability
from eval.scoring.temperature import HIGHEST, LOWEST, Calibration, calibrate


def scores(rows: int, seed: int, sure: float = 1.0, labels: int = 2, biases: float = 0.0) -> tuple[np.ndarray, ...]:
    """Probabilities of which those at sure = 1 and biases = 0 are the true ones that the gold is drawn from."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (rows, labels))
    gold = (softmax(logits, axis=1).cumsum(axis=1) > rng.random((rows, 1))).argmax(axis=1)
    return softmax(logits * sure + biases * (np.arange(labels) == 0), axis=1), gold


def found(rows: int, sure: float, labels: int = 2, seeds: int = 40) -> np.ndarray:
    """The temperatures of so many samples."""
    samples = (scores(rows, seed, sure, labels) for seed in range(seeds))
    return np.array([calibrate(*sample, may_have_biases=False).temperature for sample in samples])


@pytest.mark.parametrize("labels", [2, 5])
@pytest.mark.parametrize("true", [0.6, 1.0, 2.5])
def test_the_true_temperature_is_found(true: float, labels: int) -> None:
    assert found(5000, true, labels, 5).mean() == pytest.approx(true, rel=0.04)


def test_calibrated_scores_are_left_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """On average at any number of rows; how far one sample leads away is halved for 30 rows."""
    few = found(30, 1.0)
    assert few.mean() == pytest.approx(1, abs=0.05) == found(300, 1.0).mean()
    monkeypatch.setattr(log_linear, "PRIOR_ROWS", 0)
    assert few.std() < 0.6 * found(30, 1.0).std()


@pytest.mark.parametrize("true", [0.5, 2.5])
def test_few_rows_are_believed_by_half(true: float) -> None:
    """30 validation rows go about half of the way from 1, 600 nearly all of it."""
    share = [np.log(found(rows, true)).mean() / np.log(true) for rows in (30, 600)]
    assert 0.35 < share[0] < 0.75 and share[1] > 0.9


@pytest.mark.parametrize("right", [True, False])
def test_rows_that_are_all_right_or_all_wrong_make_nothing_certain(right: bool) -> None:
    first = np.linspace(0.6, 0.9, 30)
    gold = np.zeros(30, int) if right else np.ones(30, int)
    one = calibrate(np.stack([first, 1 - first], axis=1), gold, may_have_biases=False)
    assert LOWEST < one.temperature < 1 if right else 1 < one.temperature <= HIGHEST
    assert 0.5 < one.apply(np.array([[0.9, 0.1]]))[0, 0] < 0.999


@pytest.mark.parametrize("labels", [2, 5])
@pytest.mark.parametrize("sure", [0.3, 4.0])
def test_no_label_changes_and_of_two_labels_no_rank(sure: float, labels: int) -> None:
    val, gold = scores(200, 1, sure, labels)
    test, _ = scores(2000, 2, sure, labels)
    one = calibrate(val, gold, may_have_biases=False)
    after = one.apply(test)
    assert one.biases is None and after.sum(axis=1) == pytest.approx(1)
    assert (after.argmax(axis=1) == test.argmax(axis=1)).all()
    if labels == 2:
        odds = np.log(test[:, 0]) - np.log(test[:, 1])  # where the greater share is 1 but for rounding, the other tells
        assert (np.diff(after[np.argsort(odds), 0]) >= 0).all()


def test_calibrated_rows_that_were_not_seen_are_nearer_to_what_they_promise() -> None:
    val, gold = scores(300, 1, 3.0)
    test, truth = scores(3000, 2, 3.0)
    after = calibrate(val, gold, may_have_biases=True).apply(test)
    errors = [calibration_error(reliability(*confidence_of(shares, truth)))[0] for shares in (test, after)]
    assert errors[0] > 0.08 and errors[1] < 0.03
    assert log_loss(truth, after) < log_loss(truth, test) - 0.05


def test_biases_are_added_where_they_help_and_only_then() -> None:
    """A model that is drawn to its first label, as one is after too little tuning, and models that are not."""
    val, gold = scores(200, 1, biases=3.0)
    one = calibrate(val, gold, may_have_biases=True)
    assert one.biases is not None and sum(one.biases) == pytest.approx(0)
    test, truth = scores(2000, 2, biases=3.0)
    right = [float((shares.argmax(axis=1) == truth).mean()) for shares in (test, one.apply(test))]
    assert right[1] > right[0] + 0.1
    assert calibrate(val, gold, may_have_biases=False).biases is None
    drawn = [calibrate(*scores(200, seed), may_have_biases=True).biases is not None for seed in range(20)]
    assert np.mean(drawn) < 0.15


def test_too_few_rows_of_a_label_have_no_biases() -> None:
    shares, _ = scores(60, 1)
    assert calibrate(shares, np.array([0] * 55 + [1] * 5), may_have_biases=True).biases is None


def test_none_is_needed_changes_nothing() -> None:
    shares, _ = scores(20, 1)
    assert Calibration().apply(shares) is shares
