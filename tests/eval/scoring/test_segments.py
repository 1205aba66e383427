"""Test rows by any column of the table."""

from pathlib import Path

import pytest

from data_prep.manifest import TableSource
from data_prep.task import load_task
from eval.scoring.responses import Split
from eval.scoring.segments import OTHER, VALUES, load_segments
from eval.scoring.slices import slice_metrics
from workspace.errors import UserError
from workspace.files import sha256_file

TASK = """
name: shop
columns: {{text: review, label: label}}
labels: {{"1": 好, "0": 坏}}
prompts: {{p: "{{review}} 好还是坏？"}}
prompt: p
default_recipe: shop/small
csv: table.csv
{more}
"""


def make(folder: Path, more: str = "", cities=("北京", " 上海 ", "", "北京")):
    """A task, and its table with a column of cities and one of products."""
    table = folder / "table.csv"
    lines = [f"{1 - k % 2},评论{k},{city},p{k % 2}" for k, city in enumerate(cities)]
    table.write_text("\n".join(["label,review,city,product", *lines]) + "\n", encoding="utf-8")
    (folder / "task.yaml").write_text(TASK.format(more=more), encoding="utf-8")
    source = TableSource(
        path=str(table), sha256=sha256_file(table), bytes=1, encoding="utf-8", nul_characters_removed=0
    )
    return load_task(folder / "task.yaml"), source


def test_values_come_by_the_rows_numbers(tmp_path):
    task, source = make(tmp_path, "segments: [city, product]")
    found = load_segments(task, source, ["4", "2", "3"])
    assert found == {"city": ["北京", "上海", ""], "product": ["p1", "p1", "p0"]}
    task, source = make(tmp_path, "segments: city")
    assert load_segments(task, source, ["2"]) == {"city": ["上海"]}


def test_rare_values_are_one(tmp_path):
    cities = [f"city{k}" for k in range(VALUES)] * 2 + ["x", "y"]
    task, source = make(tmp_path, "segments: [city]", cities)
    assert load_segments(task, source, [str(k + 1) for k in range(len(cities))])["city"][-2:] == [OTHER, OTHER]


def test_of_another_table_nothing_is_told(tmp_path, capsys):
    task, source = make(tmp_path, "segments: [city]")
    (tmp_path / "table.csv").write_text("label,review,city\n", encoding="utf-8")
    assert load_segments(task, source, ["1"]) == {} and "build the dataset again" in capsys.readouterr().out
    assert load_segments(None, source, ["1"]) == load_segments(make(tmp_path)[0], source, ["1"]) == {}


def test_a_column_that_is_not_there_is_named(tmp_path):
    task, source = make(tmp_path, "segments: [town]")
    with pytest.raises(UserError, match="town"):
        load_segments(task, source, ["1"])


@pytest.mark.parametrize("more", ["segments: [label]", "segments: [city, city]"])
def test_the_label_and_doubles_are_refused(tmp_path, more):
    with pytest.raises(UserError, match="segments"):
        make(tmp_path, more)


def test_slices_average_over_the_classes_that_are_there():
    """Audited: absent classes counted as 0, so that an accuracy of 100 % was drawn with a diamond at 50 %."""
    test = Split(Path("x"), ("1", "2", "3"), ("a", "b", "c"), ("好", "好", "坏"), (False,) * 3)
    parts = slice_metrics("r", ("好", "好", "好"), test, ("好", "坏"), segments={"city": ["A", "A", "B"]})
    got = [(s.value, s.n, s.accuracy, s.macro_f1) for s in parts if s.by == "column:city"]
    assert got == [("A", 2, 1, 1), ("B", 1, 0, 0)]
