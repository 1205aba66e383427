"""The model card: figures are metrics.json's, both hubs read its head, and its lines load the bundle."""

import re
import subprocess
import sys

import jsonschema
import pytest
import yaml

from plan.run import Run
from serve.classifier_schema import SCHEMA, schema
from serve.finished_run import FinishedRun
from tests.serve.small_run import LABELS, small_run
from tests.serve.test_export import exported
from workspace.files import read_json, write_jsonl

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return small_run(tmp_path_factory.mktemp("words"))


@pytest.fixture(scope="module")
def bundle(run, tmp_path_factory):
    return exported(run, tmp_path_factory.mktemp("bundle") / "mine", "tuned")


def text_of(bundle):
    return (bundle / "README.md").read_text(encoding="utf-8")


def block(text: str, language: str, containing: str) -> str:
    blocks = re.findall(rf"```{language}\n(.*?)\n```", text, re.DOTALL)
    return next(one for one in blocks if containing in one)


def test_its_figures_are_those_of_the_report(run, bundle):
    text, metrics = text_of(bundle), read_json(run / "metrics.json")
    reading = metrics["readings"]["after_score"]
    low, high = reading["intervals"]["macro_f1"]
    assert f"macro F1 {reading['macro_f1']:.3f} on 72 test rows (95% {low:.3f}–{high:.3f})." in text
    assert f"| {100 * reading['accuracy']:.1f}% (" in text and "◀" in text
    assert metrics["decision"]["en"] in text.replace("&#36;", "$") and metrics["decision"]["zh"] in text
    assert read_json(bundle / "report" / "metrics.json")["readings"] == metrics["readings"]


def test_hugging_faces_client_reads_its_head(run, bundle):
    from huggingface_hub import ModelCard

    data = ModelCard.load(bundle / "README.md").data
    reading = read_json(run / "metrics.json")["readings"]["after_score"]
    assert {one.metric_type: one.metric_value for one in data.eval_results} == {
        "accuracy": reading["accuracy"], "f1": reading["macro_f1"], "matthews_correlation": reading["mcc"],
    }  # fmt: skip
    assert (data.pipeline_tag, data.license, data.model_name) == ("text-classification", "unknown", "small-model")


def test_modelscope_finds_what_it_asks_for(bundle):
    values = yaml.safe_load(text_of(bundle).split("---")[1])
    assert values["tasks"] == ["text-classification"] and values["frameworks"] == ["Pytorch"]
    assert values["language"] == ["zh"] and values["domain"] == ["nlp"]


def test_licences_are_in_plain_words(bundle):
    assert "The base's licence is not known here: look it up where the base model comes from." in text_of(bundle)
    assert "The training data's licence: CC-BY-4.0." in text_of(bundle)


@pytest.mark.slow
def test_its_python_answers_as_the_bundle_does(bundle):
    done = subprocess.run(
        [sys.executable, "-c", block(text_of(bundle), "python", "transformers")],
        cwd=bundle, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()  # a random model writes anything


@pytest.mark.slow
def test_a_heads_python_gives_each_labels_probability(tmp_path):
    run = small_run(tmp_path / "run", head=True)
    bundle = exported(run, tmp_path / "head", "tuned")
    lines = block(text_of(bundle), "python", "pipeline")
    finished = FinishedRun.read(Run.read(run))
    at = next(at for at, cut in enumerate(finished.test.cut) if not cut)
    text, wanted = finished.test.reviews[at], finished.predictions.test["after_score"].own_probabilities[at]
    done = subprocess.run(
        [sys.executable, "-c", re.sub(r'", "房间[^"]*"\)', lambda _: f'", {text!r})', lines)],
        cwd=bundle, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = {one["label"]: one["score"] for one in yaml.safe_load(done.stdout)}
    assert [found[label] for label in LABELS] == pytest.approx(wanted.tolist(), abs=1e-4)


@pytest.mark.swift
def test_swift_infer_takes_the_bundle_as_it_is(bundle, tmp_path):
    command = block(text_of(bundle), "bash", "swift infer")
    rows = [
        {"messages": [{"role": "user", "content": f"评论内容: 第{at}间房很好 这条评论是正面还是负面？"}]}
        for at in range(3)
    ]
    write_jsonl(bundle.parent / "rows.jsonl", rows)
    command = command.replace("rows.jsonl", str(bundle.parent / "rows.jsonl"))
    out = tmp_path / "answers.jsonl"
    done = subprocess.run(
        ["bash", "-c", f"{command} --torch_dtype float32 --result_path {out}"],
        cwd=bundle, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(out.read_text(encoding="utf-8").splitlines()) == 3


def test_classifier_json_is_as_its_schema_says(bundle):
    assert read_json(SCHEMA) == schema(), "run `python -m serve.classifier_schema`"
    jsonschema.validate(read_json(bundle / "classifier.json"), read_json(SCHEMA))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(read_json(bundle / "classifier.json") | {"temperature": "warm"}, read_json(SCHEMA))
