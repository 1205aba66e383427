import csv
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, log_loss, roc_auc_score
from sklearn.model_selection import train_test_split

from eval.baselines import C_GRID, fit_linear, main, majority_label, make_baselines
from eval.scoring.cross_fit import folds
from eval.scoring.responses import Split, as_shown, load_split
from tests.scored_runs import BINARY, make_dataset, make_plan
from workspace.errors import UserError
from workspace.files import read_json, read_jsonl, write_jsonl
from workspace.paths import ROOT

REAL = ROOT.parent / "shared" / "data" / "ChnSentiCorp_htl_all.csv"


def split_of(rows: list[tuple[str, str]]) -> Split:
    reviews, gold = zip(*rows, strict=True) if rows else ((), ())
    ids = tuple(str(i) for i in range(len(rows)))
    return Split(Path("made-up.jsonl"), ids, tuple(reviews), tuple(gold), (False,) * len(rows))


@pytest.fixture
def run(tmp_path):
    return make_plan(tmp_path / "run", make_dataset(tmp_path / "data"))


def test_majority_counts_and_ties_go_to_the_first_label():
    assert majority_label(split_of([("a", "负面"), ("b", "负面"), ("c", "正面")]), BINARY) == "负面"
    assert majority_label(split_of([("a", "负面"), ("b", "正面")]), BINARY) == "正面"


def test_the_linear_model_learns_and_is_deterministic(tmp_path):
    dataset = make_dataset(tmp_path)
    train, val, test = (load_split(dataset, name, BINARY) for name in ("train", "val", "test"))
    model, again = (fit_linear(train, val, BINARY) for _ in range(2))
    probabilities = model.probabilities(test.reviews)
    assert np.array_equal(probabilities, again.probabilities(test.reviews))
    assert probabilities.sum(axis=1) == pytest.approx(1)
    assert (probabilities.argmax(axis=1) == test.codes(BINARY)).mean() > 0.85
    assert model.parameters == len(model.vectorizer.vocabulary_) + 1


def test_c_is_chosen_on_validation_by_the_metric_and_of_equals_by_log_loss(tmp_path):
    """Equals went to the smallest C, the most regularised: on few validation rows most are equal."""
    dataset = make_dataset(tmp_path)
    train, val = (load_split(dataset, name, BINARY) for name in ("train", "val"))
    model = fit_linear(train, val, BINARY)
    best = max(score for _, score in model.trials)
    equals = [c for c, score in model.trials if score == best]
    assert [c for c, _ in model.trials] == list(C_GRID) and len(equals) > 1

    def loss(c: float) -> float:
        return log_loss(val.codes(BINARY), fit_linear(train, None, BINARY, c).probabilities(val.reviews))

    assert model.c == min(equals, key=loss) != min(equals)
    assert fit_linear(train, split_of([]), BINARY).c == 10
    flipped = replace(val, gold=tuple(BINARY[0] if row < 6 else label for row, label in enumerate(val.gold)))
    by_name = {name: fit_linear(train, flipped, BINARY, metric=name).trials for name in ("accuracy", "mcc")}
    assert by_name["accuracy"] != by_name["mcc"]


def test_a_validation_row_is_answered_with_the_c_that_the_others_choose(tmp_path):
    """What is learned from these answers, such as the stack, would use a row twice, were it among those."""
    dataset = make_dataset(tmp_path)
    train, val = (load_split(dataset, name, BINARY) for name in ("train", "val"))
    val = replace(val, gold=tuple(BINARY[0] if row < 6 else label for row, label in enumerate(val.gold)))
    model, chosen = fit_linear(train, val, BINARY), set()
    for known, asked in folds(val.codes(BINARY)):
        one = fit_linear(train, val.take(known), BINARY)
        chosen.add(one.c)
        wanted = fit_linear(train, None, BINARY, one.c).probabilities(val.take(asked).reviews)
        np.testing.assert_allclose(model.held_out[asked], wanted, atol=1e-6)
    assert len(chosen) > 1


def test_few_validation_rows_of_a_label_are_not_divided(tmp_path):
    dataset = make_dataset(tmp_path)
    train, val = (load_split(dataset, name, BINARY) for name in ("train", "val"))
    few = val.take([*np.flatnonzero(val.codes(BINARY) == 0)[:4], *np.flatnonzero(val.codes(BINARY) == 1)[:9]])
    model = fit_linear(train, few, BINARY)
    assert np.array_equal(model.held_out, model.probabilities(few.reviews))
    assert fit_linear(train, None, BINARY).held_out is None


def test_the_linear_model_reads_what_the_language_model_is_shown(tmp_path):
    dataset = make_dataset(tmp_path / "data")
    rows = read_jsonl(dataset / "train.jsonl")
    for row in rows:  # the end of each review is cut in its prompt, and gives the label away
        row["review"] += "，标记" + row["messages"][-1]["content"]
    write_jsonl(dataset / "train.jsonl", rows)
    shown, _ = as_shown(*(load_split(dataset, name, BINARY) for name in ("train", "test")))
    assert not any("标记" in review or "评论内容" in review or "这条评论" in review for review in shown.reviews)
    assert [review in row["review"] for review, row in zip(shown.reviews, rows, strict=True)] == [True] * len(rows)

    run = make_plan(tmp_path / "run", dataset)
    make_baselines(run)
    record = read_json(run / "baselines.json")["tfidf_linear"]
    assert (record["metric"], record["class_weight"]) == ("macro_f1", "balanced")
    assert not any("标记" in word for word in fit_linear(shown, None, BINARY).vectorizer.vocabulary_)


def test_a_label_without_train_rows_has_probability_zero():
    labels = ("好", "中", "差")
    train = split_of([("很好很好", "好"), ("不错", "好"), ("差极了", "差"), ("太差", "差")])
    model = fit_linear(train, split_of([("一般", "中")]), labels)
    probabilities = model.probabilities(["很好", "太差"])
    assert probabilities.argmax(axis=1).tolist() == [0, 2]
    assert (probabilities[:, 1] == 0).all()
    assert probabilities.sum(axis=1) == pytest.approx(1)


def test_one_label_only_is_refused():
    with pytest.raises(UserError, match=r"made-up\.jsonl has rows of one label only"):
        fit_linear(split_of([("a", "正面")]), split_of([]), BINARY)


def test_saved_once_and_skipped_until_the_rows_change(run, capsys):
    assert make_baselines(run)
    record = read_json(run / "baselines.json")
    assert record["majority"]["label"] == "正面"
    test = read_jsonl(run.parent / "data" / "test.jsonl")
    answers = read_jsonl(run / "baselines" / "tfidf_linear" / "test.jsonl")
    assert [row["id"] for row in answers] == [row["id"] for row in test]
    assert [row["gold"] for row in answers] == [row["messages"][-1]["content"] for row in test]
    assert len(read_jsonl(run / "baselines" / "tfidf_linear" / "val.jsonl")) == 40
    before = (run / "baselines.json").read_bytes()
    assert not make_baselines(run)
    assert (run / "baselines.json").read_bytes() == before
    assert "baselines: finished" in capsys.readouterr().out
    make_dataset(run.parent / "data", sizes=(100, 40, 80))
    assert make_baselines(run)
    assert "train" in capsys.readouterr().out


def test_test_rows_are_never_learned_from(run):
    make_baselines(run)
    first = read_json(run / "baselines.json")["tfidf_linear"]
    dataset = run.parent / "data"
    text = (dataset / "test.jsonl").read_text(encoding="utf-8")
    (dataset / "test.jsonl").write_text(text.replace("房间", "天天"), encoding="utf-8")
    make_baselines(run)
    second = read_json(run / "baselines.json")["tfidf_linear"]
    assert (first["c"], first["validation"], first["parameters"]) == (
        second["c"],
        second["validation"],
        second["parameters"],
    )


def test_command_line(run, capsys):
    assert main([str(run)]) == 0
    assert capsys.readouterr().out.startswith("linear baseline: C = ")
    finished = subprocess.run(
        [sys.executable, "-m", "eval.baselines", str(run.parent / "nowhere")], cwd=ROOT, capture_output=True, text=True
    )
    assert finished.returncode == 2
    assert finished.stderr.startswith("error: ") and finished.stderr.count("\n") == 1
    assert "no run.json" in finished.stderr


@pytest.mark.skipif(not REAL.is_file(), reason="the real reviews are not beside the checkout (../shared)")
def test_the_real_reviews_give_the_known_figures():
    words = {"1": "正面", "0": "负面"}
    with open(REAL, encoding="utf-8-sig", newline="") as stream:
        rows = [(row["review"], words[row["label"]]) for row in csv.DictReader(stream) if row["review"].strip()]
    rest, test_rows = train_test_split(rows, test_size=0.2, random_state=42)
    train_rows, val_rows = train_test_split(rest, test_size=0.1, random_state=42)
    train, val, test = (split_of(part) for part in (train_rows, val_rows, test_rows))
    assert (len(train), len(val), len(test)) == (5590, 622, 1553)
    model = fit_linear(train, val, BINARY)
    probabilities, gold = model.probabilities(test.reviews), test.codes(BINARY)
    answers = probabilities.argmax(axis=1)
    assert model.c == 10
    assert accuracy_score(gold, answers) == pytest.approx(0.894, abs=0.002)
    assert f1_score(gold, answers, average="macro") == pytest.approx(0.880, abs=0.002)
    assert roc_auc_score(gold == 0, probabilities[:, 0]) == pytest.approx(0.956, abs=0.001)
