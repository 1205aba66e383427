"""What answers cost by task.yaml's `costs`, and from which expected cost on it is cheaper to ask a person.

A row gets the label with the least expected cost by its probabilities (Elkan 2001), and is left to a person where that
cost is above a threshold: the one that is cheapest on the validation rows. What it costs is told from the test rows.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data_prep.decision_settings import Costs
from eval.scoring.calibration import FloatArray, IntArray
from eval.scoring.significance import DRAWS, SEED, Interval, percentiles

ROWS = 1_000  # the number of rows that a cost is told for


def cost_matrix(costs: Costs, labels: Sequence[str]) -> FloatArray:
    """(gold label, answered label): what each answer costs; a confusion that is not named 1, a right answer 0."""
    matrix = np.ones((len(labels), len(labels))) - np.eye(len(labels))
    for gold, answers in costs.confusions.items():
        for answer, cost in answers.items():
            matrix[labels.index(gold), labels.index(answer)] = cost
    return matrix


def choose_threshold(probabilities: FloatArray, gold: IntArray, matrix: FloatArray, ask: float | None) -> float | None:
    """The expected cost above which a row is left to a person at the cost `ask`, cheapest on these rows; None where
    asking about every row is. Of several the highest; without `ask` the greatest cost, so that nothing is asked.

    probabilities (n, labels), gold positions (n,), n > 0.
    """
    if ask is None:
        return float(matrix.max())
    expected, cost = _answers(probabilities, gold, matrix)
    order = np.argsort(expected, kind="stable")
    ordered, total = expected[order], np.append(0, np.cumsum(cost[order]))
    # Rows of equal expected cost are answered together or not at all; 0: none is.
    answered = np.append(0, np.flatnonzero(np.append(np.diff(ordered) > 0, True)) + 1)
    totals = total[answered] + (len(gold) - answered) * ask
    best = int(answered[np.flatnonzero(totals <= totals.min() + 1e-9)[-1]])
    if best == 0:
        return None
    return float(matrix.max() if best == len(gold) else (ordered[best - 1] + ordered[best]) / 2)


def costs_of(
    probabilities: FloatArray, gold: IntArray, matrix: FloatArray, ask: float | None, threshold: float | None
) -> FloatArray:
    """What each row (n,) costs with a threshold of `choose_threshold`; a row that a person is asked about is NaN where
    `ask` is None, which no threshold of it leads to."""
    expected, cost = _answers(probabilities, gold, matrix)
    asked = expected > (-1 if threshold is None else threshold)
    return np.where(asked, np.nan if ask is None else ask, cost)


def mean_cost(costs: FloatArray, possible: FloatArray, draws: int = DRAWS) -> tuple[float, Interval]:
    """The mean of costs (n,) for `ROWS` rows, with a 95 % interval.

    How often each possible cost occurs is drawn from its posterior, a Dirichlet distribution with a prior that weighs
    one row in all (Perks 1947), three quarters of it on the least cost for the lower end and on the greatest for the
    upper one. So an expensive confusion that no test row shows is not taken for impossible, and the interval has a
    width at any n. Spread evenly the row left 92.7 % of intervals with the truth where confusions are frequent and
    n = 50 (tests/eval/scoring/test_costs.py).
    """
    values = np.unique(possible)
    counts = (np.abs(costs[:, None] - values) < 1e-9).sum(axis=0)
    generator, mean, ends = np.random.default_rng(SEED), float(costs.mean() * ROWS), []
    for end in (0, -1):
        prior = np.full(len(values), 0.25 / max(len(values) - 1, 1))
        prior[end] = 0.75
        ends.append(percentiles(generator.dirichlet(counts + prior, draws) @ values * ROWS)[end])
    return mean, (min(ends[0], mean), max(ends[1], mean))


def cost_record(
    validation: Mapping[str, FloatArray],
    test: Mapping[str, FloatArray | None],
    gold: tuple[IntArray, IntArray],
    labels: Sequence[str],
    costs: Costs | None,
) -> dict[str, Any] | None:
    """What metrics.json has of it, by reading; None without `costs`, or without probabilities of both splits' rows.

    validation and test: probabilities (n, labels) by reading; gold: positions in `labels` of both.
    """
    if costs is None:
        return None
    matrix = cost_matrix(costs, labels)
    readings: dict[str, dict[str, Any]] = {}
    possible = matrix if costs.ask is None else np.append(matrix, costs.ask)
    for name, shares in validation.items():
        if (on_test := test.get(name)) is None or not len(gold[0]):
            continue
        threshold = choose_threshold(shares, gold[0], matrix, costs.ask)
        on_val = costs_of(shares, gold[0], matrix, costs.ask, threshold)
        paid = costs_of(on_test, gold[1], matrix, costs.ask, threshold)
        answered = (on_test @ matrix).min(axis=1) <= (-1 if threshold is None else threshold)
        mean, interval = mean_cost(paid, possible)
        always = matrix[gold[1], on_test.argmax(axis=1)]
        readings[name] = {
            "threshold": threshold,
            "val": float(on_val.mean() * ROWS),
            "test": mean,
            "test_ci": interval,
            "n": len(paid),
            "n_answered": int(answered.sum()),
            "most_probable": float(always.mean() * ROWS),
        }
    if not readings:
        return None
    return {
        "per_rows": ROWS,
        "ask": costs.ask,
        "ask_all": None if costs.ask is None else costs.ask * ROWS,
        "cheapest_on_validation": min(readings, key=lambda name: readings[name]["val"]),
        "readings": readings,
    }


def _answers(probabilities: FloatArray, gold: IntArray, matrix: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The expected cost of each row's cheapest label, and what that label really costs: both (n,)."""
    expected = probabilities @ matrix
    return expected.min(axis=1), matrix[gold, expected.argmin(axis=1)]
