"""How the PNGs look: colours and sizes, text in two languages, and the parts that several pictures share.

Drawn with matplotlib's object interface alone, so that nothing global outlives a call, and without a time or a version
in the file: the same figures and font give the same bytes. matplotlib is loaded by the first picture, not by an import.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from workspace.bilingual import Text
from workspace.fonts import Font, fallback_font, missing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# Okabe and Ito's colours: told apart with any colour vision, and by lightness in grey print.
BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#7a7a7a"
PALE_BLUE, PALE_ORANGE, PALE_GREY = "#8fc1e0", "#f2b98f", "#c9c9c9"
INK, FAINT, GRID = "#1f2328", "#57606a", "#d8dee4"
WIDTH, DPI = 8.0, 150  # inches: on a phone (about 390 px) 17 points are then still 11 px high
HALO: dict[str, Any] = {"bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.85}}
STYLE: dict[str, Any] = {
    "font.size": 17,
    "axes.titlesize": 16,
    "axes.labelsize": 17,
    "xtick.labelsize": 15,
    "ytick.labelsize": 15,
    "legend.fontsize": 14,
    "legend.frameon": False,
    "lines.linewidth": 2.6,
    "lines.markersize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.titlecolor": FAINT,
    "text.parse_math": False,  # a label word may contain a dollar sign
    "figure.constrained_layout.use": True,
}


class Pen(NamedTuple):
    """What text can be drawn with: the Chinese font, or none, and the one behind it."""

    chinese: Font | None
    latin: Font

    def both(self, text: Text, separator: str = "\n") -> str:
        """Chinese, then English; English alone without a Chinese font."""
        return f"{text.zh}{separator}{text.en}" if self.chinese else text.en

    def word(self, text: str, stand_in: str) -> str:
        """A label word, or `stand_in` where no font at hand has all its characters: never boxes."""
        absent = missing(text, self.latin)
        return stand_in if absent and (not self.chinese or absent & missing(text, self.chinese)) else text


@contextmanager
def drawing(font: Font | None) -> Iterator[Pen]:
    """matplotlib set to `STYLE` within the block, and what to draw text with: English alone when `font` is None."""
    import matplotlib

    pen = Pen(font, fallback_font())
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # not the user's own matplotlibrc: pictures are the same everywhere
        family = [font.family, pen.latin.family] if font else [pen.latin.family]
        style: Any = {**STYLE, "font.family": family}
        matplotlib.rcParams.update(style)
        yield pen


def png(figure: "Figure") -> bytes:
    """The figure as the bytes of a PNG; call it within `drawing`."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DPI, metadata={"Software": None})
    return stream.getvalue()


def canvas(height: float) -> "tuple[Figure, Axes]":
    """A figure of `height` inches with one plot."""
    figure = empty_figure(height)
    return figure, figure.add_subplot()


def empty_figure(height: float) -> "Figure":
    """A figure of `height` inches without a plot, bound to no window and to no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height))
    FigureCanvasAgg(figure)
    return figure


def add_title(figure: "Figure", pen: Pen, title: Text, rows: str) -> None:
    """The title in both languages and how many rows the picture is of, at the head of the figure."""
    height = figure.get_figheight()
    second = [title.en, rows] if pen.chinese else [rows]
    figure.text(0.02, 1 - 0.14 / height, title.zh if pen.chinese else title.en, fontsize=22, va="top")
    figure.text(0.02, 1 - 0.6 / height, " · ".join(part for part in second if part), fontsize=15, va="top", color=FAINT)
    # constrained layout knows nothing of figure texts: leave the head free for them
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.1, rect=(0, 0, 1, 1 - 0.9 / height))


def add_legend(figure: "Figure", handles: list[Any] | None = None) -> None:
    """The legend below the plot, where it covers nothing; of `handles` where they are given."""
    figure.legend(loc="outside lower left", **({"handles": handles} if handles else {}))


def percent_axis(axis: "Axis") -> None:
    """Ticks at round percentages."""
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    axis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(PercentFormatter(1, decimals=0))
