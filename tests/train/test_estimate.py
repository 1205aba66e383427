from pathlib import Path

import pytest

from data_prep.rows import DatasetRow, write_rows
from train.estimate import message, rough_seconds, spread_rows, swift_command, warn_if_long
from workspace.files import write_json


def rows(count: int) -> list[DatasetRow]:
    turns = [{"role": "user", "content": "好吗"}, {"role": "assistant", "content": "正面"}]
    return [DatasetRow(turns, str(k), "好" * (k % 97), False, 0) for k in range(count)]


def test_the_rows_measured_are_as_long_as_all() -> None:
    chosen = spread_rows(rows(1000), 32)
    mean = sum(len(row.review) for row in chosen) / 32
    assert mean == pytest.approx(sum(len(row.review) for row in rows(1000)) / 1000, rel=0.05)
    assert len(spread_rows(rows(3), 32)) == 3


def test_only_a_long_job_names_the_ways_to_shorten_it() -> None:
    long, short = message(7200, 16770, 5590), message(3000, 16770, 5590)
    assert "about 2.0 h" in long and "--limit N" in long and "--num_train_epochs 1" in long
    assert "--limit" not in short
    texts = message(7200, 16770, 5590, swift_command({"use_chat_template": False}))
    assert "16,770 texts without labels" in texts and "fewer texts in `unlabelled`" in texts and "--limit" not in texts


def test_a_short_job_is_not_measured(tmp_path: Path) -> None:
    write_rows(tmp_path / "train.jsonl", rows(100))
    write_json(tmp_path / "before" / "summary.json", {"ms_per_review": {"score": 50.0}})
    assert rough_seconds(tmp_path, 1000) == pytest.approx(150)
    assert warn_if_long(tmp_path, {"num_train_epochs": 3}, tmp_path, {}) is None
    assert rough_seconds(tmp_path / "elsewhere", 1000) is None


def test_a_measurement_that_fails_is_told_and_stops_nothing(tmp_path: Path, capsys) -> None:
    """No speed is known and `swift` is not on the path of the environment given: an environment that cannot train."""
    write_rows(tmp_path / "train.jsonl", rows(100))
    (tmp_path / "bin").mkdir()
    swift = tmp_path / "bin" / "swift"
    swift.write_text("#!/bin/sh\nexit 3\n")
    swift.chmod(0o755)
    import os

    path = os.environ["PATH"]
    os.environ["PATH"] = f"{tmp_path / 'bin'}:{path}"
    try:
        assert warn_if_long(tmp_path, {}, tmp_path, {"PATH": os.environ["PATH"]}) is None
    finally:
        os.environ["PATH"] = path
    assert "could not be measured (`swift sft` failed with status 3" in capsys.readouterr().out
