"""report.md: the short report, Chinese first, English below, with the PNGs beside it.

What was written by others (labels, names, reviews, answers) is escaped: see `workspace.markdown`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from eval.reporting.chart_data import answer_reading
from eval.reporting.comparison_cells import COMPARISON, comparison_cells
from eval.reporting.html_report import run_facts, slice_tables
from eval.reporting.wording import (
    HEAD_NOTE,
    LEFT_OUT,
    NONE,
    SLICES,
    UNPARSED,
    Text,
    decimal,
    decision,
    disputed_note,
    duration,
    gain_sentence,
    interval,
    milliseconds,
    number,
    parameters,
    percent,
    reading_name,
    selective_sentence,
    slice_value,
)
from eval.robustness.table import COLUMNS, NOTE, WAYS, injection_rows, injection_sentence, injection_ways
from eval.scoring.predictions import headline_pair
from workspace.markdown import both, escape, heading, table

EXAMPLES = 5  # rows shown of each kind
SHOWN = 120  # characters shown of a review


def render_markdown(metrics: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], pictures: Sequence[str]) -> str:
    """The report for one run; `pictures` are the file names of the PNGs that were drawn."""
    pair, n = headline_pair(metrics["readings"]), number(metrics["test"]["n"])
    run = metrics["run"]
    # With --model the recipe's name alone would tell of another model than the one that was tuned.
    names = [run["recipe"] or run["task"], *([run["model"].rstrip("/").split("/")[-1]] if run.get("model") else [])]
    lines = [f"# {escape(' · '.join(names))}", ""]
    if metrics["notice"]:
        lines += [f"> {escape(metrics['notice'][language])}  " for language in ("zh", "en")] + [""]
    lines += both(decision(metrics, pair), strong=True)
    lines += both(HEAD_NOTE) if metrics["head"] else []
    lines += _said(metrics["verdict"])
    if metrics["verdict"]["baseline"]:
        lines += _said(metrics["verdict"]["baseline"])
    lines += _picture("before_after.png", "调优前后与基线 / before, after and baselines", pictures)
    lines += heading("对照阶梯", "The ladder", f"n = {n}") + _ladder(metrics)
    if metrics["gain"]:
        lines += heading("提升从何而来", "Where the gain comes from", f"n = {n}") + _gain(metrics["gain"])
    lines += heading("配对统计", "Paired statistics", f"n = {n}") + _comparisons(metrics)
    lines += heading("各类别", "Classes", f"n = {n}") + _classes(metrics)
    for name in ("confusion_before.png", "confusion_after.png"):
        lines += _picture(name, f"混淆矩阵 / {name[:-4].replace('_', ' ')}", pictures)
    if any(reading["probabilities"] for reading in metrics["readings"].values()):
        lines += heading("概率", "Probabilities", f"n = {n}") + _probabilities(metrics)
    promise = selective_sentence(metrics["selective"])
    if promise:
        lines += both(promise)
    for name in ("reliability.png", "risk_coverage.png"):
        lines += _picture(name, name[:-4].replace("_", " "), pictures)
    if metrics["curves"]:
        lines += heading("训练过程", "Training")
        for name in ("curves_loss.png", "curves_accuracy.png"):
            lines += _picture(name, name[:-4].replace("_", " "), pictures)
    lines += heading("错在哪里", "Where it fails", f"n = {n}") + _slices(metrics, pair)
    lines += _examples(metrics, rows, pair)
    if metrics["injection"]:
        lines += heading("评论里的命令", "Reviews that give orders") + _injection(metrics["injection"])
    lines += heading("检查与出处", "Checks and provenance") + _checks(metrics)
    return "\n".join(lines).rstrip() + "\n"


def _ladder(metrics: Mapping[str, Any]) -> list[str]:
    header = ["判读 reading", "n", "准确率 accuracy (95%)", "宏平均 F1 macro F1", "MCC", "未解析 unparsed"]
    header += ["只答标签词 bare label", "参数 parameters", "训练用时 training", "毫秒/条 ms/review"]
    return [
        *table(
            header,
            (
                [
                    _name(name),
                    number(r["n"]),
                    f"{percent(r['accuracy'])} ({interval(r['accuracy_ci'])})",
                    decimal(r["macro_f1"]),
                    decimal(r["mcc"]),
                    percent(r["unparsed_rate"]),
                    percent(r["strict_rate"]),
                    parameters(r["parameters"]),
                    duration(r["train_seconds"]),
                    milliseconds(r["ms_per_review"]),
                ]
                for name, r in metrics["readings"].items()
            ),
        ),
        "",
    ]


def _gain(gain: Mapping[str, Mapping[str, float]]) -> list[str]:
    return [line for metric in gain for line in both(gain_sentence(gain, metric))]


def _comparisons(metrics: Mapping[str, Any]) -> list[str]:
    rows = ([f"{_name(c['a'])} → {_name(c['b'])}", *comparison_cells(c)] for c in metrics["comparisons"])
    return [*table(["比较 comparison", *COMPARISON], rows), ""]


def _classes(metrics: Mapping[str, Any]) -> list[str]:
    header = [
        "判读 reading",
        "类别 class",
        "精确率 precision",
        "召回率 recall",
        "F1",
        "真实条数 support",
        "预测条数 predicted",
    ]
    rows = [
        [
            _name(name),
            label,
            percent(c["precision"]),
            percent(c["recall"]),
            decimal(c["f1"]),
            number(c["support"]),
            number(c["predicted"]),
        ]
        for name in (answer_reading(metrics, stage) for stage in ("before", "after"))
        if name
        for label, c in metrics["readings"][name]["per_class"].items()
    ]
    return [*table(header, rows), ""]


def _probabilities(metrics: Mapping[str, Any]) -> list[str]:
    header = ["判读 reading", "n", "ROC AUC", "对数损失 log loss", "Brier", "校准误差 ECE"]
    keys = ("roc_auc", "log_loss", "brier", "ece")
    readings = ((name, r["n"], r["probabilities"]) for name, r in metrics["readings"].items() if r["probabilities"])
    return [*table(header, ([_name(name), number(n), *(decimal(p[k]) for k in keys)] for name, n, p in readings)), ""]


def _slices(metrics: Mapping[str, Any], pair: tuple[str, str] | None) -> list[str]:
    tables = slice_tables(metrics, pair)
    if pair is None or not tables:
        return both(Text("没有成对的判读可以细分。", "There is no pair of readings to look into."))
    rows = []
    for by, values in tables.items():
        for value, found in values.items():
            cells = [
                f"{percent(found[k]['accuracy'])} ({interval(found[k]['accuracy_ci'])})"
                + (f", F1 {decimal(found[k]['macro_f1'])}" if by in LEFT_OUT else "")
                if k in found
                else NONE
                for k in pair
            ]
            by_name, value_name = SLICES.get(by, Text(by, by)), slice_value(value, by)
            shown = value_name.zh if value_name.zh == value_name.en else f"{value_name.zh} {value_name.en}"
            rows.append([f"{by_name.zh} {by_name.en}", shown, number(next(iter(found.values()))["n"]), *cells])
    note = disputed_note(metrics)
    listed = table(["分组 slice", "值 value", "n", *(_name(name) for name in pair)], rows, words=2)
    return [*listed, "", *(both(note) if note else [])]


def _examples(metrics: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], pair: tuple[str, str] | None) -> list[str]:
    if pair is None:
        return []
    kinds = [
        ("最自信的错误 most confident errors", confident_errors(rows)),
        ("修正 fixed", [row for row in rows if row["status"] == "fixed"]),
        ("弄坏 broken", [row for row in rows if row["status"] == "broken"]),
    ]
    cells = [
        [
            kind,
            f"#{row['id']}",
            _short(row["review"]),
            row["gold"],
            *(row["readings"][name]["label"] or " ".join(UNPARSED) for name in pair),
            decimal((row["readings"].get("after_score") or {}).get("p")),
        ]
        for kind, several in kinds
        for row in several[:EXAMPLES]
    ]
    if not cells:
        return []
    header = ["类型 kind", "编号 id", "评论 review", "真实 gold", *(_name(name) for name in pair), "p"]
    counts = "；".join(f"{kind} {number(len(several))}" for kind, several in kinds)
    n = number(metrics["test"]["n"])
    return [
        f"{counts}（n = {n}）。全部在 report.html / all rows are in report.html.",
        "",
        *table(header, cells, words=len(header) - 1),
        "",
    ]


def _injection(injection: Mapping[str, Any]) -> list[str]:
    header = [f"{COLUMNS.zh} {COLUMNS.en}", *(" ".join(WAYS[name]) for name in injection_ways(injection))]
    rows = [[f"{label.zh} {label.en}", *cells] for label, cells in injection_rows(injection)]
    return [*both(injection_sentence(injection)), *table(header, rows), "", *both(NOTE)]


def confident_errors(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows that the tuned model's score has wrong, the surest first."""
    wrong = [
        row
        for row in rows
        if (told := row["readings"].get("after_score")) and not told["correct"] and told["p"] is not None
    ]
    return sorted(wrong, key=lambda row: -row["readings"]["after_score"]["p"])


def _checks(metrics: Mapping[str, Any]) -> list[str]:
    lines = []
    if metrics["parity"]:
        passed = {True: "通过 passed", False: "未通过 failed"}
        cells = (
            [p["name"], passed[p["ok"]], number(p["n"]), p["detail"]["zh"], p["detail"]["en"]]
            for p in metrics["parity"]
        )
        lines += [*table(["检查 check", "结果 result", "n", "说明", "detail"], cells, words=5), ""]
    test, counts = metrics["test"], metrics["counts"]
    looks, of_task = number(test["looks"]), number(test["looks_this_task"])
    lines += both(
        Text(
            f"这批测试评论至今被看过 {looks} 次（本任务共 {of_task} 次）。",
            f"Looks at these test reviews so far: {looks} ({of_task} for the task).",
        )
    )
    splits = ", ".join(
        f"{split} {number(part['total'])}" for split, part in counts.items() if isinstance(part, Mapping)
    )
    facts = [("rows", splits), *run_facts(metrics)]
    return [*lines, *table(["", ""], facts, words=2), ""]


def _name(reading: str) -> str:
    return " ".join(reading_name(reading))


def _short(review: str) -> str:
    return review if len(review) <= SHOWN else f"{review[:SHOWN]}…"


def _said(sentence: Mapping[str, Any]) -> list[str]:
    """A sentence of metrics.json in both languages."""
    return both(Text(sentence["zh"], sentence["en"]))


def _picture(name: str, title: str, pictures: Sequence[str]) -> list[str]:
    return [f"![{title}]({name})", ""] if name in pictures else []
