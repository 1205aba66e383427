"""Evaluation, predict and serve give the same label and probability: the calibrated one, for which thresholds hold."""

import json
from pathlib import Path

import httpx
import numpy as np
import pytest

from plan.run import Run
from serve.classifier import Classifier
from serve.export import export
from serve.finished_run import FinishedRun
from serve.predict import main
from tests.serve.made_up import running
from tests.serve.small_run import LABELS, small_run
from workspace.errors import UserError
from workspace.files import read_json, read_jsonl, write_json

pytestmark = pytest.mark.torch
REPORTED = {"tuned": "after_score", "linear": "tfidf_linear", "stack": "stack"}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return small_run(tmp_path_factory.mktemp("small"))


@pytest.mark.parametrize("reading", ["tuned", "linear", "stack"])
def test_the_same_labels_and_probabilities_through_every_entrance(run: Path, reading: str, tmp_path: Path) -> None:
    finished = FinishedRun.read(Run.read(run))
    measured = [row["readings"][REPORTED[reading]] for row in read_jsonl(run / "rows.jsonl")]
    wanted = finished.predictions.test[REPORTED[reading]].probabilities
    file = export(Run.read(run), tmp_path / "bundle", reading)
    calibration = read_json(run / "metrics.json")["readings"][REPORTED[reading]]["calibration"]
    if reading == "stack":
        assert calibration is None and (file.temperature, file.biases) == (1, None)
    else:
        biases = calibration["biases"] and tuple(calibration["biases"][label] for label in LABELS)
        assert (file.temperature, file.biases) == (calibration["temperature"], biases) != (1, None)

    texts = list(finished.test.reviews)
    table = tmp_path / "t.jsonl"
    table.write_text("".join(json.dumps({"review": text}) + "\n" for text in texts), encoding="utf-8")
    assert main([str(tmp_path / "bundle"), str(table), "--out", str(tmp_path / "o.jsonl")]) == 0
    predicted = read_jsonl(tmp_path / "o.jsonl")
    classifier = Classifier.load(tmp_path / "bundle")
    with running(classifier) as server:
        answer = httpx.post(f"{server.url}/classify", json={"input": texts}, timeout=None).json()["data"]
    assert [one["label"] for one in measured] == [row["label"] for row in predicted] == [one["label"] for one in answer]
    by_command = np.array([[row[f"p_{label}"] for label in LABELS] for row in predicted])
    assert np.abs(by_command - wanted).max() < 1e-4
    assert np.abs(np.array([one["probs"] for one in answer]) - wanted).max() < 1e-4
    np.testing.assert_allclose([one["p"] for one in measured], by_command.max(axis=1), atol=2e-4)
    # The threshold was chosen on these probabilities, and leaves the same test rows to a person.
    metrics = read_json(run / "metrics.json")["selective"]["readings"][REPORTED[reading]]
    if metrics["chosen"]:
        answered = len(texts) - sum(row["abstained"] for row in predicted)
        assert file.thresholds.selective == metrics["chosen"]["threshold"]
        assert answered == metrics["test"]["n_answered"]


def test_the_report_has_what_it_was_before_and_after(run: Path) -> None:
    readings = read_json(run / "metrics.json")["readings"]
    for name in ("after_score", "tfidf_linear"):
        before, after = readings[name]["calibration"]["before"], readings[name]["probabilities"]
        assert before["log_loss"] != after["log_loss"] and before["ece_bins"] == after["ece_bins"]
    assert all(readings[name]["calibration"] is None for name in ("majority", "before_score", "stack"))


@pytest.mark.parametrize("changed", ["temperature", "weights"])
def test_a_report_of_another_calibration_is_refused(run: Path, changed: str) -> None:
    """Its thresholds were chosen on other probabilities than those that would be given."""
    path = run / "metrics.json"
    whole = path.read_bytes()
    metrics = read_json(path)
    if changed == "temperature":
        metrics["readings"]["after_score"]["calibration"]["temperature"] += 0.1
    else:
        metrics["stack"]["weights"]["after_score"] += 0.1
    write_json(path, metrics)
    try:
        with pytest.raises(UserError, match=r"is of other answers than the run has now: run `python -m eval\.report"):
            Classifier.load(run, "linear")
    finally:
        path.write_bytes(whole)
