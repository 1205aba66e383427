"""Tuning, with a stand-in for `swift sft`: what its result depends on, and what becomes of it when that changes."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from data_prep.manifest import Manifest
from plan.hardware import Machine
from plan.run import Run
from tests.scored_runs import make_dataset, make_plan
from tests.train.test_checkpoints import make
from train.sft import check_rows, join, tune
from workspace.child_process import OutOfMemory
from workspace.errors import UserError
from workspace.files import read_json, sha256_file, write_json, write_text

Meanwhile = Callable[[], None]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    model, plugins = tmp_path / "model", tmp_path / "plugins"
    write_text(model / "config.json", "{}")
    write_text(model / "model.safetensors", "weights")
    monkeypatch.setattr("workspace.gate.PLUGINS", plugins)
    write_text(plugins / "metric.py", "from counting import total\n")
    write_text(plugins / "counting.py", "total = sum\n")
    dataset = make_dataset(tmp_path / "data", sizes=(40, 12, 30))
    folder = make_plan(tmp_path / "run", dataset, model_folder=str(model), model_fingerprint="ab")
    values = {"dataset": [str(dataset / "train.jsonl")], "external_plugins": [str(plugins / "metric.py")]}
    Run.read(folder).write_yaml("sft", {**values, "learning_rate": 1e-4}, "# made up")
    return folder


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Meanwhile | None]:
    """What happens while ms-swift runs, a call each; empty when it has run as often as was meant to."""
    meanwhile: list[Meanwhile | None] = []

    def swift(run: Run, *_: object) -> None:
        if happens := meanwhile.pop():
            happens()
        make(run.train_folder, 20)
        make(run.train_folder, 30, best=30)

    monkeypatch.setattr("train.sft._run_swift", swift)
    return meanwhile


def change(run: Path, **values: object) -> None:
    known = Run.read(run)
    known.write_yaml("sft", known.sft_values() | values, "# changed")


@pytest.mark.parametrize("name", ["train.jsonl", "val.jsonl"])
def test_rows_replaced_while_it_trains_are_told_and_what_learned_from_them_does_not_count(run, trained, name) -> None:
    path = Run.read(run).dataset / name
    whole = path.read_text(encoding="utf-8")
    trained.append(lambda: write_text(path, whole.split("\n", 1)[1]))
    with pytest.raises(UserError, match=rf"{name} changed while train ran, .* run the same command again"):
        tune(run, estimate=False)
    write_text(path, whole)
    trained.append(None)
    tune(run, estimate=False)
    assert not trained


def test_the_model_replaced_while_it_trains_is_told(run, trained) -> None:
    trained.append(lambda: write_text(Run.read(run).model_folder / "model.safetensors", "others"))
    with pytest.raises(UserError, match="model changed while train ran"):
        tune(run, estimate=False)


def test_a_model_replaced_after_training_is_trained_again(run, trained, capsys) -> None:
    trained += [None, None]
    tune(run, estimate=False)
    write_text(Run.read(run).model_folder / "model.safetensors", "others")
    tune(run, estimate=False)
    assert not trained and "these changed since it ran: model" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["adapter_config.json", "args.json", "adapter_model.safetensors"])
def test_a_checkpoint_edited_after_training_is_trained_again(run, trained, capsys, name) -> None:
    trained += [None, None]
    tune(run, estimate=False)
    path = run / "train" / "checkpoint-30" / name
    was = sha256_file(path)
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]) if name.endswith("safetensors") else b'{"lora_alpha": 1600}')
    shutil.rmtree(run / "train" / "checkpoint-20")
    tune(run, estimate=False)
    assert not trained and sha256_file(path) == was
    assert "checkpoint-30 was changed after it was written, and is trained again" in capsys.readouterr().out


def test_an_edit_of_what_a_plugin_imports_makes_training_stale(run, trained, capsys) -> None:
    trained += [None, None]
    tune(run, estimate=False)
    write_text(run.parent / "plugins" / "counting.py", "total = len\n")
    tune(run, estimate=False)
    assert not trained and "these changed since it ran: plugins" in capsys.readouterr().out


def test_another_measurement_of_the_cpu_trains_nothing_again(run, trained) -> None:
    trained.append(None)
    tune(run, estimate=False)
    change(run, attn_impl="eager", padding_side="left", dataloader_num_workers=1)
    tune(run, estimate=False)
    assert not trained


def test_finished_training_is_kept_until_its_replacement_is_whole_and_taken_back(run, trained, capsys) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores Ctrl-C
    trained.append(None)
    tune(run, estimate=False)
    whole = sha256_file(run / "train" / "checkpoint-30" / "adapter_model.safetensors")
    change(run, learning_rate=5e-4)
    trained.append(lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        tune(run, estimate=False)
    (kept,) = (run / "earlier").iterdir()
    assert sha256_file(kept / "checkpoint-30" / "adapter_model.safetensors") == whole
    change(run, learning_rate=1e-4)  # the first recipe again: nothing is trained
    tune(run, estimate=False)
    assert not trained and "going on with what" in capsys.readouterr().out
    change(run, learning_rate=5e-4)
    trained.append(None)
    tune(run, estimate=False)
    assert not trained and not list((run / "earlier").iterdir())
    assert yaml.safe_load((run / "sft.yaml").read_text())["learning_rate"] == 5e-4


def test_rows_that_ms_swift_leaves_out_are_told_with_the_file_that_counts_them(run: Path, tmp_path: Path) -> None:
    """The file may be damaged, too: without its path nobody could know."""
    counts = Manifest.read(Run.read(run).dataset).counts
    write_text(tmp_path / "train" / "label_metric.json", f'{{"train_rows": {counts.train["total"]}, "val_rows": 1}}')
    with pytest.raises(UserError, match=r"train/label_metric\.json: ms-swift takes 1 of the 12 val rows"):
        check_rows(tmp_path / "train", counts)


@pytest.mark.parametrize("name", ["x", "stages/x", "before/x", ""])
def test_a_record_that_names_other_files_of_the_run_removes_none_of_them(run: Path, trained, name: str) -> None:
    """Its folder was taken for a checkpoint's, and removed: with "x" the whole run."""
    trained += [None, None]
    tune(run, estimate=False)
    kept = [path for path in run.rglob("*") if path.is_file() and "train" not in path.relative_to(run).as_posix()]
    write_text(run / "before" / "test.jsonl", "answers")
    record = read_json(run / "stages" / "train.json")
    write_json(run / "stages" / "train.json", record | {"outputs": record["outputs"] | {name: "ab"}})
    tune(run, estimate=False)
    assert (run / "before" / "test.jsonl").is_file() and all(path.is_file() for path in kept)


@pytest.mark.parametrize("node", [0, 1])
def test_a_run_that_is_planned_for_a_gpu_is_refused_before_steps_are_measured(
    run: Path, monkeypatch: pytest.MonkeyPatch, node: int
) -> None:
    known = Run.read(run)
    write_json(run / "run.json", read_json(run / "run.json") | {"machine": {"gpu": "H100"}})
    known.write_yaml("sft", known.sft_values() | {"ENV": {"NNODES": str(node + 1)}}, "# changed")
    here = Machine("cpu", 2, 24.0, None, 0, 0.0, False)
    monkeypatch.setattr("train.sft.this_machine", lambda: here)
    monkeypatch.setattr("train.sft.warn_if_long", lambda *_: pytest.fail("steps were measured"))
    monkeypatch.setattr("train.sft.run_child", lambda *_: pytest.fail("swift sft was started"))
    monkeypatch.setattr("train.sft.wait_for_first_node", lambda _: None)
    monkeypatch.setenv("NODE_RANK", str(node))
    with pytest.raises(UserError, match="the run is planned for H100 and no GPU is seen here"):
        join(run) if node else tune(run)
    assert not (run / "train").exists()


@pytest.mark.parametrize(
    ("gpus", "values", "killed", "more"),
    [
        (
            2,
            {},
            False,
            "256, or add `--with multi-gpu zero3` or `--with multi-gpu fsdp2`, which spread it over 2",
        ),
        (1, {}, False, "256, or take a smaller model, or its weights in 4 bits, as the qlora recipe does"),
        (2, {"deepspeed": "zero3"}, False, "256, or take a smaller model, or its weights"),
        (2, {"quant_bits": 4}, False, "256, or take a smaller model$"),
        (2, {}, True, "or a machine with more memory"),
        (2, {"use_cpu": True}, False, "or a machine with more memory"),
    ],
)
def test_at_the_smallest_batch_what_spreads_a_model_over_cards_is_named(
    run: Path, monkeypatch: pytest.MonkeyPatch, gpus: int, values: dict[str, object], killed: bool, more: str
) -> None:
    change(run, per_device_train_batch_size=1, gradient_checkpointing=True, **values)

    def swift(*_: object) -> None:
        error = OutOfMemory("train needs more memory")
        error.killed = killed
        raise error

    monkeypatch.setattr("train.sft._run_swift", swift)
    monkeypatch.setattr("train.sft.this_machine", lambda: Machine("cpu", 2, 24.0, "A100", gpus, 80.0, True))
    with pytest.raises(OutOfMemory, match=f"at the smallest batch: add --max_length .*{more}"):
        tune(run, estimate=False)
