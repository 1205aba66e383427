"""Corrected labels: applied to train rows, counted, and refused when they are not of this table."""

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.build import build
from data_prep.table.corrections import read_corrections
from data_prep.task import SPLITS
from tests.prep_tables import reviews, small_task, write_csv, write_task
from workspace.errors import UserError
from workspace.files import read_json, read_jsonl
from workspace.spreadsheet import safe_cell

ROWS = [*reviews(120), ("1", "")]
WORDS = {"1": "正面", "0": "负面"}


@pytest.fixture
def plain(tmp_path):
    """The table, its dataset without corrections, and the rows of each split."""
    table = write_csv(tmp_path / "t.csv", ROWS)
    path = build(small_task(tmp_path), csv=table, out=tmp_path / "plain")
    return table, path, {name: read_jsonl(path.parent / f"{name}.jsonl") for name in SPLITS}


def corrected(tmp_path, table, text, **changes):
    (tmp_path / "c.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    task = small_task(tmp_path, corrections=str(tmp_path / "c.csv"), **changes)
    path = build(task, csv=table, out=tmp_path / "out")
    answers = {
        row["id"]: row["messages"][2]["content"]
        for name in SPLITS
        for row in read_jsonl(tmp_path / "out" / f"{name}.jsonl")
    }
    return read_json(path), answers


def other(row):
    return "负面" if row["messages"][2]["content"] == "正面" else "正面"


@pytest.mark.parametrize("test", [False, True])
def test_train_rows_alone_unless_told(tmp_path, plain, test, capsys):
    table, path, splits = plain
    first = {name: splits[name][0] for name in SPLITS}
    text = "row,note,label,review\n" + "".join(
        f'{row["id"]},x,{other(row)},"{row["review"]}"\n' for row in first.values()
    )
    same = splits["train"][1]
    text += f"{same['id']},,{same['messages'][2]['content']},\n121,,1,\n7,,,nothing is filled in\n"
    manifest, answers = corrected(tmp_path, table, text, corrections_test=test)
    found, before = manifest["corrections"], read_json(path)
    for name in SPLITS:
        applied = test or name == "train"
        assert answers[first[name]["id"]] == (other(first[name]) if applied else first[name]["messages"][2]["content"])
        assert found["ids"][name] == ([first[name]["id"]] if applied else [])
        assert (manifest["rows_sha256"][name] == before["rows_sha256"][name]) is not applied
        assert manifest["counts"][name]["total"] == before["counts"][name]["total"]
    assert found["changed"] == {"total": 1 + 2 * test, "train": 1, "val": int(test), "test": int(test)}
    left = {"set_aside": 1, "val": int(not test), "test": int(not test)}
    assert found["not_applied"] == {"total": sum(left.values()), **left}
    assert (found["named"], found["same"], found["test_allowed"]) == (5, 1, test)
    assert f"{1 + 2 * test} labels corrected by c.csv" in capsys.readouterr().out
    unchanged = [row for name in SPLITS for row in splits[name] if row["id"] not in {r["id"] for r in first.values()}]
    assert all(answers[row["id"]] == row["messages"][2]["content"] for row in unchanged)


def test_a_spreadsheets_gbk_file_with_values_and_changed_white_space(tmp_path, plain):
    table, _, splits = plain
    row = splits["train"][0]
    value = {"正面": "1.0", "负面": "0.0"}[other(row)]
    text = f'row,label,review\r\n"{row["id"]}.0",{value}," {row["review"]}\r\n"\r\n'.encode("gbk")
    assert corrected(tmp_path, table, text)[1][row["id"]] == other(row)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("row,label\n122,1\n", "c.csv, line 2: the table has no row 122, its rows are 1 to 121"),
        ("row,label\n0,1\n", "line 2: the table has no row 0"),
        ("row,label\nx,1\n", "line 2: row is 'x', expected the number of a row"),
        ("row,label\n1,1\n2,好\n", "line 3: the label is '好', expected one of 正面, 负面, 1, 0"),
        ("row,label\n1,1\n1,0\n", "line 3: row 1 is 负面 here and 正面 before"),
        ("row,label,review\n1,1,别的\n", "line 2: row 1 of the table has another review"),
        ("number,label\n1,1\n", "has no column row; found: number, label"),
        ("row\n1\n", "has no column label"),
        ("", "has no column row; found: nothing"),
        ('row,label\n1,"1\n', "line 2: not a row of a CSV"),
        (b"row,label\n1,\xff\xff\n", "is not UTF-8, and its encoding is not clear"),
    ],
)
def test_faults_name_the_line(tmp_path, plain, text, told):
    with pytest.raises(UserError) as caught:
        corrected(tmp_path, plain[0], text)
    assert told in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_class_must_be_left_in_train(tmp_path, plain):
    table, _, splits = plain
    text = "row,label\n" + "".join(f"{row['id']},1\n" for row in splits["train"])
    with pytest.raises(UserError, match=r"c\.csv leaves no train row of 负面"):
        corrected(tmp_path, table, text)


def test_a_changed_or_missing_file_is_noticed(tmp_path, plain, capsys):
    table, _, splits = plain
    text = f"row,label\n{splits['train'][0]['id']},{other(splits['train'][0])}\n"
    corrected(tmp_path, table, text)
    capsys.readouterr()
    corrected(tmp_path, table, text)
    assert capsys.readouterr().out.endswith("out is up to date\n")
    manifest, _ = corrected(tmp_path, table, "row,label\n")
    assert manifest["corrections"]["changed"]["total"] == 0
    (tmp_path / "c.csv").unlink()
    with pytest.raises(UserError, match="there is no file"):
        build(small_task(tmp_path, corrections=str(tmp_path / "c.csv")), csv=table, out=tmp_path / "out")


def test_corrections_test_alone_is_told(tmp_path):
    with pytest.raises(UserError, match="corrections_test is true, but there is no `corrections`"):
        small_task(tmp_path, corrections_test=True)
    write_task(tmp_path, corrections="c.csv", corrections_test="yes")
    with pytest.raises(UserError, match="corrections_test is 'yes', expected true or false"):
        small_task(tmp_path, corrections="c.csv", corrections_test="yes")


@given(st.lists(st.tuples(st.integers(1, 10**6), st.sampled_from(["正面", "", "0"]), st.text(max_size=20)), max_size=8))
def test_what_is_written_is_read_again(tmp_path_factory, lines):
    path = tmp_path_factory.mktemp("c") / "c.csv"
    lines = [(row, label, text.replace("\0", "").encode("utf-8", "replace").decode()) for row, label, text in lines]
    with open(path, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("row", "label", "review"))
        writer.writerows((row, label, safe_cell(text)) for row, label, text in lines)
    read = [(one.row, one.label, one.review) for one in read_corrections(path)]
    assert read == [(row, label, safe_cell(text)) for row, label, text in lines if label]
    assert not any(safe_cell(text).lstrip().startswith(("=", "+", "-", "@")) for _, _, text in lines)


def test_a_correction_that_sets_equal_texts_apart_is_told(tmp_path, capsys):
    rows = [
        *reviews(120),
        ("1", "又一次入住，还是很好"),
        ("1", "又一次 入住 还是很好！"),
        ("1", "又一次入住，还是很好。"),
    ]
    table = write_csv(tmp_path / "t.csv", rows)
    manifest, answers = corrected(tmp_path, table, "row,label\n121,0\n", corrections_test=True)
    assert answers["121"] == "负面" and answers["122"] == answers["123"] == "正面"
    assert manifest["corrections"]["conflicts"] == {"groups": 1, "rows": 3}
    assert "1 texts have several labels now" in capsys.readouterr().out
    manifest, _ = corrected(tmp_path, table, "row,label\n121,0\n122,0\n123,0\n", corrections_test=True)
    assert manifest["corrections"]["conflicts"] == {"groups": 0, "rows": 0}
    assert "several labels now" not in capsys.readouterr().out
