"""split.json: rows of a small table stay in their split when rows are added, whatever else changes."""

import json

import pytest

from data_prep.build import build
from data_prep.card import page as card
from data_prep.splits.kept_split import KEPT
from data_prep.task import SPLITS
from tests.prep_tables import reviews, small_task, write_csv
from workspace.errors import UserError
from workspace.files import read_json, read_jsonl


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    monkeypatch.setattr(card, "draw_card", lambda *_: {})


def homes(out):
    return {row["review"]: name for name in SPLITS for row in read_jsonl(out / f"{name}.jsonl")}


def test_added_rows_move_none(tmp_path):
    task, rows = small_task(tmp_path), reviews(220)
    build(task, csv=write_csv(tmp_path / "t.csv", rows[:200]), out=tmp_path / "small")
    before = homes(tmp_path / "small")
    file = read_json(tmp_path / "small" / KEPT)
    assert len(file["places"]) == 200
    build(task, csv=write_csv(tmp_path / "t.csv", rows[::-1]), out=tmp_path / "small")
    after = homes(tmp_path / "small")
    assert {text: after[text] for text in before} == before
    assert list(after.values()).count("test") == 22
    # A dataset of the same task in another folder starts from the task's own.
    build(task, csv=write_csv(tmp_path / "t.csv", rows), out=tmp_path / "small@limit", limit=50)
    assert homes(tmp_path / "small@limit").items() <= after.items()


def test_other_settings_split_anew_and_a_damaged_file_stops(tmp_path, capsys):
    table = write_csv(tmp_path / "t.csv", reviews(100))
    build(small_task(tmp_path), csv=table, out=tmp_path / "out")
    build(small_task(tmp_path, split={"seed": 7}), csv=table, out=tmp_path / "out")
    assert "was made with other settings of `split`: the rows are split anew" in capsys.readouterr().out
    path = tmp_path / "out" / KEPT
    whole = path.read_text()
    for damage in ("", "{}", whole.replace('"train"', '"trian"', 1), whole[:-9]):
        path.write_text(damage)
        with pytest.raises(UserError, match=r"split\.json cannot be read .*: put it back as it was, or remove it"):
            build(small_task(tmp_path, split={"seed": 7}), csv=table, out=tmp_path / "out")
    path.unlink()
    build(small_task(tmp_path, split={"seed": 7}), csv=table, out=tmp_path / "out")
    assert json.loads(whole) == read_json(path)


def test_a_table_that_grows_large_keeps_the_places_that_it_had(tmp_path, monkeypatch):
    from data_prep.splits import kept_split, splitting

    for module in (kept_split, splitting):
        monkeypatch.setattr(module, "FEW_ROWS", 150)
    rows, task = reviews(300), small_task(tmp_path)
    build(task, csv=write_csv(tmp_path / "t.csv", rows[:100]), out=tmp_path / "out")
    before = homes(tmp_path / "out")
    build(task, csv=write_csv(tmp_path / "t.csv", rows), out=tmp_path / "out")
    after = homes(tmp_path / "out")
    assert {text: after[text] for text in before} == before
    assert len(read_json(tmp_path / "out" / KEPT)["places"]) == 300
    build(task, csv=write_csv(tmp_path / "t.csv", rows), out=tmp_path / "large")
    assert not (tmp_path / "large" / KEPT).exists()
