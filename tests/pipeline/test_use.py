"""The whole way of a table of one's own: tuned, exported, carried away, and there asked by predict, serve, clients."""

import csv
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from demo.reviews import ensure_reviews
from serve.labelling import BELOW
from tests.serve.ready import url_of
from workspace.files import read_json, remove
from workspace.paths import CONFIGS, DATASETS, ROOT

pytestmark = pytest.mark.swift

openai = pytest.importorskip("openai", reason="the package openai is not installed")
typesafe = pytest.importorskip("typesafe_sdk", reason="the package typesafe-sdk is not installed")

ROWS, NEW, TRAIN = 300, 40, 32
WORDS = {"1": "好评", "0": "差评"}
# What a checkout has and a machine that only answers need not.
LEFT_BEHIND = (".*", "__pycache__", "runs", "dataset_jsonl", "data", "swift_configs", "demo", "tests", "docs", "bench")


@pytest.fixture
def name() -> Iterator[str]:
    """A task's name of its own; what init and prep write under it is removed afterwards."""
    name = f"use-{os.getpid()}"
    yield name
    shutil.rmtree(CONFIGS / name, ignore_errors=True)
    for left in DATASETS.glob(f"{name}*"):  # the dataset, and the record of who looked at its test rows
        remove(left)


def call(words: list[str], cwd: Path, **env: str) -> str:
    """What a command prints that has to end with status 0."""
    ended = subprocess.run(words, cwd=cwd, capture_output=True, text=True, env={**os.environ, **env})
    assert ended.returncode == 0, ended.stderr[-3000:]
    return ended.stdout


def test_from_a_table_to_the_official_clients_on_another_machine(tmp_path: Path, demo_model: Path, name: str) -> None:
    """The other machine: this code without data, an empty home, a folder with the bundle and a table, no hub."""
    home, there = tmp_path / "home", tmp_path / "another machine 另一台"
    with open(ensure_reviews(tmp_path / "reviews.csv"), encoding="utf-8", newline="") as stream:
        rows = [[WORDS[row["label"]], row["review"]] for row in csv.DictReader(stream)]
    # The corpus has one label after the other: every nineteenth row, and others, are of both.
    header, known, new = ["tone", "review"], rows[:: len(rows) // ROWS][:ROWS], rows[1 :: len(rows) // NEW][:NEW]
    write(tmp_path / "mine.csv", [header, *known])

    shell = ["bash", str(ROOT / "run_sft.sh")]
    call([*shell, "init", "mine.csv", "--name", name], tmp_path)
    small = ["--model", str(demo_model), "--limit", str(TRAIN), "--num_train_epochs", "1"]
    call([*shell, "mine.csv", *small, "--run", str(tmp_path / "run")], tmp_path)
    call([*shell, "export", str(tmp_path / "run"), str(tmp_path / "bundle"), "--reading", "tuned"], tmp_path)

    shutil.copytree(tmp_path / "bundle", there / "carried")
    for gone in ("run", "bundle", "mine.csv", "reviews.csv"):
        path = tmp_path / gone
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    write(there / "new.csv", [[*header, "n"], *([*row, str(at)] for at, row in enumerate(new))])
    asked_there(there, home)


def asked_there(there: Path, home: Path) -> None:
    """Label new.csv by the bundle in `carried`, serve that, and ask it by both clients: one answer everywhere."""
    shutil.copytree(ROOT, there / "code", ignore=shutil.ignore_patterns(*LEFT_BEHIND))
    home.mkdir()
    env = {
        "HOME": str(home), "PYTHONPATH": str(there / "code"), "HF_HUB_OFFLINE": "1", "SWIFT_SERVER": "off",
        "RUN_SFT_CALLER": str(there),
    }  # fmt: skip

    told = call([sys.executable, "-m", "serve.predict", "carried", "new.csv", "--label", "tone"], there, **env)
    assert f"{NEW} rows" in told and "agreement with the table's labels" in told
    with open(there / "new.labelled.csv", encoding="utf-8-sig", newline="") as stream:
        labelled = list(csv.DictReader(stream))
    assert [row["n"] for row in labelled] == [str(at) for at in range(NEW)]
    labels = read_json(there / "carried" / "classifier.json")["labels"]
    shares = np.array([[float(row[f"p_{label}"]) for label in labels] for row in labelled])
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)
    assert {row["reason"] for row in labelled} <= {"", BELOW}

    server = subprocess.Popen(
        [sys.executable, "-m", "serve", "carried", "--port", "0", "--name", "mine"], cwd=there, text=True,
        stderr=subprocess.PIPE, env={**os.environ, **env},
    )  # fmt: skip
    try:
        url = url_of(server)
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none", timeout=3600) as client:
            options = [{"value": label} for label in labels]
            question = {"type": "choice", "name": "q", "instructions": "", "choices": options}
            for row, wanted in zip(labelled[:5], shares, strict=False):
                answer = client.decisions.create(model="mine", input=row["review"], questions=[question]).answers[0]
                np.testing.assert_allclose([one.probability for one in answer.probabilities], wanted, atol=1e-4)
        with typesafe.TypeSafeClient(base_url=url, api_key="none", model="mine", timeout=3600) as client:
            asked = client.system_one(labelled[0]["review"], {"q": typesafe.Choice(criteria=dict.fromkeys(labels))})
            found = asked.choices["q"].probabilities
            np.testing.assert_allclose([found[label] for label in labels], shares[0], atol=1e-4)
        server.send_signal(signal.SIGTERM)
        rest = server.communicate()[1]
        assert server.returncode == 0 and "Traceback" not in rest
    finally:
        server.kill()
        server.wait()
    assert not [path for path in home.rglob("*") if path.suffix in (".csv", ".jsonl", ".safetensors")]


def write(path: Path, rows: list[list[str]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(rows)
