"""Rows set aside with their reason, and the share of them that stops the run."""

import pandas as pd
import pytest

from data_prep.manifest import GroupCounts
from data_prep.table.checking import (
    check_rows,
    set_aside_conflicts,
    stop_if_class_is_gone,
    stop_if_too_many,
    usable_rows,
    visible_lengths,
)
from data_prep.table.reading import read_table
from tests.prep_tables import reviews, small_task, write_csv
from workspace.errors import UserError


def table_of(tmp_path, rows, task):
    return read_table(write_csv(tmp_path / "t.csv", rows), task.columns)


def test_each_reason_and_the_line(tmp_path):
    task = small_task(tmp_path, min_chars=3)
    rows = [
        ("1", "很好的"),
        ("1", " \u3000\u200b\ufeff\n"),
        ("2", "没有标签"),
        ("", "没有"),
        ("0", "很 差"),
        ("0", "！！！"),
    ]
    checked = check_rows(table_of(tmp_path, rows, task), task)
    assert checked.kept[["row", "line", "label"]].values.tolist() == [[1, 2, "正面"], [6, 8, "负面"]]
    assert checked.rejects[["row", "line", "reason", "label"]].values.tolist() == [
        [2, 3, "empty", "1"],
        [3, 5, "unknown_label", "2"],
        [4, 6, "empty_label", ""],
        [5, 7, "too_short", "0"],
    ]
    assert checked.rejects["text"][3] == "很 差"


def test_undecodable_rows_are_set_aside(tmp_path):
    task = small_task(tmp_path)
    path = write_csv(tmp_path / "t.csv", reviews(50))
    path.write_bytes(path.read_bytes() + b"1,\xff\xfe\n")
    checked = check_rows(read_table(path, task.columns), task)
    assert checked.rejects[["line", "reason"]].values.tolist() == [[52, "undecodable"]]


def test_labels_as_spreadsheets_and_people_write_them(tmp_path):
    task = small_task(tmp_path)
    checked = check_rows(table_of(tmp_path, [("1.0", "a"), (" 0 ", "b"), ("１", "c"), ("0.00", "d")], task), task)
    assert checked.kept["label"].tolist() == ["正面", "负面", "正面", "负面"]


def test_no_known_label_at_all(tmp_path):
    task = small_task(tmp_path)
    with pytest.raises(
        UserError,
        match=r"t\.csv: the label in line 2 is '好评'; unknown labels found: '好评', '差评'; "
        r"expected: '1', '0': name them in `labels` of .*task\.yaml",
    ):
        check_rows(table_of(tmp_path, [("好评", "a"), ("差评", "b")], task), task)


def test_too_many_rows_set_aside_stop_the_run(tmp_path):
    task = small_task(tmp_path)
    table = table_of(tmp_path, [*reviews(90), *[("1", "")] * 5], task)
    with pytest.raises(
        UserError,
        match=r"5 of 95 rows \(5\.3%\) cannot be used, more than max_reject_share = 0\.05; most "
        r"often \(empty, 5 rows\) the text is empty, first in line 92",
    ):
        stop_if_too_many(table, task, check_rows(table, task))
    table = table_of(tmp_path, [*reviews(95), *[("1", "")] * 5], task)
    stop_if_too_many(table, task, check_rows(table, task))


def test_too_many_unknown_labels_name_the_values(tmp_path):
    task = small_task(tmp_path)
    table = table_of(tmp_path, [*reviews(10), ("3", "x"), ("中", "y")], task)
    with pytest.raises(
        UserError,
        match=r"2 of 12 rows \(16\.7%\) cannot be used; the label in line 12 is '3'; unknown "
        r"labels found: '3', '中'; expected: '1', '0'",
    ):
        stop_if_too_many(table, task, check_rows(table, task))


def test_too_many_undecodable_rows_name_the_byte(tmp_path):
    task = small_task(tmp_path)
    path = tmp_path / "t.csv"
    path.write_bytes("label,review\n1,好\n0,差\n".encode() + b"1,\xff\xff\n")
    table = read_table(path, task.columns)
    with pytest.raises(UserError, match=r"are not utf-8 \(first at byte 27, line 4\)"):
        stop_if_too_many(table, task, check_rows(table, task))


def test_a_class_without_rows(tmp_path):
    task = small_task(tmp_path)
    table = table_of(tmp_path, [("1", "a"), ("1.0", "b")], task)
    with pytest.raises(UserError, match=r"t\.csv: no usable row is left for 负面 \(label 0\)"):
        stop_if_class_is_gone(table, task, check_rows(table, task).kept)


def test_the_same_text_under_two_labels(tmp_path):
    rows = [*reviews(60), ("1", "不错的酒店！"), ("0", "不错 的酒店"), ("1", "不错的酒店。")]
    task = small_task(tmp_path)
    checked, duplicates = usable_rows(table_of(tmp_path, rows, task), task)
    assert checked.rejects["reason"].tolist() == ["conflicting_label"] * 3
    assert checked.rejects["label"].tolist() == ["正面", "负面", "正面"]
    assert duplicates.conflicting_exact == GroupCounts(groups=1, rows=3)
    # The other groups are numbered again, by the rows that are left.
    checked, _ = usable_rows(table_of(tmp_path, [*rows[::-1], rows[0]], task), task)
    assert checked.kept["group"].tolist() == [*range(60), 59]
    task = small_task(tmp_path, conflicts="keep")
    checked, duplicates = usable_rows(table_of(tmp_path, rows, task), task)
    assert len(checked.kept) == 63
    assert duplicates.conflicting_exact == GroupCounts(groups=1, rows=3)


def test_moving_no_row_changes_nothing(tmp_path):
    task = small_task(tmp_path)
    checked = check_rows(table_of(tmp_path, reviews(6), task), task)
    assert set_aside_conflicts(checked, checked.kept["row"].to_numpy() < 0) is checked


def test_a_value_that_is_null_leaves_its_rows_out_and_counts_them_apart(tmp_path):
    task = small_task(tmp_path, labels={"5": "正面", "1": "负面", "3": None, "": None}, max_reject_share=0.2)
    rows = [
        ("5", "很好"),
        ("3", "一般"),
        ("3.0", ""),
        ("1", "很差"),
        ("", "没说"),
        ("1", " "),
        ("5", "好"),
        ("1", "差"),
    ]
    checked = check_rows(table_of(tmp_path, rows, task), task)
    assert checked.kept["row"].tolist() == [1, 4, 7, 8]
    assert checked.left_out.values.tolist() == [[2, "3"], [3, "3"], [5, ""]]
    assert checked.rejects[["row", "reason"]].values.tolist() == [[6, "empty"]]
    stop_if_too_many(table_of(tmp_path, rows, task), task, checked)  # 1 of the 5 that are not left out
    task = small_task(tmp_path, labels={"5": "正面", "1": "负面", "3": None}, max_reject_share=0.19)
    with pytest.raises(UserError, match=r"2 of 6 rows \(33\.3%\) cannot be used"):
        stop_if_too_many(table_of(tmp_path, rows, task), task, check_rows(table_of(tmp_path, rows, task), task))


def test_rows_without_a_label_are_never_to_be_named_in_labels(tmp_path):
    task = small_task(tmp_path)
    table = table_of(tmp_path, [*reviews(10), ("", "x"), (" ", "y")], task)
    with pytest.raises(UserError) as caught:
        stop_if_too_many(table, task, check_rows(table, task))
    assert "(empty_label, 2 rows) the label is empty, first in line 12: label the rows, or leave them out with" in str(
        caught.value
    )
    # The remedy leads to the rows that have a label.
    task = small_task(tmp_path, labels={"1": "正面", "0": "负面", "": None})
    checked = check_rows(table, task)
    stop_if_too_many(table, task, checked)
    assert (len(checked.kept), len(checked.rejects), len(checked.left_out)) == (10, 0, 2)
    task = small_task(tmp_path)
    empty = table_of(tmp_path, [("", "a"), ("", "b")], task)
    with pytest.raises(UserError, match=r"no row has a label of .*empty in 2 rows") as caught:
        check_rows(empty, task)
    assert "name them" not in str(caught.value)
    both = table_of(tmp_path, [("", "a"), ("好评", "b")], task)
    with pytest.raises(UserError, match=r"the label in line 3 is '好评'; unknown labels found: '好评'; expected"):
        check_rows(both, task)


def test_characters_are_counted_the_same_however_pandas_stores_them() -> None:
    texts = ["a\u200bb 好\u3000x", "é", " \ufeff\t", "12_"]
    stored = [pd.Series(texts, dtype=kind) for kind in (object, pd.StringDtype("python"), pd.StringDtype("pyarrow"))]
    assert [visible_lengths(one).tolist() for one in stored] == [[4, 1, 0, 3]] * 3
