"""A bundle of a real tiny model, served by the command as a user starts it, and asked by the official clients."""

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request

import numpy as np
import pytest

from eval.scoring.responses import load_split
from plan.run import Run
from serve import Classifier
from serve.export import main as export
from tests.serve.ready import url_of
from tests.serve.small_run import LABELS, small_run
from workspace.paths import ROOT

pytestmark = pytest.mark.torch

openai = pytest.importorskip("openai", reason="the package openai is not installed")
typesafe = pytest.importorskip("typesafe_sdk", reason="the package typesafe-sdk is not installed")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return small_run(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def bundle(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle") / "mine"
    assert export([str(run), str(folder), "--reading", "stack"]) == 0
    return folder


@pytest.fixture(scope="module")
def url(bundle):
    process = subprocess.Popen(
        [sys.executable, "-m", "serve", str(bundle), "--port", "0"], cwd=ROOT, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    yield url_of(process)
    process.send_signal(signal.SIGTERM)
    rest = process.communicate()[1]
    assert process.returncode == 0 and rest.endswith("every request that was under way has its answer\n")
    assert not any(text in rest for text in ("房间", "Traceback", "ERROR"))


def test_every_wire_gives_the_classifiers_own_probabilities(url, bundle, run):
    classifier = Classifier.load(bundle)
    texts = list(load_split(Run.read(run).dataset, "test", LABELS).reviews)[:20]
    expected = classifier.score(texts).probabilities
    labels, task = list(classifier.file.labels), classifier.file.task
    body = json.dumps({"input": texts}).encode()
    request = urllib.request.Request(f"{url}/classify", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        rows = json.load(answer)["data"]
    np.testing.assert_allclose([row["probs"] for row in rows], expected, atol=1e-5)
    assert [row["label"] for row in rows] == classifier.predict(texts)["label"].tolist()
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        options = [{"value": "好评"}, {"value": "负面"}]  # a synonym of the task's
        question = {"type": "choice", "name": "tone", "instructions": "", "choices": options}
        for text, shares in zip(texts[:5], expected, strict=False):
            answer = client.decisions.create(model=task, input=text, questions=[question]).answers[0]
            np.testing.assert_allclose([one.probability for one in answer.probabilities], shares, atol=1e-5)
    with typesafe.TypeSafeClient(base_url=url, api_key="none", model=task, timeout=3600) as client:
        answer = client.system_one(texts[0], {"tone": typesafe.Choice(criteria=dict.fromkeys(labels))})
        np.testing.assert_allclose(list(answer.choices["tone"].probabilities.values()), expected[0], atol=1e-5)


def test_the_report_and_the_card_of_the_bundle_are_there(url):
    for path, word in (("/report", "<!DOCTYPE html>"), ("/report/card", "model-index"), ("/", 'id="all"')):
        with urllib.request.urlopen(url + path) as answer:
            assert word in answer.read().decode() and "default-src 'none'" in answer.headers["Content-Security-Policy"]
    with urllib.request.urlopen(f"{url}/v1/classifier") as answer:
        told = json.load(answer)
    assert told["reading"] == "stack" and told["report"] and told["card"] and str(ROOT) not in json.dumps(told)


def test_a_bundle_that_was_changed_is_one_sentence_and_status_2(bundle, tmp_path):
    copy = shutil.copytree(bundle, tmp_path / "copy")
    (copy / "README.md").write_text("x", encoding="utf-8")
    words = [sys.executable, "-m", "serve", str(copy), "--port", "0"]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 2 and "README.md was changed since it was exported" in ended.stderr
    assert "Traceback" not in ended.stderr
