"""Finished runs side by side, on the same test rows and with the same paired statistics as within one run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from eval.reporting.comparison_cells import COMPARISON, comparison_cells
from eval.reporting.wording import (
    NONE,
    decimal,
    duration,
    interval,
    number,
    percent,
    reading_name,
)
from eval.scoring.predictions import LADDER
from workspace.errors import UserError
from workspace.files import read_json, read_jsonl
from workspace.markdown import table
from workspace.paths import shown


@dataclass(frozen=True)
class Scored:
    """A run that has been scored: its name, its metrics.json and its rows.jsonl."""

    name: str
    metrics: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]

    def predicted(self, reading: str) -> list[str | None]:
        """The label that `reading` gave each row; None for unparsed."""
        return [row["readings"][reading]["label"] for row in self.rows]


def compare_runs(folders: Sequence[Path]) -> str:
    """The comparison as Markdown: who the runs are, every reading of each, and each pair of runs on the same rows.

    Raises `UserError` for a run that was not scored yet, and for runs with other labels or test rows than the first.
    """
    runs = [load_scored(folder) for folder in folders]
    for run in runs[1:]:
        check_comparable(runs[0], run)
    lines = [f"# 运行对比 Runs side by side (test n = {number(len(runs[0].rows))})", ""]
    header = ["", "运行 run", "配方 recipe", "模型 model", "回答 answers by"]
    header += ["训练集 train n", "训练用时 training", "查看次数 looks"]
    lines += [*table(header, [_who(k, run) for k, run in enumerate(runs)], words=5), ""]
    lines += ["## 判读 Readings: 准确率 accuracy (95%), 宏平均 F1 macro F1", ""]
    names = [name for name in LADDER if any(name in run.metrics["readings"] for run in runs)]
    header = ["判读 reading", *(letter(k) for k in range(len(runs)))]
    lines += [*table(header, ([_name(name), *(_figures(run, name) for run in runs)] for name in names)), ""]
    lines += ["## 配对统计 Paired statistics", ""]
    paired = list(_paired(runs))
    if not paired:
        return "\n".join(
            [*lines, "没有两次运行都有的模型判读。 No reading of a model is in both runs of any pair.", ""]
        )
    lines += [*table(["比较 comparison", "判读 reading", *COMPARISON], paired, words=2), ""]
    lines += ["差为后者减前者，百分点；没有为多次比较作校正。", ""]
    lines += ["Differences are the second minus the first, in points; not corrected for several comparisons.", ""]
    return "\n".join(lines)


def load_scored(folder: Path) -> Scored:
    """The run in `folder`. Raises `UserError` when it was not scored yet."""
    for name in ("metrics.json", "rows.jsonl"):
        if not (folder / name).is_file():
            raise UserError(f"{shown(folder)} has no {name}: run python -m eval.report {shown(folder)} first")
    return Scored(shown(folder), read_json(folder / "metrics.json"), read_jsonl(folder / "rows.jsonl"))


def check_comparable(first: Scored, other: Scored) -> None:
    """Raise `UserError` unless both runs answered the same test rows with the same labels."""
    one, two = (run.metrics["test"]["rows_sha256"] for run in (first, other))
    if one != two or [row["id"] for row in first.rows] != [row["id"] for row in other.rows]:
        raise UserError(
            f"{first.name} and {other.name} were tested on different rows ({one[:12]}… and {two[:12]}…): compare runs "
            "of one dataset with the same split and --limit"
        )
    if first.metrics["labels"] != other.metrics["labels"]:
        raise UserError(f"{first.name} and {other.name} have different labels: compare runs of one task")


def letter(place: int) -> str:
    """A, B, … Z, then AA, AB, …: the short name of the run at `place`."""
    return (letter(place // 26 - 1) if place >= 26 else "") + chr(ord("A") + place % 26)


def _who(place: int, run: Scored) -> list[str]:
    facts, counts, test = run.metrics["run"], run.metrics["counts"], run.metrics["test"]
    return [
        letter(place),
        run.name,
        facts.get("recipe") or NONE,
        facts.get("model") or NONE,
        "分类头 head" if run.metrics.get("head") else "词 words",
        number(counts.get("train", {}).get("total")),
        duration((facts.get("seconds") or {}).get("train")),
        number(test["looks"]),
    ]


def _figures(run: Scored, name: str) -> str:
    reading = run.metrics["readings"].get(name)
    if reading is None:
        return NONE
    return f"{percent(reading['accuracy'])} ({interval(reading['accuracy_ci'])}), {decimal(reading['macro_f1'])}"


def _paired(runs: Sequence[Scored]) -> Iterator[list[str]]:
    """One line for each pair of runs and each reading of the tuned model that both have (else of the untuned one)."""
    from eval.scoring.significance import compare

    for (i, first), (k, second) in combinations(enumerate(runs), 2):
        common = [name for name in LADDER if all(name in run.metrics["readings"] for run in (first, second))]
        names = [n for n in common if n.startswith("after_")] or [n for n in common if n.startswith("before_")]
        for name in names:
            gold = [row["gold"] for row in first.rows]
            found = compare(first.predicted(name), second.predicted(name), gold, first.metrics["labels"])
            yield [f"{letter(i)} → {letter(k)}", _name(name), *comparison_cells(asdict(found))]


def _name(reading: str) -> str:
    return " ".join(reading_name(reading))
