"""What a person who reads one screen must know besides the advice: how sure it is, what it costs, what would change it.

From metrics.json's decision, comparisons, costs and selective; the long sentences of the report say the same in full.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from eval.reporting.curve_wording import more_sentence
from eval.reporting.use_wording import OUTCOMES
from eval.reporting.wording import CODES, reading_name, stage_of
from eval.scoring.decision import METRIC_NAMES
from workspace.bilingual import Text, decimal, duration, milliseconds, number, p_value, percent, signed, signed_interval


class Answer(NamedTuple):
    """A question of the first screen and its answer."""

    question: Text
    answer: Text


def first_screen(metrics: Mapping[str, Any]) -> list[Answer]:
    """The short answers below the advice; of costs none where nothing is advised."""
    advised, weighed = metrics["decision"]["advised"], metrics["decision"]["weighed"]
    contrast = next((c for c in metrics["comparisons"] if {c["a"], c["b"]} == {advised, weighed}), None)
    found = [Answer(Text("有多大把握", "How sure"), _joined(*_sure(metrics, advised, contrast)))]
    if advised:
        found.append(Answer(Text("要花多少", "What it costs"), _joined(*_price(metrics, advised, weighed))))
    change = _joined(*_changes(metrics, contrast))
    return [*found, Answer(Text("什么会改变它", "What would change it"), change)]


def _sure(metrics: Mapping[str, Any], advised: str | None, contrast: Mapping[str, Any] | None) -> list[Text]:
    n, metric = number(metrics["test"]["n"]), metrics["primary_metric"]
    if advised is None:
        return [
            Text(
                f"在 {n} 条测试评论上，没有一种做法的平衡准确率被证实高于瞎猜。",
                f"On {n} test rows no balanced accuracy is shown to be above guessing.",
            )
        ]
    reading, name = metrics["readings"][advised], METRIC_NAMES[metric]
    n = number(reading["n"])
    value, own = decimal(reading[metric]), reading["intervals"]
    span = Text("测试评论太少，给不出区间", "too few rows for an interval")
    if own:
        low, high = (decimal(end) for end in own[metric])
        span = Text(f"95% 区间 {low}–{high}", f"95% interval {low}–{high}")
    found = [Text(f"{name.zh} {value}（{span.zh}，n = {n}）。", f"{name.en} {value} ({span.en}, n = {n}).")]
    if contrast:
        found.append(_difference(contrast))
    return found


def _difference(c: Mapping[str, Any]) -> Text:
    """How far apart the advised reading and the one that it is weighed against are, as they were compared."""
    (a, b), code, gain = (reading_name(c[key]) for key in "ab"), CODES[c["code"]], signed(c["difference"])
    if c["ci"]:
        how = f"95%: {signed_interval(c['ci'])}"
    else:
        p = p_value(c["randomisation_p"])
        how = f"p {p}" if p.startswith("<") else f"p = {p}"
    return Text(
        f"「{b.zh}」减「{a.zh}」：{gain} 个百分点（{how}），{code.zh}。",
        f"“{b.en}” minus “{a.en}”: {gain} points ({how}), {code.en}.",
    )


def _price(metrics: Mapping[str, Any], advised: str, weighed: str | None) -> list[Text]:
    """Time, then money and a person's work where they are known."""
    own = _time(metrics["readings"][advised])
    other = Text("", "")
    if weighed:
        rival, time = reading_name(weighed), _time(metrics["readings"][weighed])
        other = Text(f"（「{rival.zh}」：{time.zh}）", f" (“{rival.en}”: {time.en})")
    found = [Text(f"{own.zh}{other.zh}。", f"{own.en}{other.en}.")]
    costs, selective = metrics["costs"], metrics["selective"]
    if costs and (name := _scored(advised, costs["readings"])):
        one, rows = costs["readings"][name], number(costs["per_rows"])
        low, high = one["test_ci"]
        cost, asked = f"{one['test']:,.1f} (95%: {low:,.1f}–{high:,.1f})", number(one["n"] - one["n_answered"])
        n, who = number(one["n"]), reading_name(name)
        found.append(
            Text(
                f"按 costs，「{who.zh}」每 {rows} 条花费 {cost}，{n} 条中有 {asked} 条问人。",
                f"By costs, {rows} rows of “{who.en}” cost {cost}; a person is asked about {asked} of {n}.",
            )
        )
    if selective and (name := _scored(advised, selective["readings"])):
        found.append(_alone(name, selective))
    return found


def _time(reading: Mapping[str, Any]) -> Text:
    ms, trained = milliseconds(reading["ms_per_review"]), duration(reading["train_seconds"])
    each = Text(f"每条 {ms} 毫秒", f"{ms} ms a row")
    if reading["ms_per_review"] is None:
        each = Text("每条用时没有测", "time a row not measured")
    if reading["train_seconds"] is None:
        return Text(f"{each.zh}，不用训练", f"{each.en}, no training")
    return Text(f"{each.zh}，训练 {trained}", f"{each.en}, {trained} of training")


def _alone(name: str, selective: Mapping[str, Any]) -> Text:
    """How much of the rows a person need not look at."""
    one, target, who = selective["readings"][name], percent(selective["target"], 0), reading_name(name)
    if not one["chosen"] or one["test"]["accuracy"] is None:
        return Text(
            f"「{who.zh}」独立回答不能保证 {target} 的准确率：全部要人复核。",
            f"“{who.en}” cannot be promised to be {target} right alone: have all answers checked.",
        )
    share, told = percent(one["test"]["coverage"]), OUTCOMES[one["test"]["outcome"]]
    return Text(
        f"「{who.zh}」可以独立回答 {share}，其余问人；目标是答对 {target}：{told.zh}。",
        f"“{who.en}” may answer {share} alone, the rest goes to a person; the target is {target} right: {told.en}.",
    )


def _changes(metrics: Mapping[str, Any], contrast: Mapping[str, Any] | None) -> list[Text]:
    """More test rows, more labels, another seed."""
    found = []
    if metrics["decision"]["advised"] is None:
        found.append(
            Text("更多测试评论，如果真有一种高于瞎猜。", "More test rows, if one of them really is above guessing.")
        )
    elif contrast and contrast["code"] == "undecided":
        needed, n = contrast["rows_needed"], number(contrast["n"])
        found.append(
            Text(
                f"测试评论：约 {number(needed)} 条才能断定这一差别，现在 {n} 条。",
                f"Test rows: some {number(needed)} would decide that difference, here are {n}.",
            )
            if needed
            else Text("测试评论：太少，每类至少要 20 条。", "Test rows: too few; each class needs 20 at least.")
        )
    if curve := metrics["learning_curve"]:
        readings, advised = curve["found"]["readings"], metrics["decision"]["advised"]
        found.append(more_sentence(curve["found"], advised if advised in readings else next(iter(readings))))
    recipe, seed = metrics["run"]["recipe"], metrics["run"].get("training_seed")
    if recipe and not curve:
        found.append(
            Text(
                f"更多标注：bash run_sft.sh curve {recipe} 测出能带来多少。",
                f"More labels: bash run_sft.sh curve {recipe} measures what they bring.",
            )
        )
    if metrics["run"].get("soup"):
        found.append(
            Text(
                "这是几个种子的适配器的平均：各种子之间的差异见那些种子的 seeds.md。",
                "This is the average of several seeds' adapters: those seeds' own seeds.md says how they differ.",
            )
        )
    elif seed is not None and any(stage_of(name) == "after" for name in metrics["readings"]):
        found.append(
            Text(
                f"另一个种子：这是对这个检查点（种子 {seed}）的结论，不是对配方的；--seeds 42 43 44 评判配方。",
                f"Another seed: this is a verdict on this checkpoint (seed {seed}), not on the recipe; that takes "
                "--seeds 42 43 44.",
            )
        )
    return found


def _scored(advised: str, readings: Mapping[str, Any]) -> str | None:
    """The advised reading where it has figures, else one of the same model by its probabilities."""
    same = (name for name in readings if name != "stack" and stage_of(name) == stage_of(advised) != "baseline")
    return advised if advised in readings else next(same, None)


def _joined(*texts: Text) -> Text:
    return Text("".join(one.zh for one in texts), " ".join(one.en for one in texts))
