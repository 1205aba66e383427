"""A table's own ids, several text columns and leaks, from the dataset to rows.jsonl, attacks and report."""

from pathlib import Path

from data_prep.chat.parts import as_read, joined
from data_prep.rows import DatasetRow, write_rows
from eval.reporting.context import browser_rows, shown_id
from eval.reporting.wording import leak_note
from eval.robustness.attacks import Row, attacks_on
from eval.scoring.predictions import Predictions, RunPredictions
from eval.scoring.responses import load_split
from eval.scoring.row_records import row_records
from tests.prep_tables import small_task

LABELS = ("正面", "负面")


def split_of(folder: Path, own: bool):
    rows = []
    for at, label in enumerate(LABELS):
        texts = {"title": f"第{at}题", "review": "很好" if at == 0 else ""}
        turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": label}]
        review = as_read(joined(texts.values()), 2)
        further = {"source_id": f"A-{at}", "texts": texts} if own else {}
        rows.append(DatasetRow(turns, str(at), review, False, at, **further))
    write_rows(folder / "test.jsonl", rows)
    return load_split(folder, "test", LABELS)


def test_ids_of_the_tables_own_go_into_rows_and_report(tmp_path):
    for own in (True, False):
        test = split_of(tmp_path, own)
        found = {"after_generate": Predictions("after_generate", ("正面", None))}
        rows = row_records(RunPredictions(found, found, test, {}), test)
        assert [row.get("source_id") for row in rows] == (["A-0", "A-1"] if own else [None, None])
        assert [row["id"] for row in rows] == ["0", "1"]  # what answers are joined by stays the row's number
        assert shown_id(rows[1]) == ("1 · A-1" if own else "1")
        for row in rows:
            row["readings"]["after_generate"]["answer"] = "x"
        browser = browser_rows({"labels": LABELS, "readings": {"after_generate": {}}, "mistakes": []}, rows)
        assert browser["rows"][0][0] == ("0 · A-0" if own else "0")
        assert test.take([1]).source_ids == (("A-1",) if own else ())


def test_an_instruction_goes_into_one_of_the_columns_and_the_linear_model_reads_them_all(tmp_path):
    prompts = {"p": "标题：{title}\n正文：{review}\n情感："}
    task = small_task(tmp_path, columns={"text": ["title", "review"], "label": "label"}, prompts=prompts, prompt="p")
    test = split_of(tmp_path, True)
    for attack in attacks_on([Row("0", test.columns[0], "正面")], task):
        asked = task.render(attack.review)
        assert asked.startswith("标题：")
        assert "\n正文：" in asked
        assert "第" in as_read(attack.review, 2)
        assert len(as_read(attack.review, 2)) > len(test.reviews[0])
        assert "\ufdd0" not in asked + as_read(attack.review, 2)


def test_rows_in_two_splits_are_named_in_the_report():
    assert leak_note({"leaks": None}) is None
    leaks = {"counts": {"test_in_train": {"exact": 2, "near": 1}, "val_in_train": {"exact": 0, "near": 0}}}
    note = leak_note({"leaks": leaks | {"rows": {"test_in_train": [["7", "1"], ["9", "3"]]}}})
    assert "test → train 3: #7 (#1), #9 (#3)" in note.en
    assert "val" not in note.en
