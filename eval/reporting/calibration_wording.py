"""What the report says of probabilities that were calibrated on the validation rows, and of the stack learned there."""

from collections.abc import Collection, Mapping
from typing import Any

from eval.reporting.wording import reading_name
from eval.scoring.baseline_records import LINEAR
from eval.scoring.cross_fit import FEWEST
from eval.scoring.decision import METRIC_NAMES
from eval.scoring.predictions import STACK
from workspace.bilingual import Text, decimal, number


def calibration_notes(readings: Mapping[str, Mapping[str, Any]]) -> list[Text]:
    """Of each calibrated reading: its temperature and biases, and what the test rows say without and with them."""
    return [_note(name, one) for name, one in readings.items() if one["calibration"]]


def _note(name: str, reading: Mapping[str, Any]) -> Text:
    who, own, after = reading_name(name), reading["calibration"], reading["probabilities"]
    ece, loss = (f"{decimal(own['before'][key])} → {decimal(after[key])}" for key in ("ece", "log_loss"))
    temperature = decimal(own["temperature"], 2)
    biases = ", ".join(f"{label} {bias:+.2f}" for label, bias in (own["biases"] or {}).items())
    also = Text(
        f"，并给各标签加上偏置（{biases}），因此有些答案变了" if biases else "，答案不变",
        f" and biases ({biases}), which change some labels" if biases else ", which changes no label",
    )
    return Text(
        f"{who.zh}：用验证集上拟合的温度 {temperature} 校准{also.zh}。测试集上校准误差 ECE {ece}，对数损失 {loss}。",
        f"{who.en}: calibrated by a temperature of {temperature}{also.en}, fitted on the validation rows. On test ECE "
        f"{ece}, log loss {loss}.",
    )


def no_stack_note(readings: Collection[str], val: Mapping[str, int]) -> Text | None:
    """Why there is no stack of two models that could make one: for want of validation rows. `val`: those, by label."""
    few = {label: rows for label, rows in val.items() if label != "total" and rows < FEWEST}
    if not few or STACK in readings or not {LINEAR, "after_score"} <= set(readings):
        return None
    told = ", ".join(f"{label} {rows}" for label, rows in few.items())
    return Text(
        f"没有把微调模型与线性模型叠加：每个标签要有 {FEWEST} 条验证评论（{told}）。",
        f"No stack of the tuned and the linear model: each label needs {FEWEST} validation rows ({told}).",
    )


def stack_note(stack: Mapping[str, Any] | None, metric: str) -> Text | None:
    """What the validation rows say of the stack, which decides whether it may be advised; None without one."""
    if stack is None:
        return None
    name = METRIC_NAMES[metric]  # type: ignore[index]
    figures = [(reading_name(key), decimal(value)) for key, value in stack["validation"].items() if key != STACK]
    others_zh = "，".join(f"{who.zh} {value}" for who, value in figures)
    others_en = ", ".join(f"{who.en} {value}" for who, value in figures)
    who, own, n = reading_name(STACK), decimal(stack["validation"][STACK]), number(stack["rows"])
    told = Text("因此不推荐它", "so it is not advised")
    if stack["helps"]:
        told = Text("因此它可以被推荐", "so it may be advised")
    return Text(
        f"{who.zh}：在 {n} 条验证评论上（每条由没见过它的权重回答）{name.zh} {own}；{others_zh}：{told.zh}。",
        f"{who.en}: {name.en} {own} on {n} validation rows, each answered by weights that had not seen it; "
        f"{others_en}: {told.en}.",
    )
