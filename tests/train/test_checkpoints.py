import json
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from train.checkpoints import (
    ADAPTER_WEIGHTS,
    Best,
    best_checkpoint,
    choose_best,
    fault,
    keep_best_alone,
    model_options,
    newest_whole,
    validation_scores,
    weight_files,
    weights_sha256,
)
from train.trainer_state import is_finished, stopped_early
from workspace.errors import UserError
from workspace.files import read_json, sha256_file, write_json
from workspace.safetensors_header import is_whole


def make(train: Path, step: int, best: int | None = None) -> Path:
    folder = train / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    save_file({"a": np.ones((3, 4), np.float32), "b": np.ones(5, np.float16)}, folder / "adapter_model.safetensors")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps("state" * 100, protocol=2))
    for name in ("adapter_config.json", "args.json"):
        (folder / name).write_text("{}")
    named = str(Path("/elsewhere") / f"checkpoint-{best}") if best else None
    state = {"global_step": step, "max_steps": 30, "best_model_checkpoint": named, "best_metric": 0.5}
    state["log_history"] = []
    (folder / "trainer_state.json").write_text(json.dumps(state))
    return folder


def test_the_newest_whole_checkpoint_is_taken(tmp_path: Path) -> None:
    for step in (8, 9, 10):
        make(tmp_path, step)
    assert newest_whole(tmp_path).name == "checkpoint-10"


FILES = [
    "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "adapter_model.safetensors",
    "adapter_config.json", "args.json",
]  # fmt: skip


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["removed", "emptied", "cut"])
def test_a_damaged_checkpoint_is_passed_over_with_a_line(tmp_path: Path, name: str, damage: str, capsys) -> None:
    make(tmp_path, 10)
    path = make(tmp_path, 20) / name
    if damage == "removed":
        path.unlink()
    elif damage == "emptied":
        path.write_bytes(b"")
    else:
        path.write_bytes(path.read_bytes()[:-1])
    assert newest_whole(tmp_path).name == "checkpoint-10"
    assert "checkpoint-20 is not whole" in capsys.readouterr().out


def test_a_byte_changed_in_a_state_is_a_fault(tmp_path: Path) -> None:
    path = make(tmp_path, 10) / "optimizer.pt"
    data = bytearray(path.read_bytes())
    data[data.index(b"state" * 20) + 50] ^= 1
    path.write_bytes(data)
    assert fault(path.parent) == "optimizer.pt is missing or torn"


def test_training_goes_on_from_before_a_best_that_is_damaged(tmp_path: Path, capsys) -> None:
    for step in (5, 10, 20):
        make(tmp_path, step, best=10 if step > 5 else None)
    assert newest_whole(tmp_path).name == "checkpoint-20"
    (tmp_path / "checkpoint-10" / "adapter_model.safetensors").unlink()
    assert newest_whole(tmp_path).name == "checkpoint-5"
    assert "the best so far, checkpoint-10, is damaged: the weights are missing" in capsys.readouterr().out


def test_a_step_that_is_not_the_folders_is_a_fault(tmp_path: Path) -> None:
    folder = make(tmp_path, 10)
    shutil.move(folder, tmp_path / "checkpoint-11")
    assert fault(tmp_path / "checkpoint-11") == "trainer_state.json is of step 10"


def test_a_safetensors_file_cut_anywhere_is_not_whole(tmp_path: Path) -> None:
    path = make(tmp_path, 1) / "adapter_model.safetensors"
    data = path.read_bytes()
    assert is_whole(path)
    for length in range(len(data)):
        path.write_bytes(data[:length])
        assert not is_whole(path)
    path.write_bytes(data + b"x")
    assert not is_whole(path)


def test_the_best_is_found_by_name_wherever_the_run_was_moved(tmp_path: Path) -> None:
    make(tmp_path / "train", 10)
    make(tmp_path / "train", 30, best=10)
    best = choose_best(tmp_path / "train")
    assert best == Best(10, "checkpoint-10", 0.5)
    best.write(tmp_path / "train")
    assert Best.read(tmp_path / "train") == best
    assert best_checkpoint(tmp_path).name == "checkpoint-10"


def test_without_evaluation_the_last_is_the_best(tmp_path: Path) -> None:
    make(tmp_path, 10)
    make(tmp_path, 30)
    assert choose_best(tmp_path) == Best(30, "checkpoint-30", None)
    assert is_finished(tmp_path / "checkpoint-30", {})
    assert not is_finished(tmp_path / "checkpoint-10", {})


@pytest.mark.parametrize(
    ("scores", "patience", "more", "stopped"),
    [
        ([0.5, 0.6, 0.6], 1, {}, True),
        ([0.5, 0.6, 0.6], 2, {}, False),
        ([0.6, 0.5, 0.55], 2, {}, True),
        ([0.5, 0.6, 0.7], 1, {}, False),
        ([0.5, 0.4, 0.3], 2, {"greater_is_better": False}, False),
        ([0.3, 0.4, 0.5], 2, {"greater_is_better": "false"}, True),
        ([], 1, {}, False),
        ([0.6, 0.5, 0.4], 0, {}, False),
    ],
)
def test_an_early_stop_is_an_end(scores, patience, more, stopped, tmp_path: Path) -> None:
    values = {"metric_for_best_model": "label_macro_f1", "early_stop_interval": patience, **more}
    log = [{"step": at, "eval_label_macro_f1": score} for at, score in enumerate(scores)]
    assert stopped_early([{"step": 0, "loss": 1.0}, *log], values) is stopped
    make(tmp_path, 10)
    state = read_json(tmp_path / "checkpoint-10" / "trainer_state.json")
    write_json(tmp_path / "checkpoint-10" / "trainer_state.json", state | {"log_history": log})
    assert is_finished(tmp_path / "checkpoint-10", values) is stopped


def test_weights_are_an_adapters_or_a_whole_models(tmp_path: Path) -> None:
    adapter, whole = tmp_path / "adapter", tmp_path / "whole"
    for folder, names in ((adapter, [ADAPTER_WEIGHTS]), (whole, ["model-1.safetensors", "model-2.safetensors"])):
        folder.mkdir()
        for name in names:
            (folder / name).write_text(name)
    assert weights_sha256(adapter) == sha256_file(adapter / ADAPTER_WEIGHTS)
    assert [path.name for path in weight_files(whole)] == ["model-1.safetensors", "model-2.safetensors"]
    before = weights_sha256(whole)
    (whole / "model-2.safetensors").write_text("tuned")
    assert weights_sha256(whole) != before
    assert model_options(adapter) == ["--adapters", str(adapter)]
    assert model_options(whole) == ["--model", str(whole)]


def test_validation_scores_are_those_of_the_best_step(tmp_path: Path) -> None:
    make(tmp_path, 10)
    make(tmp_path, 30, best=10)
    state = read_json(tmp_path / "checkpoint-30" / "trainer_state.json")
    state["log_history"] = [
        {"step": 10, "loss": 0.1},
        {"step": 10, "eval_loss": 0.4, "eval_label_macro_f1": 0.8},
        {"step": 30, "eval_loss": 0.3, "eval_label_macro_f1": 0.7},
    ]
    write_json(tmp_path / "checkpoint-30" / "trainer_state.json", state)
    choose_best(tmp_path).write(tmp_path)
    assert validation_scores(tmp_path) == {"loss": 0.4, "label_macro_f1": 0.8}
    for _ in range(2):  # killed in between, it is done again
        keep_best_alone(tmp_path)
        assert [path.name for path in (tmp_path / "checkpoint-30").iterdir()] == ["trainer_state.json"]  # the curves
        assert fault(tmp_path / "checkpoint-10") is None
        assert validation_scores(tmp_path) == {"loss": 0.4, "label_macro_f1": 0.8}


def test_of_a_finished_trial_the_best_checkpoint_stays_alone(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        make(tmp_path, step, best=30)
    with pytest.raises(UserError, match="no tuned model yet"):
        keep_best_alone(tmp_path)
    choose_best(tmp_path).write(tmp_path)
    keep_best_alone(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.json", "checkpoint-30"]
    assert fault(tmp_path / "checkpoint-30") is None


def test_a_choice_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    for text in ("", "[]", "{}", '{"step": "x", "path": "y"}'):
        (tmp_path / "best.json").write_text(text)
        with pytest.raises(UserError, match=r"best\.json cannot be read"):
            Best.read(tmp_path)


def test_before_training_there_is_no_adapter(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no tuned model yet"):
        best_checkpoint(tmp_path)
    with pytest.raises(UserError, match="no whole checkpoint"):
        choose_best(tmp_path)


def several(train: Path, step: int) -> Path:
    """A checkpoint of two processes."""
    folder = make(train, step)
    write_json(folder / "args.json", {"global_world_size": 2})
    for rank in range(2):
        shutil.copy(folder / "rng_state.pth", folder / f"rng_state_{rank}.pth")
    (folder / "rng_state.pth").unlink()
    return folder


def sharded(train: Path, step: int) -> Path:
    """A checkpoint of two processes of DeepSpeed."""
    folder = several(train, step)
    states = folder / f"global_step{step}"
    states.mkdir()
    (folder / "latest").write_text(states.name)
    for name in ("mp_rank_00_model", "zero_pp_rank_0_mp_rank_00_optim", "zero_pp_rank_1_mp_rank_00_optim"):
        shutil.copy(folder / "optimizer.pt", states / f"{name}_states.pt")
    (folder / "optimizer.pt").unlink()
    return folder


@pytest.mark.parametrize(
    ("made", "lost"),
    [
        (several, "rng_state_1.pth"),
        (several, "rng_state_0.pth"),
        (sharded, "rng_state_1.pth"),
        (sharded, "latest"),
        (sharded, "global_step10/mp_rank_00_model_states.pt"),
        (sharded, "global_step10/zero_pp_rank_1_mp_rank_00_optim_states.pt"),
    ],
)
def test_every_process_must_have_left_its_state(made, lost: str, tmp_path: Path) -> None:
    folder = made(tmp_path, 10)
    assert fault(folder) is None
    if not lost.endswith("latest"):
        (folder / lost).write_bytes((folder / lost).read_bytes()[:-30])
        assert "torn" in fault(folder)
    (folder / lost).unlink()
    assert "is missing or torn" in fault(folder)
