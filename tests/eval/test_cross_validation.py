"""The pooled result of a cross-validation: each row once, beside the linear model; and once for real."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from data_prep.task import SplitSettings
from eval import cross_validation
from eval.cross_validation import Answer, check_each_once, cross_validate, page, summary, write_fold
from plan.recipes import load_recipe
from tests.prep_tables import reviews, write_csv
from train import trials as trying
from train.trials import METRIC, TrialList, TrialResult
from workspace.errors import UserError
from workspace.files import read_json, read_jsonl
from workspace.paths import ROOT

LABELS = ("正面", "负面")


def answers(right: int, linear: int, n: int = 100, repeat: int = 0) -> list[Answer]:
    """`n` rows of two classes in turn; the tuned model has the first `right` right, the linear one `linear`."""
    made = []
    for at in range(n):
        gold, other = LABELS[at % 2], LABELS[1 - at % 2]
        readings = {"tfidf_linear": gold if at < linear else other, "after_generate": gold if at < right else None}
        made.append(Answer(str(at), f"A-{at}", gold, at % 5 + 1, repeat, readings))
    return made


def test_the_answers_of_all_folds_are_scored_together():
    found = summary(answers(90, 70), LABELS, 5, 1)["repeats"][0]
    assert found["readings"]["after_generate"]["accuracy"] == 0.9
    assert found["readings"]["after_generate"]["unparsed"] == 10
    assert found["against_linear"]["code"] == "better"
    text = page(answers(90, 70), LABELS, 5, 1, "mine/model")
    assert "mine/model, 5 folds, n = 100" in text
    assert (
        "The tuned model beats the TF-IDF linear baseline: on 100 test reviews accuracy is 90.0% against 70.0%" in text
    )
    assert "90.0% | 82.6–94.5" in text
    assert "| 5 | 20 | 70.0% | 90.0% |" in text
    twice = answers(90, 70) + answers(80, 70, repeat=1)
    assert "with 2 draws of folds: accuracy 85.0% ± 7.1" in page(twice, LABELS, 5, 2, "mine/model")


def test_the_comparison_goes_by_the_tasks_metric_and_margin():
    found = answers(80, 78)
    assert summary(found, LABELS, 5, 1, "accuracy", 0.2)["repeats"][0]["against_linear"]["code"] == "equivalent"
    text = page(found, LABELS, 5, 1, "mine/model", "balanced_accuracy", 0.001)
    assert "It is not decided" in text and "balanced accuracy" in text and "macro F1 +" not in text


def test_a_row_in_two_folds_is_no_result():
    check_each_once(answers(1, 1) + answers(1, 1, repeat=1))
    with pytest.raises(UserError, match="the table has changed between them"):
        check_each_once(answers(1, 1) + answers(1, 1)[:1])


def test_a_folds_override_keeps_the_tasks_shares(tmp_path):
    path = write_fold(tmp_path, SplitSettings(val=0.2, seed=7), 5, 3, 8)
    assert yaml.safe_load(path.read_text())["task"] == {
        "split": {"scheme": "stratified", "seed": 8, "val": 0.2, "test": 0.1, "folds": 5, "fold": 3}
    }


class _Planned:
    """Stands in for a plan, which is not carried out: how folds become trials is looked at."""


def test_folds_are_trials_and_one_that_fails_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tuned: list[str] = []

    def make_plan(options, words):
        plan = _Planned()
        plan.folder = options.run
        return plan

    def run_trial(trial, plan) -> TrialResult:
        tuned.append(trial.name)
        fault = "out of memory" if len(tuned) == 7 else None
        return TrialResult(trial, plan.folder, {METRIC: 0.9}, 1.0, fault)

    def answers_of(folder: Path, repeat: int, fold: int) -> list[Answer]:
        return [one for one in answers(90, 70, repeat=repeat) if one.fold == fold]

    run = _Planned()
    run.labels, run.notice = LABELS, {"zh": "先读过文本。", "en": "It has read texts."}
    monkeypatch.setattr(trying, "make_plan", make_plan)
    monkeypatch.setattr(trying, "run_trial", run_trial)
    monkeypatch.setattr(cross_validation, "answers_of", answers_of)
    monkeypatch.setattr(cross_validation, "not_answered", lambda folder: 1)
    monkeypatch.setattr(cross_validation.Run, "read", lambda folder: run)
    recipe, trials = load_recipe("demo"), TrialList(tmp_path / "cv")
    assert len(cross_validate(trials, ["demo"], recipe, 5, 1, 42)) == 100
    assert tuned == [f"fold{fold}of5-split42" for fold in range(1, 6)]
    text = (tmp_path / "cv" / "cv.md").read_text(encoding="utf-8")
    assert (
        "In the first fold: It has read texts.\n" in text
        and "\n5 other rows were left out by the limit, and not answered.\n" in text
    )
    added = recipe._replace(task=replace(recipe.task, added=(tmp_path / "rows.csv",)))
    with pytest.raises(UserError, match="has `added` rows, which every fold would learn from"):
        cross_validate(trials, ["demo"], added, 5, 1, 42)
    assert read_json(tmp_path / "cv" / "cv.json")["repeats"][0]["readings"]["after_generate"]["n"] == 100
    assert read_jsonl(tmp_path / "cv" / "rows.jsonl")[0]["source_id"] == "A-0"
    with pytest.raises(UserError, match=r"fold2of5-split42-seed42 failed \(out of memory\)"):
        cross_validate(trials, ["demo"], recipe, 5, 1, 42)


TASK = """
name: tiny
csv: {csv}
columns: {{text: review, label: label}}
labels: {{"1": 正面, "0": 负面}}
system: You are a helpful assistant.
prompts: {{short: "评论：{{review}}\n情感倾向："}}
prompt: short
default_recipe: minimind2-small
"""


@pytest.mark.swift
@pytest.mark.all
def test_two_folds_for_real(tmp_path: Path, demo_model: Path) -> None:
    table = write_csv(tmp_path / "t.csv", reviews(40))
    (tmp_path / "task.yaml").write_text(TASK.format(csv=table), encoding="utf-8")
    words = ["bash", str(ROOT / "run_sft.sh"), str(tmp_path), "--model", str(demo_model), "--cv", "2"]
    words += ["--num_train_epochs", "1", "--run", str(tmp_path / "cv")]
    for _ in range(2):  # the second time nothing is tuned or asked again
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, env=os.environ)
        assert done.returncode == 0, done.stderr[-3000:]
    rows = read_jsonl(tmp_path / "cv" / "rows.jsonl")
    assert sorted(int(row["id"]) for row in rows) == list(range(1, 41))
    assert {"tfidf_linear", "after_generate"} <= rows[0]["readings"].keys()
    assert "Each row was answered once" in done.stdout
