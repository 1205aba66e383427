import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from eval.scoring.metrics import classify, encode
from eval.scoring.responses import Split
from eval.scoring.significance import compare
from eval.scoring.slices import slice_metrics
from eval.scoring.thresholds import choose

LABELS = ("正面", "负面")
WORDS = ("好", "中", "差", "退")


def test_hand_worked_with_unparsed():
    gold = ["正面"] * 4 + ["负面"] * 2
    predicted = ["正面", "正面", "负面", None, "负面", "正面"]
    got = classify(gold, predicted, LABELS, strict=[True, False, True, False, True, False])
    assert (got.n, got.correct, got.unparsed, got.strict) == (6, 3, 1, 3)
    assert got.confusion == [[2, 1, 1], [1, 1, 0]]
    positive, negative = got.per_class["正面"], got.per_class["负面"]
    assert (positive.support, positive.predicted, negative.support, negative.predicted) == (4, 3, 2, 2)
    assert positive.precision == pytest.approx(2 / 3)
    assert positive.recall == pytest.approx(2 / 4)
    assert positive.f1 == pytest.approx(4 / 7)
    assert negative.f1 == pytest.approx(2 / 4)
    assert got.accuracy == pytest.approx(3 / 6)
    assert got.macro_f1 == pytest.approx((4 / 7 + 1 / 2) / 2)
    assert got.balanced_accuracy == pytest.approx(1 / 2)
    assert got.unparsed_rate == pytest.approx(1 / 6)
    assert got.strict_rate == pytest.approx(1 / 2)
    # Gorodkin: (c s - sum t p) / sqrt((s^2 - sum p^2)(s^2 - sum t^2)), p = (3, 2, 1), t = (4, 2, 0)
    assert got.mcc == pytest.approx((3 * 6 - (4 * 3 + 2 * 2)) / np.sqrt((36 - 14) * (36 - 20)))


def test_all_unparsed_is_all_wrong_and_stays_in_the_denominator():
    got = classify(["正面", "负面"], [None, None], LABELS)
    assert (got.n, got.correct, got.accuracy, got.macro_f1, got.balanced_accuracy, got.mcc) == (2, 0, 0, 0, 0, 0)
    assert got.confusion == [[0, 0, 1], [0, 0, 1]]
    assert got.unparsed_rate == 1
    assert got.strict is None and got.strict_rate is None


def test_a_class_without_gold_rows_is_shown_and_left_out_of_macro_f1():
    got = classify(["好", "差", "差"], ["好", "差", "好"], WORDS[:3])
    assert got.per_class["中"].support == got.per_class["中"].predicted == 0
    assert got.per_class["中"].f1 == 0
    assert got.macro_f1 == pytest.approx((2 / 3 + 2 / 3) / 2)  # only labels with gold rows, here too
    assert got.balanced_accuracy == pytest.approx((1 + 1 / 2) / 2)  # only labels with gold rows
    assert got.confusion[1] == [0, 0, 0, 0]


# Gold, predictions, and the mean F1 of the classes of gold: class 2 has no gold rows, and once is still predicted.
ABSENT = [
    ([0, 0, 0, 1], [0, 0, 1, 1], (4 / 5 + 2 / 3) / 2),
    ([0, 0, 0, 1], [0, 0, 2, 1], (4 / 5 + 1) / 2),
]


@pytest.mark.parametrize(("gold", "predicted", "expected"), ABSENT)
def test_macro_f1_has_one_definition(gold, predicted, expected):
    words = WORDS[:3]
    said, truth = [words[code] for code in predicted], [words[code] for code in gold]
    assert classify(truth, said, words).macro_f1 == pytest.approx(expected)
    assert sk.f1_score(gold, predicted, labels=np.unique(gold), average="macro") == pytest.approx(expected)
    nothing = [None] * len(gold)
    assert compare(nothing, said, truth, words, draws=10).macro_f1_difference == pytest.approx(expected)
    eye = np.eye(3)
    assert choose(eye[predicted], np.array(gold), words).macro_f1 >= expected - 1e-12
    split = Split(Path("x"), tuple("abcd"), ("字",) * 4, tuple(truth), (False,) * 4)
    [whole] = [part for part in slice_metrics("r", said, split, words) if part.by == "cut"]
    assert whole.macro_f1 == pytest.approx(expected)


def test_one_class_only():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = classify(["正面"] * 3, ["正面"] * 3, LABELS)
    assert (got.accuracy, got.macro_f1, got.balanced_accuracy, got.mcc) == (1, 1, 1, 0)


def test_refuses_what_it_cannot_count():
    for gold, predicted in [([], []), (["正面"], []), (["正面"], ["好"]), (["好"], ["正面"]), ([None], ["正面"])]:
        with pytest.raises(ValueError):
            classify(gold, predicted, LABELS)


@given(
    st.integers(2, 4).flatmap(
        lambda k: st.lists(
            st.tuples(st.sampled_from(WORDS[:k]), st.sampled_from((*WORDS[:k], None))), min_size=1, max_size=60
        ).map(lambda rows: (rows, WORDS[:k]))
    )
)
def test_equals_scikit_learn(case):
    rows, labels = case
    gold, predicted = zip(*rows, strict=True)
    got = classify(gold, predicted, labels)
    y, z = encode(gold, labels), encode(predicted, labels)
    known = list(range(len(labels)))
    assert got.accuracy == pytest.approx(sk.accuracy_score(y, z))
    assert got.macro_f1 == pytest.approx(sk.f1_score(y, z, labels=np.unique(y), average="macro", zero_division=0))
    with warnings.catch_warnings():  # scikit-learn warns of one class only
        warnings.simplefilter("ignore")
        assert got.mcc == pytest.approx(sk.matthews_corrcoef(y, z))
        assert got.balanced_accuracy == pytest.approx(sk.balanced_accuracy_score(y, z))
    report = sk.classification_report(y, z, labels=known, output_dict=True, zero_division=0)
    for code, label in enumerate(labels):
        mine = got.per_class[label]
        theirs = report[str(code)]
        assert (mine.precision, mine.recall, mine.f1, mine.support) == pytest.approx(
            (theirs["precision"], theirs["recall"], theirs["f1-score"], theirs["support"])
        )
        assert mine.predicted == predicted.count(label)
    # counted row by row, apart from scikit-learn
    for i, row in enumerate(got.confusion):
        assert row == [rows.count((labels[i], word)) for word in (*labels, None)]
    assert got.unparsed == predicted.count(None)
