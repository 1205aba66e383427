"""How many test rows are worth answering: those that decide a small difference between two models."""

from math import ceil, sqrt
from statistics import NormalDist

DECIDED = 0.02  # a difference in accuracy that test rows are to decide
DISCORDANT = 0.15  # of the rows, assumed: one of two models is right and the other is not
LEVEL, POWER = 0.05, 0.8
TEST_OF, VAL_OF = 4, 0.25  # test rows and validation rows for a train row, under a limit


def deciding_rows(difference: float = DECIDED, discordant: float = DISCORDANT) -> int:
    """The rows on which McNemar's test finds `difference` at `LEVEL` with `POWER`, both shares of the rows.

    (z_level sqrt(discordant) + z_power sqrt(discordant - difference^2))^2 / difference^2 (Connor 1987).
    """
    of_level, of_power = (NormalDist().inv_cdf(share) for share in (1 - LEVEL / 2, POWER))
    return ceil(((of_level * sqrt(discordant) + of_power * sqrt(discordant - difference**2)) / difference) ** 2)


def held_out_rows(limit: int) -> tuple[int, int]:
    """(test rows, val rows) beside `limit` train rows; no more of test than `deciding_rows`.

    All of test are read once or not much more often (eval/inference/budget.py), a train row some 3 times an epoch: four
    times as many cost less than half of three epochs.
    """
    return min(limit * TEST_OF, deciding_rows()), int(limit * VAL_OF)
