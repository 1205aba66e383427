"""The report's pictures as PNGs: curves, before/after bars, confusion matrices, reliability, risk and coverage.

Titles are Chinese with English below; where this machine has no Chinese font, English alone. Each picture says on how
many rows it stands.
"""

from collections.abc import Callable, Mapping
from textwrap import fill
from typing import TYPE_CHECKING, Any

from eval.reporting.chart_data import (
    answer_reading,
    best_checkpoint,
    scored,
    series,
    smoothed,
    smoothing,
    split_sizes,
    stage_of,
)
from eval.reporting.wording import (
    TRAINING,
    TRAINING_SMOOTHED,
    UNPARSED,
    VALIDATION,
    Text,
    decimal,
    number,
    percent,
    reading_name,
    teacher_forced,
)
from workspace.fonts import Font
from workspace.picture_style import (
    BLUE,
    FAINT,
    GREEN,
    GREY,
    HALO,
    INK,
    ORANGE,
    PALE_BLUE,
    PALE_GREY,
    PALE_ORANGE,
    Pen,
    add_legend,
    add_title,
    canvas,
    drawing,
    percent_axis,
    png,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"baseline": GREY, "before": ORANGE, "after": BLUE}
PALE = {"baseline": PALE_GREY, "before": PALE_ORANGE, "after": PALE_BLUE}


def draw_pictures(metrics: Mapping[str, Any], font: Font | None) -> dict[str, bytes]:
    """Every picture that `metrics` has figures for, as file name -> PNG bytes; in English alone when `font` is None."""
    drawn: dict[str, bytes] = {}
    with drawing(font) as pen:
        for name, draw in PICTURES.items():
            figure = draw(metrics, pen)
            if figure is not None:
                drawn[name] = png(figure)
    return drawn


def curves_loss(metrics: Mapping[str, Any], pen: Pen) -> "Figure | None":
    """Training loss (raw and smoothed) and validation loss by step."""
    curves = metrics.get("curves") or {}
    train, val = (series(curves.get(part, []), "loss") for part in ("train", "val"))
    if not train and not val:
        return None
    figure, axes = canvas(5.8)
    add_title(figure, pen, Text("训练与验证损失", "Training and validation loss"), split_sizes(metrics, "train", "val"))
    if train:
        weight = smoothing(len(train.xs))
        axes.plot(*train, color=PALE["before"], linewidth=1.2)
        label = pen.both(TRAINING_SMOOTHED if weight else TRAINING, " ")
        axes.plot(train.xs, smoothed(train.ys, weight), color=COLOURS["before"], label=label)
    if val:
        label = pen.both(VALIDATION, " ")
        axes.plot(*val, "o--", color=COLOURS["after"], label=label)
    mark_best(axes, metrics, pen)
    axes.set(ylim=(0, None), ylabel=pen.both(Text("损失", "loss"), " "))
    step_axis(axes, pen)
    add_legend(figure)
    return figure


def curves_accuracy(metrics: Mapping[str, Any], pen: Pen) -> "Figure | None":
    """Validation accuracy and macro F1 of the answers for each checkpoint, and the teacher-forced accuracy."""
    curves = metrics.get("curves") or {}
    lines = (
        ("label_accuracy", Text("标签准确率", "label accuracy"), "o-", COLOURS["after"]),
        ("label_macro_f1", Text("标签宏平均 F1", "label macro F1"), "s--", GREEN),
        ("teacher_forced_accuracy", teacher_forced(curves), "^:", COLOURS["baseline"]),
    )
    known = [(series(curves.get("val", []), key), text, style, colour) for key, text, style, colour in lines]
    if not any(line[0] for line in known):
        return None
    figure, axes = canvas(6.0)
    add_title(
        figure,
        pen,
        Text("每个检查点的验证准确率", "Validation accuracy by checkpoint"),
        split_sizes(metrics, "val"),
    )
    for (steps, values), text, style, colour in (line for line in known if line[0]):
        # the words for teacher-forced accuracy are longer than the picture is wide
        axes.plot(steps, values, style, color=colour, label=pen.both(Text(text.zh, fill(text.en, 62))))
        if style == "o-":
            for step, value in zip(steps, values, strict=True):
                axes.annotate(percent(value), (step, value), (0, 12), textcoords="offset points", ha="center", **HALO)
    mark_best(axes, metrics, pen)
    axes.margins(x=0.1, y=0.2)
    percent_axis(axes.yaxis)
    step_axis(axes, pen)
    add_legend(figure)
    return figure


def before_after(metrics: Mapping[str, Any], pen: Pen) -> "Figure | None":
    """Accuracy (with its Wilson interval) and macro F1 of every reading in the ladder."""
    from matplotlib.patches import Patch

    readings = {k: r for k, r in metrics["readings"].items() if r["accuracy"] is not None}
    if not readings:
        return None
    figure, axes = canvas(2.4 + 1.02 * len(readings))
    title = Text("调优前后与基线", "Before and after tuning, and the baselines")
    add_title(figure, pen, title, f"n = {number(metrics['test']['n'])}")
    for k, (name, reading) in enumerate(readings.items()):
        stage, (low, high) = stage_of(name), reading["accuracy_ci"] or (reading["accuracy"],) * 2
        axes.barh(k - 0.2, reading["accuracy"], 0.38, color=COLOURS[stage])
        whisker = [[reading["accuracy"] - low], [high - reading["accuracy"]]]
        axes.errorbar(reading["accuracy"], k - 0.2, xerr=whisker, color=INK, capsize=5, linewidth=1.8)
        axes.text(high + 0.012, k - 0.2, percent(reading["accuracy"]), va="center", fontsize=15)
        if reading["macro_f1"] is not None:
            axes.barh(k + 0.2, reading["macro_f1"], 0.38, color=PALE[stage], hatch="//", edgecolor="white")
            axes.text(reading["macro_f1"] + 0.012, k + 0.2, decimal(reading["macro_f1"]), va="center", fontsize=15)
    axes.set_yticks(range(len(readings)), [pen.both(reading_name(name)) for name in readings])
    axes.set(xlim=(0, 1.2), ylim=(len(readings) - 0.5, -0.5))
    axes.grid(axis="y", visible=False)
    percent_axis(axes.xaxis)
    axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    accuracy = pen.both(Text("准确率（须线：95% Wilson 区间）", "accuracy (whiskers: 95% Wilson interval)"), " / ")
    solid = Patch(facecolor=COLOURS["after"], label=accuracy)
    pale = Patch(
        facecolor=PALE["after"], hatch="//", edgecolor="white", label=pen.both(Text("宏平均 F1", "macro F1"), " / ")
    )
    add_legend(figure, [solid, pale])
    return figure


def confusion(when: str) -> Callable[[Mapping[str, Any], Pen], "Figure | None"]:
    """The picture of the confusion matrix `before` or `after`: the generated answers, else the scored ones."""

    def draw(metrics: Mapping[str, Any], pen: Pen) -> "Figure | None":
        name = answer_reading(metrics, when)
        if name is None:
            return None
        table, labels = metrics["readings"][name]["confusion"], metrics["labels"]
        words = [pen.word(label, f"label {k + 1}") for k, label in enumerate(labels)]
        columns = [*words, pen.both(UNPARSED)][: len(table["columns"])]
        figure, axes = canvas(3.2 + 1.1 * len(labels) if len(labels) < 5 else 8.0)
        reading = reading_name(name)
        title = Text(f"混淆矩阵：{reading.zh}", f"Confusion matrix: {reading.en}")
        add_title(figure, pen, title, f"n = {number(metrics['readings'][name]['n'])}")
        shares = [[count / max(sum(row), 1) for count in row] for row in table["counts"]]
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for r, row in enumerate(table["counts"]):
            for c, count in enumerate(row):
                text = f"{number(count)}\n{percent(shares[r][c])}" if len(labels) < 5 else str(count)
                axes.text(c, r, text, ha="center", va="center", color="white" if shares[r][c] > 0.62 else INK)
        axes.set_xticks(range(len(columns)), columns, rotation=0 if len(labels) < 5 else 50)
        axes.set_yticks(range(len(words)), words)
        axes.set_xlabel(pen.both(Text("模型的回答", "answer"), " "))
        axes.set_ylabel(pen.both(Text("真实标签", "gold label"), " "))
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        return figure

    return draw


def reliability(metrics: Mapping[str, Any], pen: Pen) -> "Figure | None":
    """Accuracy by confidence, before and after: on the diagonal a probability means what it says."""
    known = scored(metrics, "reliability")
    if not known:
        return None
    figure, axes = canvas(7.0)
    add_title(figure, pen, Text("可靠性图", "Reliability diagram"), f"n = {number(metrics['test']['n'])}")
    axes.plot([0, 1], [0, 1], ":", color=FAINT, label=pen.both(Text("完全校准", "perfectly calibrated"), " "))
    for name, reading in known.items():
        bins, style = reading["probabilities"]["reliability"], "s--" if stage_of(name) == "before" else "o-"
        label = f"{pen.both(reading_name(name), ' / ')}, ECE {decimal(reading['probabilities']['ece'])}"
        x, y = [b["confidence"] for b in bins], [b["accuracy"] for b in bins]
        axes.plot(x, y, style[1:], color=COLOURS[stage_of(name)], linewidth=1.6)
        area = [30 + 500 * b["n"] / reading["n"] for b in bins]
        axes.scatter(x, y, area, color=COLOURS[stage_of(name)], marker=style[0], alpha=0.8, label=label)
    lowest = min(b["confidence"] for reading in known.values() for b in reading["probabilities"]["reliability"])
    axes.set(xlim=(max(0.0, lowest - 0.05), 1.02), ylim=(0, 1.04))
    axes.set_xlabel(
        pen.both(Text("模型给出的概率（点越大，评论越多）", "probability given (larger point: more reviews)"))
    )
    axes.set_ylabel(pen.both(Text("实际准确率", "accuracy"), " "))
    percent_axis(axes.xaxis), percent_axis(axes.yaxis)
    add_legend(figure)
    return figure


def risk_coverage(metrics: Mapping[str, Any], pen: Pen) -> "Figure | None":
    """Accuracy over the share of reviews that the model answers by itself, the surest first."""
    known = scored(metrics, "risk_coverage")
    if not known:
        return None
    figure, axes = canvas(6.4)
    title = Text("覆盖率与准确率", "Coverage and accuracy")
    add_title(figure, pen, title, f"n = {number(metrics['test']['n'])}")
    for name, reading in known.items():
        curve = reading["probabilities"]["risk_coverage"]
        style = "--" if stage_of(name) == "before" else "-"
        label = pen.both(reading_name(name), " / ")
        axes.plot(*series(curve, "accuracy", "coverage"), style, color=COLOURS[stage_of(name)], label=label)
    selective = metrics.get("selective")
    if selective and selective["test"]["accuracy"] is not None:
        label = pen.both(Text("验证集选定的阈值，测试集上的结果", "threshold chosen on validation, result on test"))
        chosen = selective["test"]
        axes.plot(chosen["coverage"], chosen["accuracy"], "D", color=INK, markersize=12, label=label)
    axes.set(xlim=(0, 1.02))
    axes.margins(y=0.1)
    axes.set_xlabel(pen.both(Text("独立回答的评论所占比例", "share of reviews answered"), " "))
    axes.set_ylabel(pen.both(Text("准确率", "accuracy"), " "))
    percent_axis(axes.xaxis), percent_axis(axes.yaxis)
    add_legend(figure)
    return figure


def mark_best(axes: "Axes", metrics: Mapping[str, Any], pen: Pen) -> None:
    """A line at the checkpoint that was chosen, where one is known."""
    best = best_checkpoint(metrics)
    if best is not None:
        label = pen.both(
            Text(f"选用的检查点（第 {best['step']} 步）", f"chosen checkpoint (step {best['step']})"), " / "
        )
        axes.axvline(best["step"], color=INK, linestyle="-.", linewidth=1.6, label=label)


def step_axis(axes: "Axes", pen: Pen) -> None:
    """Name the x axis of a training curve."""
    axes.set_xlabel(pen.both(Text("训练步数", "training step"), " "))


PICTURES: dict[str, Callable[[Mapping[str, Any], Pen], "Figure | None"]] = {
    "curves_loss.png": curves_loss,
    "curves_accuracy.png": curves_accuracy,
    "before_after.png": before_after,
    "confusion_before.png": confusion("before"),
    "confusion_after.png": confusion("after"),
    "reliability.png": reliability,
    "risk_coverage.png": risk_coverage,
}
