"""The peers of the training bench: what they are told, and that they train."""

import json
from pathlib import Path

import pytest
import yaml

from bench import peer_head, peer_llamafactory
from bench.cost import users_environment
from workspace.errors import UserError

ROWS = [
    {
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": f"评论{at}"},
            {"role": "assistant", "content": "正面"},
        ],
        "label": at % 2,
        "review": f"房间很好{at}",
    }
    for at in range(8)
]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS), encoding="utf-8")
    return path


def test_a_peer_has_none_of_our_settings():
    ours = {"MALLOC_TRIM_THRESHOLD_": "-1", "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "9"}
    given = ours | {"PATH": "/bin", "OMP_NUM_THREADS": "2"}
    assert users_environment(given) == {"PATH": "/bin", "OMP_NUM_THREADS": "2"}


def test_rows_are_read_and_none_is_said(table: Path, tmp_path: Path):
    assert peer_head.read_rows(table) == ROWS
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(UserError, match="has no rows"):
        peer_head.read_rows(tmp_path / "empty.jsonl")


def test_llamafactory_gets_the_messages_alone_and_a_name_for_them(tmp_path: Path):
    peer_llamafactory.write_dataset(ROWS, tmp_path)
    (entry,) = json.loads((tmp_path / "dataset_info.json").read_text()).values()
    lines = (tmp_path / entry["file_name"]).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [{"messages": row["messages"]} for row in ROWS]


def test_llamafactory_is_told_the_same_steps_and_nothing_of_speed(tmp_path: Path):
    told = peer_llamafactory.configuration(tmp_path / "model", tmp_path, 2, 7)
    assert yaml.safe_load(yaml.safe_dump(told)) == told
    assert told["per_device_train_batch_size"] * told["gradient_accumulation_steps"] == 8
    assert (told["num_train_epochs"], told["seed"], told["learning_rate"]) == (2, 7, 1e-3)
    assert not {"group_by_length", "gradient_checkpointing", "cutoff_len", "bf16", "lora_rank"} & set(told)


def test_llamafactory_gets_the_model_as_float32(tmp_path: Path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"hidden_size": 8, "torch_dtype": "float16"}', encoding="utf-8")
    (model / "model.safetensors").write_bytes(b"weights")
    made = peer_llamafactory.in_float32(model, tmp_path / "linked")
    assert json.loads((made / "config.json").read_text()) == {"hidden_size": 8, "dtype": "float32"}
    assert (made / "model.safetensors").read_bytes() == b"weights"
    assert json.loads((model / "config.json").read_text())["torch_dtype"] == "float16"  # as it was


def check(result: dict, out: Path) -> None:
    assert result["rows"] == 8 and result["epochs"] == 1
    assert 0 < result["train_runtime"] < result["wall"] and result["train_loss"] > 0
    assert result["peak_bytes"] > 50 * 2**20
    assert (out / "log.txt").stat().st_size and json.loads((out / "result.json").read_text()).items() <= result.items()


@pytest.mark.torch
@pytest.mark.slow
def test_the_head_trains(demo_model: Path, table: Path, tmp_path: Path):
    check(peer_head.train(demo_model, table, tmp_path / "out", 1, 42), tmp_path / "out")


@pytest.mark.slow
def test_llamafactory_trains(demo_model: Path, table: Path, tmp_path: Path):
    if not peer_llamafactory.ready():
        pytest.skip("LLaMA-Factory's environment is not there: python -m bench makes it")
    check(peer_llamafactory.train(demo_model, table, tmp_path / "out", 1, 42), tmp_path / "out")
