"""Splits that the user made, as a column or as files: rows go where the user says, leaks are counted and named."""

import csv

import pytest

from data_prep.build import build
from data_prep.card import page as card
from data_prep.task import SPLITS
from tests.prep_tables import reviews, small_task, write_csv
from workspace.errors import UserError
from workspace.files import read_json, read_jsonl

NAMES = {0: "dev", 1: "Test", 2: "training"}


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    monkeypatch.setattr(card, "draw_card", lambda *_: {})


def table_of(path, rows, names):
    with open(path, "w", encoding="utf-8", newline="") as stream:
        lines = [[label, text, name] for (label, text), name in zip(rows, names, strict=True)]
        csv.writer(stream).writerows([("label", "review", "part"), *lines])
    return path


def ids_of(out):
    return {name: [int(row["id"]) for row in read_jsonl(out / f"{name}.jsonl")] for name in SPLITS}


def test_rows_go_where_the_column_says(tmp_path):
    task = small_task(tmp_path, split={"column": "part"})
    names = [NAMES.get(at % 10 // 2, "train") for at in range(200)]
    path = build(task, csv=table_of(tmp_path / "t.csv", reviews(200), names), out=tmp_path / "out")
    ids, manifest = ids_of(tmp_path / "out"), read_json(path)
    assert sorted(ids["val"]) == [at + 1 for at in range(200) if at % 10 < 2]
    assert sorted(ids["test"]) == [at + 1 for at in range(200) if 2 <= at % 10 < 4]
    assert (manifest["scheme"], manifest["leaking"]) == ("column", {})
    assert not (tmp_path / "out" / "split.json").exists()
    assert manifest["split"]["column"] == "part"
    # A limit takes some of each, and all of them again where it is large.
    build(task, csv=tmp_path / "t.csv", out=tmp_path / "limited", limit=40)
    limited = ids_of(tmp_path / "limited")
    assert [len(limited[name]) for name in SPLITS] == [40, 10, 40]
    assert all(set(limited[name]) <= set(ids[name]) for name in SPLITS)


def test_leaks_are_counted_and_named(tmp_path, capsys):
    rows = reviews(60)
    copies = [rows[0], rows[0], rows[2], (rows[5][0], rows[5][1] + "！"), (rows[8][0], rows[8][1] + "啊")]
    names = ["train"] * 40 + ["val"] * 10 + ["test"] * 10 + ["test", "val", "test", "test", "test"]
    task = small_task(tmp_path, split={"column": "part"})
    path = build(task, csv=table_of(tmp_path / "t.csv", [*rows, *copies], names), out=tmp_path / "out")
    manifest, told = read_json(path), capsys.readouterr().out
    assert manifest["leaks"]["test_in_train"] == {"exact": 3, "near": 1}
    assert manifest["leaks"]["test_in_val"] == {"exact": 1, "near": 0}
    assert manifest["leaking"]["test_in_train"] == [["61", "1"], ["63", "3"], ["64", "6"], ["65", "9"]]
    assert manifest["leaking"]["val_in_train"] == [["62", "1"]]
    assert "warning: 4 test rows have a copy or near copy in train: rows 61 (1), 63 (3), 64 (6), 65 (9)" in told
    assert "61 (1), 63 (3)" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert manifest["counts"]["test"]["total"] == 14  # the same text in two splits is the user's to keep


def test_missing_validation_rows_are_taken_from_train_and_told(tmp_path, capsys):
    rows = reviews(200)
    near = [(label, text + "啊") for label, text in rows[:30]]
    task = small_task(tmp_path, split={"column": "part"})
    table = table_of(tmp_path / "t.csv", [*rows, *near], ["train"] * 160 + ["test"] * 40 + ["train"] * 30)
    manifest = read_json(build(task, csv=table, out=tmp_path / "out"))
    ids = ids_of(tmp_path / "out")
    assert sorted(ids["test"]) == list(range(161, 201))
    assert len(ids["val"]) == 19
    assert "warning: no row is for validation: 19 of the 190 train rows are taken for it" in capsys.readouterr().out
    assert manifest["leaks"]["val_in_train"] == {"exact": 0, "near": 0}
    assert min(manifest["counts"]["val"].values()) >= 9


def test_files_for_each_split(tmp_path, capsys):
    rows = reviews(120)
    paths = {name: str(tmp_path / f"{name}.csv") for name in ("train", "test")}
    write_csv(tmp_path / "train.csv", rows[:90])
    write_csv(tmp_path / "test.csv", rows[90:])
    task = small_task(tmp_path, split={"files": paths})
    manifest = read_json(build(task, out=tmp_path / "out"))
    assert sorted(ids_of(tmp_path / "out")["test"]) == list(range(91, 121))
    assert (manifest["scheme"], manifest["counts"]["test"]["total"]) == ("files", 30)
    capsys.readouterr()
    build(task, out=tmp_path / "out")
    assert "is up to date" in capsys.readouterr().out
    write_csv(tmp_path / "test.csv", rows[91:])
    assert read_json(build(task, out=tmp_path / "out"))["counts"]["test"]["total"] == 29
    with pytest.raises(UserError, match="names a file for each split: leave --csv out"):
        build(task, csv=tmp_path / "test.csv", out=tmp_path / "out")


def test_what_splits_cannot_be_used_is_one_sentence(tmp_path):
    task = small_task(tmp_path, split={"column": "part"})
    table = table_of(tmp_path / "t.csv", reviews(40), ["train"] * 40)
    with pytest.raises(UserError, match="the split column part leaves no usable row for test"):
        build(task, csv=table, out=tmp_path / "out")
    names = ["train" if at % 2 else "test" for at in range(40)]  # the labels take turns
    with pytest.raises(UserError, match="the split column part leaves no train row of 负面"):
        build(task, csv=table_of(table, reviews(40), names), out=tmp_path / "out")


def test_a_class_that_test_lacks_is_told(tmp_path, capsys):
    task = small_task(tmp_path, split={"column": "part"})
    names = ["test" if at % 2 and at > 30 else "train" for at in range(60)]
    build(task, csv=table_of(tmp_path / "t.csv", reviews(60), names), out=tmp_path / "out")
    assert "warning: test has no row of 负面: nothing is measured there of it" in capsys.readouterr().out


def test_ids_that_are_empty_or_there_twice_are_told(tmp_path, capsys):
    task = small_task(tmp_path, columns={"text": "review", "label": "label", "id": "part"})
    names = [f"A-{at}" for at in range(57)] + ["", "A-3", " "]
    build(task, csv=table_of(tmp_path / "t.csv", reviews(60), names), out=tmp_path / "out")
    told = capsys.readouterr().out
    assert "warning: 2 rows have no id, first in line 59" in told
    assert "warning: 2 rows share their id with another, first 'A-3' in line 5" in told


def test_small_test_splits_are_told(tmp_path, capsys):
    build(small_task(tmp_path), csv=write_csv(tmp_path / "t.csv", reviews(300)), out=tmp_path / "out")
    told = capsys.readouterr().out
    assert "warning: 30 test rows, fewer than 100: accuracies are known to 14 points more or less; add rows" in told
    assert "warning: fewer than 20 test rows of 正面 (15), 负面 (15): add rows to measure them by" in told
    copies = [(label, f"{text}第{n}句" * 3 + "。" * n) for n in range(3) for label, text in reviews(60)]
    build(small_task(tmp_path), csv=write_csv(tmp_path / "t.csv", [(a, b[:-4]) for a, b in copies]), out=tmp_path / "b")
    assert "add rows that are no near copies of those there" in capsys.readouterr().out
