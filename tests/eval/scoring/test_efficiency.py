import json
from dataclasses import replace
from pathlib import Path

import pytest

from eval.scoring.efficiency import count_parameters, load_efficiency, used_checkpoint
from plan.run import Run
from workspace import stages
from workspace.files import write_json


def weights(path: Path, **shapes: list[int]) -> Path:
    """A safetensors file with a true header; its data is of no interest here."""
    header = {name: {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()}
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    return path


def test_parameters_are_counted_from_the_headers(tmp_path):
    weights(tmp_path / "model" / "a.safetensors", embed=[10, 4], norm=[4])
    weights(tmp_path / "model" / "b.safetensors", scalar=[])
    assert count_parameters(tmp_path / "model") == 45
    assert count_parameters(tmp_path / "model" / "a.safetensors") == 44


@pytest.mark.parametrize("content", [b"", b"\x05\0\0\0\0\0\0\0{", b"\x02\0\0\0\0\0\0\0[]", b"\xff" * 8])
def test_what_cannot_be_read_is_not_known(tmp_path, content):
    (tmp_path / "x.safetensors").write_bytes(content)
    assert count_parameters(tmp_path) is None
    assert count_parameters(tmp_path / "nowhere") is None
    (tmp_path / "empty").mkdir()
    assert count_parameters(tmp_path / "empty") is None


def test_the_checkpoint_that_was_kept(tmp_path):
    assert used_checkpoint(tmp_path / "train") is None
    for step in (9, 10):
        weights(tmp_path / "train" / f"checkpoint-{step}" / "adapter_model.safetensors", a=[step])
    assert used_checkpoint(tmp_path / "train").name == "checkpoint-10"
    write_json(tmp_path / "train" / "best.json", {"step": 9, "path": "checkpoint-9"})
    assert used_checkpoint(tmp_path / "train").name == "checkpoint-9"


def test_each_reading_has_its_own_efficiency(tmp_path):
    weights(tmp_path / "model" / "a.safetensors", embed=[10, 4])
    weights(tmp_path / "train" / "checkpoint-5" / "adapter_model.safetensors", a=[3, 2])
    write_json(
        tmp_path / "before" / "summary.json", {"ms_per_review": {"generate": 9.0, "score": 4.0, "few_shot": 7.0}}
    )
    stages.record(tmp_path, "train", {}, [], 60.0)
    run = Run(tmp_path, "made_up/small", "made_up", ("正面", "负面"), tmp_path, model_folder=tmp_path / "model")
    names = ["before_generate", "before_score_threshold", "before_few_shot", "after_score"]
    got = load_efficiency(run, names)
    assert [got[name].ms_per_review for name in names] == [9, 4, 7, None]
    assert {got[name].parameters for name in names} == {40}
    assert [got[name].trained_parameters for name in names] == [None, None, None, 6]
    assert [got[name].train_seconds for name in names] == [None, None, None, 60]
    assert load_efficiency(replace(run, model_folder=None), names)["before_score_threshold"].parameters is None


def test_the_stack_costs_what_both_of_its_models_cost(tmp_path):
    weights(tmp_path / "model" / "a.safetensors", embed=[10, 4])
    weights(tmp_path / "train" / "checkpoint-5" / "adapter_model.safetensors", a=[3, 2])
    write_json(tmp_path / "after" / "summary.json", {"ms_per_review": {"score": 4.0}})
    one = {"parameters": 7, "train_seconds": 0.5, "ms_per_review": 0.25}
    write_json(tmp_path / "baselines.json", {"majority": one | {"label": "正面"}, "tfidf_linear": one | {"c": 1.0}})
    stages.record(tmp_path, "train", {}, [], 60.0)
    run = Run(tmp_path, "made_up/small", "made_up", ("正面", "负面"), tmp_path, model_folder=tmp_path / "model")
    got = load_efficiency(run, ["tfidf_linear", "after_score", "stack"])["stack"]
    assert (got.parameters, got.trained_parameters) == (47, 13)
    assert (got.train_seconds, got.ms_per_review) == (60.5, 4.25)
    unknown = load_efficiency(replace(run, model_folder=None), ["tfidf_linear", "after_score", "stack"])["stack"]
    assert unknown.parameters is None and unknown.ms_per_review == 4.25
