"""Intervals that hold seeds and rows, against known truth: recipes made up with a spread over seeds that is known."""

import numpy as np
import pytest
from scipy.stats import norm, ttest_ind
from sklearn import metrics as sk

from eval.scoring.seed_intervals import Estimate, ScoreDraws, outcome, p_value_of, score_draws, seed_half_width

LABELS = ("正面", "负面")
SIZES = [(50, 0.5), (200, 0.1), (200, 0.5), (800, 0.05), (800, 0.5)]
SPREADS = [0.0, 0.02, 0.05]
FEWEST = 20  # rows a class
REPEATS = 2_000
DRAWS = 400


class World:
    """Rows of two classes, and recipes whose models are right with a probability that their seed moves.

    `shared`: how much of a model's errors all models share, as a correlation between two models' answers.
    """

    def __init__(self, n: int, prevalence: float, generator: np.random.Generator, shared: float = 0.7) -> None:
        self.n, self.prevalence, self.generator, self.shared = n, prevalence, generator, shared

    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Gold codes with enough rows a class, and how hard each row is."""
        while True:
            gold = (self.generator.random(self.n) < self.prevalence).astype(int)
            if min(gold.sum(), self.n - gold.sum()) >= FEWEST or self.n * self.prevalence < FEWEST * 1.2:
                break
        if min(gold.sum(), self.n - gold.sum()) < FEWEST:
            gold[:] = 0
            gold[:FEWEST] = 1
        return gold, self.generator.standard_normal(self.n)

    def answers(
        self, gold: np.ndarray, hard: np.ndarray, accuracy: float, spread: float, seeds: int
    ) -> list[list[str]]:
        """What each of a recipe's models answers."""
        reached = np.clip(accuracy + spread * self.generator.standard_normal(seeds), 0.01, 0.995)
        own = self.generator.standard_normal((self.n, seeds))
        right = norm.ppf(reached) + np.sqrt(self.shared) * hard[:, None] + np.sqrt(1 - self.shared) * own > 0
        codes = np.where(right, gold[:, None], 1 - gold[:, None])
        return [[LABELS[code] for code in column] for column in codes.T]

    def truth(self, accuracy: float, spread: float) -> float:
        """The expected macro F1 over seeds and rows."""
        recall = np.clip(accuracy + spread * np.random.default_rng(0).standard_normal(200_000), 0.01, 0.995)
        positive = self.prevalence if self.n * self.prevalence >= FEWEST * 1.2 else FEWEST / self.n
        predicted = positive * recall + (1 - positive) * (1 - recall)
        one, other = positive * recall / (positive + predicted), (1 - positive) * recall / (2 - positive - predicted)
        return float((one + other).mean())


@pytest.mark.all
@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize(("n", "prevalence"), SIZES)
def test_the_interval_of_a_recipe_holds_the_truth(n: int, prevalence: float, spread: float) -> None:
    world, truth, held, widths = World(n, prevalence, np.random.default_rng(n)), None, 0, []
    truth = world.truth(0.85, spread)
    for _ in range(REPEATS):
        gold, hard = world.rows()
        found = score_draws(
            [LABELS[code] for code in gold], world.answers(gold, hard, 0.85, spread, 3), LABELS, "macro_f1", DRAWS
        )
        estimate = found.mean((0, 1, 2))
        held += estimate.ci[0] <= truth <= estimate.ci[1]
        widths.append(estimate.ci[1] - estimate.ci[0])
    print(
        f"n {n}, prevalence {prevalence}, spread {spread}: {held / REPEATS:.3f}, mean width {100 * np.mean(widths):.1f}"
    )
    assert held / REPEATS >= 0.93


@pytest.mark.all
@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("n", [200, 800])
def test_recipes_that_are_alike_are_seldom_called_better(n: int, spread: float) -> None:
    """Two recipes of one accuracy, three seeds each; the rows alone would call one better in a third to two thirds."""
    world, better, by_rows, fixed = World(n, 0.5, np.random.default_rng(n)), 0, 0, 0
    for _ in range(REPEATS):
        gold, hard = world.rows()
        columns = [*world.answers(gold, hard, 0.85, spread, 3), *world.answers(gold, hard, 0.85, spread, 3)]
        columns += world.answers(gold, hard, 0.85, 0.0, 1)
        found = score_draws([LABELS[code] for code in gold], columns, LABELS, "accuracy", DRAWS)
        better += outcome(found.difference((0, 1, 2), (3, 4, 5)), 0.01) == "better"
        fixed += outcome(found.difference((6,), (0, 1, 2)), 0.01) == "better"
        by_rows += found.difference((0,), (3,)).rows_ci[0] > 0
    print(
        f"n {n}, spread {spread}: better {better / REPEATS:.3f}, "
        f"against one {fixed / REPEATS:.3f}, by rows alone {by_rows / REPEATS:.3f}"
    )
    assert max(better, fixed) / REPEATS <= 0.05
    assert spread < 0.05 or by_rows / REPEATS > 0.15


def test_scores_are_scikit_learns_for_each_column() -> None:
    generator = np.random.default_rng(3)
    words, draw = ("甲", "乙", "丙"), lambda: generator.integers(0, 4, 200)
    gold = [words[code % 3] for code in draw()]
    columns = [[None if code == 3 else words[code] for code in draw()] for _ in range(2)]
    expected = {
        "accuracy": sk.accuracy_score,
        "balanced_accuracy": lambda a, b: sk.recall_score(a, b, labels=words, average="macro"),
        "macro_f1": lambda a, b: sk.f1_score(a, b, labels=words, average="macro"),
        "mcc": sk.matthews_corrcoef,
    }
    for metric, score in expected.items():
        found = score_draws(gold, columns, words, metric, 50)
        assert found.drawn.shape == (50, 2)
        assert found.observed == pytest.approx([score(gold, [word or "-" for word in column]) for column in columns])


def draws(*observed: float) -> ScoreDraws:
    """Columns of these values, of rows without end."""
    return ScoreDraws(np.array(observed), np.tile(observed, (50, 1)))


def test_without_rows_interval_is_students() -> None:
    estimate = draws(0.80, 0.85, 0.90).mean((0, 1, 2))
    half = 4.302653 * 0.05 / np.sqrt(3)
    assert (estimate.value, estimate.seed_sd, estimate.seed_half) == pytest.approx((0.85, 0.05, half))
    assert estimate.ci == pytest.approx((0.85 - half, 0.85 + half))
    assert seed_half_width(np.array([0.0]), np.array([3])) == 0


def test_two_recipes_have_welchs_degrees_of_freedom() -> None:
    estimate = draws(0.80, 0.85, 0.90, 0.70, 0.75, 0.80).difference((0, 1, 2), (3, 4, 5))
    assert estimate.value == pytest.approx(-0.10)
    assert estimate.seed_half == pytest.approx(2.776445 * np.sqrt(2 * 0.05**2 / 3))  # equal spreads: 4 of them
    assert outcome(estimate, 0.01) == "undecided"
    paired = draws(0.80, 0.85, 0.90, 0.70, 0.75, 0.80).difference((0, 1, 2), (3, 4, 5), paired=True)
    assert paired.ci == pytest.approx((-0.10, -0.10)) and outcome(paired, 0.01) == "worse"


def test_p_is_students_where_rows_have_no_part() -> None:
    scores = draws(0.80, 0.85, 0.90, 0.70, 0.75, 0.80)
    found = p_value_of(lambda level: scores.difference((0, 1, 2), (3, 4, 5), level=level))
    assert found == pytest.approx(ttest_ind([0.70, 0.75, 0.80], [0.80, 0.85, 0.90], equal_var=False).pvalue, abs=1e-5)
    assert scores.difference((0, 1, 2), (3, 4, 5), level=1 - found - 1e-4).ci[1] < 0
    same = draws(0.80, 0.85, 0.90, 0.85, 0.80, 0.90)
    assert p_value_of(lambda level: same.difference((0, 1, 2), (3, 4, 5), level=level)) > 0.99


def test_one_seed_says_nothing_about_another() -> None:
    estimate = draws(0.8, 0.9).difference((0,), (1,))
    assert (estimate.seeds, estimate.ci, estimate.seed_sd) == (1, None, None)


def test_equivalent_lies_within_the_margin() -> None:
    assert outcome(Estimate(0.0, 3, (0, 0), ci=(-0.009, 0.008)), 0.01) == "equivalent"
    assert outcome(Estimate(0.0, 3, (0, 0), ci=(-0.02, 0.008)), 0.01) == "undecided"
    assert outcome(Estimate(0.1, 3, (0, 0), ci=(0.001, 0.2)), 0.01) == "better"
