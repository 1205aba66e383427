import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn.metrics import f1_score
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from eval.scoring.intervals import METRICS
from eval.scoring.metrics import classify, encode
from eval.scoring.significance import (
    balanced_accuracy_interval,
    compare,
    mcnemar_p,
    newcombe,
    verdict_code,
    wilson,
)

LABELS = ("正面", "负面")


@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_equals_statsmodels(case):
    correct, n = case
    low, high = proportion_confint(correct, n, method="wilson")
    near = range(1, min(3, n // 10) + 1)
    ends = correct in near, n - correct in near
    for end, plain, by_poisson in zip(wilson(correct, n), (low, high), ends, strict=True):
        assert by_poisson or end == pytest.approx(plain, abs=1e-9)


@pytest.mark.parametrize("n", [50, 200, 800])
def test_the_interval_of_a_share_holds_it_at_every_share(n):
    """Exactly, over all outcomes: Wilson's own holds 99 % of 50 rows in 91.1 % of draws."""
    ends, outcomes = np.array([wilson(correct, n) for correct in range(n + 1)]), np.arange(n + 1)
    for share in np.linspace(0.005, 0.995, 199):
        held = (ends[:, 0] <= share) & (share <= ends[:, 1])
        assert binom.pmf(outcomes, n, share)[held].sum() >= 0.93
    assert 1 - wilson(n - 1, n)[1] == pytest.approx(-np.log(0.95) / n)  # of a Poisson count of one
    assert wilson(n - 4, n) == pytest.approx(proportion_confint(n - 4, n, method="wilson"), abs=1e-9)


def test_wilson_by_hand():
    # p = 1/2, n = 4, z = 1.959964: (p + z^2/2n ± z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)
    assert wilson(2, 4) == pytest.approx((0.150, 0.850), abs=5e-4)
    assert wilson(0, 0) is None


@given(st.integers(0, 400), st.integers(0, 400))
def test_mid_p_is_statsmodels_exact_p_less_half_of_the_observed_outcome(fixed, broken):
    exact = min(mcnemar([[5, fixed], [broken, 7]], exact=True).pvalue, 1.0)
    half = 0.0 if fixed == broken else binom.pmf(min(fixed, broken), fixed + broken, 0.5)
    assert mcnemar_p(fixed, broken) == pytest.approx(exact - half, rel=1e-6, abs=1e-300)


def test_mcnemar_by_hand():
    assert mcnemar_p(0, 0) == 1
    assert mcnemar_p(5, 0) == pytest.approx(1 / 2**5)
    assert mcnemar_p(3, 3) == 1


@pytest.mark.parametrize(
    ("interval", "difference", "p", "code"),
    [
        ((0.01, 0.09), 0.05, None, "better"),
        ((-0.09, -0.01), -0.05, None, "worse"),
        ((0.0, 0.09), 0.05, None, "undecided"),
        ((-0.09, 0.0), -0.05, None, "undecided"),
        ((-0.005, 0.008), 0.001, None, "equivalent"),
        ((0.001, 0.008), 0.004, None, "equivalent"),
        ((-0.01, 0.008), 0.001, None, "undecided"),
        ((0.01, 0.09), 0.05, 0.05, "undecided"),  # interval and test must agree
        ((-0.001, 0.09), 0.05, 0.04, "undecided"),
        ((0.01, 0.09), 0.05, 0.04, "better"),
        (None, 0.05, 0.04, "better"),
        (None, -0.05, 0.04, "worse"),
        (None, 0.05, 0.05, "undecided"),
        (None, 0.0, 1.0, "undecided"),
    ],
)
def test_codes(interval, difference, p, code):
    assert verdict_code(interval, difference, 0.01, p) == code


@pytest.mark.parametrize(
    ("cells", "expected"),
    [  # both, fixed, broken, neither; Newcombe (1998), table II, method 10
        ((36, 12, 2, 0), (0.0569, 0.3404)),
        ((20, 12, 2, 16), (0.0562, 0.3292)),
        ((54, 0, 0, 0), (-0.0664, 0.0664)),
    ],
)
def test_newcombe(cells, expected):
    both, fixed, broken, neither = cells
    assert newcombe(*cells) == pytest.approx(expected, abs=6e-5)
    low, high = newcombe(both, broken, fixed, neither)
    assert (-high, -low) == pytest.approx(expected, abs=6e-5)


@pytest.mark.parametrize("cells", [(4, 2, 2, 1), (0, 29, 0, 0), (12, 6, 6, 3)])
def test_newcombe_of_uncorrelated_readings_is_statsmodels_of_independent_ones(cells):
    both, fixed, broken, _ = cells
    n = sum(cells)
    expected = confint_proportions_2indep(both + fixed, n, both + broken, n, method="newcomb")
    assert newcombe(*cells) == pytest.approx(expected, abs=1e-9)


def test_compare_by_hand():
    gold = ["正面", "正面", "负面", "负面", "负面"]
    a = ["正面", "负面", "负面", None, "正面"]
    b = ["负面", "正面", "负面", "负面", "负面"]
    got = compare(a, b, gold, LABELS)
    assert (got.n, got.fixed, got.broken) == (5, 3, 1)
    assert got.mcnemar_p == pytest.approx((2 * (1 + 4) - 4) / 2**4)
    assert got.accuracy_difference == pytest.approx(2 / 5)
    assert got.macro_f1_difference == pytest.approx((2 / 3 + 6 / 7) / 2 - (2 / 4 + 2 / 5) / 2)
    assert got.code == "undecided" and got.ci is None


def test_few_rows_with_the_same_answers_show_no_equality():
    """Audit, Medium: an interval of width 0 sold two rows as a result."""
    for metric in METRICS:
        got = compare(["正面", None], ["正面", None], ["正面", "负面"], LABELS, metric=metric)
        assert (got.mcnemar_p, got.difference, got.macro_f1_ci, got.code) == (1, 0, None, "undecided")
        assert got.accuracy_ci[0] < -0.5 and got.accuracy_ci[1] > 0.5


def test_many_rows_with_the_same_answers_are_equivalent():
    gold = list(LABELS) * 1500
    got = compare(gold, gold, gold, LABELS)
    assert got.code == "equivalent" and got.ci[0] < 0 < got.ci[1]


def test_a_rare_class_that_was_never_found_and_now_is_counts_as_better():
    """Audit, High 6: minority recall from 0 to 70 %, accuracy the same: "no improvement can be shown"."""
    gold = ["正面"] * 380 + ["负面"] * 20
    never = ["正面"] * 400
    found = ["正面"] * 366 + ["负面"] * 14 + ["负面"] * 14 + ["正面"] * 6
    got = compare(never, found, gold, LABELS)
    assert got.accuracy_difference == 0 and got.difference > 0.2 and got.code == "better"
    assert compare(never, found, gold, LABELS, metric="accuracy").code != "better"


def test_with_too_few_rows_of_a_class_the_randomisation_test_decides():
    gold = ["正面"] * 90 + ["负面"] * 10
    none, all_but_one = ["正面"] * 100, [*gold[:-1], "正面"]
    got = compare(none, all_but_one, gold, LABELS)
    assert got.ci is None and got.detectable is None and got.rows_needed is None
    assert got.randomisation_p < 0.01 and got.code == "better"
    assert compare(all_but_one, none, gold, LABELS).code == "worse"
    assert compare(none, [*none[:-1], "负面"], gold, LABELS).code == "undecided"


def test_differences_equal_those_of_the_metrics():
    gold, a, b = _three_classes(300)
    got = compare(a, b, gold, ("x", "y", "z"), draws=50)
    mine = [classify(gold, predicted, ("x", "y", "z")) for predicted in (a, b)]
    assert got.accuracy_difference == pytest.approx(mine[1].accuracy - mine[0].accuracy)
    assert got.macro_f1_difference == pytest.approx(mine[1].macro_f1 - mine[0].macro_f1)


def test_with_many_rows_the_intervals_are_near_those_of_a_bootstrap_of_rows():
    labels = ("x", "y", "z")
    gold, a, b = _three_classes(400)
    got = compare(a, b, gold, labels)
    y, first, second = (encode(values, labels) for values in (gold, a, b))
    generator = np.random.default_rng(7)
    accuracy, macro_f1 = [], []
    for _ in range(500):
        rows = generator.integers(0, len(y), len(y))
        scores = [
            f1_score(y[rows], z[rows], labels=np.unique(y[rows]), average="macro", zero_division=0)
            for z in (first, second)
        ]
        accuracy.append((second[rows] == y[rows]).mean() - (first[rows] == y[rows]).mean())
        macro_f1.append(scores[1] - scores[0])
    # an end of the bootstrap's has a Monte Carlo error of about 0.003 here; the interval is 0.1 wide
    assert got.accuracy_ci == pytest.approx(tuple(np.percentile(accuracy, [2.5, 97.5])), abs=0.012)
    assert got.macro_f1_ci == pytest.approx(tuple(np.percentile(macro_f1, [2.5, 97.5])), abs=0.012)
    assert got.accuracy_ci[1] - got.accuracy_ci[0] > 0.05


def test_seeded():
    gold, a, b = _three_classes(400)
    first, again, other = (compare(a, b, gold, ("x", "y", "z"), seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.macro_f1_ci != other.macro_f1_ci


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(*[st.sampled_from(("正面", "负面"))] * 1, *[st.sampled_from(("正面", "负面", None))] * 2), min_size=1
    )
)
def test_swapping_the_readings_swaps_the_verdict(rows):
    gold, a, b = zip(*rows, strict=True)
    there, back = compare(a, b, gold, LABELS, draws=200), compare(b, a, gold, LABELS, draws=200)
    assert (there.fixed, there.broken) == (back.broken, back.fixed)
    assert there.mcnemar_p == back.mcnemar_p
    assert there.accuracy_difference == pytest.approx(-back.accuracy_difference)
    assert there.accuracy_ci[0] <= there.accuracy_difference <= there.accuracy_ci[1]


def test_balanced_accuracy_interval_finds_constant_and_random_answers_at_chance():
    gold = ["正面"] * 300 + ["负面"] * 100
    low, high = balanced_accuracy_interval(["正面"] * 400, gold, LABELS)
    assert 0.48 < low < 0.5 < high < 0.55
    generator = np.random.default_rng(0)
    low, high = balanced_accuracy_interval(list(generator.choice(LABELS, 400)), gold, LABELS)
    assert low <= 0.5 <= high
    good = [word if keep else "正面" for word, keep in zip(gold, generator.random(400) < 0.8, strict=True)]
    low, high = balanced_accuracy_interval(good, gold, LABELS)
    assert 0.5 < low < classify(gold, good, LABELS).balanced_accuracy < high


def test_refuses_rows_that_do_not_pair():
    for a, b, gold in [([], [], []), (["正面"], [], ["正面"]), (["好"], ["正面"], ["正面"])]:
        with pytest.raises(ValueError):
            compare(a, b, gold, LABELS)


def _three_classes(n: int) -> tuple[list[str], list[str | None], list[str | None]]:
    """Gold, and two readings that are right about 60 % and 70 % of the time, with some unparsed."""
    generator = np.random.default_rng(3)
    gold = list(generator.choice(["x", "y", "z"], n, p=[0.6, 0.3, 0.1]))
    readings = []
    for right in (0.6, 0.7):
        noise = generator.choice(np.array(["x", "y", "z", None], dtype=object), n)
        keep = generator.random(n) < right
        readings.append([g if k else w for g, k, w in zip(gold, keep, noise, strict=True)])
    return gold, *readings
