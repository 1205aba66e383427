"""curve.md, curve.html and curve.png: a learning curve, and what it says, in Chinese and English."""

import base64
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from markupsafe import Markup

from eval.reporting.charts import Axis, Chart, Colour, Line
from eval.reporting.curve_wording import facts, sentences
from eval.reporting.pictures import draw_chart
from eval.reporting.render import render, template_text
from eval.reporting.seeds_page import METRICS, OUTCOMES
from eval.reporting.wording import reading_name
from eval.scoring.baseline_records import LINEAR
from workspace import picture_style as style
from workspace.bilingual import Text, number, percent
from workspace.fonts import chinese_font

COLOURS: dict[str, Colour] = {LINEAR: "baseline", "stack": "f1"}
CLOSEST = 0.09  # of the axis, between the numbers written at it
MARGIN = 0.06


@dataclass(frozen=True)
class RowsAxis(Axis):
    """Numbers of rows by their logarithms; those measured are written at it, where there is room."""

    measured: tuple[int, ...] = ()

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """The numbers measured with their texts, the most first in line for room."""
        kept: list[float] = []
        for value in (math.log10(rows) for rows in reversed(self.measured)):
            if all(abs(self.share(value) - self.share(one)) >= CLOSEST for one in kept):
                kept.append(value)
        return [(value, self.write(value)) for value in reversed(kept)]


def render_curve(found: Mapping[str, Any]) -> tuple[str, str]:
    """curve.html and curve.md for what curve.json holds."""
    script = template_text("language.js")
    parts: dict[str, Any] = {
        "c": found,
        "metric": METRICS[found["metric"]],
        "outcomes": OUTCOMES,
        "sentences": sentences(found),
        "facts": facts(found),
    }
    page = render(
        "curve.html.j2",
        **parts,
        chart_of=chart(found),
        style=Markup(template_text("report.css")),  # noqa: S704  our own file
        script=Markup(script),  # noqa: S704  our own file
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    return page, render("curve.md.j2", **parts)


def draw_curve(found: Mapping[str, Any]) -> bytes:
    """curve.png."""
    with style.drawing(chinese_font()) as pen:
        return style.png(draw_chart(chart(found), pen))


def chart(found: Mapping[str, Any]) -> Chart:
    """Each reading over the logarithm of the rows, with whiskers, and dashed what more rows would bring."""
    lines, values = [], list[float]()
    for name, reading in found["readings"].items():
        colour: Colour = COLOURS.get(name, "after")
        xs = [math.log10(one["rows"]) for one in reading["points"]]
        ys = [one["value"] for one in reading["points"]]
        marker = "square" if name == LINEAR else "diamond" if name == "stack" else "circle"
        spans = tuple(one["ci"] or one["rows_ci"] for one in reading["points"])
        points = tuple(zip(xs, ys, strict=True))
        lines.append(Line(reading_name(name), colour, points, marker=marker, spans=spans))  # type: ignore[arg-type]
        values += [*ys, *(end for span in spans for end in span)]
        if (more := reading["more"]) and more["fits"]:
            ahead = math.log10(more["rows"] + more["more"])
            ends = [ys[-1] + gain for gain in (more["gain"], *more["interval"])]
            lines.append(Line(None, colour, ((xs[-1], ys[-1]), (ahead, ends[0])), "dashed"))
            lines.append(Line(None, colour, ((ahead, ends[1]), (ahead, ends[2])), "thin"))
            values += ends
            xs.append(ahead)
    low, high = min(values), max(values)
    room = ((high - low) or 0.1) * MARGIN
    first, last = math.log10(found["rows"][0]), max(x for line in lines for x, _ in line.points)
    side = ((last - first) or 1) * MARGIN
    title = Text("学习曲线", "Learning curve")
    rows = f"test n = {number(found['n'])}, {len(found['seeds'])} seeds"
    x = RowsAxis(
        Text("训练行数（对数刻度）", "training rows (logarithmic)"),
        first - side,
        last + side,
        lambda value: number(round(10**value)),
        tuple(found["rows"]),
    )
    y = Axis(METRICS[found["metric"]], low - room, high + room, partial(percent, digits=0))
    return Chart(title, rows, x, y, tuple(lines))
