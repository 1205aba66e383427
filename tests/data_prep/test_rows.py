"""Dataset rows: what is written is what is read, and every broken line is named."""

import json

import pytest

from data_prep.build import build
from data_prep.rows import DatasetRow, read_rows, write_rows
from data_prep.task import SPLITS
from tests.prep_tables import reviews, small_task, write_csv
from workspace.errors import UserError
from workspace.files import read_json, read_jsonl, sha256_file

ROW = {
    "messages": [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "好吗"},
        {"role": "assistant", "content": "正面"},
    ],
    "label": 0,
    "id": "7",
    "review": "好",
    "cut": False,
}


def test_what_prep_writes_is_read_back_whole(tmp_path):
    (tmp_path / "known.txt").write_text(reviews(80)[3][1], encoding="utf-8")
    task = small_task(tmp_path, known_public={"path": str(tmp_path / "known.txt")})
    files = read_json(build(task, csv=write_csv(tmp_path / "t.csv", reviews(80)), out=tmp_path / "out"))["files"]
    for name in SPLITS:
        path = tmp_path / "out" / f"{name}.jsonl"
        rows = read_rows(path, files[path.name])
        assert [row.as_json() for row in rows] == read_jsonl(path)
        assert [task.label_words[row.label_id] for row in rows] == [row.label for row in rows]
        assert all((row.known is None) is (name != "test") for row in rows)
        write_rows(tmp_path / "again.jsonl", rows)
        assert sha256_file(tmp_path / "again.jsonl") == files[path.name]


def test_rows_of_the_first_versions_have_no_class_number(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps({key: value for key, value in ROW.items() if key != "label"} | {"id": 7}) + "\n")
    assert read_rows(path) == [DatasetRow(ROW["messages"], "7", "好", False)]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"a": ', "(Invalid JSON: "),
        ("3", "(Input should be "),
        ("", "(Invalid JSON: "),
        ({"messages": None}, "(messages: Input should be a valid "),
        ({"messages": [1]}, "(messages.0: Input should be an object)"),
        (
            {"messages": [{"role": "user"}]},
            "they are not turns of a chat, each with role and content",
        ),
        ({"messages": ROW["messages"][:2]}, "they do not end with a question and its answer)"),
        ({"id": None}, "(id: Input should be a valid string)"),
        ({"review": 3}, "(review: Input should be a valid string)"),
        ({"cut": "perhaps"}, "(cut: Input should be a valid boolean"),
    ],
)
def test_a_line_that_is_no_row_is_named(tmp_path, line, told):
    path = tmp_path / "train.jsonl"
    line = line if isinstance(line, str) else json.dumps(ROW | line)
    path.write_text(f"{json.dumps(ROW | {'id': '8'})}\n{line}\n", encoding="utf-8")
    with pytest.raises(
        UserError, match=r"train\.jsonl, line 2 cannot be read \(.*\): build the dataset with"
    ) as caught:
        read_rows(path)
    assert told in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_missing_or_another(tmp_path):
    with pytest.raises(UserError, match=r"train\.jsonl is missing: build the dataset with"):
        read_rows(tmp_path / "train.jsonl")
    write_rows(tmp_path / "train.jsonl", [])
    assert read_rows(tmp_path / "train.jsonl", sha256_file(tmp_path / "train.jsonl")) == []
    with pytest.raises(UserError, match=r"train\.jsonl is not the file of its manifest\.json: build the dataset"):
        read_rows(tmp_path / "train.jsonl", "0" * 64)


def test_a_file_that_is_not_utf8(tmp_path):
    (tmp_path / "train.jsonl").write_bytes("正面".encode("gbk"))
    with pytest.raises(UserError, match="line 1 cannot be read"):
        read_rows(tmp_path / "train.jsonl")


def test_a_row_that_is_there_twice_is_named(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text(f"{json.dumps(ROW)}\n" * 2, encoding="utf-8")
    with pytest.raises(UserError, match=r"train\.jsonl holds the row 7 twice: build the dataset with"):
        read_rows(path)
