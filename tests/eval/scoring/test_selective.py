"""Answering only when sure: the promise of validation holds, and what test says of it."""

import numpy as np
import pytest
from scipy.stats import beta, binom, norm

from data_prep.decision_settings import SelectiveSettings
from eval.scoring.metrics import macro_f1
from eval.scoring.selective import check_selective, choose_selective, rows_needed, selective_answering

TARGET, LEVEL = 0.95, 0.05
SIZES = (50, 100, 200, 400, 800)


def scored(confidence, right):
    """Probabilities (n, 2) with that confidence in label 0, and gold labels of which that is right."""
    first = np.asarray(confidence, float)
    return np.stack([first, 1 - first], axis=1), np.where(right, 0, 1)


def sample(n, generator, sharpness):
    confidence = 0.5 + 0.5 * generator.beta(sharpness, 1, n)
    return scored(confidence, generator.random(n) < confidence)


def truly(threshold, sharpness):
    """The accuracy of all rows above a threshold: their mean confidence, as right is drawn with it."""
    at = 0.5 + 0.5 * np.linspace(0, 1, 20_001) ** (1 / sharpness)  # quantiles of the Beta distribution (sharpness, 1)
    return at[at >= min(threshold, at[-2])].mean()


def test_few_rows_promise_nothing():
    assert (rows_needed(0.95, 0.05), rows_needed(0.9, 0.05), rows_needed(0.97, 0.05)) == (59, 29, 99)
    all_right = scored(np.linspace(0.6, 0.99, 58), np.ones(58, bool))
    assert choose_selective(*all_right, TARGET, LEVEL) is None
    assert choose_selective(*scored(np.linspace(0.6, 0.99, 59), np.ones(59, bool)), TARGET, LEVEL).coverage == 1
    assert choose_selective(*scored([], []), TARGET, LEVEL) is None


def test_a_point_estimate_at_the_target_is_no_promise():
    """Audited: 95 of 100 right was enough, which is truly below 95 % as often as above."""
    right = np.arange(100) % 20 > 0
    assert right.mean() == 0.95
    assert choose_selective(*scored(np.linspace(0.99, 0.6, 100), right), TARGET, LEVEL) is None


def test_one_target_is_tried_and_no_easier_one_silently():
    generator = np.random.default_rng(0)
    found = scored(np.linspace(0.99, 0.6, 300), generator.random(300) < 0.92)
    assert choose_selective(*found, TARGET, LEVEL) is None
    assert choose_selective(*found, 0.85, LEVEL) is not None


def test_the_threshold_lies_between_rows_and_its_bound_reaches_the_target():
    right = np.append(np.ones(200, bool), np.arange(100) % 3 > 0)
    confidence = np.linspace(0.99, 0.51, 300)
    chosen = choose_selective(*scored(confidence, right), TARGET, LEVEL)
    assert 180 <= chosen.n_answered < 240 and chosen.accuracy_low >= TARGET
    assert confidence[chosen.n_answered] < chosen.threshold < confidence[chosen.n_answered - 1]
    low = beta.ppf(LEVEL, hits := round(chosen.accuracy * chosen.n_answered), chosen.n_answered - hits + 1)
    assert chosen.accuracy_low == pytest.approx(low)
    same = choose_selective(*scored(np.full(300, 0.9), np.ones(300, bool)), TARGET, LEVEL)
    assert (same.n_answered, same.threshold) == (300, 0)  # rows of equal confidence are answered together


@pytest.mark.parametrize(
    ("right", "n", "outcome"),
    [(100, 100, "met"), (98, 100, "undecided"), (95, 100, "undecided"), (85, 100, "not_met"), (0, 0, "undecided")],
)
def test_test_rows_confirm_refute_or_leave_it_open(right, n, outcome):
    probabilities, gold = scored([0.9] * n + [0.6], np.arange(n + 1) < right)
    got = check_selective(0.8, probabilities, gold, TARGET, LEVEL)
    assert (got.outcome, got.n, got.n_answered) == (outcome, n + 1, n)
    assert got.accuracy == (right / n if n else None)
    if n:
        assert got.accuracy_ci[0] < got.accuracy_ci[1]  # of width 0 for none, 100 of 100 among them


def test_only_rows_kept_apart_choose():
    generator = np.random.default_rng(1)
    shares, gold = scored(np.linspace(0.99, 0.6, 200), generator.random(200) < 0.99)
    half = np.arange(200) % 2 > 0
    settings = SelectiveSettings(target=0.9, level=0.1)
    got = selective_answering({"after_score": shares}, {"after_score": shares}, (gold, gold), half, settings)
    assert (got["rows"], got["kept_apart"], got["rows_needed"]) == (100, True, 22)
    assert got["readings"]["after_score"]["chosen"]["n"] == 100
    assert selective_answering({}, {}, (gold, gold), half, settings) is None


def false_promises(draws, sizes, generator):
    """The largest share of draws in which a threshold was chosen that is truly below the target, and in which the test
    rows were said to meet it though they truly do not."""
    chosen_wrong, met_wrong = 0.0, 0.0
    for sharpness in (2, 4, 8):  # models of 83, 90 and 94 % accuracy, all calibrated
        for n in sizes:
            wrong = met = 0
            for _ in range(draws):
                chosen = choose_selective(*sample(n, generator, sharpness), TARGET, LEVEL)
                threshold = chosen.threshold if chosen else 0.6
                below = truly(threshold, sharpness) < TARGET
                wrong += below and chosen is not None
                checked = check_selective(threshold, *sample(n, generator, sharpness), TARGET, LEVEL)
                met += below and checked.outcome == "met"
            chosen_wrong, met_wrong = max(chosen_wrong, wrong / draws), max(met_wrong, met / draws)
    return chosen_wrong, met_wrong


def test_a_promise_is_broken_no_more_often_than_the_level_says():
    """Audited: 57 to 64 % of thresholds were truly below target, and 30 to 39 % of "met" sentences false."""
    chosen_wrong, met_wrong = false_promises(60, (100, 400), np.random.default_rng(5))
    assert chosen_wrong <= LEVEL + 0.05 and met_wrong <= LEVEL + 0.05  # 60 draws: 2 standard errors are 0.056


@pytest.mark.all
def test_a_promise_is_broken_no_more_often_than_the_level_says_in_2000_draws():
    chosen_wrong, met_wrong = false_promises(2_000, SIZES, np.random.default_rng(6))
    assert chosen_wrong <= LEVEL + 0.01 and met_wrong <= LEVEL, (chosen_wrong, met_wrong)


def best_of(checkpoints, n, generator):
    """Whether the promise is broken that is made on the n rows which chose the best of several equally good
    checkpoints by macro F1; None where none is made. Half of what moves a row's logit is common to all checkpoints."""
    gold = generator.integers(0, 2, n)
    common, best = generator.normal(size=n), None
    for _ in range(checkpoints):
        noise = np.sqrt(0.5) * (common + generator.normal(size=n))
        first = 1 / (1 + np.exp(-(1.6 * (1 - 2 * gold) + 1.2 * noise)))
        answered, there = (np.bincount(codes, minlength=2) for codes in ((first < 0.5).astype(int), gold))
        score = float(macro_f1(np.bincount(gold[gold == (first < 0.5)], minlength=2), answered, there))
        if best is None or score > best[0]:
            best = score, first
    chosen = choose_selective(np.stack([best[1], 1 - best[1]], 1), gold, TARGET, LEVEL)
    if chosen is None:
        return None
    at = np.log(chosen.threshold / (1 - chosen.threshold)) if chosen.threshold > 0.5 else 0.0
    right, wrong = norm.sf((at - 1.6) / 1.2), norm.sf((at + 1.6) / 1.2)  # of rows with such a logit
    return right / (right + wrong) < TARGET


@pytest.mark.all
@pytest.mark.parametrize("n", [100, 200, 733])
def test_the_rows_that_chose_among_six_checkpoints_still_promise_at_the_level(n):
    """A recipe trains 2 to 6 epochs, each a checkpoint. Of twenty, the same rows break 8 to 9 % of their promises."""
    generator = np.random.default_rng(n)
    broken = [best_of(6, n, generator) for _ in range(2000)]
    assert sum(one is True for one in broken) <= binom.ppf(0.99, len(broken), LEVEL)
    assert sum(one is not None for one in broken) > 1000
