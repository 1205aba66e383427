"""Models of every family for real, from a table to the report, and an adapter gone on from: tiny random models."""

import os
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml
from safetensors.numpy import load_file, save_file

from eval.infer import check_responses_are_current
from plan.run import Run
from tests.prep_tables import reviews, write_csv
from tests.tiny_models import FOLDERS, write_folder
from train.checkpoints import best_checkpoint, weights_sha256
from workspace.errors import UserError
from workspace.files import read_json, read_jsonl
from workspace.paths import ROOT

pytestmark = pytest.mark.swift

USUAL = {"gemma3-words", "phi3-head"}  # a window and a folded system prompt; tokens that the tokenizer puts before
SETTINGS = {
    "columns": {"text": "review", "label": "label"},
    "labels": {"1": "正面", "0": "负面"},
    "prompts": {"short": "评论：{review}\n这条评论属于哪一类："},
    "prompt": "short",
    "split": {"val": 0.2, "test": 0.3},
    "max_length": 120,
}


def write_task(folder: Path, name: str, recipe: str, system: str = "") -> Path:
    folder.mkdir()
    table = write_csv(folder / "table.csv", reviews(40))
    settings = {"name": name, "csv": str(table), **SETTINGS, "default_recipe": recipe}
    settings |= {"system": system} if system else {}
    (folder / "task.yaml").write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
    return folder


def run_sft(*words: object) -> str:
    command = ["bash", str(ROOT / "run_sft.sh"), *map(str, words), "--num_train_epochs", "1", "--save_total_limit", "1"]
    result = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert result.returncode == 0, result.stderr[-4000:]
    return result.stderr


CASES = [
    pytest.param(family, way, marks=() if f"{family}-{way}" in USUAL else pytest.mark.all, id=f"{family}-{way}")
    for family in sorted(FOLDERS)
    for way in ("words", "head")
]


@pytest.mark.parametrize(("family", "way"), CASES)
def test_from_table_to_report(family: str, way: str, tmp_path: Path) -> None:
    """The recipe is for qwen2; the folder's own family and template are taken, and asked for where several are its."""
    model = write_folder(tmp_path / f"my-{family}", family)
    recipe = "minimind2-small" if way == "words" else "qwen1.5-0.5b-seqcls"
    task = write_task(tmp_path / "task", f"family-{family}", recipe, "You are a helpful assistant." * (way == "words"))
    run = tmp_path / "run"
    told = ["--template", "qwen3"] if family == "qwen3" else []  # with thoughts or without: a bare folder fits several
    run_sft(task, "--model", model, "--run", run, *told)
    resolved = Run.read(run).sft_values()
    if family != "qwen2":  # whose template may be the recipe's too
        assert (resolved["model_type"], resolved["template"]) == FOLDERS[family][:2]
    metrics = read_json(run / "metrics.json")
    jsonschema.validate(metrics, read_json(ROOT / "eval" / "metrics.schema.json"))
    assert [gate["name"] for gate in metrics["parity"] if not gate["ok"]] == []
    for side in ("before", "after"):
        for row in read_jsonl(run / side / "test.jsonl"):
            assert sum(row["probabilities"].values()) == pytest.approx(1)
    seen = read_json(run / "train" / "label_metric.json")
    assert seen["train_rows"] == metrics["counts"]["train"]["total"]
    assert (run / "report.html").stat().st_size > 10_000


def test_an_adapter_is_gone_on_from_and_told(tmp_path: Path) -> None:
    """ "Before" answers as the earlier run's "after" did; a rate of nearly nothing leaves the adapter as it was."""
    model = write_folder(tmp_path / "my-qwen2", "qwen2")
    task = write_task(tmp_path / "task", "family-adapters", "minimind2-small")
    (tmp_path / "other.yaml").write_text("task: {split: {seed: 7, val: 0.2, test: 0.3}}\n", encoding="utf-8")
    one, other = tmp_path / "one", tmp_path / "other"
    run_sft(task, "--model", model, "--run", one, "--learning_rate", "1e-2", "--lora_rank", "4", "--lora_alpha", "8")
    start = best_checkpoint(one)
    run_sft(
        task, "--model", model, "--run", other, "--learning_rate", "1e-12", "--with", tmp_path / "other.yaml",
        "--adapters", start,
    )  # fmt: skip

    def answers(run: Path, side: str) -> dict[str, float]:
        rows = [row for name in ("test", "val") for row in read_jsonl(run / side / f"{name}.jsonl")]
        return {row["id"]: row["probabilities"]["正面"] for row in rows}

    earlier, before, after = answers(one, "after"), answers(other, "before"), answers(other, "after")
    common = earlier.keys() & before.keys()
    assert len(common) > 3
    assert {key: before[key] for key in common} == pytest.approx({key: earlier[key] for key in common}, abs=1e-4)
    assert after == pytest.approx(before, abs=1e-4)
    assert read_json(other / "before" / "summary.json")["adapter_sha256"] == weights_sha256(start)
    begun, ended = (load_file(folder / "adapter_model.safetensors") for folder in (start, best_checkpoint(other)))
    assert begun.keys() == ended.keys()
    assert max(abs(begun[name] - ended[name]).max() for name in begun) < 1e-9
    assert max(abs(tensor).max() for name, tensor in begun.items() if "lora_B" in name) > 1e-3  # a new one's is 0
    config = read_json(best_checkpoint(other) / "adapter_config.json")
    assert (config["r"], config["lora_alpha"]) == (4, 8)

    trained = {row["review"] for row in read_jsonl(Run.read(one).dataset / "train.jsonl")}
    test = [row["review"] for row in read_jsonl(Run.read(other).dataset / "test.jsonl")]
    notice = Run.read(other).notice
    assert notice and f"{sum(text in trained for text in test)} of the {len(test)} test rows" in notice["en"]
    assert "“Before” is the model with the adapter" in (other / "report.md").read_text(encoding="utf-8")

    weights = start / "adapter_model.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(weights).items()}, weights, {"format": "pt"})
    with pytest.raises(UserError, match=r"before are not to what the run now has \(adapter changed\)"):
        check_responses_are_current(Run.read(other))
