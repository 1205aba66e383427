"""What a line chart is made of: described once, drawn by the page as SVG and by `eval.reporting.pictures` as a PNG."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from workspace.bilingual import Text

RADIUS = 4.5  # of a marker, in units of the SVG's viewBox

Points = tuple[tuple[float, float], ...]
Colour = Literal["baseline", "before", "after", "f1", "ink"]
Stroke = Literal["solid", "dashed", "dotted", "thin", "none"]
Marker = Literal["none", "circle", "square", "triangle", "diamond"]


class Frame(NamedTuple):
    """The SVG's viewBox, and where the plot lies in it; y downwards."""

    width: int = 440
    height: int = 280
    left: int = 52
    right: int = 416
    top: int = 12
    bottom: int = 232


FRAME = Frame()


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

    radii: of the markers, all `RADIUS` where empty. values: whether y is written at each point.
    """

    name: Text | None
    colour: Colour
    points: Points
    stroke: Stroke = "solid"
    marker: Marker = "none"
    radii: tuple[float, ...] = ()
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
