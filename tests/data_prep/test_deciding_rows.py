"""The number of test rows is that at which McNemar's test finds two points in four of five draws."""

import numpy as np
from scipy.stats import binomtest

from data_prep.splits.deciding_rows import LEVEL, POWER, deciding_rows


def test_the_difference_is_found_as_often_as_stated() -> None:
    rng, discordant, difference, draws = np.random.default_rng(3), 0.15, 0.02, 400
    rows = deciding_rows(difference, discordant)
    assert 2900 < rows < 3000
    shares = [(discordant + difference) / 2, (discordant - difference) / 2, 1 - discordant]
    counts = rng.multinomial(rows, shares, draws)
    found = np.mean([binomtest(int(b), int(b + c)).pvalue < LEVEL for b, c, _ in counts])
    assert POWER - 0.06 < found < POWER + 0.05  # the exact test is a little stricter


def test_a_greater_difference_takes_fewer_rows_and_more_disagreement_more() -> None:
    assert deciding_rows(0.05) < deciding_rows(0.02) < deciding_rows(0.02, 0.3)
