"""An untuned model that prefers one label word is not blind: what it prefers is taken off without a gold label."""

import numpy as np
import pytest

from eval.scoring.label_bias import batch_calibrated, only_answer
from eval.scoring.metrics import classify
from eval.scoring.predictions import load_predictions
from eval.scoring.responses import load_split
from eval.scoring.roc import roc_auc
from tests.scored_runs import BINARY, make_run
from workspace.files import read_jsonl, write_jsonl


def biased(rows: int, bias: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (n, 2) of a model that judges well and leans to label 0 by `bias` in log odds, and the gold."""
    rng = np.random.default_rng(seed)
    gold = rng.integers(0, 2, rows)
    odds = bias + np.where(gold == 0, 1.2, -1.2) + rng.normal(0, 0.8, rows)
    first = 1 / (1 + np.exp(-odds))
    return np.stack([first, 1 - first], 1), gold


def test_a_bias_towards_a_label_is_no_want_of_judgement() -> None:
    """The audit's case: an AUC of 0.96 whose plain labels are those of guessing. Calibrated, they are as good as it."""
    on_test, gold = biased(800, 4.0, 1)
    on_val, _ = biased(200, 4.0, 2)
    words = [BINARY[code] for code in gold]

    def accuracy(shares: np.ndarray) -> float:
        return classify(words, [BINARY[code] for code in shares.argmax(1)], BINARY).accuracy

    calibrated = batch_calibrated(on_test, on_val)
    assert accuracy(on_test) < 0.55 and accuracy(calibrated) > 0.85
    assert calibrated.sum(axis=1) == pytest.approx(1)
    assert roc_auc(calibrated, gold)[0] == pytest.approx(roc_auc(on_test, gold)[0])  # the order of rows stays


def test_it_is_the_quotient_by_the_geometric_mean_and_a_label_that_no_prompt_considers_is_no_winner() -> None:
    got = batch_calibrated(np.array([[0.6, 0.4]]), np.array([[0.9, 0.1], [0.4, 0.6]]))
    parts = np.array([[0.6 / 0.36**0.5, 0.4 / 0.06**0.5]])
    assert got == pytest.approx(parts / parts.sum())
    got = batch_calibrated(np.array([[0.7, 0.3, 0.0]]), np.array([[0.4, 0.6, 0.0]] * 3))
    assert got.argmax() == 0 and np.isfinite(got).all()
    with pytest.raises(ValueError, match="no prompts"):
        batch_calibrated(got, got[:0])


def test_the_calibrated_reading_never_sees_a_gold_label(tmp_path) -> None:
    run = make_run(tmp_path)
    dataset = tmp_path / "data" / "made_up"
    splits = [load_split(dataset, name, BINARY) for name in ("test", "val")]
    found = load_predictions(run, *splits, BINARY, {}).test
    before = found["before_score_calibrated"]
    assert not np.allclose(before.probabilities, found["before_score"].probabilities)
    for path in (dataset / "val.jsonl", run / "before" / "val.jsonl", run / "after" / "val.jsonl"):
        rows = read_jsonl(path)
        other = {BINARY[0]: BINARY[1], BINARY[1]: BINARY[0]}
        for row in rows:
            if "gold" in row:
                row["gold"] = other[row["gold"]]
            else:
                row["messages"][-1]["content"] = other[row["messages"][-1]["content"]]
        write_jsonl(path, rows)
    splits = [load_split(dataset, name, BINARY) for name in ("test", "val")]
    again = load_predictions(run, *splits, BINARY, {}).test["before_score_calibrated"]
    assert again.probabilities.tolist() == before.probabilities.tolist()


@pytest.mark.parametrize(
    ("predicted", "found"),
    [
        (["正面", "正面", None], {"label": "正面", "n": 2}),
        (["正面", "负面"], None),
        (["正面", None], None),
        ([None, None], None),
    ],
)
def test_a_reading_with_one_label_for_all_rows_is_named(predicted, found) -> None:
    assert only_answer(predicted) == found
