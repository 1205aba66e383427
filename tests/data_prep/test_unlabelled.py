"""Texts without labels: what stands in validation or test is never among them, and what is no such table is told."""

from pathlib import Path

import pytest

from data_prep.build import build
from data_prep.rows import read_rows
from data_prep.task import Task, TextFile
from data_prep.unlabelled import Unlabelled, read_unlabelled
from tests.prep_tables import reviews, small_task, write_csv
from workspace.errors import UserError


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return small_task(tmp_path, csv=str(write_csv(tmp_path / "table.csv", reviews(60))))


@pytest.fixture
def dataset(tmp_path: Path, task: Task) -> Path:
    return build(task, out=tmp_path / "dataset").parent


def texts_of(dataset: Path, split: str) -> list[str]:
    return [row.review for row in read_rows(dataset / f"{split}.jsonl")]


def found(task: Task, dataset: Path, texts: list[str]) -> Unlabelled:
    path = write_csv(task.path.parent / "more.csv", [("", text) for text in texts])
    return read_unlabelled(TextFile(path, "review"), task, dataset)


def test_what_stands_in_validation_or_test_is_left_out_word_for_word_and_nearly(task: Task, dataset: Path) -> None:
    val, test = texts_of(dataset, "val"), texts_of(dataset, "test")
    new = [text for _, text in reviews(8, start=900)]
    near = [text.replace("，", "!! ") + "。" for text in val] + [f"{text}啊" for text in test]
    result = found(task, dataset, [*val, *test, *near, *new])
    assert result == Unlabelled(new, len(new) + 2 * (len(val) + len(test)), 2 * (len(val) + len(test)), 0)
    assert len(val) > 3 and len(test) > 3


def test_a_line_of_a_held_out_text_is_not_read(tmp_path: Path) -> None:
    lines = ["房间朝南，早上有阳光照进来", "前台姑娘很热情，还帮忙提行李"]
    table = write_csv(tmp_path / "table.csv", [*reviews(60), ("1", "\n".join(lines))])
    task = small_task(tmp_path, csv=str(table), split={"val": 0.45, "test": 0.5})
    dataset = build(task, out=tmp_path / "dataset").parent
    assert any(lines[0] in text for split in ("val", "test") for text in texts_of(dataset, split))
    assert found(task, dataset, [*lines, "别的话"]).texts == ["别的话"]


def test_of_many_near_copies_none_is_read_where_one_is_held_out(tmp_path: Path) -> None:
    text = "房间宽敞明亮，服务员热情周到，早餐丰富可口，下次来这里出差还会选择入住这家酒店第{}次"
    copies = [text.format(at) for at in range(300)]
    for held in (0, 150, 299):
        folder = tmp_path / str(held)
        folder.mkdir()
        table = write_csv(folder / "table.csv", [*reviews(60), ("1", copies[held])])
        task = small_task(folder, csv=str(table), split={"val": 0.45, "test": 0.5})
        dataset = build(task, out=folder / "dataset").parent
        assert copies[held] in texts_of(dataset, "val") + texts_of(dataset, "test")
        others = copies[:held] + copies[held + 1 :]
        assert found(task, dataset, [*others, "别的话"]).texts == ["别的话"]


def test_a_table_without_its_column_is_refused(task: Task, dataset: Path, tmp_path: Path) -> None:
    more = reviews(3, start=900)
    for name in ("more.csv", "more.tsv", "more.jsonl", "more.XLSX"):
        with pytest.raises(UserError, match=rf"{name} is a table.*`unlabelled: {{path: …, column: NAME}}`"):
            read_unlabelled(TextFile(write_csv(tmp_path / name, more)), task, dataset)
    with pytest.raises(UserError, match=r"more.txt begins with the header of a table \(label,review\): name"):
        read_unlabelled(TextFile(write_csv(tmp_path / "more.txt", more)), task, dataset)


def test_train_texts_may_be_read_and_each_text_is_read_once(task: Task, dataset: Path) -> None:
    train = texts_of(dataset, "train")
    result = found(task, dataset, [*train, "别的话", "别的话。", train[0]])
    assert (result.texts, result.held_out, result.repeated) == ([*train, "别的话"], 0, 2)


def test_a_file_of_lines_will_do(task: Task, dataset: Path, tmp_path: Path) -> None:
    path = tmp_path / "more.txt"
    path.write_text("一句没有标签的话\n\n又一句完全不同的评论\n", encoding="utf-8")
    assert read_unlabelled(TextFile(path), task, dataset).texts == ["一句没有标签的话", "又一句完全不同的评论"]


def test_what_has_no_texts_is_one_sentence(task: Task, dataset: Path, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "more.csv", reviews(3, start=900))
    for file, told in (
        (TextFile(path, "text"), "more.csv.*has no column text"),
        (TextFile(tmp_path / "none.csv", "review"), "there is no file .*none.csv: correct or remove `unlabelled`"),
    ):
        with pytest.raises(UserError, match=told) as caught:
            read_unlabelled(file, task, dataset)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="all of its 6 texts stand in validation or test rows too"):
        found(task, dataset, texts_of(dataset, "test"))


def test_they_leave_the_dataset_as_it_is(task: Task, dataset: Path, tmp_path: Path) -> None:
    named = small_task(tmp_path, csv=str(task.csv), unlabelled={"path": str(tmp_path / "any.csv"), "column": "review"})
    before = (dataset / "manifest.json").stat().st_mtime_ns
    build(named, out=dataset)
    assert (dataset / "manifest.json").stat().st_mtime_ns == before


def test_its_table_is_read_as_it_says_itself(tmp_path: Path, task: Task, dataset: Path) -> None:
    path = tmp_path / "more.csv"
    path.write_bytes("1#一句没有标签的话\n1#又一句完全不同的评论\n".encode("gb18030"))
    unlabelled = {"path": str(path), "column": 2, "table": {"delimiter": "#", "header": False, "encoding": "gb18030"}}
    named = small_task(tmp_path, csv=str(task.csv), unlabelled=unlabelled).unlabelled
    assert named is not None
    assert read_unlabelled(named, task, dataset).texts == ["一句没有标签的话", "又一句完全不同的评论"]
    with pytest.raises(UserError, match=r"\(in `unlabelled` of the task: its own `path`, `column` and `table`\)"):
        read_unlabelled(TextFile(path, "review"), task, dataset)
