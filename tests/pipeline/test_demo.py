"""The whole pipeline for real: `bash run_sft.sh demo` with few rows, real ms-swift, a real model, real reviews."""

import csv
import json
import math
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from eval.inference.budget import FEWEST_ASKED
from plugins.score_lines import tokens_sha256
from serve import Classifier
from workspace.files import read_json, read_jsonl
from workspace.paths import ROOT

pytestmark = pytest.mark.swift

TRAIN, TEST = 48, 192
SCORE_ROWS = 20


def run_sft(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "run_sft.sh", *words], cwd=ROOT, capture_output=True, text=True, env={**os.environ, **env}
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, demo_model: Path) -> tuple[Path, str]:
    """A finished run of the demo, and what it printed."""
    run = tmp_path_factory.mktemp("runs") / "demo run 演示"
    result = run_sft("demo", "--limit", str(TRAIN), "--num_train_epochs", "1", "--run", str(run))
    assert result.returncode == 0, result.stderr[-3000:]
    return run, result.stdout + result.stderr


def test_it_ends_with_every_file_of_the_report(finished) -> None:
    run, _ = finished
    for name in ("metrics.json", "rows.jsonl", "report.md", "report.html", "run.json", "sft.yaml", "infer.yaml"):
        assert (run / name).stat().st_size > 0, name
    pictures = {path.name for path in run.glob("*.png")}
    assert {
        "curves_loss.png",
        "curves_accuracy.png",
        "before_after.png",
        "confusion_before.png",
        "confusion_after.png",
    } <= pictures


def test_row_counts_hold_at_every_step(finished) -> None:
    run, _ = finished
    plan = read_json(run / "run.json")
    dataset = Path(plan["dataset"])
    counts = read_json(dataset / "manifest.json")["counts"]
    used = sum(counts[split]["total"] for split in ("train", "val", "test"))
    assert counts["rows"] == 5686 == used + counts["set_aside"]["total"] + counts["not_used"]["total"]
    assert (counts["train"]["total"], counts["test"]["total"]) == (TRAIN, TEST)
    seen = read_json(run / "train" / "label_metric.json")
    assert (seen["train_rows"], seen["val_rows"]) == (TRAIN, counts["val"]["total"])
    test = [(row["id"], row["messages"][-1]["content"]) for row in read_jsonl(dataset / "test.jsonl")]
    answered = {
        path: read_jsonl(run / path) for path in ("before/test.jsonl", "before/few_shot.jsonl", "after/test.jsonl")
    }
    for path, rows in answered.items():
        ids = {row["id"] for row in rows}
        assert [(row["id"], row["gold"]) for row in rows] == [one for one in test if one[0] in ids], path
    asked, examples, tuned = answered.values()
    assert len(asked) == read_json(run / "metrics.json")["test"]["asked"] == FEWEST_ASKED and len(tuned) == TEST
    assert [row["id"] for row in asked] == [row["id"] for row in examples]
    assert [row["id"] for row in tuned if row["answer"] is not None] == [row["id"] for row in asked]
    assert len(read_jsonl(run / "rows.jsonl")) == TEST


def test_metrics_follow_their_schema_and_name_every_reading(finished) -> None:
    import jsonschema

    run, _ = finished
    metrics = read_json(run / "metrics.json")
    jsonschema.validate(metrics, read_json(ROOT / "eval" / "metrics.schema.json"))
    assert list(metrics["readings"]) == [
        "majority", "tfidf_linear", "before_generate", "before_score", "before_score_calibrated",
        "before_score_threshold", "before_few_shot", "after_generate", "after_score", "after_score_threshold",
    ]  # fmt: skip
    asked = {name: reading["n"] for name, reading in metrics["readings"].items() if name.startswith("before")}
    assert set(asked.values()) == {metrics["readings"]["after_generate"]["n"]} == {FEWEST_ASKED}
    assert metrics["readings"]["after_score"]["n"] == metrics["readings"]["tfidf_linear"]["n"] == TEST
    assert metrics["test"]["looks"] >= 1
    assert metrics["curves"]["val"][0]["label_accuracy"] is not None


def test_the_consistency_checks_hold(finished) -> None:
    run, _ = finished
    gates = read_json(run / "metrics.json")["parity"]
    assert len(gates) >= 5
    assert [gate["name"] for gate in gates if not gate["ok"]] == []


def test_verify_tells_a_run_of_fewer_rows_from_the_demo(finished) -> None:
    run, _ = finished
    result = run_sft("verify", "demo", "--limit", str(TRAIN), "--num_train_epochs", "1", "--run", str(run))
    assert result.returncode == 1, result.stderr[-3000:]
    assert f"rows train / test: {TRAIN} / {TEST}, expected 180 / 720" in result.stdout
    lines = result.stdout.splitlines()
    assert sum("符合  " in line for line in lines) >= 5 and lines[-1].startswith("| `demo/minimind2-small` | CPU only")


def test_the_same_command_again_trains_and_asks_nothing(finished) -> None:
    run, _ = finished
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.suffix in (".log", ".safetensors")}
    answers = (run / "after" / "test.jsonl").read_bytes()
    result = run_sft("demo", "--limit", str(TRAIN), "--num_train_epochs", "1", "--run", str(run))
    assert result.returncode == 0, result.stderr[-3000:]
    for stage in ("baselines", "before", "train", "after"):
        assert f"{stage}: finished on" in result.stdout
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert (run / "after" / "test.jsonl").read_bytes() == answers


def test_the_lines_of_the_pipeline_can_be_run_by_hand(finished) -> None:
    """`swift infer` reads the run's YAML and its checkpoint without our code."""
    run, _ = finished
    best = read_json(run / "train" / "best.json")["path"]
    out = run / "by_hand.jsonl"
    command = ["swift", "infer", str(run / "infer.yaml"), "--adapters", str(run / "train" / best)]
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    result = subprocess.run([*command, "--result_path", str(out)], capture_output=True, text=True, env=env, cwd=run)
    assert result.returncode == 0, (result.stdout + result.stderr)[-2000:]
    ours = {row["id"]: row["answer"] for row in read_jsonl(run / "after" / "test.jsonl")}
    dataset = Path(read_json(run / "run.json")["dataset"])
    ids = [row["id"] for row in read_jsonl(dataset / "test.jsonl")]
    answers = dict(zip(ids, (row["response"] for row in read_jsonl(out)), strict=True))
    assert ours.keys() == answers.keys() and sum(text is not None for text in ours.values()) == FEWEST_ASKED
    assert [answers[key] for key, text in ours.items() if text is not None] == [text for text in ours.values() if text]


def prompts_of(run: Path, tokenizer) -> dict[str, list[int]]:
    """Token ids of each validation and test prompt in ChatML, written out here, not taken from ms-swift."""
    dataset = Path(read_json(run / "run.json")["dataset"])
    result = {}
    for split in ("test", "val"):
        for row in read_jsonl(dataset / f"{split}.jsonl"):
            system, user, _ = (turn["content"] for turn in row["messages"])
            text = (
                f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n"
            )
            result[row["id"]] = tokenizer.encode(text, add_special_tokens=False)
    return result


def label_probabilities(model, prompt: list[int], words: dict[str, list[int]]) -> dict[str, float]:
    import torch

    scores = {}
    for label, word in words.items():
        with torch.no_grad():
            steps = torch.log_softmax(model(input_ids=torch.tensor([prompt + word])).logits[0].float(), -1)
        scores[label] = math.exp(sum(steps[len(prompt) - 1 + i, token].item() for i, token in enumerate(word)))
    return {label: score / sum(scores.values()) for label, score in scores.items()}


@pytest.fixture(scope="module")
def plain_models(finished, demo_model: Path):
    """(tokenizer, untuned, tuned, merged), loaded by transformers and peft alone."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run, _ = finished
    adapter = run / "train" / read_json(run / "train" / "best.json")["path"]

    def load():
        return AutoModelForCausalLM.from_pretrained(demo_model, dtype=torch.float32).eval()

    tuned = PeftModel.from_pretrained(load(), adapter).eval()
    merged = PeftModel.from_pretrained(load(), adapter).merge_and_unload().eval()
    return AutoTokenizer.from_pretrained(demo_model), load(), tuned, merged


@pytest.mark.parametrize(
    ("stage", "which"), [("before", 1), ("after", 2), ("after", 3)], ids=["before", "after", "merged"]
)
def test_scores_equal_a_plain_forward_pass_to_1e_4(finished, plain_models, stage: str, which: int) -> None:
    """正面 is two tokens in this model and 负面 one. `merged`: the adapter merged into the weights scores the same."""
    run, _ = finished
    tokenizer, model = plain_models[0], plain_models[which]
    words = {label: tokenizer.encode(label, add_special_tokens=False) for label in ("正面", "负面")}
    assert [len(word) for word in words.values()] == [2, 1]
    prompts = prompts_of(run, tokenizer)
    rows = [*read_jsonl(run / stage / "test.jsonl"), *read_jsonl(run / stage / "val.jsonl")][:SCORE_ROWS]
    assert len(rows) >= 15
    for row in rows:
        assert row["prompt_tokens"] == len(prompts[row["id"]])
        expected = label_probabilities(model, prompts[row["id"]], words)
        for label, probability in row["probabilities"].items():
            assert abs(probability - expected[label]) < 1e-4


@pytest.mark.all
def test_an_adapter_tuned_on_shuffled_labels_is_not_called_better(tmp_path: Path, demo_model: Path) -> None:
    from demo.reviews import ensure_reviews

    source = ensure_reviews(tmp_path / "reviews.csv")
    with open(source, encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    labels = [row["label"] for row in rows]
    random.Random(7).shuffle(labels)
    shuffled = tmp_path / "shuffled.csv"
    with open(shuffled, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("label", "review"))
        writer.writerows((label, row["review"]) for label, row in zip(labels, rows, strict=True))
    run = tmp_path / "run"
    result = run_sft(
        "demo", "--csv", str(shuffled), "--limit", "64", "--num_train_epochs", "1", "--run", str(run)
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    verdict = read_json(run / "metrics.json")["verdict"]
    assert verdict["code"] != "better", verdict
    report = (run / "report.md").read_text(encoding="utf-8")
    assert verdict["zh"] in report and verdict["en"] in report


def test_bad_input_stops_with_one_sentence_and_overwrites_nothing(finished, tmp_path: Path) -> None:
    run, _ = finished
    kept = {path: path.read_bytes() for path in run.iterdir() if path.is_file() and path.name != "lock"}
    assert run / "run.json" in kept
    bad = tmp_path / "bad.csv"
    bad.write_text("score,text\n5,好\n", encoding="utf-8")
    for words, message in [
        (("--csv", str(tmp_path / "none.csv")), "none.csv"),
        (("--csv", str(bad)), "score"),
        (("--model", str(tmp_path)), "config.json"),
        (("--learnin_rate", "1"), "learning_rate"),
    ]:
        result = run_sft("demo", *words, "--limit", str(TRAIN), "--run", str(run), "--fresh")
        assert result.returncode == 2, result.stderr
        assert message in result.stderr.strip().splitlines()[-1]
        assert "Traceback" not in result.stderr
    assert kept == {path: path.read_bytes() for path in run.iterdir() if path.is_file() and path.name != "lock"}


def test_bare_run_sft_says_so_in_its_first_line_when_the_demo_takes_its_place(tmp_path: Path) -> None:
    """Plan and prep alone, with a hub that refuses the connection and an empty cache."""
    closed = {"MODELSCOPE_ENDPOINT": "http://127.0.0.1:9", "HUB_HOSTS": "http://127.0.0.1:9"}
    env = {**os.environ, **closed, "MODELSCOPE_CACHE": str(tmp_path), "USE_HF": "0"}
    command = [sys.executable, "-m", "plan", "--run", str(tmp_path / "run")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=env)
    assert result.returncode == 0, result.stderr
    assert "the demo instead" in result.stderr.splitlines()[0]
    notice = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))["notice"]
    assert "demo" in notice["en"] and "演示" in notice["zh"]


def test_the_tuned_model_answers_in_python_and_by_predict_as_it_was_measured(finished, tmp_path) -> None:
    run, _ = finished
    rows = {row["id"]: row["review"] for row in read_jsonl(Path(read_json(run / "run.json")["dataset"]) / "test.jsonl")}
    measured = read_jsonl(run / "after" / "test.jsonl")
    texts = [rows[one["id"]] for one in measured]
    classifier = Classifier.load(run, "tuned")
    tokens = classifier.encoder.encode(texts).tokens
    assert [tokens_sha256(one) for one in tokens] == [one["prompt_sha256"] for one in measured]
    labels = classifier.file.labels
    raw = np.array([[one["probabilities"][label] for label in labels] for one in measured])
    fitted = read_json(run / "metrics.json")["readings"]["after_score"]["calibration"]
    biases = [(fitted["biases"] or dict.fromkeys(labels, 0.0))[label] for label in labels]
    wanted = softmax(np.log(raw) / fitted["temperature"] + biases, axis=1)
    found = classifier.predict(texts)
    np.testing.assert_allclose(found[[f"p_{label}" for label in labels]].to_numpy(), wanted, atol=1e-4)
    reported = {row["id"]: row["readings"][classifier.file.reported]["label"] for row in read_jsonl(run / "rows.jsonl")}
    assert found["label"].tolist() == [reported[one["id"]] for one in measured]
    table, out = tmp_path / "new.jsonl", tmp_path / "new.parquet"
    table.write_text("".join(json.dumps({"review": text}) + "\n" for text in texts), encoding="utf-8")
    result = run_sft("predict", str(run), str(table), "--reading", "tuned", "--out", str(out))
    assert result.returncode == 0, result.stderr[-3000:]
    labelled = pd.read_parquet(out)
    assert labelled["label"].tolist() == found["label"].tolist()
    np.testing.assert_allclose(labelled[[f"p_{label}" for label in labels]].to_numpy(), wanted, atol=1e-4)
