"""Run folders with a small made-up dataset and saved answers, as the other stages leave them, for tests of scoring."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.manifests import made_up_manifest
from workspace.files import read_jsonl, sha256_file, sha256_json, write_json, write_jsonl

BINARY = ("正面", "负面")
GOOD, BAD = "房间干净，服务热情，早餐丰富，下次还来", "房间太脏，服务冷淡，隔音很差，再也不来"


def make_dataset(folder: Path, labels: Sequence[str] = BINARY, sizes: tuple[int, int, int] = (120, 40, 80)) -> Path:
    """train, val and test rows (label i's reviews hold its own words), and the manifest. Returns `folder`."""
    generator = np.random.default_rng(5)
    words = [GOOD.split("，"), BAD.split("，"), *([f"词{i}甲", f"词{i}乙"] for i in range(2, len(labels)))]
    counts: dict[str, Any] = {"rows": sum(sizes)}
    row_hashes = {}
    number = 0
    for name, size in zip(("train", "val", "test"), sizes, strict=True):
        rows = []
        for _ in range(size):
            number += 1
            code = 0 if generator.random() < 0.6 else int(generator.integers(1, len(labels)))
            told = generator.choice(words[code] + ["酒店", "地铁旁", "前台"], int(generator.integers(1, 40)))
            review = "，".join(told)
            rows.append(
                {
                    "messages": [
                        {"role": "system", "content": "You are a helpful assistant."},
                        {"role": "user", "content": f"评论内容: {review} 这条评论是正面还是负面？"},
                        {"role": "assistant", "content": labels[code]},
                    ],
                    "id": str(number),
                    "review": review,
                    "cut": len(review) > 150,
                }
            )
        write_jsonl(folder / f"{name}.jsonl", rows)
        gold = [row["messages"][-1]["content"] for row in rows]
        counts[name] = {"total": size, **{label: gold.count(label) for label in labels}}
        row_hashes[name] = sha256_json([[row["id"], row["review"], word] for row, word in zip(rows, gold, strict=True)])
    write_manifest(folder, counts, row_hashes)
    return folder


def write_manifest(folder: Path, counts: dict[str, Any], row_hashes: dict[str, str]) -> None:
    files = {f"{name}.jsonl": sha256_file(folder / f"{name}.jsonl") for name in ("train", "val", "test")}
    labels = [label for label in counts["train"] if label != "total"]
    unused = {"set_aside": {"total": 0}, "not_used": {"total": 0, "train": 0, "val": 0, "test": 0}}
    made_up_manifest(labels=labels, counts={**counts, **unused}, rows_sha256=row_hashes, files=files).write(folder)


def make_plan(run: Path, dataset: Path, labels: Sequence[str] = BINARY, **more: Any) -> Path:
    """run.json. Returns `run`."""
    plan = {
        "recipe": "made_up/small",
        "task": "made_up",
        "labels": list(labels),
        "model": "made-up/model",
        "csv": "data/made_up.csv",
        "limit": None,
        "dataset": str(dataset),
        "config_sha256": "c0" * 32,
        "machine_text": "CPU only, 2 cores",
        "versions": {"torch": "2.13.0"},
        "python": "3.11.9",
        "git": None,
        "planned": "2030-01-02 03:04:05",
        "notice": None,
    }
    write_json(run / "run.json", {**plan, **more})
    (run / "sft.yaml").write_text("seed: 42\nlearning_rate: 1.0e-4\n", encoding="utf-8")
    return run


def answer(
    run: Path,
    dataset: Path,
    file: str,
    labels: Sequence[str] = BINARY,
    right: float = 0.8,
    said: float = 1.0,
    texts: bool = True,
    seed: int = 0,
) -> None:
    """Write RUN/`file`: a share `right` of the scores is right, and a share `said` of the texts names the label."""
    generator = np.random.default_rng(seed)
    rows = []
    for row in read_jsonl(dataset / ("val.jsonl" if file.endswith("val.jsonl") else "test.jsonl")):
        gold = row["messages"][-1]["content"]
        code = labels.index(gold)
        if generator.random() >= right:
            code = (code + 1 + int(generator.integers(len(labels) - 1))) % len(labels)
        shares = generator.dirichlet(np.full(len(labels), 0.5))
        shares[[code, int(shares.argmax())]] = shares[[int(shares.argmax()), code]]
        text = labels[code] if generator.random() < said else "这要看每个人的期待。"
        rows.append(
            {
                "id": row["id"],
                "gold": gold,
                "answer": text if texts else None,
                "probabilities": dict(zip(labels, shares.tolist(), strict=True)),
                "cut": row["cut"],
                "prompt_tokens": 20,
            }
        )
    write_jsonl(run / file, rows)


def ask_a_part(run: Path, dataset: Path, count: int) -> list[str]:
    """Leave of a run's answers those that it would have, had the untuned model been asked `count` test rows and texts
    been generated for these alone. Returns their ids."""
    ids = [row["id"] for row in read_jsonl(dataset / "test.jsonl")]
    part = ids[::2][:count]
    for name in ("test", "few_shot"):
        path = run / "before" / f"{name}.jsonl"
        write_jsonl(path, [row for row in read_jsonl(path) if row["id"] in part])
    rows = read_jsonl(run / "after" / "test.jsonl")
    write_jsonl(run / "after" / "test.jsonl", [row if row["id"] in part else {**row, "answer": None} for row in rows])
    write_json(run / "before" / "summary.json", {"prompts": {"test": count, "few_shot": count}})
    write_json(run / "after" / "summary.json", {"prompts": {"test": count, "test_score": len(ids) - count}})
    return part


def make_run(folder: Path, labels: Sequence[str] = BINARY, improved: bool = True, **sizes: Any) -> Path:
    """A run with everything but training: both sides generated and scored on test, scored on val, and few-shot."""
    dataset = make_dataset(folder / "data" / "made_up", labels, **sizes)
    run = make_plan(folder / "runs" / "small", dataset, labels)
    answer(run, dataset, "before/test.jsonl", labels, right=0.65, said=0.6, seed=1)
    answer(run, dataset, "before/val.jsonl", labels, right=0.65, texts=False, seed=2)
    answer(run, dataset, "before/few_shot.jsonl", labels, right=0.7, texts=False, seed=3)
    if improved:
        answer(run, dataset, "after/test.jsonl", labels, right=0.95, seed=4)
        answer(run, dataset, "after/val.jsonl", labels, right=0.95, texts=False, seed=5)
    else:
        for name in ("test", "val"):
            write_jsonl(run / "after" / f"{name}.jsonl", read_jsonl(run / "before" / f"{name}.jsonl"))
    return run
