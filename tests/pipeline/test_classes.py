"""Three, ten and 77 classes for real: from a CSV and a task's folder to the report, with the demo model."""

import csv
import os
import subprocess
from pathlib import Path

import jsonschema
import pytest

from demo.reviews import ensure_reviews
from workspace.files import read_json, read_jsonl
from workspace.paths import ROOT

pytestmark = pytest.mark.swift

TOPICS = ("房间", "早餐", "服务", "位置", "价格", "卫生", "空调", "前台", "交通", "餐厅")
SETTINGS = """
name: {name}
csv: {csv}
columns: {{text: 评论内容, label: 类别}}
labels: {labels}
system: You are a helpful assistant.
prompts: {{short: "评论：{{review}}\\n这条评论属于哪一类："}}
prompt: short
split: {{scheme: stratified, seed: 42, val: 0.1, test: 0.1}}
max_length: 512
default_recipe: {recipe}
"""


def reviews(folder: Path) -> list[tuple[str, str]]:
    with open(ensure_reviews(folder / "reviews.csv"), encoding="utf-8", newline="") as stream:
        return [(row["label"], row["review"]) for row in csv.DictReader(stream)]


def three_classes(folder: Path) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """Good, bad, and mixed: a good and a bad review in one."""
    rows = reviews(folder)
    good, bad = ([text for label, text in rows if label == code][:150] for code in "10")
    mixed = [f"{one} 但是{other}" for one, other in zip(good[100:], bad[100:], strict=True)]
    words = {"好评": "正面", "中评": "中性", "差评": "负面"}
    return [*(("好评", t) for t in good), *(("中评", t) for t in mixed), *(("差评", t) for t in bad)], words


def ten_classes(folder: Path) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """Reviews that name one of ten topics and none of the others; their labels are the numbers 1 to 10."""
    rows = []
    for _, text in reviews(folder):
        named = [at for at, topic in enumerate(TOPICS, 1) if topic in text]
        if len(named) == 1:
            rows.append((str(named[0]), text))
    return rows, {str(at): topic for at, topic in enumerate(TOPICS, 1)}


@pytest.mark.all  # the usual test run has test_own_table.py
@pytest.mark.parametrize(
    ("name", "make", "encoding"), [("three", three_classes, "gb18030"), ("ten", ten_classes, "utf-8-sig")]
)
def test_from_csv_to_report(name, make, encoding, tmp_path: Path, demo_model: Path) -> None:
    rows, labels = make(tmp_path)
    table = tmp_path / f"{name}.csv"
    with open(table, "w", encoding=encoding, newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("类别", "评论内容"))
        writer.writerows(rows)
    folder = tmp_path / "my task"
    folder.mkdir()
    (folder / "task.yaml").write_text(
        SETTINGS.format(name=name, csv=table, labels=labels, recipe="minimind2-small"), encoding="utf-8"
    )
    run = tmp_path / "run"
    result = subprocess.run(
        ["bash", str(ROOT / "run_sft.sh"), "my task", "--model", str(demo_model), "--limit", "60",
         "--num_train_epochs", "1", "--run", str(run)],
        cwd=tmp_path, capture_output=True, text=True, env=os.environ,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    words = list(labels.values())
    metrics = read_json(run / "metrics.json")
    jsonschema.validate(metrics, read_json(ROOT / "eval" / "metrics.schema.json"))
    assert metrics["labels"] == words
    assert metrics["run"]["recipe"] == f"{name}/minimind2-small"
    for reading in metrics["readings"].values():
        assert list(reading["per_class"]) == words
        assert [sum(row) for row in reading["confusion"]["counts"]] == [
            metrics["counts"]["test"][word] for word in words
        ]
    assert all(metrics["counts"][split][word] >= 1 for split in ("train", "val", "test") for word in words)
    assert [gate["name"] for gate in metrics["parity"] if not gate["ok"]] == []
    for row in read_jsonl(run / "after" / "test.jsonl"):
        assert set(row["probabilities"]) == set(words)
        assert sum(row["probabilities"].values()) == pytest.approx(1)
    report = (run / "report.md").read_text(encoding="utf-8")
    assert all(word in report for word in words)
    assert (run / "report.html").stat().st_size > 10_000


@pytest.mark.all
@pytest.mark.parametrize("recipe", ["minimind2-small", "qwen1.5-0.5b-seqcls"])
def test_seventy_seven_classes_in_words_and_with_a_head(recipe, tmp_path: Path, demo_model: Path) -> None:
    wishes = ("退款", "投诉", "预订", "取消", "发票", "加床", "换房")
    words = [wish + topic for topic in (*TOPICS, "电梯") for wish in wishes]  # 7 begin with one token
    table, folder, run = tmp_path / "t.csv", tmp_path / "many", tmp_path / "run"
    with open(table, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("类别", "评论内容"))
        writer.writerows(
            (
                word,
                f"第{at * 997 % 9973}号客人说{word[2:]}的事，想要{word[:2]}，{(at + part) * 331 % 997}分钟内回复",
            )
            for at, word in enumerate(words)
            for part in range(6)
        )
    folder.mkdir()
    settings = SETTINGS.format(name="many", csv=table, labels={word: word for word in words}, recipe=recipe)
    (folder / "task.yaml").write_text(settings + "near_duplicates: {threshold: 1.0}\n", encoding="utf-8")
    result = subprocess.run(
        ["bash", str(ROOT / "run_sft.sh"), str(folder), "--model", str(demo_model), "--limit", "154",
         "--num_train_epochs", "1", "--bf16", "false", "--run", str(run)],
        cwd=tmp_path, capture_output=True, text=True, env=os.environ,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    metrics = read_json(run / "metrics.json")
    jsonschema.validate(metrics, read_json(ROOT / "eval" / "metrics.schema.json"))
    assert metrics["labels"] == words and metrics["head"] == (recipe != "minimind2-small")
    assert [gate["name"] for gate in metrics["parity"] if not gate["ok"]] == []
    for row in read_jsonl(run / "after" / "test.jsonl"):
        assert set(row["probabilities"]) == set(words) and sum(row["probabilities"].values()) == pytest.approx(1)
        assert (row["finish_reason"] is None) == metrics["head"]
    before = [row["finish_reason"] for row in read_jsonl(run / "before" / "test.jsonl")]
    assert set(before) <= {"stop", "length"} and metrics["readings"]["before_generate"]["cut_off"] is not None
    assert "77 classes: the 20 with the lowest F1" in (run / "report.md").read_text(encoding="utf-8")
    assert not (run / "confusion_after.png").exists()
