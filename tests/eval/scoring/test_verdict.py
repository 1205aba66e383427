import pytest

from eval.scoring.metrics import classify
from eval.scoring.significance import compare
from eval.scoring.verdict import NOTHING_TO_COMPARE, Contrast, Guessing, baseline_verdict, verdict

LABELS = ("正面", "负面")
GOLD = ["正面"] * 100 + ["负面"] * 100
LEARNED = Guessing(0.9, (0.85, 0.95), 0.5)


def contrast(right_a: int, right_b: int) -> Contrast:
    """Two readings that have their first rows right."""
    readings = [[*GOLD[:n], *(None for _ in GOLD[n:])] for n in (right_a, right_b)]
    a, b = (classify(GOLD, reading, LABELS) for reading in readings)
    return Contrast(a, b, compare(*readings, GOLD, LABELS, metric="accuracy"))


def test_better():
    got = verdict(contrast(120, 180), False, LEARNED, contrast(120, 180))
    assert got.code == "better"
    assert got.en.startswith("Tuning helped: on 200 test reviews accuracy went from 60.0% to 90.0%, +30.0 points (95%")
    assert "McNemar < 0.001" in got.en and "200" in got.zh and "60.0% 变为 90.0%" in got.zh
    assert "form" not in got.en


def test_worse():
    got = verdict(contrast(180, 120), False, LEARNED, None)
    assert got.code == "worse"
    assert got.en.startswith("Tuning made it worse") and "变差" in got.zh
    assert "\N{MINUS SIGN}30.0 points" in got.en


@pytest.mark.parametrize("after", [150, 152, 148])
def test_no_difference_is_said_plainly(after):
    got = verdict(contrast(150, after), False, LEARNED, None)
    assert got.code == "undecided"
    assert got.en.startswith("It is not decided whether tuning helped")
    assert "so many reviews show a difference of" in got.en.lower() and "in 80% of tries" in got.en
    assert "不能断定" in got.zh and "Tuning helped" not in got.en and "有效" not in got.zh


def test_better_than_before_but_no_better_than_guessing():
    guessing = Guessing(0.5, (0.48, 0.52), 0.5)
    got = verdict(contrast(50, 130), False, guessing, None)
    assert got.code == "undecided"
    assert "guessing, 50.0%" in got.en and "48.0% to 52.0%" in got.en and "瞎猜" in got.zh
    assert "helped" not in got.en and "有效" not in got.zh


@pytest.mark.parametrize(
    ("after", "said"), [(150, "it is not decided whether the judgement improved"), (100, "it got worse")]
)
def test_a_gain_of_form_alone_is_named(after, said):
    got = verdict(contrast(60, 150), False, LEARNED, contrast(150, after))
    assert got.code == "better"
    assert said in got.en and ("not the judgement" in got.en) == (after == 100)
    assert "形式" in got.zh


def test_read_by_score_says_so():
    got = verdict(contrast(60, 150), True, LEARNED, None)
    assert "read by the probability" in got.en and "按标签概率" in got.zh


def test_nothing_to_compare():
    assert verdict(None, False, None, None) == NOTHING_TO_COMPARE


@pytest.mark.parametrize(
    ("a", "b", "en", "zh"),
    [
        (120, 180, "The tuned model beats", "好于"),
        (180, 120, "The TF-IDF linear baseline beats", "不如"),
        (150, 151, "It is not decided whether", "不能断定"),
    ],
)
def test_against_the_baseline(a, b, en, zh):
    got = baseline_verdict(contrast(a, b))
    assert en in got.en and zh in got.zh
    assert f"accuracy is {b / 2:.1f}% against {a / 2:.1f}%" in got.en and "200" in got.en and "200" in got.zh


def test_equality_is_claimed_of_a_narrow_interval_alone():
    """Audit, High 8: no evidence was read as evidence of nothing, at n = 100."""
    gold = list(LABELS) * 2000
    a = b = classify(gold, gold, LABELS)
    got = verdict(Contrast(a, b, compare(gold, gold, gold, LABELS)), False, LEARNED, None)
    assert got.code == "equivalent" and "less than the margin" in got.en and "容许范围" in got.zh


def test_where_accuracy_says_otherwise_a_line_says_so():
    """Audit, High 6: 95/5 classes, minority recall 0 to 70 %."""
    gold = ["正面"] * 380 + ["负面"] * 20
    readings = ["正面"] * 400, ["正面"] * 366 + ["负面"] * 28 + ["正面"] * 6
    a, b = (classify(gold, reading, LABELS) for reading in readings)
    got = verdict(Contrast(a, b, compare(*readings, gold, LABELS)), False, LEARNED, None)
    assert got.code == "better" and "macro F1 +" in got.en
    assert "The verdict goes by macro F1; by accuracy alone it would be undecided." in got.en
    assert "只看准确率则看不出变化" in got.zh


def test_too_few_rows_for_an_interval_are_named():
    gold = ["正面"] * 90 + ["负面"] * 10
    readings = ["正面"] * 100, [*gold[:-1], "正面"]
    a, b = (classify(gold, reading, LABELS) for reading in readings)
    got = verdict(Contrast(a, b, compare(*readings, gold, LABELS)), False, LEARNED, None)
    assert got.code == "better" and "too few test reviews for an interval; paired randomisation test p" in got.en
    assert "给不出区间" in got.zh and "–" not in got.en
