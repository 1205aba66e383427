"""The law of learning curves: found where it is known, and an interval that holds what more rows bring."""

import numpy as np
import pytest

from eval.scoring.learning_curve import extrapolate, fit_power_law, further_rows, mean_draws, worth_from

FOUR, FIVE, HALVES = (100, 300, 1000, 3000), (100, 300, 1000, 3000, 8000), (100, 200, 400, 800)
LAWS = {
    "fast": lambda n: 0.1 + 30 * n**-1.1,
    "root": lambda n: 0.08 + 2 * n**-0.5,
    "slow": lambda n: 0.02 + 0.8 * n**-0.25,
    "flat": lambda n: 0.2 + 0 * n,
    "straight over log rows": lambda n: 0.45 - 0.045 * np.log(n),
}
SPREADS = {"2 points": lambda n: 0.02 + 0 * n, "5 falling": lambda n: 0.05 * (n / 100) ** -0.35}
REPEATS, DRAWS, SEEDS, TESTED = 2_000, 400, 3, 500


def test_the_law_is_found_where_there_is_no_chance() -> None:
    rows = np.array(FIVE)
    law = fit_power_law(FIVE, (0.08 + 2 * rows**-0.5)[None])
    assert law([20_000])[0, 0] == pytest.approx(0.08 + 2 * 20_000**-0.5, abs=0.002)
    assert fit_power_law(FIVE, np.full((1, 5), 0.2))([20_000])[0, 0] == pytest.approx(0.2)


@pytest.mark.all
@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("rows", [FOUR, FIVE, HALVES])
@pytest.mark.parametrize("law", LAWS)
def test_the_interval_holds_what_more_rows_bring(law: str, rows: tuple[int, ...], spread: str) -> None:
    generator, n = np.random.default_rng(len(rows)), np.array(rows, dtype=float)
    errors, more = LAWS[law](n), rows[-1] // 2
    truth = LAWS[law](n[-1]) - LAWS[law](n[-1] + more)
    by_rows = np.sqrt(errors * (1 - errors) / TESTED)
    root = np.linalg.cholesky(by_rows[:, None] * by_rows * (0.7 + 0.3 * np.eye(len(n))))  # the same rows are tested
    held, widths = 0, []
    for _ in range(REPEATS):
        chance = root @ generator.standard_normal(len(n))
        reached = 1 - errors + chance
        observed = reached[:, None] + SPREADS[spread](n)[:, None] * generator.standard_normal((len(n), SEEDS))
        again = generator.standard_normal((DRAWS, len(n))) @ root.T
        means, draws = mean_draws(observed, observed[None] + again[:, :, None], int(generator.integers(1 << 30)))
        found = extrapolate(rows, means, draws, more)
        held += found.interval[0] <= truth <= found.interval[1]
        widths.append(found.interval[1] - found.interval[0])
    print(f"{law}, {rows}, {spread}: {held / REPEATS:.3f}, mean width {100 * np.mean(widths):.1f}")
    assert held / REPEATS >= 0.93


def test_a_curve_that_leaps_does_not_fit() -> None:
    means = np.array([0.5, 0.5, 0.9, 0.91, 0.912])
    draws = means + np.random.default_rng(0).normal(0, 0.005, (400, 5))
    assert not extrapolate(FIVE, means, draws, 4000).fits
    means = 1 - LAWS["root"](np.array(FIVE))
    assert extrapolate(FIVE, means, means + np.random.default_rng(0).normal(0, 0.005, (400, 5)), 4000).fits


def test_too_few_numbers_and_too_far_ahead_are_not_extrapolated() -> None:
    means = np.array([0.7, 0.8, 0.9])
    draws = np.tile(means, (10, 1))
    assert extrapolate((100, 200), means[:2], draws[:, :2], 50) is None
    assert extrapolate((100, 200, 400), means, draws, 401) is None
    assert extrapolate((100, 200, 400), means, draws, 400) is not None


def test_worth_is_read_from_the_most_rows_downwards() -> None:
    rows = (100, 300, 1000)
    assert worth_from(rows, (True, False, True)) == 1000
    assert worth_from(rows, (True, True, True)) == 100
    assert worth_from(rows, (True, True, False)) is None


@pytest.mark.parametrize(("most", "more"), [(1000, 500), (3000, 1000), (900, 200), (50, 20), (4000, 2000)])
def test_further_labels_are_a_round_number(most: int, more: int) -> None:
    assert further_rows(most) == more
