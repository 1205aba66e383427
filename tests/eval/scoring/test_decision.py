"""The advice, on random records: it is never dominated by another reading on the screen."""

import random
from itertools import permutations

import numpy as np
import pytest

from eval.scoring.decision import Candidate, cost_of, decide
from eval.scoring.metrics import macro_f1
from eval.scoring.predictions import LADDER
from eval.scoring.significance import compare

CODES = ("better", "worse", "equivalent", "undecided")


def random_record(generator):
    """Readings with any figures, and codes that are right about the direction or say that nothing is shown."""
    names = [name for name in LADDER if generator.random() < 0.8] or ["tfidf_linear"]
    readings, able = [], generator.random()
    for name in names:
        value, half = generator.uniform(0.2, 1), generator.uniform(0.001, 0.3)
        above = generator.random() < able
        readings.append(Candidate(name, cost_of(name), round(value, 2), (value - half, value + half), above))
    codes, p = {}, {}
    for a, b in permutations(readings, 2):
        if generator.random() < 0.9:
            likely = "better" if b.value > a.value else "worse"
            codes[a.name, b.name] = likely if generator.random() < 0.5 else generator.choice(CODES[2:])
            p[a.name, b.name] = generator.choice([0.0001, 0.01, 0.03])
    return readings, codes, p


def test_no_advice_is_dominated_and_no_equality_is_claimed_without_evidence():
    generator, seen = random.Random(26), set()
    for _ in range(5000):
        readings, codes, p = random_record(generator)
        got, by_name = decide(readings, codes, p, {}), {one.name: one for one in readings}
        seen.add(got.code)
        able = [one for one in readings if one.above_guessing]
        if got.advised is None:
            assert not able and got.code == "none"
            continue
        advised = by_name[got.advised]
        assert advised.above_guessing
        assert not [one for one in able if one.cost <= advised.cost and one.value > advised.value]
        best = max(able, key=lambda one: one.value)
        if best.value > advised.value and best.cost > advised.cost:
            pair, several = (advised.name, best.name), sum(one.cost > advised.cost for one in able)
            assert codes.get(pair) != "better" or p[pair] * several >= 0.05
        equal = "less than the margin" in got.en or "容许范围" in got.zh
        assert equal == (got.code == "equal")
        if equal:
            assert codes[got.advised, got.weighed] == "equivalent"
        if "shown to be better than the cheaper" in got.en:
            assert got.code == "better" and codes[got.weighed, got.advised] == "better"
            rival = by_name[got.weighed]
            several = sum(one.cost > rival.cost for one in able)
            assert rival.cost < advised.cost and p[rival.name, got.advised] * several < 0.05
            assert (f"as the highest of {several}" in got.en) == (several > 1)
    assert seen == {"better", "equal", "unproven", "alone", "none"}


def test_the_linear_model_is_advised_where_the_untuned_one_only_guesses():
    """Audit, High 5: before 65 % under a majority of 66.5, tuned 69, linear 89.5: the untuned model was advised."""
    readings = [
        Candidate("tfidf_linear", 0, 0.895, (0.85, 0.93), True),
        Candidate("before_score", 1, 0.65, (0.58, 0.71), False),
        Candidate("after_score", 2, 0.69, (0.62, 0.75), True),
    ]
    got = decide(readings, {("after_score", "tfidf_linear"): "better"}, {}, {})
    assert got.advised == "tfidf_linear" and "tfidf_linear" in got.en and "before" not in got.en


@pytest.mark.parametrize(("code", "advised"), [("better", "after_score"), ("undecided", "tfidf_linear")])
def test_a_dearer_reading_must_be_shown_to_be_better(code, advised):
    readings = [
        Candidate("tfidf_linear", 0, 0.85, (0.8, 0.9), True),
        Candidate("after_score", 2, 0.9, (0.85, 0.95), True),
    ]
    pair = ("tfidf_linear", "after_score")
    assert decide(readings, {pair: code}, {pair: 0.01}, {}).advised == advised


def test_the_best_of_several_must_be_better_by_a_corrected_p():
    """Audit, Medium: p = 0.024, the smallest of four, was told as if it were the only one (Holm: 0.096)."""
    readings = [Candidate("tfidf_linear", 0, 0.825, None, True)]
    readings += [Candidate(name, 2, 0.83 + at / 100, None, True) for at, name in enumerate(LADDER[-4:])]
    pair = ("tfidf_linear", readings[-1].name)
    got = decide(readings, {pair: "better"}, {pair: 0.024}, {})
    assert got.advised == "tfidf_linear" and got.code == "unproven"
    assert "neither to be better (Holm, as the highest of 4)" in got.en and "Holm 校正" in got.zh
    got = decide(readings, {pair: "better"}, {pair: 0.01}, {})
    assert got.advised == readings[-1].name and "(Holm, as the highest of 4)" in got.en


def false_advice(draws):
    """How often a dearer reading is advised as better, where seven of them and the cheap one are equally good."""
    generator, labels, found = np.random.default_rng(26), ("x", "y"), 0
    names = ("tfidf_linear", *LADDER[-7:])
    gold = [*labels] * 100
    first = np.array(gold) == "x"
    for _ in range(draws):
        right = generator.random((len(names), len(gold))) < 0.8
        answers = [[g if r else labels[g == "x"] for g, r in zip(gold, row, strict=True)] for row in right]
        positive = np.where(right, first, ~first)  # answered "x"
        hits = np.stack([(right & first).sum(axis=1), (right & ~first).sum(axis=1)], axis=1)
        predicted = np.stack([positive.sum(axis=1), (~positive).sum(axis=1)], axis=1)
        readings = [
            Candidate(name, 2 * (at > 0), float(value), None, True)
            for at, (name, value) in enumerate(zip(names, macro_f1(hits, predicted, np.array([100, 100])), strict=True))
        ]
        best = max(range(len(names)), key=lambda at: readings[at].value)
        pair, one = (names[0], names[best]), compare(answers[0], answers[best], gold, labels, draws=500)
        found += decide(readings, {pair: one.code}, {pair: one.p}, {}).code == "better" and best > 0
    return found / draws


@pytest.mark.slow
def test_the_best_of_equals_is_seldom_advised():
    assert false_advice(60) <= 0.1


@pytest.mark.all
def test_the_best_of_equals_is_advised_in_at_most_5_per_cent_of_2000_draws():
    found = false_advice(2000)
    print(f"advised: {found}")
    assert found <= 0.05
