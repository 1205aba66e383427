"""Going on from an adapter: which are taken, with which settings, and what is said of the rows that it was tuned on."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from data_prep.build import build
from plan.run import EARLIER, Run
from plan.start_adapter import adapter_notice, adapter_values, check_adapter
from tests.prep_tables import reviews, small_task, write_csv
from workspace import stages
from workspace.errors import UserError

RECIPE = {"tuner_type": "lora", "lora_rank": 8}


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "one" / "train" / "checkpoint-8"
    folder.mkdir(parents=True)
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file({"a": np.zeros(2, np.float32)}, folder / "adapter_model.safetensors")
    return folder


def change(adapter: Path, **values: object) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")


def values(adapter: Path, run: str = "other", given: dict | None = None, recipe: dict | None = None) -> dict:
    folder = adapter.parents[2] / run
    return adapter_values(adapter, folder, given or {}, recipe or RECIPE, "0" * 16)


def test_its_own_settings_are_those_of_the_tuning(adapter: Path) -> None:
    found = values(adapter, given={"lora_rank": "4", "learning_rate": "1e-5"})
    assert found == {
        "lora_rank": 4, "lora_alpha": 8, "use_dora": False, "use_rslora": False, "adapters": [str(adapter)],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "recipe", "run", "told"),
    [
        ({"lora_rank": "16"}, {}, "other", "--lora_rank 16: the adapter has 4; leave the option out"),
        ({"use_dora": "true"}, {}, "other", "--use_dora true: the adapter has False"),
        ({}, {"task_type": "seq_cls"}, "other", "a classification head cannot be gone on from"),
        ({}, {"tuner_type": "full"}, "other", "LORA with tuner_type full cannot be gone on from"),
        ({}, {}, "one", "lies in this run's own folder: name another with --run DIR"),
    ],
)
def test_what_cannot_be_gone_on_from_is_one_sentence(adapter: Path, given, recipe, run, told) -> None:
    with pytest.raises(UserError, match=told) as caught:
        values(adapter, run, given, {**RECIPE, **recipe})
    assert "\n" not in str(caught.value)


def test_another_kind_of_adapter_and_a_head_are_refused(adapter: Path) -> None:
    change(adapter, peft_type="ADALORA")
    with pytest.raises(UserError, match="ADALORA with tuner_type lora"):
        values(adapter)
    change(adapter, peft_type="LORA", task_type="SEQ_CLS")
    with pytest.raises(UserError, match="a classification head"):
        values(adapter)


def test_a_runs_folder_is_answered_with_its_checkpoint(adapter: Path) -> None:
    with pytest.raises(UserError, match=r"has no adapter_config\.json: name .*one/train/checkpoint-8$"):
        check_adapter(adapter.parents[1])


def test_torn_weights_are_told(adapter: Path) -> None:
    path = adapter / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="is torn: copy the adapter again"):
        check_adapter(adapter)


def a_run(folder: Path, dataset: Path, fingerprint: str) -> Run:
    assert {"recipe", "task", "labels", "dataset", "config_sha256"} == EARLIER
    run = Run(
        folder=folder, recipe="r", task="t", labels=("正面", "负面"), dataset=dataset, model_fingerprint=fingerprint,
        model="the/model", config_sha256="0",
    )  # fmt: skip
    run.write()
    return run


def test_the_adapter_of_another_model_is_refused(adapter: Path, tmp_path: Path) -> None:
    a_run(tmp_path / "one", tmp_path, "1" * 16)
    with pytest.raises(UserError, match="was tuned on another model than this one: add --model the/model"):
        values(adapter)
    a_run(tmp_path / "one", tmp_path, "0" * 16)
    assert values(adapter)["lora_rank"] == 4


def test_its_training_rows_are_counted_where_they_are_known(adapter: Path, tmp_path: Path) -> None:
    """By the bytes that it was tuned on; of a data set that was built again since nothing is claimed."""
    task = small_task(tmp_path, csv=str(write_csv(tmp_path / "t.csv", reviews(60))))
    other = small_task(tmp_path, csv=str(tmp_path / "t.csv"), split={"seed": 7, "test": 0.3})
    first = build(task, out=tmp_path / "first").parent
    second = build(other, out=tmp_path / "second").parent
    assert "Its training rows are not known" in adapter_notice(adapter, second, task)["en"]
    run = a_run(tmp_path / "one", first, "0" * 16)
    stages.record(run.folder, "train", {"train.jsonl": stages.sha256_file(first / "train.jsonl")}, [], 1.0)
    lines = [[json.loads(line)["review"] for line in (folder / f"{name}.jsonl").read_text("utf-8").splitlines()]
             for folder, name in ((first, "train"), (second, "test"))]  # fmt: skip
    seen = len(set(lines[0]) & set(lines[1]))
    assert seen > 3
    notice = adapter_notice(adapter, second, task)
    assert f"{seen} of the {len(lines[1])} test rows, or near copies of them, were among" in notice["en"]
    assert f"{len(lines[1])} 条测试行中有 {seen} 条" in notice["zh"]
    (first / "train.jsonl").write_text("", encoding="utf-8")
    assert "Its training rows are not known" in adapter_notice(adapter, second, task)["en"]
