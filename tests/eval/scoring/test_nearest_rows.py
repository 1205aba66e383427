from pathlib import Path

import numpy as np

from eval.scoring.nearest_rows import MISTAKES, NEAREST, confident_mistakes, nearest_rows
from eval.scoring.predictions import by_score
from eval.scoring.responses import Split

LABELS = ("好", "坏")
TRAIN = Split(
    Path("train"),
    ("11", "12", "13", "14"),
    ("房间干净", "早餐很差很贵", "早餐很差", "zzz"),
    ("好", "坏", "好", "坏"),
    (False,) * 4,
)


def split(reviews, gold):
    return Split(Path("test"), tuple(str(k + 1) for k in range(len(gold))), tuple(reviews), tuple(gold), (False,) * 9)


def test_the_nearest_come_first_and_what_shares_nothing_does_not():
    near, none = nearest_rows(["早餐很差", "qqq"], TRAIN)
    assert [(one.id, one.label) for one in near] == [("13", "好"), ("12", "坏")]
    assert near[0].similarity == 1 > near[1].similarity > 0 and near[0].review == "早餐很差"
    assert none == []


def test_the_surest_mistakes_come_first():
    test = split(["早餐很差", "房间干净", "早餐", "房间"], ["坏", "好", "坏", "好"])
    reading = by_score("after_score", np.array([[0.7, 0.3], [0.1, 0.9], [0.2, 0.8], [0.9, 0.1]]), LABELS)
    first, second = confident_mistakes(reading, test, TRAIN)
    assert (first.id, first.gold, first.label, first.p) == ("2", "好", "坏", 0.9)
    assert first.nearest[0].id == "11" and (second.id, second.p) == ("1", 0.7)


def test_no_more_than_so_many_and_equals_in_their_order():
    test = split(["早餐"] * 12, ["坏"] * 12)
    found = confident_mistakes(by_score("after_score", np.array([[0.8, 0.2]] * 12), LABELS), test, TRAIN)
    assert [one.id for one in found] == [str(k + 1) for k in range(MISTAKES)]
    assert all(len(one.nearest) <= NEAREST for one in found)


def test_without_probabilities_or_mistakes_there_are_none():
    test = split(["早餐"], ["好"])
    assert confident_mistakes(None, test, TRAIN) == []
    right = by_score("after_score", np.array([[0.8, 0.2]]), LABELS)
    assert confident_mistakes(right, test, TRAIN) == []
    wrong = by_score("after_score", np.array([[0.2, 0.8]]), LABELS)
    empty = Split(Path("train"), ("1",), (" ",), ("好",), (False,))
    assert confident_mistakes(wrong, test, empty) == []
