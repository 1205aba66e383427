"""The report's pictures as PNGs: the line charts, bars before and after, confusion matrices.

Titles are Chinese with English below; where this machine has no Chinese font, English alone. Each picture says of how
many rows it is.
"""

from collections.abc import Callable, Mapping
from functools import partial
from textwrap import fill
from typing import TYPE_CHECKING, Any

from eval.reporting.charts import CHARTS, RADIUS, Chart
from eval.reporting.class_tables import MATRIX
from eval.reporting.context import second_metric
from eval.reporting.wording import UNPARSED, reading_name, stage_of
from eval.scoring.decision import METRIC_NAMES
from eval.scoring.reading_names import shown_reading
from workspace import picture_style as style
from workspace.bilingual import Text, decimal, number, percent
from workspace.fonts import Font

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {"baseline": style.GREY, "before": style.ORANGE, "after": style.BLUE, "f1": style.GREEN, "ink": style.INK}
PALE = {"baseline": style.PALE_GREY, "before": style.PALE_ORANGE, "after": style.PALE_BLUE}
STROKES = {"solid": "-", "dashed": "--", "dotted": ":", "thin": "-", "none": ""}
MARKERS = {"circle": "o", "square": "s", "triangle": "^", "diamond": "D", "none": ""}
POINTS_A_UNIT = 2.0  # a marker's diameter in points for each unit of its radius in the chart
LINE_LENGTH = 62  # characters of a legend that fit into the picture's width
MANY = 5  # labels, from which on a confusion matrix shows counts alone

Draw = Callable[[Mapping[str, Any], style.Pen], "Figure | None"]


def draw_pictures(metrics: Mapping[str, Any], font: Font | None) -> dict[str, bytes]:
    """Every picture that `metrics` has figures for, as file name -> PNG bytes; in English alone when `font` is None."""
    with style.drawing(font) as pen:
        figures = ((name, draw(metrics, pen)) for name, draw in PICTURES.items())
        return {name: style.png(figure) for name, figure in figures if figure is not None}


def line_picture(name: str, metrics: Mapping[str, Any], pen: style.Pen) -> "Figure | None":
    """The line chart `name`."""
    chart = CHARTS[name](metrics)
    return draw_chart(chart, pen) if chart else None


def draw_chart(chart: Chart, pen: style.Pen) -> "Figure":
    """A line chart as a figure."""
    from matplotlib.lines import Line2D

    def label(text: Text) -> str:
        return pen.both(Text(text.zh, fill(text.en, LINE_LENGTH)), "\n" if len(text.en) > LINE_LENGTH else " / ")

    figure, axes = style.canvas(6.4)
    style.add_title(figure, pen, chart.title, chart.rows)
    handles = []
    for line in chart.lines:
        xs, ys = zip(*line.points, strict=True)
        look: dict[str, Any] = {"color": COLOURS[line.colour], "linestyle": STROKES[line.stroke]}
        look |= {"linewidth": 1.2, "alpha": 0.45} if line.stroke == "thin" else {}
        axes.plot(xs, ys, **look)
        if line.marker != "none":
            areas = [(POINTS_A_UNIT * radius) ** 2 for radius in line.radii or (RADIUS,) * len(xs)]
            axes.scatter(xs, ys, areas, color=look["color"], marker=MARKERS[line.marker], alpha=0.85, zorder=3)
        if line.spans:
            lows, highs = zip(*line.spans, strict=True)
            axes.vlines(xs, lows, highs, color=look["color"], linewidth=1.6, alpha=0.7)
        if line.values:
            for point in line.points:
                axes.annotate(percent(point[1]), point, (0, 12), textcoords="offset points", ha="center", **style.HALO)
        if line.name:
            handles.append(Line2D([], [], marker=MARKERS[line.marker], label=label(line.name), **look))
    if chart.rule:
        rule = axes.axvline(chart.rule[0], color=style.INK, linestyle="-.", linewidth=1.6, label=label(chart.rule[1]))
        handles.append(rule)
    axes.set(xlim=(chart.x.low, chart.x.high), ylim=(chart.y.low, chart.y.high))
    axes.set_xticks(*zip(*chart.x.ticks, strict=True))
    axes.set_yticks(*zip(*chart.y.ticks, strict=True))
    axes.set_xlabel(pen.both(chart.x.name, "\n" if len(chart.x.name.en) > LINE_LENGTH // 2 else " "))
    axes.set_ylabel(pen.both(chart.y.name, " "))
    style.add_legend(figure, handles)
    return figure


def before_after(metrics: Mapping[str, Any], pen: style.Pen) -> "Figure | None":
    """Accuracy and the primary metric (macro F1, where that is accuracy) of every reading, with their intervals."""
    from matplotlib.patches import Patch

    readings = metrics["readings"]
    if not readings:
        return None
    metric = second_metric(metrics)
    figure, axes = style.canvas(2.4 + 1.02 * len(readings))
    title = Text("调优前后与基线", "Before and after tuning, and the baselines")
    n = metrics["test"]["n"]
    style.add_title(figure, pen, title, f"n = {number(n)}")
    hatched: dict[str, Any] = {"hatch": "//", "edgecolor": "white"}
    for k, (name, reading) in enumerate(readings.items()):
        stage, accuracy, (low, high) = stage_of(name), reading["accuracy"], reading["accuracy_ci"]
        axes.barh(k - 0.2, accuracy, 0.38, color=COLOURS[stage])
        whisker = [[accuracy - low], [high - accuracy]]
        axes.errorbar(accuracy, k - 0.2, xerr=whisker, color=style.INK, capsize=5, linewidth=1.8)
        axes.text(high + 0.012, k - 0.2, percent(accuracy), va="center", fontsize=15)
        axes.barh(k + 0.2, reading[metric], 0.38, color=PALE[stage], **hatched)
        end = max(reading[metric], 0)
        if own := reading["intervals"]:
            whisker, end = [[abs(reading[metric] - side)] for side in own[metric]], max(own[metric][1], 0)
            axes.errorbar(reading[metric], k + 0.2, xerr=whisker, color=style.INK, capsize=5, linewidth=1.8)
        axes.text(end + 0.012, k + 0.2, decimal(reading[metric]), va="center", fontsize=15)
    names = [_on_rows(pen.both(reading_name(name)), one["n"], n) for name, one in readings.items()]
    axes.set_yticks(range(len(readings)), names)
    axes.set(xlim=(0, 1.2), ylim=(len(readings) - 0.5, -0.5))
    axes.grid(axis="y", visible=False)
    style.percent_axis(axes.xaxis)
    axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    accuracy_name = Text("准确率（须线：95% 区间）", "accuracy (whiskers: 95% interval)")
    solid = Patch(facecolor=COLOURS["after"], label=pen.both(accuracy_name, " / "))
    pale = Patch(facecolor=PALE["after"], label=pen.both(METRIC_NAMES[metric], " / "), **hatched)
    style.add_legend(figure, [solid, pale])
    return figure


def _on_rows(name: str, rows: int, all_rows: int) -> str:
    """A reading's name, with the number of its rows where those are a part of all."""
    return name if rows == all_rows else f"{name} (n = {number(rows)})"


def confusion(stage: str, metrics: Mapping[str, Any], pen: style.Pen) -> "Figure | None":
    """The confusion matrix `before` or `after`, of few classes: of the generated answers, else the scored ones."""
    name = shown_reading(metrics["readings"], stage)
    if name is None or len(metrics["labels"]) > MATRIX:
        return None
    counts, labels = metrics["readings"][name]["confusion"]["counts"], metrics["labels"]
    words = [pen.word(label, f"label {k}") for k, label in enumerate(labels, 1)]
    few = len(labels) < MANY
    figure, axes = style.canvas(3.2 + 1.1 * len(labels) if few else 8.0)
    reading = reading_name(name)
    title = Text(f"混淆矩阵：{reading.zh}", f"Confusion matrix: {reading.en}")
    style.add_title(figure, pen, title, f"n = {number(metrics['readings'][name]['n'])}")
    shares = [[count / max(sum(row), 1) for count in row] for row in counts]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for r, row in enumerate(counts):
        for c, count in enumerate(row):
            text = f"{number(count)}\n{percent(shares[r][c])}" if few else str(count)
            axes.text(c, r, text, ha="center", va="center", color="white" if shares[r][c] > 0.62 else style.INK)
    axes.set_xticks(range(len(words) + 1), [*words, pen.both(UNPARSED)], rotation=0 if few else 50)
    axes.set_yticks(range(len(words)), words)
    axes.set_xlabel(pen.both(Text("模型的回答", "answer"), " "))
    axes.set_ylabel(pen.both(Text("真实标签", "gold label"), " "))
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    return figure


PICTURES: dict[str, Draw] = {
    "curves_loss.png": partial(line_picture, "loss"),
    "curves_accuracy.png": partial(line_picture, "accuracy"),
    "before_after.png": before_after,
    "confusion_before.png": partial(confusion, "before"),
    "confusion_after.png": partial(confusion, "after"),
    "reliability.png": partial(line_picture, "reliability"),
    "risk_coverage.png": partial(line_picture, "coverage"),
}
