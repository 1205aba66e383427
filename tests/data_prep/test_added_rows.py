"""Rows that were labelled later: they join the train rows, move no other row and are never tested on."""

import csv
import json

import pytest

from data_prep.build import build
from data_prep.task import SPLITS
from tests.prep_tables import reviews, small_task, write_csv
from workspace.errors import UserError
from workspace.files import read_json, read_jsonl
from workspace.spreadsheet import write_csv as write_safe

ROWS = reviews(120)
NEW = reviews(20, start=5_000)


@pytest.fixture
def plain(tmp_path):
    """The table, and its dataset's rows by split without anything added."""
    table = write_csv(tmp_path / "t.csv", ROWS)
    path = build(small_task(tmp_path), csv=table, out=tmp_path / "plain")
    return table, {name: read_jsonl(path.parent / f"{name}.jsonl") for name in SPLITS}


def with_added(tmp_path, table, *files, **changes):
    """The manifest and the rows by split with the files added."""
    task = small_task(tmp_path, added=[str(file) for file in files], **changes)
    path = build(task, csv=table, out=tmp_path / "out")
    return read_json(path), {name: read_jsonl(path.parent / f"{name}.jsonl") for name in SPLITS}


def exported(path, *annotated):
    """An export of Label Studio in JSON: (text, labels by several annotators, what else their annotations have)."""
    tasks = []
    for number, (text, labels, more) in enumerate(annotated, 1):
        annotations = [
            {"id": number * 10 + at, "was_cancelled": False, "completed_by": at, "ground_truth": False}
            | {"result": [{"type": "choices", "from_name": "label", "value": {"choices": [label]}}] if label else []}
            | (more if at == 0 else {})
            for at, label in enumerate(labels)
        ]
        tasks.append({"id": number, "data": {"text": text, "row": number}, "annotations": annotations, "drafts": []})
    path.write_text(json.dumps(tasks, ensure_ascii=False), encoding="utf-8")
    return path


def test_added_rows_are_trained_on_and_no_other_row_moves(tmp_path, plain, capsys):
    table, before = plain
    held = before["test"][0]["review"]
    added = write_csv(tmp_path / "a.csv", [*NEW, ("1", held), ("0", held + "。"), ("", "还没有标签的一条评论")])
    manifest, after = with_added(tmp_path, table, added)
    for name in ("val", "test"):
        assert after[name] == before[name]
    assert after["train"][: len(before["train"])] == before["train"]
    assert [row["review"] for row in after["train"][len(before["train"]) :]] == [text for _, text in NEW]
    assert manifest["added"] == {"train": 20, "held_out_text": 2, "no label yet": 1}
    assert manifest["counts"]["rows"] == 142 and manifest["counts"]["set_aside"] == {"total": 2, "held_out_text": 2}
    assert "lines of `added`: 1 no label yet, 20 train, 2 held_out_text" in capsys.readouterr().out
    assert "新增的行 Rows added later" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_a_changed_file_is_noticed_and_no_file_changes_nothing(tmp_path, plain, capsys):
    table, before = plain
    added = write_csv(tmp_path / "a.csv", NEW[:5])
    with_added(tmp_path, table, added)
    capsys.readouterr()
    with_added(tmp_path, table, added)
    assert capsys.readouterr().out.endswith("out is up to date\n")
    write_csv(tmp_path / "a.csv", NEW[:6])
    assert len(with_added(tmp_path, table, added)[1]["train"]) == len(before["train"]) + 6
    build(small_task(tmp_path), csv=table, out=tmp_path / "plain")
    assert capsys.readouterr().out.endswith("plain is up to date\n")  # the key's default is no other task


def test_texts_that_are_there_twice(tmp_path, plain):
    table, before = plain
    there = before["train"][0]
    gold = "1" if there["messages"][-1]["content"] == "正面" else "0"
    rows = [(gold, there["review"]), (str(1 - int(gold)), there["review"]), NEW[0], NEW[0]]
    manifest, after = with_added(tmp_path, table, write_csv(tmp_path / "a.csv", rows))
    assert manifest["added"] == {"train": 1, "conflicting_label": 2, "repeated_text": 1}
    assert len(after["train"]) == len(before["train"]) + 1


def test_a_cell_that_was_made_safe_is_its_text_again(tmp_path, plain):
    table, before = plain
    texts = ["=HYPERLINK(1)这家酒店很好", "-5分，房间太脏太吵", "'引号开头的一条评论，位置不错"]
    write_safe(tmp_path / "a.csv", [("review", "label"), *((text, "1") for text in texts)])
    _, after = with_added(tmp_path, table, tmp_path / "a.csv")
    assert [row["review"] for row in after["train"][len(before["train"]) :]] == texts


def test_an_export_of_label_studio_joins_and_disagreement_is_told(tmp_path, plain):
    table, before = plain
    texts = [text for _, text in NEW]
    export = exported(
        tmp_path / "e.json",
        (texts[0], ["正面"], {}),
        (texts[1], ["负面", "负面"], {}),
        (texts[2], ["正面", "负面"], {}),
        (texts[3], ["正面", "负面"], {"ground_truth": True}),
        (texts[4], ["负面"], {"was_cancelled": True}),
        (texts[5], [""], {}),
        (before["test"][0]["review"], ["正面"], {}),
    )
    manifest, after = with_added(tmp_path, table, export)
    new = after["train"][len(before["train"]) :]
    assert [(row["review"], row["messages"][-1]["content"]) for row in new] == [
        (texts[0], "正面"),
        (texts[1], "负面"),
        (texts[3], "正面"),
    ]
    assert manifest["added"] == {"train": 3, "annotators_disagree": 1, "held_out_text": 1}
    with open(tmp_path / "out" / "rejects.csv", encoding="utf-8-sig", newline="") as stream:
        rejects = {row["reason"]: row for row in csv.DictReader(stream)}
    assert rejects["annotators_disagree"]["label"] == "正面 / 负面"


def test_an_export_in_csv_has_a_line_for_each_annotation(tmp_path, plain):
    table = plain[0]
    keys = ["annotation_id", "annotator", "created_at", "id", "label", "lead_time", "row", "text", "updated_at"]
    lines = [",".join(f'"{key}"' for key in keys)]
    for number, (task, label) in enumerate([(1, "正面"), (1, "正面"), (2, "负面"), (2, "正面"), (3, "")]):
        lines.append(f'{number},1,"2026",{task},"{label}",1.5,{task},"{NEW[task][1]}","2026"')
    (tmp_path / "e.csv").write_text("\n".join(lines), encoding="utf-8")
    manifest, after = with_added(tmp_path, table, tmp_path / "e.csv")
    assert manifest["added"] == {"train": 1, "annotators_disagree": 1}
    assert after["train"][-1]["review"] == NEW[1][1]
    flat = [dict(zip(keys, (7, 1, "", 9, "负面", 1.5, 9, NEW[9][1], ""), strict=True))]
    (tmp_path / "m.json").write_text(json.dumps(flat), encoding="utf-8")  # JSON_MIN
    assert with_added(tmp_path, table, tmp_path / "m.json")[1]["train"][-1]["review"] == NEW[9][1]


def test_several_text_columns_and_ids_come_back(tmp_path):
    columns = {"text": ["title", "review"], "label": "label", "id": "no"}
    prompts = {"original": "{title}：{review}\n这条评论是正面还是负面？"}
    more = {"columns": columns, "prompts": prompts}
    rows = "".join(f"{label},标题{at},{text},n{at}\n" for at, (label, text) in enumerate(ROWS))
    (tmp_path / "t.csv").write_text("label,title,review,no\n" + rows, encoding="utf-8")
    data = {"text_1": "又一个标题", "text_2": NEW[0][1], "source_id": "n900", "row": 3}
    result = [{"type": "choices", "value": {"choices": ["正面"]}}]
    (tmp_path / "e.json").write_text(json.dumps([{"id": 1, "data": data, "annotations": [{"result": result}]}]))
    (tmp_path / "a.csv").write_text(f"review,label,no,title\n{NEW[1][1]},0,n901,标题乙\n", encoding="utf-8")
    _, after = with_added(tmp_path, tmp_path / "t.csv", tmp_path / "e.json", tmp_path / "a.csv", **more)
    new = {row["source_id"]: row for row in after["train"]}
    assert new["n900"]["texts"] == {"title": "又一个标题", "review": NEW[0][1]}
    assert new["n901"]["texts"] == {"title": "标题乙", "review": NEW[1][1]}
    assert "又一个标题：" + NEW[0][1] in new["n900"]["messages"][-2]["content"]


def test_splits_of_ones_own_and_folds_take_added_rows_for_training_alone(tmp_path):
    splits = ["train", "train", "train", "val", "test"]
    rows = "".join(f"{label},{text},{splits[at % 5]}\n" for at, (label, text) in enumerate(ROWS))
    (tmp_path / "t.csv").write_text("label,review,part\n" + rows, encoding="utf-8")
    added = write_csv(tmp_path / "a.csv", NEW)
    manifest, after = with_added(tmp_path, tmp_path / "t.csv", added, split={"column": "part"})
    assert [len(after[name]) for name in SPLITS] == [72 + 20, 24, 24]
    assert manifest["leaks"]["test_in_train"] == {"exact": 0, "near": 0}
    _, folded = with_added(tmp_path, write_csv(tmp_path / "u.csv", ROWS), added, split={"folds": 5, "fold": 1})
    assert {text for _, text in NEW} <= {row["review"] for row in folded["train"]}


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        (
            "a.csv",
            "review,label\n很好的一家酒店,好\n",
            "a.csv, line 2: the label is '好', expected one of 正面, 负面, 1, 0",
        ),
        ("a.csv", "text,label\n很好的一家酒店,1\n", "a.csv has no column review"),
        ("a.json", '[{"id": 7, "data": {"text": "x"}, "annotations": 3}]', "a.json, task 7 cannot be read"),
        ("a.json", '[{"id": 7,', "a.json is no JSON"),
        (
            "a.json",
            '[{"id": 7, "data": {"words": "x"}, "annotations": [{"result": [{"type": "choices", "value": {"choices": '
            '["正面"]}}]}]}]',
            "a.json, task 7 has no text in its data",
        ),
        (
            "a.json",
            '[{"id": 7, "data": {"text": "x"}, "annotations": [{"result": [{"type": "choices", "value": {"choices": '
            '["正面", "负面"]}}]}]}]',
            "task 7: the label is '正面, 负面', expected one of",
        ),
        (
            "a.json",
            '[{"id": 7, "annotation_id": 1, "annotator": 1, "mood": "正面"}]',
            "a.json has no label, the control",
        ),
    ],
)
def test_faults_name_the_line_or_the_task(tmp_path, plain, name, text, told):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        with_added(tmp_path, plain[0], tmp_path / name)
    assert told in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_not_there_is_told(tmp_path, plain):
    with pytest.raises(UserError, match=r"there is no file .*gone.csv: correct or remove it in `added`"):
        with_added(tmp_path, plain[0], tmp_path / "gone.csv")
