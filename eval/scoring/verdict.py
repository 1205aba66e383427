"""What the run has shown: the verdict in Chinese and English, from statistics alone.

The verdict is the comparison's code (better, worse, equivalent, undecided) in the task's primary metric, with one check
that lowers "better" to "undecided": answers whose balanced accuracy is not shown to be above guessing show no
learning, however many more of them are right than before (an untuned model that names no label loses to one that says
one word always).
"""

from dataclasses import dataclass

from eval.scoring.decision import METRIC_NAMES
from eval.scoring.intervals import Interval
from eval.scoring.metrics import Classification
from eval.scoring.significance import Code, Comparison
from workspace.bilingual import Text, number, p_value, percent, signed, signed_interval


@dataclass(frozen=True)
class Contrast:
    """Two readings and their comparison, b against a."""

    a: Classification
    b: Classification
    comparison: Comparison


@dataclass(frozen=True)
class Guessing:
    """Balanced accuracy of a reading with its 95 % interval, and what guessing is expected to reach."""

    balanced_accuracy: float
    interval: Interval
    expected: float


@dataclass(frozen=True)
class Sentence:
    """A code and its sentence in both languages."""

    code: Code
    zh: str
    en: str


NOTHING_TO_COMPARE = Sentence(
    "undecided",
    "还没有调优前后成对的回答，无法比较。",
    "There are no answers from both before and after tuning yet, so nothing can be compared.",
)
OUTCOMES: dict[Code, tuple[str, str]] = {
    "better": ("调优有效", "Tuning helped"),
    "worse": ("调优后变差了", "Tuning made it worse"),
    "equivalent": ("调优前后相当，差别在容许范围之内", "Before and after differ by less than the margin"),
    "undecided": ("还不能断定调优有没有用", "It is not decided whether tuning helped"),
}
AGAINST_BASELINE: dict[Code, tuple[str, str]] = {
    "better": ("调优后的模型好于 TF-IDF 线性基线", "The tuned model beats the TF-IDF linear baseline"),
    "worse": ("调优后的模型不如 TF-IDF 线性基线", "The TF-IDF linear baseline beats the tuned model"),
    "equivalent": (
        "调优后的模型与 TF-IDF 线性基线相当",
        "The tuned model and the TF-IDF linear baseline differ by less than the margin",
    ),
    "undecided": (
        "还不能断定调优后的模型与 TF-IDF 线性基线哪个更好",
        "It is not decided whether the tuned model or the TF-IDF linear baseline is better",
    ),
}


def verdict(
    main: Contrast | None, by_score: bool, guessing: Guessing | None, task: Contrast | None, head: bool = False
) -> Sentence:
    """Whether tuning helped.

    main: before against after; by_score: whether both were read by score; guessing: of after; task: the score readings
    before and after, free of label bias. None where they are missing. head: whether what
    was tuned is a classification head, which is compared with the untuned model's words.
    """
    if main is None:
        return NOTHING_TO_COMPARE
    code = main.comparison.code
    guessed = guessing if guessing is not None and guessing.interval[0] <= guessing.expected else None
    zh, en = OUTCOMES[code]
    if code == "better" and guessed:
        code = "undecided"
        zh, en = "没有证据表明模型学到了任务", "It cannot be shown that anything was learned"
    n, was, became = number(main.b.n), percent(main.a.accuracy), percent(main.b.accuracy)
    how = ("（按标签概率判读）", " (read by the probability of the label words)") if by_score else ("", "")
    if head:
        how = (
            "（未调优的模型按标签词的概率判读，调优后按分类头的概率）",
            " (the untuned model read by the probability of the label words, the tuned one by its head's)",
        )
    told = evidence(main.comparison)
    zh += f"：在 {n} 条测试评论上，准确率从 {was} 变为 {became}{how[0]}，{told.zh}。"
    en += f": on {n} test reviews accuracy went from {was} to {became}{how[1]}, {told.en}."
    if guessed:
        balanced, expected = percent(guessed.balanced_accuracy), percent(guessed.expected)
        low, high = (percent(end) for end in guessed.interval)
        zh += f"调优后的平衡准确率 {balanced}（95% 区间 {low} 到 {high}，n = {n}），不能证实高于瞎猜的 {expected}。"
        en += (
            f" After tuning the balanced accuracy is {balanced} (95% interval {low} to {high}, n = {n}), which is not "
            f"shown to be above guessing, {expected}."
        )
    elif code == "better" and task is not None and task.comparison.code != "better":
        bias = Text("标签偏向", "the preference for a label")
        form = bias if by_score else Text(f"回答的形式或{bias.zh}", f"the form or {bias.en}")
        known: dict[Code, tuple[str, str]] = {
            "worse": (
                f"相比变差了：提升来自{form.zh}，而不是判断",
                f"it got worse: what improved is {form.en}, not the judgement",
            ),
            "equivalent": (
                f"相当：提升来自{form.zh}，而不是判断",
                f"before and after differ by less than the margin: what improved is {form.en}, not the judgement",
            ),
            "undecided": (
                f"没有证实判断变好了：提升可能来自{form.zh}",
                f"it is not decided whether the judgement improved: the gain may be that of {form.en}",
            ),
        }
        said = known[task.comparison.code]
        zh += f"按标签概率、各取自己的阈值，调优前后{said[0]}（{_change(task)}）。"
        en += f" By the probability of the label words, each at its threshold, {said[1]} ({_change(task)})."
    if main.comparison.code == "undecided":
        zh, en = zh + _reach(main.comparison).zh, en + _reach(main.comparison).en
    zh, en = zh + _disagreement(main.comparison).zh, en + _disagreement(main.comparison).en
    return Sentence(code, zh, en)


def baseline_verdict(contrast: Contrast) -> Sentence:
    """The tuned model (b) against the linear baseline (a)."""
    (zh, en), told = AGAINST_BASELINE[contrast.comparison.code], evidence(contrast.comparison)
    a, b, n = percent(contrast.a.accuracy), percent(contrast.b.accuracy), number(contrast.b.n)
    return Sentence(
        contrast.comparison.code,
        f"{zh}：在 {n} 条测试评论上，准确率 {b} 对 {a}，{told.zh}。",
        f"{en}: on {n} test reviews accuracy is {b} against {a}, {told.en}.",
    )


def _change(contrast: Contrast) -> str:
    metric = contrast.comparison.metric
    a, b = (percent(getattr(side, metric)) for side in (contrast.a, contrast.b))
    return f"{a} → {b}, n = {number(contrast.b.n)}"


def _reach(comparison: Comparison) -> Text:
    """What so few rows could have shown."""
    if comparison.detectable is None:
        return Text("", "")  # the evidence says that there are too few
    least, rows = f"{comparison.detectable * 100:.1f}", number(comparison.rows_needed)
    return Text(
        f"这么多评论要有 {least} 个百分点的差别，才有 80% 的机会看得出来；要断定现在的差别，约需 {rows} 条。",
        f" So many reviews show a difference of {least} points in 80% of tries; to decide the one seen here takes "
        f"some {rows}.",
    )


def _disagreement(comparison: Comparison) -> Text:
    """That accuracy points the other way than the primary metric, where it does."""
    low, high = comparison.accuracy_ci
    other = "better" if low > 0 else "worse" if high < 0 else "undecided"
    if (
        comparison.metric == "accuracy"
        or other == comparison.code
        or {other, comparison.code} == {"undecided", "equivalent"}
    ):
        return Text("", "")
    name, zh = METRIC_NAMES[comparison.metric], {"better": "变好", "worse": "变差", "undecided": "看不出变化"}[other]
    return Text(
        f"判定依据是{name.zh}；只看准确率则{zh}。",
        f" The verdict goes by {name.en}; by accuracy alone it would be {other}.",
    )


def evidence(comparison: Comparison) -> Text:
    """The difference in accuracy and in the primary metric, with intervals and test."""
    difference, span = signed(comparison.accuracy_difference), signed_interval(comparison.accuracy_ci)
    p = _p(comparison.mcnemar_p)
    told = Text(
        f"{difference} 个百分点（95% 区间 {span}，McNemar mid-p {p}）",
        f"{difference} points (95% interval {span}, mid-p McNemar {p})",
    )
    if comparison.metric == "accuracy":
        return told
    name, changed = METRIC_NAMES[comparison.metric], signed(comparison.difference)
    if comparison.ci is None:
        exchanged = _p(comparison.p)
        return Text(
            f"{told.zh}；{name.zh} {changed}（测试评论太少，给不出区间；配对随机化检验 p {exchanged}）",
            f"{told.en}; {name.en} {changed} (too few test reviews for an interval; paired randomisation test p "
            f"{exchanged})",
        )
    own = signed_interval(comparison.ci)
    return Text(
        f"{told.zh}；{name.zh} {changed}（95% 区间 {own}）",
        f"{told.en}; {name.en} {changed} (95% interval {own})",
    )


def _p(value: float) -> str:
    text = p_value(value)
    return text if text.startswith("<") else f"= {text}"
