from pathlib import Path

import pytest

from eval.scoring.responses import Split
from eval.scoring.significance import wilson
from eval.scoring.slices import length_of, slice_metrics


@pytest.mark.parametrize(
    ("length", "name"),
    [(0, "0–49"), (49, "0–49"), (50, "50–99"), (99, "50–99"), (100, "100–199"), (199, "100–199"), (200, "200+")],
)
def test_edges(length, name):
    assert length_of("字" * length) == name


def test_by_hand():
    test = Split(Path("x"), ("1", "2", "3"), ("短", "短", "长" * 300), ("正面", "负面", "正面"), (False, False, True))
    said = ("正面", None, "正面")
    got = {(s.by, s.value): (s.n, s.accuracy) for s in slice_metrics("r", said, test, ("正面", "负面"))}
    assert got == {
        ("length", "0–49"): (2, 0.5),
        ("length", "200+"): (1, 1),
        ("label", "正面"): (2, 1),
        ("label", "负面"): (1, 0),
        ("cut", "cut"): (1, 1),
        ("cut", "whole"): (2, 0.5),
    }
    told = {(s.by, s.value): (s.n, s.accuracy) for s in slice_metrics("r", said, test, ("正面", "负面"), {"2"})}
    assert (told["known", "known"], told["known", "unknown"]) == ((1, 0), (2, 1))
    first = slice_metrics("r", said, test, ("正面", "负面"))[0]
    assert (first.reading, first.accuracy_ci) == ("r", wilson(1, 2))
    disputed = [s for s in slice_metrics("r", said, test, ("正面", "负面"), (), {"2"}) if s.by == "disputed"]
    assert [(s.value, s.n, s.accuracy, s.macro_f1) for s in disputed] == [
        ("disputed", 1, 0, 0),
        ("undisputed", 2, 1, 1),  # 负面 has no rows left and says nothing
    ]
    assert {s.macro_f1 for s in slice_metrics("r", said, test, ("正面", "负面")) if s.by == "label"} == {None}
