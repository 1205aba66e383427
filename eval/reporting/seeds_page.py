"""seeds.md: what several seeds of a recipe show, in Chinese and English."""

from collections.abc import Mapping
from math import sqrt
from typing import Any

from scipy.stats import t

from eval.reporting.wording import reading_name
from eval.scoring.predictions import STACK
from workspace.bilingual import NONE, Text, interval, number, percent, signed, signed_interval
from workspace.markdown import escape, table

METRICS = {
    "macro_f1": Text("宏平均 F1", "macro F1"),
    "accuracy": Text("准确率", "accuracy"),
    "balanced_accuracy": Text("平衡准确率", "balanced accuracy"),
    "mcc": Text("MCC", "MCC"),
}
OUTCOMES = {
    "better": Text("更好", "better"),
    "worse": Text("更差", "worse"),
    "equivalent": Text("相当", "equivalent"),
    "undecided": Text("未决", "not decided"),
}
THIS = {False: Text("这个配方", "this recipe"), True: Text("这个配方加线性模型", "this recipe with the linear model")}
AGAINST = {
    "better": Text("{this}好于{other}", "{this} is better than {other}"),
    "worse": Text("{this}不如{other}", "{this} is worse than {other}"),
    "equivalent": Text("{this}与{other}相当", "{this} and {other} are equivalent"),
    "undecided": Text("{this}与{other}孰优孰劣还不能断定", "whether {this} is better than {other} is not decided"),
}
FEW = 3  # seeds


def seeds_page(found: Mapping[str, Any]) -> str:
    """The page for what seeds.json holds."""
    metric, seeds = METRICS[found["metric"]], len(found["seeds"])
    lines = [
        f"# 多个随机种子 / Over seeds: {escape(found['recipe'])}, {seeds} seeds, n = {number(found['n'])}",
        "",
    ]
    notice = [Text(**found["notice"])] if found["notice"] else []
    sentences = [comparison_sentence(one, found) for one in found["comparisons"]]
    for text in (*notice, *sentences, *soup_sentences(found), *notes(found)):
        lines += [text.zh, "", text.en, ""]
    header = ["判读 reading", *(f"seed {seed}" for seed in found["seeds"]), "平均 mean", "SD", "95%", "仅行 rows alone"]
    rows = []
    for name, one in found["readings"].items():
        values = [percent(value) for value in one["values"]] if one["seeds"] > 1 else [NONE] * seeds
        spread = NONE if one["seed_sd"] is None else f"{100 * one['seed_sd']:.1f}"
        own = [percent(one["value"]), spread, interval(one["ci"]), interval(one["rows_ci"])]
        rows.append([" ".join(reading_name(name)), *values, *own])
    lines += [
        f"## {metric.zh} / {metric.en}",
        "",
        *table(header, rows),
        "",
        "“95%” 同时包含种子与测试行的偶然；“仅行” 是把这几个模型当作唯一可能的模型。没有种子的判读不受种子影响。",
        "",
        "95% holds the chance of seeds and of test rows together; “rows alone” takes these models for the only ones. "
        "What has no seeds is what no seed changes.",
    ]
    return "\n".join(lines) + "\n"


def comparison_sentence(comparison: Mapping[str, Any], found: Mapping[str, Any]) -> Text:
    """The recipe against another reading: what the interval allows, then its figures."""
    metric, other, seeds = METRICS[found["metric"]], reading_name(comparison["a"]), comparison["seeds"]
    this, (zh, en) = THIS[comparison["b"] == STACK], AGAINST[comparison["code"]]
    zh, en = zh.format(this=this.zh, other=f"“{other.zh}”"), en.format(this=this.en, other=f"“{other.en}”")
    was, value = comparison["of_a"], comparison["of_b"]
    rows, part = number(comparison["n"]), Text("", "")
    if comparison["n"] < found["n"]:
        part = Text(f"（{rows} 条测试行）", f" ({rows} of the rows)")
    corrected = Text("", "")
    if (p := comparison.get("holm_p")) is not None:
        corrected = Text(f"；与它相比的有两项，Holm 校正后 p = {p:.3f}", f"; p = {p:.3f}, corrected for two (Holm)")
    facts = signed(comparison["value"]), signed_interval(comparison["ci"]), signed_interval(comparison["rows_ci"])
    return Text(
        f"{zh}：{seeds} 个种子的平均{metric.zh} {percent(value)} 对 "
        f"{percent(was)}{part.zh}，差 {facts[0]} 个百分点（种子与行一起 95% {facts[1]}；仅行 {facts[2]}"
        f"{corrected.zh}）。",
        f"{en[0].upper()}{en[1:]}: mean {metric.en} of {seeds} seeds {percent(value)} against "
        f"{percent(was)}{part.en}, {facts[0]} points (95 %, seeds and rows: {facts[1]}; rows alone: {facts[2]}"
        f"{corrected.en}).",
    )


def soup_sentences(found: Mapping[str, Any]) -> list[Text]:
    """The average of the seeds' adapters against the best of them; nothing where it was not asked for."""
    if (soup := found.get("soup")) is None:
        return []
    metric, best, made = METRICS[found["metric"]], soup["seed"], []
    for one in soup["comparisons"]:
        name, code = reading_name(one["reading"]), OUTCOMES[one["code"]]
        values = percent(one["of_soup"]), percent(one["of_best"])
        facts = signed(one["value"]), signed_interval(one["rows_ci"])
        made.append(
            Text(
                f"平均适配器（model soup）对验证集上最好的种子 {best}，按“{name.zh}”：{metric.zh} {values[0]} 对 "
                f"{values[1]}，差 {facts[0]} 个百分点（仅行 95% {facts[1]}）：{code.zh}。",
                f"The soup, the average of the seeds' adapters, against seed {best}, the best on the validation rows, "
                f"by “{name.en}”: {metric.en} {values[0]} against {values[1]}, {facts[0]} points (95 %, rows alone: "
                f"{facts[1]}): {code.en}.",
            )
        )
    own, value = percent(soup["own"]), percent(max(soup["validation"]))
    made.append(
        Text(
            f"在验证集上是 {own} 对 {value}。各种子从同一个初始适配器出发，只有行的顺序不同：种子间的差异只是顺序的。",
            f"On the validation rows it is {own} against {value}. All seeds began with the same adapter and differ in "
            "the order of the rows alone, so their spread is that of the order.",
        )
    )
    return made


def notes(found: Mapping[str, Any]) -> list[Text]:
    """What so many seeds can hold, and whether the recipe is above guessing at all."""
    made = []
    if found["balanced_accuracy"]["ci"][0] <= found["guessing"]:
        low, expected = percent(found["balanced_accuracy"]["ci"][0]), percent(found["guessing"])
        made.append(
            Text(
                f"平衡准确率的区间从 {low} 起，没有高于瞎猜的 {expected}：不能证实学到了什么。",
                f"The interval of balanced accuracy begins at {low}, which is not above guessing ({expected}): that "
                "anything was learned is not shown.",
            )
        )
    tuned = found["readings"][found["tuned"]]
    seeds, spread = tuned["seeds"], tuned["seed_sd"]
    more = max(5, seeds + 2)
    half, wider = (100 * spread * t.ppf(0.975, k - 1) / sqrt(k) for k in (seeds, more))
    made.append(
        Text(
            f"种子之间的标准差为 {100 * spread:.1f} 个百分点；{seeds} 个种子只能把平均值定到 ±{half:.1f}，"
            f"{more} 个种子（若差异相同）为 ±{wider:.1f}，测试行的偶然另计。",
            f"Seeds differ by {100 * spread:.1f} points (standard deviation); {seeds} of them fix the mean to "
            f"±{half:.1f} points, {more} (of the same spread) to ±{wider:.1f}, chance of the test rows apart.",
        )
    )
    if seeds < FEW:
        made.append(
            Text(
                "两个种子几乎说明不了差异有多大：至少用三个。",
                "Two seeds say next to nothing about their spread: take three or more.",
            )
        )
    return made
