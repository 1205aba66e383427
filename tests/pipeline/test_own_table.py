"""`bash run_sft.sh my.csv` for real: from a table that nobody has described to the report, with the demo model."""

import csv
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jsonschema
import openpyxl
import pytest

from demo.reviews import ensure_reviews
from workspace.files import read_json, read_jsonl
from workspace.paths import CONFIGS, DATASETS, ROOT

pytestmark = pytest.mark.swift

TOPICS = ("房间", "早餐", "服务", "位置", "价格", "卫生", "空调", "前台", "交通", "餐厅")
ENGLISH = {
    5: ("Wonderful stay, spotless room and lovely staff", "Perfect location, we loved every minute"),
    4: ("Nice hotel and a good breakfast, a little small", "Friendly staff, clean room, lift was slow"),
    3: ("An ordinary hotel, neither good nor bad", "Fine for one night, nothing special"),
    2: ("The room was small and the street was loud", "Breakfast was cold and the staff seemed tired"),
    1: ("Dirty bathroom, rude staff, never again", "Awful smell and no hot water, a waste of money"),
}


class OwnTable(NamedTuple):
    """A table, what `init` has to find in it, and how many rows to train on."""

    path: Path
    words: list[str]
    columns: dict[str, str]
    limit: int


def write(path: Path, header: list[str], rows: list, encoding: str = "utf-8", delimiter: str = ",") -> Path:
    with open(path, "w", encoding=encoding, newline="") as stream:
        csv.writer(stream, delimiter=delimiter).writerows([header, *rows])
    return path


def five_stars(folder: Path) -> OwnTable:
    """English reviews of one to five stars in Windows-1252, with an id, as a spreadsheet exports them."""
    draw = random.Random(5)
    rows = [
        [f"B{at:04}", stars, f"{draw.choice(ENGLISH[stars])} – £{at} a night, we’d say {draw.randint(1, 999)}"]
        for at, stars in enumerate(draw.choices([1, 2, 3, 4, 5], k=300))
    ]
    path = write(folder / "hotel stars.csv", ["id", "stars", "review"], rows, "cp1252", ";")
    words = ["terrible", "poor", "average", "good", "excellent"]
    return OwnTable(path, words, {"text": "review", "label": "stars", "id": "id"}, 80)


def ten_classes(folder: Path) -> OwnTable:
    """Chinese reviews in GB18030 that name one of ten topics and none of the others."""
    with open(ensure_reviews(folder / "reviews.csv"), encoding="utf-8", newline="") as stream:
        reviews = [row["review"] for row in csv.DictReader(stream)]
    rows = [[named[0], one] for one in reviews if len(named := [topic for topic in TOPICS if topic in one]) == 1]
    counts = [(sum(label == topic for label, _ in rows), topic) for topic in TOPICS]
    words = [topic for _, topic in sorted(counts, key=lambda one: (-one[0], one[1]))]
    path = write(folder / "topics.csv", ["类别", "评论内容"], rows, "gb18030")
    return OwnTable(path, words, {"text": "评论内容", "label": "类别"}, 80)


def seventy_seven_classes(folder: Path) -> OwnTable:
    """Customers' questions of 77 kinds, with kinds that begin alike."""
    things = ("card", "transfer", "top up", "exchange rate", "refund", "cash machine", "direct debit")
    events = (
        "arrival",
        "fee",
        "declined",
        "lost",
        "limit",
        "pending",
        "not known",
        "cancelled",
        "age",
        "change",
        "help",
    )
    kinds = [f"{thing} {event}" for thing in things for event in events]
    draw = random.Random(77)
    words = (
        "please",
        "today",
        "again",
        "still",
        "really",
        "maybe",
        "always",
        "never",
        "first",
        "money",
        "bank",
        "help",
    )
    rows = [
        [kind, f"{kind}? {' '.join(draw.sample(words, 6))} {draw.randint(1, 10**6)}"]
        for kind in kinds
        for _ in range(8)
    ]
    draw.shuffle(rows)
    return OwnTable(write(folder / "questions.tsv", ["intent", "text"], rows, delimiter="\t"), kinds, {}, 154)


def workbook(folder: Path) -> OwnTable:
    """A workbook whose second sheet has other columns."""
    book = openpyxl.Workbook()
    book.active.title = "reviews"
    book.active.append(["comment", "team"])
    for at in range(120):
        team = ("billing", "delivery")[at % 2]
        book.active.append([f"Please help, my {('invoice', 'parcel')[at % 2]} number {at * 37} is wrong", team])
    notes = book.create_sheet("notes")
    notes.append(["who", "when"])
    notes.append(["me", "today"])
    book.save(folder / "tickets.xlsx")
    return OwnTable(folder / "tickets.xlsx", ["billing", "delivery"], {"text": "comment", "label": "team"}, 40)


@pytest.fixture
def tidy() -> Iterator[list[Path]]:
    """Folders to remove after the test."""
    folders: list[Path] = []
    yield folders
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize(
    "make",
    [
        five_stars,
        pytest.param(ten_classes, marks=pytest.mark.all),
        pytest.param(seventy_seven_classes, marks=pytest.mark.all),
        pytest.param(workbook, marks=pytest.mark.all),
    ],
)
def test_from_a_table_to_the_report(make, tmp_path: Path, demo_model: Path, tidy: list[Path]) -> None:
    table, run = make(tmp_path), tmp_path / "run"
    name = f"own-{make.__name__}-{os.getpid()}"
    tidy.append(CONFIGS / name)
    shell = ["bash", str(ROOT / "run_sft.sh")]

    def call(*words: str) -> subprocess.CompletedProcess:
        return subprocess.run([*shell, *words], cwd=tmp_path, capture_output=True, text=True)

    proposed = call("init", table.path.name, "--name", name)
    assert proposed.returncode == 0, proposed.stderr[-3000:]
    for role, column in table.columns.items():
        assert f"init: {role:<9}{column} (" in proposed.stdout, proposed.stdout
    if make is workbook:
        assert "notes" in proposed.stdout
    result = call(table.path.name, "--model", str(demo_model), "--limit", str(table.limit), "--num_train_epochs", "1",
                  "--run", str(run))  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    record = read_json(run / "run.json")
    tidy.append(Path(record["dataset"]))
    assert record["task"] == name and Path(record["dataset"]).parent == DATASETS
    metrics = read_json(run / "metrics.json")
    jsonschema.validate(metrics, read_json(ROOT / "eval" / "metrics.schema.json"))
    assert sorted(metrics["labels"]) == sorted(table.words)
    if len(table.words) < 20:
        assert metrics["labels"] == table.words
    for reading in metrics["readings"].values():
        assert list(reading["per_class"]) == metrics["labels"]
        counts = [sum(row) for row in reading["confusion"]["counts"]]
        assert counts == [metrics["counts"]["test"][word] for word in metrics["labels"]]
    assert [gate["name"] for gate in metrics["parity"] if not gate["ok"]] == []
    for row in read_jsonl(run / "after" / "test.jsonl"):
        assert set(row["probabilities"]) == set(table.words)
        assert sum(row["probabilities"].values()) == pytest.approx(1)
    texts = [row["review"] for row in read_jsonl(Path(record["dataset"]) / "test.jsonl")]
    if make is five_stars:
        assert all("– £" in text and "we’d" in text for text in texts)
    report = (run / "report.md").read_text(encoding="utf-8")
    assert all(word in report for word in table.words[:3])
    assert (run / "report.html").stat().st_size > 10_000
