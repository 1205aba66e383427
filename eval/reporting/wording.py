"""The report's words in Chinese and English: the same in pictures, Markdown and HTML."""

from collections.abc import Mapping
from typing import Any

from eval.scoring.reading_names import READINGS as READINGS
from eval.scoring.segments import OTHER
from eval.scoring.slices import COLUMN
from workspace.bilingual import Text, number

CODES = {
    "better": Text("更好", "better"),
    "worse": Text("更差", "worse"),
    "equivalent": Text("相当", "equivalent"),
    "undecided": Text("未定", "not decided"),
}
SLICES = {
    "length": Text("评论长度（字）", "review length (characters)"),
    "label": Text("真实标签", "gold label"),
    "cut": Text("是否被截断", "cut to fit or not"),
    "known": Text("是否为公开文本", "in known public texts or not"),
    "disputed": Text("标签是否有争议", "label disputed or not"),
}
SLICE_VALUES = {
    ("cut", "cut"): Text("截断", "cut"),
    ("cut", "whole"): Text("完整", "whole"),
    ("known", "known"): Text("公开过", "known"),
    ("known", "unknown"): Text("未见公开", "not known"),
    ("disputed", "disputed"): Text("有争议", "disputed"),
    ("disputed", "undisputed"): Text("无争议", "undisputed"),
}
LEFT_OUT = ("known", "disputed")  # slices that are asked for to see the metrics without some rows: macro F1 too
UNPARSED = Text("未解析", "unparsed")
HEAD_NOTE = Text(
    "调优的是分类头。分类头从随机值开始，没有自己的“调优前”，所以“调优前”是未调优的模型用词作的回答：那里的“打分”是标签词的概率，"
    "调优后的“打分”是分类头的概率。分类头不写文字，所以没有“调优后 · 生成”，提升也不能分解。",
    "What was tuned is a classification head. It starts random and has no before of its own, so “before” is the "
    "untuned model answering in words: there “score” is the probability of the label words, after tuning it is the "
    "head's. A head writes no text, so there is no “after · generate”, and the gain cannot be split into parts.",
)
NOTHING_TO_DECIDE = Text(
    "还不能决定：只有调优前的回答，没有调优后的回答，也没有基线。",
    "Nothing can be decided yet: there are answers from before tuning alone.",
)
NOT_YET = Text("调优后的模型还没有回答。目前：", "The tuned model has not answered yet. So far:")
# What ms-swift's two teacher-forced accuracies count. Both see the right answer so far, and count the end token.
_TEACHER_FORCED = {
    "eval_seq_acc": Text("教师强制整句准确率", "teacher-forced accuracy of whole answers"),
    "eval_token_acc": Text("教师强制词元准确率", "teacher-forced token accuracy"),
    None: Text("教师强制准确率", "teacher-forced accuracy"),
}


def reading_name(name: str) -> Text:
    """What a reading is called; its key where the report has no words for it."""
    return READINGS.get(name, Text(name, name))


def stage_of(name: str) -> str:
    """baseline, before or after: what decides a reading's colour."""
    stage = "after" if name == "stack" else name.split("_")[0]
    return stage if stage in {"before", "after"} else "baseline"


def slice_name(by: str) -> Text:
    """What rows are divided by."""
    column = by.removeprefix(COLUMN)
    return SLICES.get(by, Text(f"列 {column}", f"column {column}"))


def slice_value(value: str, by: str) -> Text:
    """What one slice of the kind `by` is called: `value` itself, but for the words that say yes or no."""
    if by.startswith(COLUMN) and value in ("", OTHER):
        return Text("其他值", "other values") if value else Text("（空）", "(empty)")
    return SLICE_VALUES.get((by, value), Text(value, value))


def disputed_note(metrics: Mapping[str, Any]) -> Text | None:
    """Who disputed the labels, and whom it favours to leave those rows out; None without an audit of the test rows."""
    disputed = metrics.get("disputed")
    if not disputed:
        return None
    zh, en = {"linear": ("线性模型", "linear model"), "tuned": ("调优后的模型", "tuned model")}[disputed["judge"]]
    return Text(
        f"有争议：{zh}认为标签很可能有误的 {disputed['n']:,} 条测试评论；标签没有改动。去掉它们对这个模型自己最有利。",
        f"Disputed: {disputed['n']:,} test reviews whose label the {en} holds to be wrong; no label was changed. "
        "Leaving them out favours that model most.",
    )


def leak_note(metrics: Mapping[str, Any]) -> Text | None:
    """Which rows stand in two splits, and what that does to the figures; None where there are none."""
    if not (leaks := metrics.get("leaks")):
        return None
    found = {key: leak["exact"] + leak["near"] for key, leak in leaks["counts"].items()}
    parts = []
    for key, count in found.items():
        named = ", ".join(f"#{row} (#{copy})" for row, copy in leaks["rows"].get(key, []))
        parts += [f"{key.replace('_in_', ' → ')} {count:,}{f': {named}' if named else ''}"] if count else []
    listed = "; ".join(parts)
    return Text(
        f"有评论同时出现在两份里，测试结果会偏高（行号，括号里是另一份里的同文行）：{listed}。",
        f"Reviews stand in two splits, so results on test are too high (rows, and their copies): {listed}.",
    )


def is_decided(metrics: Mapping[str, Any]) -> bool:
    """Whether there is more to weigh than the untuned model: the tuned one, as of a soup, or a baseline.

    `export` goes by the same decision.
    """
    return any(stage_of(name) != "before" for name in metrics["readings"])


def decision(metrics: Mapping[str, Any]) -> Text:
    """What to do, as eval/scoring/decision.py decided."""
    if not is_decided(metrics):
        return NOTHING_TO_DECIDE
    found = Text(metrics["decision"]["zh"], metrics["decision"]["en"])
    if any(stage_of(name) == "after" for name in metrics["readings"]):
        return found
    return Text(f"{NOT_YET.zh}{found.zh}", f"{NOT_YET.en} {found.en}")


def teacher_forced(curves: Mapping[str, Any]) -> Text:
    """What the curves' teacher-forced accuracy is called, with what it is not."""
    name = _TEACHER_FORCED.get(curves.get("teacher_forced_metric"), _TEACHER_FORCED[None])
    return Text(f"{name.zh}（含结束符，不是实际回答的准确率）", f"{name.en} (with the end token; not what it answers)")


def classes_note(labels: int, shown: int) -> Text:
    """That a table holds the worst of many classes, and where the others are."""
    return Text(
        f"共 {labels} 个类别，列出 F1 最低的 {shown} 个和最常见的混淆；全部在 metrics.json，逐条在 rows.jsonl。",
        f"{labels} classes: the {shown} with the lowest F1 and the most frequent confusions are shown; metrics.json "
        "has all, rows.jsonl every row.",
    )


def cut_off_notes(readings: Mapping[str, Mapping[str, Any]]) -> list[Text]:
    """Of each reading with unparsed answers: how many of those were cut off, where that is known."""
    notes = []
    for name, reading in readings.items():
        found, unparsed = reading.get("cut_off"), number(reading["unparsed"])
        if found is None or not reading["unparsed"]:
            continue
        text, n = reading_name(name), number(found["unparsed"])
        notes.append(
            Text(
                f"{text.zh}：{unparsed} 条未解析的回答中，{n} 条是写到 max_new_tokens 被截断的。",
                f"{text.en}: {n} of {unparsed} unparsed answers were cut off at max_new_tokens.",
            )
        )
    return notes
