"""What must be known of the untuned model's readings, of those that tell no rows apart, and of the encoder's, when they
are compared."""

import statistics
from collections.abc import Mapping
from typing import Any

from eval.reporting.wording import reading_name
from workspace.bilingual import Text, decimal, number, percent

METRICS = {
    "accuracy": Text("准确率", "accuracy"),
    "macro_f1": Text("宏平均 F1", "macro F1"),
    "balanced_accuracy": Text("平衡准确率", "balanced accuracy"),
    "mcc": Text("MCC ", "MCC"),
}
LITTLE_MASS = 0.5  # of the probability: below it most of what the model would say is something else than a label


def part_note(test: Mapping[str, Any]) -> Text | None:
    """Of how many test rows the untuned model and the generated texts are, where those are not all."""
    asked, n = test.get("asked", test["n"]), test["n"]
    if asked == n:
        return None
    return Text(
        f"调优前的模型，以及生成的文字，只问了 {number(n)} 条测试评论中固定的 {number(asked)} 条：全部都问会超过整个"
        "运行用时的四分之一。与它们的比较只在这些评论上；其余判读是全部测试评论的。",
        f"The untuned model was asked, and texts were generated, for a fixed {number(asked)} of the {number(n)} test "
        "rows: all of them would take more than a quarter of the run's time. They are compared on these rows; the "
        "other readings are of all.",
    )


def only_answer_notes(readings: Mapping[str, Mapping[str, Any]]) -> list[Text]:
    """Of each reading that names one label for every row: that it tells rows apart in no way."""
    notes = []
    for name, reading in readings.items():
        found = reading.get("only_answer")
        if found is None or name == "majority":
            continue
        text, n, label = reading_name(name), number(found["n"]), found["label"]
        notes.append(
            Text(
                f"{text.zh}：{n} 条已解析的回答全是“{label}”，它没有区分任何评论。",
                f"{text.en}: all {n} parsed answers are “{label}”, so it tells no review from another.",
            )
        )
    return notes


def label_mass_note(readings: Mapping[str, Mapping[str, Any]]) -> Text | None:
    """How much of the untuned model's probability the label words hold; None where that is not known."""
    mass = readings.get("before_score", {}).get("label_mass")
    if mass is None:
        return None
    share = percent(mass)
    return Text(
        f"调优前，标签词合计只占模型下一步输出概率的 {share}（中位数）：打分只比较这些词之间的比例。"
        if mass < LITTLE_MASS
        else f"调优前，标签词合计占模型输出概率的 {share}（中位数）。",
        f"Before tuning the label words hold {share} of the model's probability in all (median)"
        + (": score only compares their shares of that." if mass < LITTLE_MASS else "."),
    )


def encoder_note(encoder: Mapping[str, Any] | None) -> Text | None:
    """Which encoder was tuned, how its checkpoint was chosen, and what was cut for it; None where there is none."""
    if not encoder:
        return None
    name, cut, rows = encoder["model"], number(encoder["cut"]), number(encoder["rows"])
    tokens = number(encoder["max_length"])
    chosen = Text("没有验证评论，取最后一个检查点", "its last checkpoint, as there are no validation rows")
    if metric := encoder["metric"]:
        reached = decimal(encoder["value"])
        chosen = Text(
            f"检查点按验证集的{METRICS[metric].zh.strip()}选定（{reached}）",
            f"its checkpoint chosen by {METRICS[metric].en} on the validation rows ({reached})",
        )
    return Text(
        f"编码器：{name}，全部权重都调优，{chosen.zh}。它读的评论与语言模型读的相同，至多 {tokens} 个词元："
        f"全部 {rows} 条中另有 {cut} 条为此截断。",
        f"Encoder: {name}, all of its weights tuned, {chosen.en}. It reads the reviews as the language model is shown "
        f"them, {tokens} tokens at most: {cut} of all {rows} were cut further for that.",
    )


def variant_notes(untuned: Mapping[str, Any] | None, metric: str = "macro_f1") -> list[Text]:
    """How far the untuned model's figure hangs on the wording of the prompt, and on the examples that it is shown."""
    if not untuned:
        return []
    name = METRICS[metric]
    kinds = {
        "prompts": (Text("种提示词", "prompts"), Text("本任务的提示词", "the task's own")),
        "few_shot": (Text("次少样本抽取", "draws of few-shot examples"), Text("第一次", "the first")),
    }
    notes = []
    for kind, (what, own) in kinds.items():
        drawn = untuned[kind]
        values, calibrated = ([one[metric] for one in each] for each in (drawn, [one["calibrated"] for one in drawn]))
        blind = sum(one["only_answer"] is not None for one in drawn)
        count, n, of = len(drawn), number(untuned["n"]), number(untuned["of"])
        low, high, median, first = (
            percent(v) for v in (min(values), max(values), statistics.median(values), values[0])
        )
        fair_low, fair_high = percent(min(calibrated)), percent(max(calibrated))
        zh = f"调优前按概率打分，{count} {what.zh}（{of} 条测试评论中固定的 {n} 条）：{name.zh} {low} 到 {high}，"
        zh += f"中位数 {median}，{own.zh} {first}；去偏之后 {fair_low} 到 {fair_high}。"
        en = f"Before tuning, by score, {count} {what.en} (a fixed {n} of the {of} test reviews): {name.en} from "
        en += f"{low} to {high}, median {median}, {own.en} {first}; calibrated, from {fair_low} to {fair_high}."
        if blind:
            zh += f"其中 {blind} 种对所有评论只答一个标签。"
            en += f" With {blind} of them every review got the same label."
        notes.append(Text(zh, en))
    return notes
