"""Records of finished stages."""

import json
from pathlib import Path

import pytest

from workspace import stages


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "out.txt").write_text("out")
    stages.record(tmp_path, "train", {"sft.yaml": "1"}, [tmp_path / "out.txt"], 2.345)
    return tmp_path


def test_a_stage_is_finished_while_inputs_and_outputs_are_the_same(run: Path, capsys) -> None:
    assert stages.finished(run, "train", {"sft.yaml": "1"}) and stages.seconds_taken(run, "train") == 2.35
    assert not stages.finished(run, "train", {"sft.yaml": "2", "model": "3"})
    assert "stale, because these changed since it ran: model, sft.yaml" in capsys.readouterr().out
    (run / "out.txt").write_text("other")
    assert not stages.finished(run, "train", {"sft.yaml": "1"})
    assert "out.txt was removed or changed" in capsys.readouterr().out
    assert not stages.finished(run, "after", {}) and stages.seconds_taken(run, "after") is None
    stages.forget(run, "train")
    assert stages.read_record(run, "train") is None


@pytest.mark.parametrize(
    "damage",
    [
        b"", b"{", b"null", b"[]",
        b"\xff\xfe", b"[" * 100_000, b'{"stage": "train"}', {"inputs": []}, {"outputs": None},
        {"outputs": {"out.txt": 1}}, {"seconds": "long"}, {"seconds": None}, {"more": 1},
    ],
)  # fmt: skip
def test_a_record_that_cannot_be_read_counts_as_absent(run: Path, capsys, damage: bytes | dict) -> None:
    path = run / "stages" / "train.json"
    if isinstance(damage, dict):
        damage = json.dumps({**json.loads(path.read_text()), **damage}).encode()
    path.write_bytes(damage)
    assert not stages.finished(run, "train", {"sft.yaml": "1"})
    assert stages.seconds_taken(run, "train") is None
    assert "train.json cannot be read" in capsys.readouterr().out
