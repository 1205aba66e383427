"""The report's line charts, taken from the metrics: training, validation, reliability, coverage.

Described once; drawn by the page as SVG and by `eval.reporting.pictures` as PNGs.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from types import SimpleNamespace
from typing import Any, Literal

import pandas as pd

from eval.reporting.wording import reading_name, stage_of, teacher_forced
from eval.scoring.calibration import ROWS_A_BIN
from workspace.bilingual import Text, decimal, number, percent

_whole_percent = partial(percent, digits=0)
WHOLE = (0.0, 1.05)  # shares are drawn from 0 to 100 %: no axis makes much of little
RADIUS = 4.5  # of a marker, in units of the SVG's viewBox

Points = tuple[tuple[float, float], ...]
Colour = Literal["baseline", "before", "after", "f1", "ink"]
Stroke = Literal["solid", "dashed", "dotted", "thin", "none"]
Marker = Literal["none", "circle", "square", "triangle", "diamond"]
# The SVG's viewBox, and where the plot lies in it; y downwards.
FRAME = SimpleNamespace(width=440, height=280, left=52, right=416, top=12, bottom=232)


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high`; `write` gives a tick's text."""

    name: Text
    low: float
    high: float
    write: Callable[[float], str]

    def share(self, value: float) -> float:
        """Where `value` lies on the axis, from 0 to 1."""
        return (value - self.low) / ((self.high - self.low) or 1)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """At most seven round values in range, with their texts."""
        from matplotlib.ticker import MaxNLocator

        values = [float(value) for value in MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(self.low, self.high)]
        return [(value, self.write(value)) for value in values if self.low <= value <= self.high]


@dataclass(frozen=True)
class Line:
    """Points (x, y) by rising x; without a name it is not in the legend.

    radii: of the markers, all `RADIUS` where empty. spans: (low, high) of each point's whisker, where there are any.
    values: whether y is written at each point.
    """

    name: Text | None
    colour: Colour
    points: Points
    stroke: Stroke = "solid"
    marker: Marker = "none"
    radii: tuple[float, ...] = ()
    spans: tuple[tuple[float, float], ...] = ()
    values: bool = False


@dataclass(frozen=True)
class Chart:
    """One chart: `rows` says how many rows it is of; `rule` is a vertical line at x and what it marks."""

    title: Text
    rows: str
    x: Axis
    y: Axis
    lines: tuple[Line, ...]
    rule: tuple[float, Text] | None = None

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where a point lies in the SVG, in units of its viewBox."""
        width, height = FRAME.right - FRAME.left, FRAME.bottom - FRAME.top
        return FRAME.left + self.x.share(x) * width, FRAME.bottom - self.y.share(y) * height


def line_charts(metrics: Mapping[str, Any]) -> dict[str, Chart]:
    """Every chart that `metrics` has figures for, by name."""
    return {name: chart for name, draw in CHARTS.items() if (chart := draw(metrics))}


def loss(metrics: Mapping[str, Any]) -> Chart | None:
    """Training loss, raw and smoothed, and validation loss by step."""
    curves = metrics.get("curves") or {}
    train, val = (series(curves.get(part, []), "loss") for part in ("train", "val"))
    weight = smoothing(len(train))
    average = tuple(zip((x for x, _ in train), smoothed([y for _, y in train], weight), strict=True))
    lines = (
        Line(None, "before", train, "thin"),
        Line(Text("训练（平滑）", "training, smoothed") if weight else Text("训练", "training"), "before", average),
        Line(Text("验证", "validation"), "after", val, "dashed", "circle"),
    )
    title, name = Text("训练与验证损失", "Training and validation loss"), Text("损失", "loss")
    sizes = split_sizes(metrics, "train", "val")
    return _by_step(metrics, title, sizes, name, lambda value: f"{value:.3g}", lines, floor=0.0)


def accuracy(metrics: Mapping[str, Any]) -> Chart | None:
    """Validation accuracy and macro F1 of the answers for each checkpoint, and the teacher-forced accuracy."""
    curves = metrics.get("curves") or {}
    label, f1, forced = (
        series(curves.get("val", []), key) for key in ("label_accuracy", "label_macro_f1", "teacher_forced_accuracy")
    )
    found = [point for point in curves.get("val", []) if point["label_accuracy"] is not None]
    spans = tuple(point.get("label_accuracy_ci") for point in sorted(found, key=lambda point: point["step"]))
    if None in spans:
        spans = ()
    named = Text("标签准确率", "label accuracy")
    if spans:
        named = Text("标签准确率（须线：95% 区间）", "label accuracy (whiskers: 95% interval)")
    lines = (
        Line(named, "after", label, marker="circle", spans=spans, values=True),
        Line(Text("标签宏平均 F1", "label macro F1"), "f1", f1, "dashed", "square"),
        Line(teacher_forced(curves), "baseline", forced, "dotted", "triangle"),
    )
    title, name = Text("每个检查点的验证准确率", "Validation accuracy by checkpoint"), Text("准确率", "accuracy")
    return _by_step(metrics, title, split_sizes(metrics, "val"), name, _whole_percent, lines, *WHOLE)


def reliability(metrics: Mapping[str, Any]) -> Chart | None:
    """Accuracy by confidence, of bins of equally many reviews: on the diagonal, a probability means what it says.

    The points are not joined: between two bins nothing was measured.
    """
    scored = _scored(metrics, "reliability")
    if not scored:
        return None
    low = min(b["confidence"] for reading in scored.values() for b in reading["probabilities"]["reliability"])
    low = math.floor(low * 10) / 10
    lines = [Line(Text("完全校准", "perfectly calibrated"), "baseline", ((low, low), (1.0, 1.0)), "dotted")]
    for name, reading in scored.items():
        text, ece = reading_name(name), decimal(reading["probabilities"]["ece"])
        bins = reading["probabilities"]["reliability"]
        sizes = sorted({b["n"] for b in bins})
        each = number(sizes[0]) if len(sizes) == 1 else f"{number(sizes[0])}–{number(sizes[-1])}"
        named = Text(
            f"{text.zh}（ECE {ece}；{len(bins)} 格，每格 n = {each}）",
            f"{text.en} (ECE {ece}; {len(bins)} bins, n = {each} in each)",
        )
        marker: Marker = "square" if stage_of(name) == "before" else "circle"
        colour, points, _ = _look(name, series(bins, "accuracy", "confidence"))
        ordered = sorted(bins, key=lambda b: (b["confidence"], b["accuracy"]))
        lines.append(Line(named, colour, points, "none", marker, spans=tuple(b["accuracy_ci"] for b in ordered)))
    given = Text("模型给出的概率（须线：95% 区间）", "probability given (whiskers: 95% interval)")
    x = Axis(given, low, 1.03, _whole_percent)
    y = Axis(Text("实际准确率", "accuracy"), *WHOLE, _whole_percent)
    title = Text("可靠性图", "Reliability diagram")
    return Chart(title, _rows(scored), x, y, tuple(lines))


def _rows(scored: Mapping[str, Mapping[str, Any]]) -> str:
    """The number of rows, or both where the untuned model was asked a part of them."""
    return "n = " + " / ".join(number(n) for n in sorted({reading["n"] for reading in scored.values()}))


def coverage(metrics: Mapping[str, Any]) -> Chart | None:
    """Accuracy over the share of reviews that the model answers by itself, the surest first; from 20 reviews on."""
    lines, scored = [], _scored(metrics, "risk_coverage")
    for name, reading in scored.items():
        enough = [one for one in reading["probabilities"]["risk_coverage"] if one["n"] >= ROWS_A_BIN]
        if points := series(enough, "accuracy", "coverage"):
            lines.append(Line(reading_name(name), *_look(name, points)))
    if not lines:
        return None
    chosen = ((metrics.get("selective") or {}).get("readings") or {}).get("after_score") or {}
    if (test := chosen.get("test")) and test["accuracy"] is not None:
        note = Text("验证集选定的阈值，测试集结果（95% 区间）", "threshold chosen on validation, result on test (95%)")
        point, span = (test["coverage"], test["accuracy"]), tuple(test["accuracy_ci"])
        lines.append(Line(note, "ink", (point,), "none", "diamond", spans=(span,)))
    answered = Text(f"独立回答的比例（从 {ROWS_A_BIN} 条起）", f"share answered (from {ROWS_A_BIN} reviews on)")
    x = Axis(answered, 0, 1.02, _whole_percent)
    y = Axis(Text("准确率", "accuracy"), *WHOLE, _whole_percent)
    title = Text("覆盖率与准确率", "Coverage and accuracy")
    return Chart(title, _rows(scored), x, y, tuple(lines))


Draw = Callable[[Mapping[str, Any]], Chart | None]
CHARTS: dict[str, Draw] = {"loss": loss, "accuracy": accuracy, "reliability": reliability, "coverage": coverage}


def series(rows: Sequence[Mapping[str, Any]], y: str, x: str = "step") -> Points:
    """The points of `rows` by rising x, without those that lack y."""
    return tuple(sorted((row[x], row[y]) for row in rows if row.get(y) is not None))


def smoothing(points: int) -> float:
    """The weight to smooth that many points with: none for ten or fewer, where an average would only lag behind."""
    return min(0.8, max(0.0, 1 - 10 / max(points, 1)))


def smoothed(values: Sequence[float], weight: float) -> list[float]:
    """Exponential moving average with the start-up bias taken out, as in Adam (Kingma and Ba 2015, section 3)."""
    return pd.Series(values, dtype=float).ewm(alpha=1 - weight).mean().tolist()


def split_sizes(metrics: Mapping[str, Any], *splits: str) -> str:
    """How many rows each of `splits` has: "train n = 5,590, val n = 622"; those that are not known are left out."""
    sizes = {s: (metrics.get("counts") or {}).get(s, {}).get("total") for s in splits}
    return ", ".join(f"{split} n = {number(size)}" for split, size in sizes.items() if size is not None)


def _by_step(
    metrics: Mapping[str, Any],
    title: Text,
    rows: str,
    y: Text,
    write: Callable[[float], str],
    lines: Iterable[Line],
    floor: float | None = None,
    top: float | None = None,
) -> Chart | None:
    """A chart over training steps with the lines that have points, the chosen checkpoint marked; None without any.

    floor, top: where the axis of y ends, where the points do not say it.
    """
    drawn = tuple(line for line in lines if line.points)
    if not drawn:
        return None
    xs, ys = zip(*chain.from_iterable(line.points for line in drawn), strict=True)
    low, high = _range(ys, 0.12)
    written = any(line.values for line in drawn)  # next to the first point, and the last
    step = metrics["curves"]["best_step"]
    best = any(point["step"] == step for point in metrics["curves"]["val"])
    return Chart(
        title,
        rows,
        Axis(Text("训练步数", "training step"), *_range(xs, 0.1 if written else 0.03), lambda value: f"{value:,.0f}"),
        Axis(y, low if floor is None else floor, high if top is None else top, write),
        drawn,
        (step, Text(f"选用的检查点（第 {step} 步）", f"chosen checkpoint (step {step})")) if best else None,
    )


def _range(values: Iterable[float], margin: float) -> tuple[float, float]:
    """From the smallest to the greatest value, with a margin on both sides as a share of the range."""
    known = tuple(values)
    spread = ((max(known) - min(known)) or 0.1) * margin
    return min(known) - spread, max(known) + spread


def _scored(metrics: Mapping[str, Any], curve: str) -> dict[str, Mapping[str, Any]]:
    """The readings by score, before and after, that have points on `curve` (reliability or risk_coverage)."""
    readings = ((name, metrics["readings"].get(name)) for name in ("before_score", "after_score"))
    return {name: r for name, r in readings if r and r["probabilities"] and r["probabilities"].get(curve)}


def _look(name: str, points: Points) -> tuple[Colour, Points, Stroke]:
    return ("before", points, "dashed") if stage_of(name) == "before" else ("after", points, "solid")
