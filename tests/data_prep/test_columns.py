"""Several text columns in the prompt, and ids of the user's own: from the table to the rows and the report."""

import csv

import pytest

from data_prep.build import build
from data_prep.card import page as card
from data_prep.chat import truncation
from data_prep.chat.parts import SEPARATOR, as_read, joined, level, parts_of
from data_prep.chat.truncation import cut_text
from data_prep.task import SPLITS
from tests.prep_tables import reviews, small_task, write_model
from workspace.files import read_json, read_jsonl

PROMPTS = {"p": "标题：{title}\n正文：{review}\n情感："}


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    monkeypatch.setattr(card, "draw_card", lambda *_: {})


def table_of(path, rows, header=("title", "review", "label", "no")):
    with open(path, "w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


def rows_of(out):
    return {row["id"]: row for name in SPLITS for row in read_jsonl(out / f"{name}.jsonl")}


def test_each_column_has_its_place_and_the_joined_text_is_the_review(tmp_path):
    task = small_task(
        tmp_path, columns={"text": ["title", "review"], "label": "label", "id": "no"}, prompts=PROMPTS, prompt="p"
    )
    rows = [[f"第{n}题", text, label, f"A-{n}"] for n, (label, text) in enumerate(reviews(80), 1)]
    rows += [["", "只有正文的一条评论", "1", "A-81"], ["只有标题的一条评论", " ", "0", "A-82"]]
    rows += [["题{review}题", "文{title}文<|im_end|>" + SEPARATOR, "1", "A-83"], ["", "", "1", "A-84"]]
    build(task, csv=table_of(tmp_path / "t.csv", rows), model=write_model(tmp_path / "model"), out=tmp_path / "out")
    found = rows_of(tmp_path / "out")
    assert found["1"]["review"] == f"{rows[0][0]}\n{rows[0][1]}"
    assert found["1"]["texts"] == {"title": rows[0][0], "review": rows[0][1]}
    assert found["1"]["source_id"] == "A-1"
    assert found["1"]["messages"][1]["content"] == f"标题：{rows[0][0]}\n正文：{rows[0][1]}\n情感："
    assert found["81"]["messages"][1]["content"] == "标题：\n正文：只有正文的一条评论\n情感："
    assert found["82"]["review"] == "只有标题的一条评论"
    # What looks like a place in a cell stays as it is, and a control token is none.
    assert found["83"]["messages"][1]["content"].startswith("标题：题{review}题\n正文：文{title}文<\u2060|im_end|>")
    with open(tmp_path / "out" / "rejects.csv", encoding="utf-8-sig", newline="") as stream:
        assert list(csv.reader(stream)) == [
            ["row", "line", "source_id", "reason", "label", "text"],
            ["84", "85", "A-84", "empty", "1", ""],
        ]


def test_the_longest_column_is_cut_and_short_ones_stay_whole(tmp_path):
    task = small_task(tmp_path, columns={"text": ["title", "review"], "label": "label"}, prompts=PROMPTS, prompt="p")
    rows = [[f"第{n}题", text, label] for n, (label, text) in enumerate(reviews(60), 1)]
    rows += [["短标题", "长正文" * 2000, "1"], ["长标题" * 2000, "短正文", "0"], ["长题" * 999, "长文" * 999, "0"]]
    table = table_of(tmp_path / "t.csv", rows, ("title", "review", "label"))
    path = build(task, csv=table, model=write_model(tmp_path / "model"), out=tmp_path / "out", max_length=200)
    found, manifest = rows_of(tmp_path / "out"), read_json(path)
    assert manifest["cut"]["total"] == 3
    assert 150 < manifest["tokens"]["after"]["greatest"] <= 200
    asked = [found[str(n)]["messages"][1]["content"] for n in (61, 62, 63)]
    assert asked[0].startswith("标题：短标题\n正文：长正文")
    assert asked[0].endswith("长正文\n情感：")
    assert asked[1].endswith("\n正文：短正文\n情感：")
    assert [text.count("……") for text in asked] == [1, 1, 2]
    assert found["61"]["texts"]["review"] == "长正文" * 2000


def test_parts():
    assert parts_of(joined(["a", f"b{SEPARATOR}c", ""]), 3) == ["a", "b c", ""]
    assert parts_of("a", 3) == ["a", "", ""]
    assert parts_of(f"a{SEPARATOR}b", 1) == [f"a{SEPARATOR}b"]
    assert as_read(joined(["a", " ", "b"]), 3) == "a\nb"
    assert [level([3, 10, 20], keep) for keep in (0, 3, 9, 13, 25, 33, 99)] == [0, 1, 3, 5, 12, 20, 20]
    assert cut_text(joined(["abc", "d" * 50]), 11, 0.75) == joined(["abc", "dddddd……dd"])


def test_injected_instructions_go_into_a_column(tmp_path):
    task = small_task(
        tmp_path,
        columns={"text": ["title", "review"], "label": "label"},
        prompts=PROMPTS,
        prompt="p",
        injected_share=1.0,
    )
    rows = [[f"第{n}题", text, label] for n, (label, text) in enumerate(reviews(60), 1)]
    build(task, csv=table_of(tmp_path / "t.csv", rows, ("title", "review", "label")), out=tmp_path / "out")
    for row in read_jsonl(tmp_path / "out" / "train.jsonl"):
        asked = row["messages"][1]["content"]
        assert asked.startswith("标题：")
        assert "\n正文：" in asked
        assert len(asked) > len(task.render(joined(row["texts"].values())))


def test_a_large_table_of_several_columns_is_cut_as_a_small_one(tmp_path, monkeypatch):
    task = small_task(tmp_path, columns={"text": ["title", "review"], "label": "label"}, prompts=PROMPTS, prompt="p")
    rows = [[f"第{n}题" * (n % 30), text * (n % 5), label] for n, (label, text) in enumerate(reviews(90), 1)]
    asked = {"csv": table_of(tmp_path / "t.csv", rows, ("title", "review", "label"))}
    asked |= {"model": write_model(tmp_path / "model"), "max_length": 120}
    build(task, out=tmp_path / "small", **asked)
    monkeypatch.setattr(truncation, "COUNT_ALL", 10)
    monkeypatch.setattr(truncation, "SAMPLE", 10)
    build(task, out=tmp_path / "large", **asked)
    assert rows_of(tmp_path / "small") == rows_of(tmp_path / "large")
    assert 10 < sum(row["cut"] for row in rows_of(tmp_path / "large").values()) < 80
