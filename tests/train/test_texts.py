"""Texts without labels for real: `swift pt` on a tiny model, once for all runs that begin so, interrupted or not."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from data_prep.chat.tokenizer import ModelTokenizer
from data_prep.task import load_task
from hub.find import fingerprint
from plan.hardware import this_machine
from plan.options import parse_options
from plan.planning import make_plan, write_run
from plan.run import Run
from plan.texts import check_texts, first_token
from tests.prep_tables import reviews, write_csv
from tests.tiny_models import write_folder
from train.texts import learn_texts
from workspace.errors import UserError
from workspace.files import read_jsonl
from workspace.paths import ROOT, cache_folder

TEXTS = 1600  # a hundred steps
SETTINGS = {
    "name": "texts",
    "columns": {"text": "review", "label": "label"},
    "labels": {"1": "正面", "0": "负面"},
    "prompts": {"short": "评论：{review}\n这条评论属于哪一类："},
    "prompt": "short",
    "split": {"val": 0.2, "test": 0.3},
    "max_length": 120,
    "default_recipe": "minimind2-small",
}


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, with what is known of this machine and of ms-swift."""
    there, own = cache_folder(), tmp_path / "cache"
    own.mkdir()
    for path in there.iterdir() if there.is_dir() else ():
        if path.name != "texts":
            (own / path.name).symlink_to(path)
    monkeypatch.setenv("SWIFT_SFT_CACHE", str(own))
    return own


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """A task whose texts without labels are its own test rows too, among many others."""
    rows = reviews(40)
    more = [("", text) for _, text in [*rows, *reviews(TEXTS, start=2000)]]
    settings = SETTINGS | {
        "csv": str(write_csv(tmp_path / "table.csv", rows)),
        "unlabelled": {"path": str(write_csv(tmp_path / "more.csv", more)), "column": "review"},
    }
    folder = tmp_path / "task"
    folder.mkdir()
    (folder / "task.yaml").write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
    return folder


def planned(task: Path, run: str, *options: str, family: str = "qwen2") -> Path:
    model = task.parent / f"my-{family}"
    if not model.exists():
        write_folder(model, family)
    folder = task.parent / run
    words = [str(task), "--model", str(model), "--run", str(folder), *options]
    write_run(make_plan(parse_options(words), words))
    return folder


def test_a_fault_in_the_texts_leaves_an_earlier_run_as_it_was(task: Path) -> None:
    def files() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file() and path.name != "lock"}

    run = planned(task, "run")
    before = files()
    held = [row["review"] for row in read_jsonl(Run.read(run).dataset / "test.jsonl")]
    write_csv(task.parent / "more.csv", [("", text) for text in held])
    with pytest.raises(UserError, match="stand in validation or test rows too"):
        planned(task, "run", "--fresh")
    (task.parent / "more.csv").unlink()
    with pytest.raises(UserError, match=r"there is no file .*more\.csv"):
        planned(task, "run", "--fresh")
    assert files() == before and before


def texts(run: Path) -> list[str]:
    return [row["messages"][-1]["content"] for row in read_jsonl(run / "texts" / "train.jsonl")]


@pytest.mark.torch
@pytest.mark.parametrize(("family", "first"), [("qwen2", ""), ("phi3", "<s>"), ("llama", "")])
def test_a_text_begins_with_the_token_that_the_model_knows(tmp_path: Path, family: str, first: str) -> None:
    """Qwen has none, Phi's is added, Llama's tokenizer puts it there."""
    assert first_token(ModelTokenizer(write_folder(tmp_path / "model", family))) == first


@pytest.mark.torch
def test_what_cannot_read_texts_is_one_sentence(task: Path, tmp_path: Path) -> None:
    model, machine = write_folder(tmp_path / "my-qwen2", "qwen2"), this_machine()
    own = load_task(task / "task.yaml")
    check_texts(own, {}, model, machine, None)
    for keys, adapter, small, told in (
        ({"quant_bits": 4}, None, machine, "cannot be done in few bits: leave `unlabelled` out of the task"),
        ({"ENV": {"NNODES": "2", "NPROC_PER_NODE": "1"}}, None, machine, "on one node: leave `unlabelled` out"),
        ({}, tmp_path / "one", machine, "--adapters .*one was tuned on another model"),
        ({}, None, dataclasses.replace(machine, gpu=None, memory_gib=1e-6), "my-qwen2 trained, which takes 0 GiB"),
    ):
        with pytest.raises(UserError, match=told) as caught:
            check_texts(own, keys, model, small, adapter)
        assert "\n" not in str(caught.value)
        check_texts(dataclasses.replace(own, unlabelled=None), keys, model, small, adapter)


@pytest.mark.torch
def test_another_model_than_was_planned_is_refused(task: Path, own_cache: Path) -> None:
    run = planned(task, "run")
    config = task.parent / "my-qwen2" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text("utf-8")) | {"rms_norm_eps": 1e-3}), encoding="utf-8")
    with pytest.raises(UserError, match="my-qwen2 is another model than was planned"):
        learn_texts(run)
    assert not own_cache.joinpath("texts").exists()


@pytest.mark.swift
def test_done_once_for_all_seeds_and_interrupted_the_same(
    task: Path, own_cache: Path, capfd: pytest.CaptureFixture
) -> None:
    run = planned(task, "one")
    base = Run.read(run)
    held = [row["review"] for name in ("val", "test") for row in read_jsonl(base.dataset / f"{name}.jsonl")]
    assert len(held) > 10 and not {*held} & {*texts(run)} and len(texts(run)) == TEXTS + 40 - len(held)

    # Ended in the middle, as by a Ctrl-C in run_sft.sh.
    env = os.environ | {"SAFE_CHECKPOINT_SECONDS": "0"}
    began = subprocess.Popen([sys.executable, "-m", "train.texts", str(run)], cwd=ROOT, env=env)
    while not list(own_cache.glob("texts/*/train/checkpoint-*")) and began.poll() is None:
        time.sleep(0.05)
    began.send_signal(signal.SIGTERM)
    assert began.wait() != 0
    assert Run.read(run) == base
    learn_texts(run)
    assert "train: going on from checkpoint-" in capfd.readouterr().out
    one = Run.read(run)
    assert one.text_base == base.model_folder and one.model_folder != base.model_folder
    assert one.model_fingerprint == fingerprint(one.model_folder) != base.model_fingerprint
    assert one.sft_values()["model"] == one.infer_values()["model"] == str(one.model_folder)
    assert not (one.model_folder / "args.json").exists() and not (one.model_folder.parent / "train").exists()
    assert f"read {len(texts(run))} texts without labels of more.csv" in one.notice["en"]
    assert f"{len(held)} that stand in a validation or test row" in one.notice["en"]

    # Another seed begins with the same weights, and reads nothing again; nor does the same run once more.
    other = planned(task, "other", "--seed", "7", "--data_seed", "7")
    for again in (other, planned(task, "one")):
        capfd.readouterr()
        learn_texts(again)
        assert "texts: finished on" in capfd.readouterr().out
        assert Run.read(again).model_folder == one.model_folder
        assert Run.read(again).model_fingerprint == one.model_fingerprint

    # What was changed in the cache is not taken; uninterrupted it comes out the same, byte for byte.
    weights = one.model_folder / "model.safetensors"
    with open(weights, "r+b") as stream:
        stream.seek(-4, os.SEEK_END)
        stream.write(b"\1\2\3\4")
    learn_texts(planned(task, "one"))
    assert "texts: stale, because model/model.safetensors was removed or changed" in capfd.readouterr().out
    assert Run.read(run).model_fingerprint == one.model_fingerprint
