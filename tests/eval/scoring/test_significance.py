import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from eval.scoring.metrics import classify, encode
from eval.scoring.significance import balanced_accuracy_interval, compare, mcnemar_p, verdict_code, wilson

LABELS = ("正面", "负面")


@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_equals_statsmodels(case):
    correct, n = case
    assert wilson(correct, n) == pytest.approx(proportion_confint(correct, n, method="wilson"), abs=1e-9)


def test_wilson_by_hand():
    # p = 1/2, n = 4, z = 1.959964: (p + z^2/2n ± z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)
    assert wilson(2, 4) == pytest.approx((0.150, 0.850), abs=5e-4)
    assert wilson(0, 0) is None


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_equals_statsmodels(fixed, broken):
    expected = mcnemar([[5, fixed], [broken, 7]], exact=True).pvalue
    assert mcnemar_p(fixed, broken) == pytest.approx(min(expected, 1.0), rel=1e-9, abs=1e-300)


def test_mcnemar_by_hand():
    assert mcnemar_p(0, 0) == 1
    assert mcnemar_p(5, 0) == pytest.approx(2 / 2**5)
    assert mcnemar_p(3, 3) == 1


@pytest.mark.parametrize(
    ("p", "difference", "interval", "code"),
    [
        (0.01, 0.05, (0.01, 0.09), "better"),
        (0.01, -0.05, (-0.09, -0.01), "worse"),
        (0.05, 0.05, (0.01, 0.09), "indistinguishable"),
        (0.01, 0.05, (0.0, 0.09), "indistinguishable"),
        (0.01, -0.05, (-0.09, 0.0), "indistinguishable"),
        (1.0, 0.0, (0.0, 0.0), "indistinguishable"),
    ],
)
def test_verdict_needs_both_tests(p, difference, interval, code):
    assert verdict_code(p, difference, interval) == code


def test_compare_by_hand():
    gold = ["正面", "正面", "负面", "负面", "负面"]
    a = ["正面", "负面", "负面", None, "正面"]
    b = ["负面", "正面", "负面", "负面", "负面"]
    got = compare(a, b, gold, LABELS)
    assert (got.n, got.fixed, got.broken) == (5, 3, 1)
    assert got.mcnemar_p == pytest.approx(2 * (1 + 4) / 2**4)
    assert got.accuracy_difference == pytest.approx(2 / 5)
    assert got.macro_f1_difference == pytest.approx((2 / 3 + 6 / 7) / 2 - (2 / 4 + 2 / 5) / 2)
    assert got.code == "indistinguishable"


def test_the_same_answers_cannot_be_told_apart():
    got = compare(["正面", None], ["正面", None], ["正面", "负面"], LABELS)
    assert (got.mcnemar_p, got.accuracy_ci, got.macro_f1_ci, got.code) == (1, (0, 0), (0, 0), "indistinguishable")


def test_differences_equal_those_of_the_metrics():
    gold, a, b = _three_classes(300)
    got = compare(a, b, gold, ("x", "y", "z"), draws=50)
    mine = [classify(gold, predicted, ("x", "y", "z")) for predicted in (a, b)]
    assert got.accuracy_difference == pytest.approx(mine[1].accuracy - mine[0].accuracy)
    assert got.macro_f1_difference == pytest.approx(mine[1].macro_f1 - mine[0].macro_f1)


def test_multinomial_cells_agree_with_a_bootstrap_of_rows():
    labels = ("x", "y", "z")
    gold, a, b = _three_classes(400)
    got = compare(a, b, gold, labels)
    y, first, second = (encode(values, labels) for values in (gold, a, b))
    generator = np.random.default_rng(7)
    accuracy, macro_f1 = [], []
    for _ in range(1500):
        rows = generator.integers(0, len(y), len(y))
        scores = [
            f1_score(y[rows], z[rows], labels=np.unique(y[rows]), average="macro", zero_division=0)
            for z in (first, second)
        ]
        accuracy.append((second[rows] == y[rows]).mean() - (first[rows] == y[rows]).mean())
        macro_f1.append(scores[1] - scores[0])
    # an end of the interval has a Monte Carlo error of about 0.0015 here; the interval is 0.1 wide
    assert got.accuracy_ci == pytest.approx(tuple(np.percentile(accuracy, [2.5, 97.5])), abs=0.007)
    assert got.macro_f1_ci == pytest.approx(tuple(np.percentile(macro_f1, [2.5, 97.5])), abs=0.007)
    assert got.accuracy_ci[1] - got.accuracy_ci[0] > 0.05


def test_seeded():
    gold, a, b = _three_classes(100)
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
    assert there.accuracy_ci[0] - 1e-12 <= there.accuracy_difference <= there.accuracy_ci[1] + 1e-12 or len(rows) < 100


def test_balanced_accuracy_interval_finds_constant_and_random_answers_at_chance():
    gold = ["正面"] * 300 + ["负面"] * 100
    low, high = balanced_accuracy_interval(["正面"] * 400, gold, LABELS)
    assert low == high == 0.5
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
