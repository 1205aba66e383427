"""What a run writes, against what runs wrote; and the disks it must fit on."""

import json
import math
import os
import subprocess
from collections import namedtuple
from pathlib import Path

import pytest

from data_prep.splits.deciding_rows import deciding_rows
from plan import disk
from plan.disk import (
    by_disk,
    check_space,
    checkpoint_bytes,
    checkpoints_kept,
    dataset_bytes,
    lora_parameters,
    needed_space,
    weight_shapes,
)
from workspace.errors import UserError

# Finished runs of the demo model on two CPU cores: (resolved keys, limit, bytes that lay in the run folder).
MEASURED = {
    "rank 8, 1 epoch": ({"tuner_type": "lora", "lora_rank": 8, "num_train_epochs": "1"}, 40, 8_819_677),
    "rank 8, 2 epochs": ({"tuner_type": "lora", "lora_rank": 8, "num_train_epochs": 2}, 400, 17_069_951),
    "rank 8, 3 epochs": ({"tuner_type": "lora", "lora_rank": 8, "num_train_epochs": 3}, 200, 27_258_693),
    "full, 1 epoch": ({"tuner_type": "full", "num_train_epochs": "1", "save_total_limit": 2}, 40, 311_009_288),
}
# Bytes of one checkpoint of those.
CHECKPOINTS = {"lora": 7_180_000, "full": 310_640_000}
COMMON = {
    "target_modules": "all-linear", "save_strategy": "epoch", "max_length": 512, "save_total_limit": 3,
    "torch_dtype": "float32",
}  # fmt: skip
HIDDEN, KV, INNER, VOCAB, LAYERS = 512, 128, 1408, 6400, 8


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The demo model's shapes, in a file of headers alone: 26M parameters cost no disk here."""
    shapes = {"model.embed_tokens.weight": [VOCAB, HIDDEN], "model.norm.weight": [HIDDEN]}
    for layer in range(LAYERS):
        for name, shape in {
            "q_proj": [HIDDEN, HIDDEN], "k_proj": [KV, HIDDEN], "v_proj": [KV, HIDDEN], "o_proj": [HIDDEN, HIDDEN],
            "gate_proj": [INNER, HIDDEN], "up_proj": [INNER, HIDDEN], "down_proj": [HIDDEN, INNER],
        }.items():  # fmt: skip
            shapes[f"model.layers.{layer}.{name}.weight"] = shape
    folder = tmp_path / "model"
    write_header(folder, shapes)
    return folder


def write_header(folder: Path, shapes: dict[str, list[int]]) -> None:
    folder.mkdir()
    entries = {name: {"dtype": "F16", "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()}
    header = json.dumps(entries).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """As many rows as the demo's table, as long: 1,382,084 bytes."""
    path = tmp_path / "table.csv"
    path.write_text("label,review\n" + f"1,{'好' * 80}\n" * 5686, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", MEASURED)
def test_the_estimate_is_above_a_real_run_and_at_most_three_times_it(
    name: str, model: Path, table: Path, tmp_path: Path
) -> None:
    sft, rows, real = MEASURED[name]
    run = tmp_path / "run"
    needed = needed_space(COMMON | sft, run, tmp_path / "dataset", table, model, rows)[run]
    assert 1.0 < needed / real < 3.0


@pytest.mark.parametrize("tuner", CHECKPOINTS)
def test_a_checkpoint_is_as_large_as_a_real_one(tuner: str, model: Path) -> None:
    needed = checkpoint_bytes(COMMON | {"tuner_type": tuner, "lora_rank": 8}, model)
    assert 0.99 < needed / CHECKPOINTS[tuner] < 1.1


def test_an_adapter_is_rank_times_inputs_and_outputs(model: Path) -> None:
    shapes = weight_shapes(model)
    assert lora_parameters({"lora_rank": 8}, shapes) == 581_632  # peft's own count for the demo model at rank 8
    assert lora_parameters({"lora_rank": 64}, shapes) == 8 * 581_632
    assert lora_parameters({"lora_rank": 8, "target_modules": ["q_proj"]}, shapes) == 8 * LAYERS * 2 * HIDDEN
    magnitudes = lora_parameters({"lora_rank": 8, "use_dora": True}, shapes) - 581_632
    assert magnitudes == LAYERS * (3 * HIDDEN + 2 * KV + 2 * INNER)
    saved = lora_parameters({"lora_rank": 8, "modules_to_save": ["embed_tokens"]}, shapes) - 581_632
    assert saved == VOCAB * HIDDEN


def test_a_sharded_optimiser_keeps_a_copy_of_all_weights(model: Path) -> None:
    parameters = sum(map(math.prod, weight_shapes(model).values()))
    full = COMMON | {"tuner_type": "full"}
    assert checkpoint_bytes(full | {"deepspeed": "zero3"}, model) - checkpoint_bytes(full, model) == 4 * parameters


def test_checkpoints_kept_are_those_of_the_limit_and_one_being_written(model: Path) -> None:
    assert checkpoints_kept(COMMON | {"num_train_epochs": 1}, model, 40) == 2
    assert checkpoints_kept(COMMON | {"num_train_epochs": 1}, model, 1_000_000) == 4  # hours: some come by the clock
    assert checkpoints_kept(COMMON | {"num_train_epochs": 9, "save_total_limit": 1}, model, 40) == 3  # the best, too
    assert checkpoints_kept({"num_train_epochs": 5, "save_strategy": "epoch"}, model, 40) == 6


def test_gbk_and_a_limit_change_the_dataset_and_its_held_out_rows(table: Path, tmp_path: Path) -> None:
    whole, few = dataset_bytes(table, None), dataset_bytes(table, 400)
    assert whole[0] > 10 * few[0] > 0
    assert few[1] == pytest.approx(few[0] * (4 + 0.25), rel=1e-4)  # test and val rows of a limit
    assert dataset_bytes(table, 4000)[1] == pytest.approx(few[0] / 400 * (deciding_rows() + 1000), rel=1e-4)
    gbk = tmp_path / "gbk.csv"
    gbk.write_bytes(table.read_text(encoding="utf-8").encode("gbk"))
    assert dataset_bytes(gbk, None)[0] == pytest.approx(whole[0], rel=0.03)
    assert dataset_bytes(tmp_path / "none.csv", None) == (0, 0)


def test_what_is_written_already_is_not_asked_for_again(model: Path, table: Path, tmp_path: Path) -> None:
    run, dataset = tmp_path / "run", tmp_path / "dataset"
    before = needed_space(COMMON, run, dataset, table, model, 40)
    (run / "train").mkdir(parents=True)
    (run / "train" / "weights").write_bytes(b"x" * 5000)
    after = needed_space(COMMON, run, dataset, table, model, 40)
    assert before[run] - after[run] == 5000 and before[dataset] == after[dataset]


def test_a_torn_weights_file_and_no_model_count_as_nothing(tmp_path: Path, table: Path) -> None:
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "model.safetensors").write_bytes(b"\xff" * 20)
    for folder in (tmp_path / "torn", tmp_path / "none"):
        assert checkpoint_bytes(COMMON, folder) == 0


def test_folders_of_one_disk_are_added_up_and_the_sentence_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: usage(10 << 30, 0, 400 << 20))
    needs = {tmp_path / "run" / "new": 300 << 20, tmp_path / "data": 200 << 20}
    assert [(need.needed, len(need.folders)) for need in by_disk(needs)] == [(500 << 20, 2)]
    with pytest.raises(UserError, match=r"run/new and .*data need about 0.5 GiB on their disk and 0.4 GiB are free"):
        check_space(needs)
    check_space({tmp_path / "run": 300 << 20})


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_disk_of_one_megabyte_is_refused(tmp_path: Path, model: Path, table: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], capture_output=True).returncode:
        pytest.skip("no mount is allowed here")
    try:
        needs = needed_space(COMMON, small / "run", tmp_path / "dataset", table, model, 40)
        with pytest.raises(UserError, match=r"small/run needs about .* and (1.0|0.9) MiB are free: .* with --run"):
            check_space(needs)
        check_space({tmp_path / "dataset": needs[tmp_path / "dataset"]})
    finally:
        subprocess.run(["umount", small], check=True)
