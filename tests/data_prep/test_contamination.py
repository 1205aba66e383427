"""Test rows that a model may have seen: found word for word and nearly, flagged, and nothing else changed."""

import json

import pytest

from data_prep.build import build
from data_prep.task import SPLITS
from tests.prep_tables import reviews, small_task, write_csv
from workspace.errors import UserError
from workspace.files import read_json, read_jsonl

ROWS = [(label, text * 2) for label, text in reviews(150)]


@pytest.fixture
def plain(tmp_path):
    """The table and the rows of each split of its dataset without known texts."""
    table = write_csv(tmp_path / "t.csv", ROWS)
    path = build(small_task(tmp_path), csv=table, out=tmp_path / "plain")
    assert read_json(path)["known_public"] is None
    return table, {name: read_jsonl(tmp_path / "plain" / f"{name}.jsonl") for name in SPLITS}


def with_known(tmp_path, table, name, content, column=None, **changes):
    (tmp_path / name).write_text(content, encoding="utf-8")
    known = {"path": str(tmp_path / name)} | ({"column": column} if column else {})
    path = build(small_task(tmp_path, known_public=known, **changes), csv=table, out=tmp_path / "out")
    return read_json(path), {name: read_jsonl(tmp_path / "out" / f"{name}.jsonl") for name in SPLITS}


@pytest.mark.parametrize("kind", ["txt", "csv", "jsonl"])
def test_exact_and_near_copies_are_flagged(tmp_path, plain, kind, capsys):
    table, splits = plain
    same, near = splits["test"][0], splits["test"][1]
    texts = ["别处的一段话，与这些评论无关", " " + same["review"].replace("，", "， ！") + "。", near["review"] + "啊"]
    texts.append(splits["train"][0]["review"])  # known, but no test row
    column = None if kind == "txt" else "正文"
    content = {
        "txt": "\n".join(["", *texts, ""]),
        "csv": "正文,n\n" + "".join(f'"{text}",1\n' for text in texts),
        "jsonl": "".join(json.dumps({"正文": text}, ensure_ascii=False) + "\n" for text in texts),
    }[kind]
    manifest, written = with_known(tmp_path, table, f"known.{kind}", content, column)
    found = manifest["known_public"]
    assert (found["texts"], found["exact"], found["near"], found["test"]["total"]) == (4, 1, 1, 2)
    assert found["ids"] == [same["id"], near["id"]]
    assert sum(found["test"][word] for word in ("正面", "负面")) == 2
    assert [row["id"] for row in written["test"] if row["known"]] == found["ids"]
    assert all("known" not in row for name in ("train", "val") for row in written[name])
    for name in SPLITS:  # the flag is all that is new
        assert [{k: v for k, v in row.items() if k != "known"} for row in written[name]] == splits[name]
    assert f"2 test rows occur in known.{kind}" in capsys.readouterr().out


def test_rows_that_a_limit_leaves_out_are_not_counted(tmp_path, plain):
    table, splits = plain
    content = "\n".join(row["review"] for row in splits["test"])
    manifest, written = with_known(tmp_path, table, "known.txt", content, limit=20)
    assert manifest["known_public"]["exact"] == len(written["test"]) == manifest["counts"]["test"]["total"] == 15


def test_another_way_to_read_it_makes_the_dataset_again(tmp_path, plain):
    table, splits = plain
    known = {"path": str(tmp_path / "known.csv"), "column": 1, "table": {"header": False, "delimiter": "#"}}
    (tmp_path / "known.csv").write_text(f"{splits['test'][0]['review']}#a\n别处的话#b\n", encoding="utf-8")
    for header, rows in ((False, 1), (True, 0)):
        known["table"] |= {"header": header, "sheet": ["a"]}
        path = build(small_task(tmp_path, known_public=known), csv=table, out=tmp_path / "out")
        assert read_json(path)["known_public"]["exact"] == rows
        made = path.stat().st_mtime_ns
        build(small_task(tmp_path, known_public=known), csv=table, out=tmp_path / "out")
        assert path.stat().st_mtime_ns == made


def test_another_file_makes_the_dataset_again(tmp_path, plain, capsys):
    table, splits = plain
    with_known(tmp_path, table, "known.txt", "别处的话")
    capsys.readouterr()
    with_known(tmp_path, table, "known.txt", "别处的话")
    assert capsys.readouterr().out.endswith("out is up to date\n")
    manifest, _ = with_known(tmp_path, table, "known.txt", splits["test"][0]["review"])
    assert manifest["known_public"]["test"]["total"] == 1


@pytest.mark.parametrize(
    ("name", "content", "column", "told"),
    [
        ("k.txt", " \n\n", None, "k.txt holds no text"),
        ("k.csv", "a,b\n1,2\n", "text", "k.csv has no column text; found: a, b"),
        ("k.bin", "x", "text", "is of an unknown kind"),
    ],
)
def test_faults(tmp_path, plain, name, content, column, told):
    with pytest.raises(UserError) as caught:
        with_known(tmp_path, plain[0], name, content, column)
    assert told in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_settings(tmp_path, plain):
    with pytest.raises(UserError, match="there is no file"):
        build(small_task(tmp_path, known_public={"path": "/no/such.txt"}), csv=plain[0], out=tmp_path / "out")
    with pytest.raises(UserError, match=r"known_public\.colum is not a known key, did you mean column"):
        small_task(tmp_path, known_public={"path": "k", "colum": "x"})
