"""Line charts for the page as plain SVG: this module works out where things go, a template draws them.

Coordinates are in the units of the chart's viewBox, y downwards. Colours and words are the page's, so that a chart
follows its language, and light or dark.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.reporting.chart_data import (
    Series,
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
    VALIDATION,
    Text,
    decimal,
    number,
    percent,
    reading_name,
    teacher_forced,
)

WIDTH, HEIGHT = 440, 280
LEFT, RIGHT, TOP, BOTTOM = 52, 416, 12, 232


@dataclass(frozen=True)
class Line:
    """Points to join, in viewBox units; `style` is a CSS class, `marker` circle, square, triangle, diamond or none."""

    name: Text | None
    style: str
    points: tuple[tuple[float, float], ...]
    marker: str = "none"
    radii: tuple[float, ...] = ()

    @property
    def path(self) -> str:
        """The points as an SVG polyline's attribute."""
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in self.points)


@dataclass(frozen=True)
class Chart:
    """One chart: ticks are (place, text); `rules` are vertical lines (place, what they mark)."""

    title: Text
    rows: str
    x_name: Text
    y_name: Text
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    lines: tuple[Line, ...]
    rules: tuple[tuple[float, Text], ...] = ()
    width: int = WIDTH
    height: int = HEIGHT
    frame: tuple[int, int, int, int] = (LEFT, TOP, RIGHT, BOTTOM)


@dataclass(frozen=True)
class Scale:
    """Where values of one axis go: [low, high] onto [start, end]."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The place of `value`."""
        share = (value - self.low) / ((self.high - self.low) or 1)
        return self.start + share * (self.end - self.start)

    def ticks(self, write: Any, most: int = 6) -> tuple[tuple[float, str], ...]:
        """At most `most` round values in range, as (place, text)."""
        step = round_step((self.high - self.low) / most)
        first = math.ceil(self.low / step - 1e-9)
        values = [k * step for k in range(first, math.floor(self.high / step + 1e-9) + 1)]
        return tuple((self(value), write(value)) for value in values)


def round_step(least: float) -> float:
    """The smallest of 1, 2 or 5 times a power of ten that is not below `least`."""
    if least <= 0:
        return 1.0
    power = 10 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def charts(metrics: Mapping[str, Any]) -> dict[str, Chart]:
    """Every chart that `metrics` has figures for."""
    made = {
        "loss": loss(metrics),
        "accuracy": accuracy(metrics),
        "reliability": reliability(metrics),
        "coverage": coverage(metrics),
    }
    return {name: chart for name, chart in made.items() if chart is not None}


def loss(metrics: Mapping[str, Any]) -> Chart | None:
    """Training loss, raw and smoothed, and validation loss by step."""
    curves = metrics.get("curves") or {}
    train, val = (series(curves.get(part, []), "loss") for part in ("train", "val"))
    if not train and not val:
        return None
    x, y = _scales([train, val], floor=0)
    weight = smoothing(len(train.xs))
    average = Series(train.xs, tuple(smoothed(train.ys, weight)))
    lines = [
        (None, "train raw", train, "none"),
        (TRAINING_SMOOTHED if weight else TRAINING, "train", average, "none"),
        (VALIDATION, "after dashed", val, "circle"),
    ]
    return Chart(
        Text("训练与验证损失", "Training and validation loss"),
        split_sizes(metrics, "train", "val"),
        Text("训练步数", "training step"),
        Text("损失", "loss"),
        x.ticks(_whole),
        y.ticks(lambda v: f"{v:.3g}"),
        tuple(_line(*line, x, y) for line in lines if line[2]),
        _best(metrics, x),
    )


def accuracy(metrics: Mapping[str, Any]) -> Chart | None:
    """Validation accuracy and macro F1 of the answers for each checkpoint, and the teacher-forced accuracy."""
    curves = metrics.get("curves") or {}
    lines = [
        (Text("标签准确率", "label accuracy"), "after", series(curves.get("val", []), "label_accuracy"), "circle"),
        (
            Text("标签宏平均 F1", "label macro F1"),
            "f1 dashed",
            series(curves.get("val", []), "label_macro_f1"),
            "square",
        ),
        (teacher_forced(curves), "faint dotted", series(curves.get("val", []), "teacher_forced_accuracy"), "triangle"),
    ]
    lines = [line for line in lines if line[2]]
    if not lines:
        return None
    x, y = _scales([line[2] for line in lines], margin=0.08)
    return Chart(
        Text("每个检查点的验证准确率", "Validation accuracy by checkpoint"),
        split_sizes(metrics, "val"),
        Text("训练步数", "training step"),
        Text("准确率", "accuracy"),
        x.ticks(_whole),
        y.ticks(_percent),
        tuple(_line(*line, x, y) for line in lines),
        _best(metrics, x),
    )


def reliability(metrics: Mapping[str, Any]) -> Chart | None:
    """Accuracy by confidence: on the diagonal, a probability means what it says. Larger points hold more reviews."""
    known = scored(metrics, "reliability")
    if not known:
        return None
    bins = {name: reading["probabilities"]["reliability"] for name, reading in known.items()}
    low = math.floor(min(b["confidence"] for several in bins.values() for b in several) * 10) / 10
    x, y = Scale(low, 1, LEFT, RIGHT - 8), Scale(0, 1, BOTTOM, TOP + 8)
    lines = [_line(Text("完全校准", "perfectly calibrated"), "faint dotted", Series((low, 1), (low, 1)), "none", x, y)]
    for name, reading in known.items():
        text, ece = reading_name(name), decimal(reading["probabilities"]["ece"])
        radii = tuple(2.5 + 12 * math.sqrt(b["n"] / reading["n"]) for b in bins[name])
        named = Text(f"{text.zh}（ECE {ece}）", f"{text.en} (ECE {ece})")
        before = stage_of(name) == "before"
        style, marker = ("before dashed", "square") if before else ("after", "circle")
        lines.append(_line(named, style, series(bins[name], "accuracy", "confidence"), marker, x, y, radii))
    return Chart(
        Text("可靠性图", "Reliability diagram"),
        f"n = {number(metrics['test']['n'])}",
        Text("模型给出的概率（点越大，评论越多）", "probability given (larger point: more reviews)"),
        Text("实际准确率", "accuracy"),
        x.ticks(_percent),
        y.ticks(_percent),
        tuple(lines),
    )


def coverage(metrics: Mapping[str, Any]) -> Chart | None:
    """Accuracy over the share of reviews that the model answers by itself, the surest first."""
    known = scored(metrics, "risk_coverage")
    if not known:
        return None
    lines = []
    for name, reading in known.items():
        points = series(reading["probabilities"]["risk_coverage"], "accuracy", "coverage")
        lines.append((reading_name(name), "before dashed" if stage_of(name) == "before" else "after", points, "none"))
    selective = metrics.get("selective")
    if selective and selective["test"]["accuracy"] is not None:
        point = Series((selective["test"]["coverage"],), (selective["test"]["accuracy"],))
        chosen = Text("验证集选定的阈值，测试集结果", "threshold chosen on validation, result on test")
        lines.append((chosen, "chosen", point, "diamond"))
    _, y = _scales([line[2] for line in lines], margin=0.06)
    x = Scale(0, 1, LEFT, RIGHT)
    return Chart(
        Text("覆盖率与准确率", "Coverage and accuracy"),
        f"n = {number(metrics['test']['n'])}",
        Text("独立回答的评论所占比例", "share of reviews answered"),
        Text("准确率", "accuracy"),
        x.ticks(_percent),
        y.ticks(_percent),
        tuple(_line(*line, x, y) for line in lines),
    )


def _line(
    name: Text | None, style: str, points: Series, marker: str, x: Scale, y: Scale, radii: Sequence[float] = ()
) -> Line:
    placed = tuple((x(a), y(b)) for a, b in zip(points.xs, points.ys, strict=True))
    return Line(name, style, placed, marker, tuple(radii) or (4.5,) * len(placed))


def _scales(lines: Iterable[Series], floor: float | None = None, margin: float = 0.04) -> tuple[Scale, Scale]:
    """Scales that hold all points, with a margin (a share of the range) where there is no floor."""
    known = [line for line in lines if line]
    xs, ys = [x for line in known for x in line.xs], [y for line in known for y in line.ys]
    spread = ((max(ys) - min(ys)) or 0.1) * margin
    low, high = (min(ys) - spread if floor is None else floor), max(ys) + spread
    return Scale(min(xs), max(xs), LEFT + 8, RIGHT - 8), Scale(low, high, BOTTOM, TOP)


def _best(metrics: Mapping[str, Any], x: Scale) -> tuple[tuple[float, Text], ...]:
    best = best_checkpoint(metrics)
    if best is None:
        return ()
    step = best["step"]
    return ((x(step), Text(f"选用的检查点（第 {step} 步）", f"chosen checkpoint (step {step})")),)


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _percent(value: float) -> str:
    return percent(value, 0)
