"""Where the gain comes from, in words: its parts with intervals, and what they do and do not show."""

from collections.abc import Mapping
from typing import Any

from eval.scoring.decision import METRIC_NAMES
from eval.scoring.intervals import Metric
from workspace.bilingual import Text, percent, signed, signed_interval

PARTS = {
    "guessing": Text("未解析的回答换成瞎猜", "guesses in place of unparsed answers"),
    "form": Text("格式", "form"),
    "bias": Text("标签偏向", "label bias"),
    "discrimination": Text("区分能力", "discrimination"),
    "remainder": Text("余项", "remainder"),
}
TOO_FEW = Text("测试评论太少，给不出区间", "too few test reviews for an interval")
JUDGEMENT = {
    "better": Text("判断变好了", "the judgement improved"),
    "worse": Text("判断变差了", "the judgement got worse"),
    "equivalent": Text("判断相当", "the judgement before and after differs by less than the margin"),
    "undecided": Text("没有证实判断变好了", "it is not shown that the judgement improved"),
}


def gain_sentence(gain: Mapping[str, Any], metric: Metric) -> Text:
    """The parts of the gain in `metric`, each with its interval."""
    parts = gain["metrics"][metric]
    told = {key: _figure(part) for key, part in parts.items()}
    name = METRIC_NAMES[metric]
    return Text(
        f"{name.zh}共变化 {told['total'].zh}：" + "，".join(f"{PARTS[key].zh} {told[key].zh}" for key in PARTS) + "。",
        f"{name.en[0].upper()}{name.en[1:]} changed by {told['total'].en} points: "
        + ", ".join(f"{PARTS[key].en} {told[key].en}" for key in PARTS)
        + ".",
    )


def gain_finding(gain: Mapping[str, Any], metric: Metric) -> Text:
    """What the parts show in the primary metric: whether the model knew it before, and whether it judges better now.

    "Knew" is said only where the scores before are above guessing and hold more than the written answers with guesses.
    """
    scores, form = gain["untuned_scores"], gain["metrics"][metric]["form"]["ci"]
    balanced, expected = percent(scores["balanced_accuracy"]), percent(scores["expected"])
    low, high = (percent(end) for end in scores["interval"])
    seen = Text(
        f"平衡准确率 {balanced}，95% 区间 {low} 到 {high}，瞎猜为 {expected}",
        f"balanced accuracy {balanced}, 95% interval {low} to {high}; guessing: {expected}",
    )
    if scores["interval"][0] <= scores["expected"]:
        zh = f"调优前的打分不能证实高于瞎猜（{seen.zh}）：没有证据表明模型在调优前就会。"
        en = f"The scores before tuning are not shown to be above guessing ({seen.en}): nothing shows that the model "
        en += "knew any of it."
    elif form and form[0] > 0:
        zh = f"模型在调优前就会一部分，只是没有按要求写出来：打分高于瞎猜（{seen.zh}）。"
        en = f"Before tuning the model knew some of it and did not say so: its scores are above guessing ({seen.en})."
    else:
        zh = f"调优前的打分高于瞎猜（{seen.zh}），但没有证实它比写出来的回答含有更多。"
        en = (
            f"The scores before tuning are above guessing ({seen.en}), but are not shown to hold more than the written "
        )
        en += "answers."
    judged = JUDGEMENT[gain["judgement"]]
    return Text(
        f"{zh}调优前后各取自己的阈值（去掉标签偏向），{judged.zh}。",
        f"{en} With label bias taken off, both at their thresholds, {judged.en}.",
    )


def _figure(part: Mapping[str, Any]) -> Text:
    value, ci = signed(part["difference"]), part["ci"]
    span = Text(signed_interval(ci), signed_interval(ci)) if ci else TOO_FEW
    return Text(f"{value}（{span.zh}）", f"{value} ({span.en})")
