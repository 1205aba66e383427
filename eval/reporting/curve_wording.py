"""What a learning curve says: from how many rows on tuning is worth it, and what more labels would bring."""

from collections.abc import Mapping
from typing import Any

from eval.reporting.seeds_page import METRICS
from eval.reporting.wording import reading_name
from eval.scoring.seed_intervals import Outcome
from workspace.bilingual import Text, number, signed

IT = {"stack": Text("两者的组合（stack）", "the stack of both")}
TUNED = Text("调优后的模型", "the tuned model")


def sentences(found: Mapping[str, Any]) -> list[Text]:
    """The decision first: from how many rows on it is worth it, then what more labels would bring."""
    made = [worth_sentence(found, name) for name in found["against_linear"]]
    return [*made, *(more_sentence(found, name) for name in found["readings"])]


def worth_sentence(found: Mapping[str, Any], name: str) -> Text:
    """From how many rows on the tuned model, or the stack, is worth it here, against the linear model."""
    it, numbers, compared = IT.get(name, TUNED), found["rows"], found["against_linear"][name]
    since, most = compared["from_rows"], number(numbers[-1])
    subject = Text(it.zh, it.en[0].upper() + it.en[1:])
    if since is not None:
        before = [one for one in numbers if one < since]
        below = number(before[-1]) if before else ""
        return Text(
            f"{subject.zh}在这里从 {number(since)} 行起值得用：从那里到 {most} 行，每次测得都好于线性模型"
            + (f"；{below} 行时还没有证实。" if before else f"（{number(since)} 是测过的最少行数）。"),
            f"{subject.en} is worth it here from {number(since)} rows on: from there to {most} it is better than the "
            "linear model each time"
            + (f"; with {below} that is not shown." if before else f" ({number(since)} is the fewest measured)."),
        )
    code: Outcome = compared["by_rows"][-1]["code"]
    why = {
        "worse": Text("用全部行时线性模型更好", "with all rows the linear model is better"),
        "equivalent": Text("用全部行时两者相当", "with all rows the two are equivalent"),
        "undecided": Text("用全部行时还不能断定谁更好", "with all rows it is not decided which is better"),
    }[code if code != "better" else "undecided"]
    return Text(
        f"{subject.zh}在这里到 {most} 行为止还没有证实值得用：{why.zh}。先用线性模型。",
        f"{subject.en} is not shown to be worth it here with up to {most} rows: {why.en}. Start with the linear model.",
    )


def more_sentence(found: Mapping[str, Any], name: str) -> Text:
    """What more labels would bring to a reading, with an interval; or why that is not said."""
    more, it, metric = found["readings"][name]["more"], reading_name(name), METRICS[found["metric"]]
    if more is None:
        return Text(
            f"{it.zh}：测过的行数太少，不能外推（至少三个 --rows）。",
            f"{it.en}: too few numbers of rows were measured to look ahead (three or more in all; give --rows).",
        )
    if not more["fits"]:
        return Text(
            f"{it.zh}：测得的点不符合反幂律，所以不外推；在两头之间多测几个行数（--rows）。",
            f"{it.en}: the points do not follow an inverse power law, so nothing is said of more labels; measure more "
            "numbers of rows in between (--rows).",
        )
    low, high = more["interval"]
    gain, labels = signed(more["gain"]), number(more["more"])
    return Text(
        f"{it.zh}：再标 {labels} 行，{metric.zh} {gain} 个百分点（95%：{signed(low)} 到 {signed(high)}）。",
        f"{it.en}: {labels} more labels: {metric.en} {gain} points (95 %: {signed(low)} to {signed(high)}).",
    )


def facts(found: Mapping[str, Any]) -> list[Text]:
    """How the figures were made."""
    seeds = len(found["seeds"])
    made = [
        Text(
            f"每个点是 {seeds} 个随机种子的平均；种子也决定抽到哪些行，行数大的包含行数小的。测试行始终相同。"
            + ("区间同时包含种子与测试行的偶然。" if seeds > 1 else "只有一个种子：区间只包含测试行的偶然。"),
            f"Each point is the mean of {seeds} seeds, which also draw the rows: more rows are the same ones and "
            "others. The test rows are the same throughout. "
            + (
                "Intervals hold the chance of seeds and of test rows."
                if seeds > 1
                else "One seed alone: intervals hold the chance of test rows alone."
            ),
        ),
        Text(
            "外推：误差按反幂律 a + b·n^−c 下降（Cortes 等，1993）；区间同时包含在对数行数上画直线的情形。"
            "不外推到两倍行数以外。",
            "Looking ahead: errors fall by an inverse power law, a + b n^−c (Cortes and others, 1993); the interval "
            "also holds a straight line over the logarithm of rows. Nothing is said beyond twice the rows.",
        ),
    ]
    return made
