"""Drift: the stability index as its source defines it, and what chance alone makes of it."""

import numpy as np
import pytest

from serve.classifier_file import DIGITS, Expected
from serve.describe import _binned
from serve.drift import APART, Tally, domain_auc, sampled, stability
from tests.prep_tables import reviews

EXPECTED = Expected(2_000, {"a": 0.6, "b": 0.4}, (0.7, 0.9), (0.2, 0.3, 0.5), (10.0, 20.0), (0.3, 0.3, 0.4))


def test_the_index_is_siddiqi_s() -> None:
    shares, counts = np.array([0.5, 0.3, 0.2]), np.array([300_000, 300_000, 400_000])
    actual = counts / counts.sum()
    wanted = float(((actual - shares) * np.log(actual / shares)).sum())
    assert stability(shares.tolist(), counts, 10**6).psi == pytest.approx(wanted, rel=1e-3)
    assert stability([0.5, 0.5], np.array([500, 500]), 1000).psi == pytest.approx(0, abs=1e-9)


def test_chance_exceeds_its_bound_once_in_a_hundred_times() -> None:
    generator = np.random.default_rng(0)
    shares, above = np.full(5, 0.2), 0
    for _ in range(2_000):
        expected, counts = generator.multinomial(400, shares), generator.multinomial(300, shares)
        found = stability((expected / 400).tolist(), counts, 400)
        above += found.psi > found.by_chance
    assert 0.002 < above / 2_000 < 0.02


def test_an_empty_bin_is_no_infinite_drift() -> None:
    found = stability([1.0, 0.0], np.array([0, 50]), 100)
    assert np.isfinite(found.psi) and found.drifted


def test_rows_are_counted_in_the_bins_of_the_validation_rows() -> None:
    tally = Tally(EXPECTED)
    tally.add(["a"] * 60 + ["b"] * 40, [0.65] * 20 + [0.8] * 30 + [0.95] * 50, [5] * 30 + [15] * 30 + [30] * 40)
    found = tally.drift()
    assert found is not None and found.n == 100 and found.drifted == []
    assert (tally.confidence.tolist(), tally.length.tolist()) == ([20, 30, 50], [30, 30, 40])
    other = Tally(EXPECTED)
    other.add(["b"] * 100, [0.95] * 100, [5] * 100)
    assert other.drift(0.9).drifted == ["labels", "confidence", "length", "texts"]  # type: ignore[union-attr]
    few = Tally(EXPECTED)
    few.add(["a"], [0.8], [5])
    assert few.drift() is None


def test_a_sure_classifier_does_not_drift_from_itself() -> None:
    """A labelled table rounds its confidences; those of the validation rows are rounded alike, then binned."""
    generator = np.random.default_rng(0)

    def drawn(n: int) -> np.ndarray:
        return np.where(generator.random(n) < 0.3, 1 - 10 ** generator.uniform(-9, -7, n), generator.uniform(0.5, 1, n))

    bounds, shares = _binned(drawn(600).round(DIGITS))
    counts = np.bincount(np.searchsorted(bounds, drawn(2_000).round(DIGITS)), minlength=len(bounds) + 1)
    assert stability(shares, counts, 600).psi < 0.1


def test_other_texts_are_told_apart_and_the_same_ones_are_not() -> None:
    texts = [text for _, text in reviews(200)]
    halves = [[text for at, text in enumerate(texts) if at // 2 % 2 == side] for side in (0, 1)]
    same, other = domain_auc(*halves), domain_auc(texts[:60], [f"电影{at}的剧情" for at in range(60)])
    assert same is not None and other is not None and other > 0.95
    assert same < APART
    assert domain_auc(texts[:5], texts) is None


def test_a_sample_is_spread_evenly() -> None:
    texts = [str(at) for at in range(1_000)]
    assert sampled(texts, 3) == ["0", "499", "999"] and sampled(texts[:2], 3) == ["0", "1"] and sampled([], 3) == []
