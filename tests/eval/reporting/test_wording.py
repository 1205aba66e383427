import re

import pytest

from eval.reporting import wording
from eval.scoring.predictions import LADDER
from workspace import bilingual
from workspace.files import read_json
from workspace.paths import ROOT


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        (bilingual.percent, 0.90342, "90.3%"),
        (bilingual.percent, None, "–"),
        (bilingual.signed, 0.1421, "+14.2"),
        (bilingual.signed, -0.0312, "−3.1"),
        (bilingual.signed, -0.0001, "0.0"),
        (bilingual.signed, 0.0, "0.0"),
        (bilingual.signed, None, "–"),
        (bilingual.interval, [0.8871, 0.9172], "88.7–91.7"),
        (bilingual.interval, None, "–"),
        (bilingual.signed_interval, [-0.012, 0.034], "−1.2 … +3.4"),
        (bilingual.decimal, -0.0714, "−0.071"),
        (bilingual.p_value, 0.0, "< 0.001"),
        (bilingual.p_value, 0.0499, "0.050"),
        (bilingual.p_value, 1.0, "1.000"),
        (bilingual.number, 1553, "1,553"),
        (bilingual.number, 0, "0"),
        (bilingual.parameters, 26_878_464, "26.9M"),
        (bilingual.parameters, 463_987_712, "464M"),
        (bilingual.parameters, 0, "0"),
        (bilingual.parameters, 7_000_000_000, "7B"),
        (bilingual.duration, 0.42, "0.4 s"),
        (bilingual.duration, 59.6, "60 s"),
        (bilingual.duration, 204, "3.4 min"),
        (bilingual.duration, 5400, "1.5 h"),
        (bilingual.milliseconds, 0.0512, "0.05"),
        (bilingual.milliseconds, 61.7, "62"),
        (bilingual.milliseconds, 1234.5, "1,234"),
    ],
)
def test_numbers(write, value, text):
    assert write(value) == text


def test_every_reading_of_the_ladder_has_words_in_both_languages():
    assert set(wording.READINGS) == set(LADDER)
    assert wording.reading_name("new_one") == ("new_one", "new_one")
    assert [wording.stage_of(name) for name in ("majority", "before_few_shot", "after_score")] == [
        "baseline",
        "before",
        "after",
    ]


@pytest.mark.parametrize("readings", [["before_score", "after_score"], ["stack"], ["tfidf_linear"], ["encoder"]])
def test_the_decision_is_told_as_it_was_made(readings):
    metrics = {"decision": {"zh": "用它。", "en": "Use it."}, "readings": readings}
    if readings in (["tfidf_linear"], ["encoder"]):
        assert wording.decision(metrics) == (
            "调优后的模型还没有回答。目前：用它。", "The tuned model has not answered yet. So far: Use it."
        )  # fmt: skip
    else:
        assert wording.decision(metrics) == ("用它。", "Use it.")
    assert wording.decision(metrics | {"readings": ["before_score"]}) == wording.NOTHING_TO_DECIDE


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("eval_seq_acc", "whole answers"),
        ("eval_token_acc", "token accuracy"),
        (None, "teacher-forced"),
        ("new", "teacher-forced"),
    ],
)
def test_teacher_forced_accuracy_is_named_as_such(metric, words):
    told = wording.teacher_forced({"teacher_forced_metric": metric})
    assert words in told.en and "not what it answers" in told.en and "教师强制" in told.zh


def test_slices():
    assert wording.slice_value("cut", "cut").zh == "截断"
    assert wording.slice_value("200+", "length") == ("200+", "200+")
    assert wording.slice_value("known", "known").zh == "公开过"
    assert wording.slice_value("known", "label") == ("known", "known")  # a label word is not translated
    by = read_json(ROOT / "eval" / "metrics.schema.json")["properties"]["slices"]["items"]["properties"]["by"]
    assert all(re.match(by["pattern"], name) for name in (*wording.SLICES, "column:城市"))
    assert wording.slice_name("column:城市") == ("列 城市", "column 城市")
    assert wording.slice_value("", "column:城市").en == "(empty)"
