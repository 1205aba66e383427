import numpy as np
import pytest

from eval.scoring.predictions import by_score, by_text, by_threshold, load_predictions
from eval.scoring.reading_names import primary, primary_pair
from eval.scoring.responses import Responses, load_split
from eval.scoring.thresholds import Threshold
from tests.scored_runs import BINARY, make_run
from workspace.files import read_jsonl, write_jsonl


def test_text_is_parsed_and_strictness_kept():
    got = by_text("x", Responses(("正面", "这条评论是负面的。", "不知道"), None), BINARY, {})
    assert got.predicted == ("正面", "负面", None)
    assert got.strict == (True, False, False)
    assert got.probabilities is None and got.confidence is None


def test_score_takes_the_most_probable_label_and_the_first_of_equals():
    got = by_score("x", np.array([[0.4, 0.6], [0.5, 0.5]]), BINARY)
    assert got.predicted == ("负面", "正面")
    assert got.confidence.tolist() == [0.6, 0.5]


def test_threshold_keeps_the_probability_of_what_it_predicts():
    got = by_threshold("x", np.array([[0.4, 0.6], [0.2, 0.8]]), Threshold(BINARY, 0.3, None, 1.0))
    assert got.predicted == ("正面", "负面")
    assert got.confidence.tolist() == [0.4, 0.8]
    assert got.probabilities is None


def test_the_threshold_never_sees_test(tmp_path):
    run = make_run(tmp_path)
    dataset = tmp_path / "data" / "made_up"
    test, val = (load_split(dataset, name, BINARY) for name in ("test", "val"))
    first = load_predictions(run, test, val, BINARY, {}).test["before_score_threshold"].threshold
    rows = read_jsonl(run / "before" / "test.jsonl")
    for row in rows:
        row["probabilities"] = {"正面": 0.01, "负面": 0.99}
    write_jsonl(run / "before" / "test.jsonl", rows)
    again = load_predictions(run, test, val, BINARY, {})
    assert again.test["before_score_threshold"].threshold == first
    assert set(again.validation) == {"before_score", "before_score_calibrated", "after_score"}


@pytest.mark.parametrize(
    ("names", "pair", "chosen"),
    [
        (["before_score", "before_score_calibrated", "after_score"], "calibrated", "after_score"),
        (["before_generate", "before_score", "after_generate", "after_score"], "generate", "after_generate"),
        (["before_generate", "before_score", "after_score"], "score", "after_score"),
        (["before_generate", "after_score"], None, "after_score"),
        (["before_score", "tfidf_linear"], None, "before_score"),
        (["majority"], None, None),
    ],
)
def test_the_primary(names, pair, chosen):
    names = dict.fromkeys(names)
    credited = ("before_score_calibrated", "after_score")
    assert primary_pair(names) == (credited if pair == "calibrated" else pair and (f"before_{pair}", f"after_{pair}"))
    assert primary(names) == chosen
