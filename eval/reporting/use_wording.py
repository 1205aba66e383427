"""What the report says to whoever uses the model: what it may answer by itself, what that costs, and what its figures
become under other conditions."""

from collections.abc import Mapping
from typing import Any

from eval.reporting.wording import reading_name
from workspace.bilingual import Text, decimal, interval, number, percent, signed

OUTCOMES = {
    "met": Text("测试集证实达到了目标", "the test rows confirm that the target is met"),
    "not_met": Text("测试集表明没有达到目标", "the test rows show that the target is not met"),
    "undecided": Text("测试集既不能证实也不能否定", "the test rows neither confirm nor refute it"),
}
RARE = 3  # classes, of many, whose precision elsewhere is told: the rarest


def use_sentences(metrics: Mapping[str, Any]) -> list[Text]:
    """Every sentence of this module that the metrics have figures for."""
    found = [*selective_sentences(metrics["selective"]), *cost_sentences(metrics["costs"])]
    ceiling = ceiling_sentence(metrics)
    return [*found, ceiling] if ceiling else found


def selective_sentences(selective: Mapping[str, Any] | None) -> list[Text]:
    """Which rows each reading may answer by itself, the tuned model's first, and whether test confirms the promise."""
    if selective is None:
        return []
    return [_selective(name, selective) for name in _in_order(selective["readings"])]


def _selective(name: str, selective: Mapping[str, Any]) -> Text:
    chosen, test = (selective["readings"][name][key] for key in ("chosen", "test"))
    who, n, target = reading_name(name), number(selective["rows"]), percent(selective["target"], 0)
    risk, needed = percent(selective["level"], 0), number(selective["rows_needed"])
    which = (
        Text("没有参与选择检查点", "which did not choose the checkpoint")
        if selective["kept_apart"]
        else Text("也用于选择检查点", "which also chose the checkpoint")
    )
    if chosen is None:
        few = selective["rows"] < selective["rows_needed"]
        why = (
            Text(f"至少需要 {needed} 条", f"at least {needed} are needed")
            if few
            else Text("没有一个阈值能证实", "no threshold is shown to reach it")
        )
        return Text(
            f"{who.zh}：不能承诺独立回答的准确率达到 {target}（风险至多 {risk}）：验证集有 {n} 条，{why.zh}。"
            "全部交给人工复核。",
            f"{who.en}: {target} accuracy of answers given alone (at a risk of at most {risk}) cannot be promised from "
            f"{n} validation rows: {why.en}. Have all answers checked.",
        )
    threshold, answered = decimal(chosen["threshold"]), number(chosen["n_answered"])
    low, coverage = percent(chosen["accuracy_low"]), percent(test["coverage"])
    zh = (
        f"{who.zh}：置信度达到 {threshold} 时独立回答。阈值在 {n} 条验证评论上选定（{which.zh}）：其中 {answered} 条，"
        f"准确率 {percent(chosen['accuracy'])}，至少 {low}（目标 {target}，风险至多 {risk}）。"
    )
    en = (
        f"{who.en}: it answers alone from a confidence of {threshold} on. Chosen on {n} validation rows, {which.en}: "
        f"{answered} of them are answered with an accuracy of {percent(chosen['accuracy'])}, at least {low} (target "
        f"{target}, at a risk of at most {risk})."
    )
    if test["accuracy"] is None:
        return Text(
            f"{zh}测试集的 {number(test['n'])} 条没有一条达到阈值：全部交给人工。",
            f"{en} None of the {number(test['n'])} test rows reaches it: leave all to a person.",
        )
    told, done = OUTCOMES[test["outcome"]], f"{number(test['n_answered'])} / {number(test['n'])}"
    right = f"{percent(test['accuracy'])} (95%: {interval(test['accuracy_ci'])})"
    return Text(
        f"{zh}在测试集上回答 {coverage}（{done}），准确率 {right}：{told.zh}。",
        f"{en} On test it answers {coverage} ({done}), {right} of them rightly: {told.en}.",
    )


def cost_sentences(costs: Mapping[str, Any] | None) -> list[Text]:
    """What 1,000 rows cost with each reading at its cheapest threshold, and what it is compared with."""
    if costs is None:
        return []
    rows, found = number(costs["per_rows"]), []
    for name in _in_order(costs["readings"]):
        one, who = costs["readings"][name], reading_name(name)
        asked = one["n"] - one["n_answered"]
        cost = f"{one['test']:,.1f} (95%: {one['test_ci'][0]:,.1f}–{one['test_ci'][1]:,.1f})"
        cheapest = name == costs["cheapest_on_validation"]
        best = Text("（验证集上最便宜）", " (the cheapest on validation)") if cheapest else Text("", "")
        n, always = number(one["n"]), f"{one['most_probable']:,.1f}"
        found.append(
            Text(
                f"{who.zh}{best.zh}：每 {rows} 条花费 {cost}，测试集 n = {n}，其中 {number(asked)} 条问人；"
                f"总是取最可能的标签为 {always}。",
                f"{who.en}{best.en}: {rows} rows cost {cost}, on {n} test rows, of which a person is asked about "
                f"{number(asked)}; with the most probable label always, {always}.",
            )
        )
    if costs["ask_all"] is not None:
        all_asked = f"{costs['ask_all']:,.1f}"
        found.append(Text(f"全部问人：{all_asked}。", f"Asking a person about every row costs {all_asked}."))
    return found


def shifted_classes(prevalence: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The classes whose precision at other shares is told: the rarest, of two the rarer one; none without a precision,
    as of a class that is never answered."""
    rarest = sorted(prevalence["classes"], key=lambda one: one["share"])
    return [one for one in rarest[: RARE if len(rarest) > 2 else 1] if one["precision"] is not None]


def ceiling_sentence(metrics: Mapping[str, Any]) -> Text | None:
    """How high accuracy can be where the disputed labels are wrong; None without an audit of the test rows."""
    if not (ceiling := metrics.get("ceiling")):
        return None
    top, span = percent(ceiling["accuracy"]), interval(ceiling["accuracy_ci"])
    n, disputed = number(ceiling["n"]), number(ceiling["disputed"])
    reading = metrics["readings"][metrics["prevalence"]["reading"]]
    gap = ceiling["accuracy"] - reading["accuracy"]
    left = Text(f"离上限还有 {signed(gap)} 个百分点", f"there are {signed(gap)} points up to it from here")
    if gap <= 0:
        left = Text("这里的准确率已不低于它", "the accuracy here is not below it")
    return Text(
        f"标签噪声的上限：若 {n} 条测试标签中有争议的 {disputed} 条都标错了，全对的回答也只算 {top} 对"
        f"（95% 区间 {span}）；{left.zh}。争议由模型判定，只是粗略估计。",
        f"Ceiling from label noise: were the {disputed} disputed of {n} test labels all wrong, answers that are all "
        f"right would be counted {top} right (95% interval {span}); {left.en}. A model disputes them, so this is a "
        "rough estimate.",
    )


def _in_order(readings: Mapping[str, Any]) -> list[str]:
    """The tuned model first, then the others; the untuned one where it is alone."""
    names = [name for name in readings if not name.startswith("before")] or list(readings)
    return sorted(names, key=lambda name: not name.startswith("after"))
