"""The pictures of a data card, drawn from the manifest alone: rows by class and split, and lengths."""

import unicodedata
from typing import TYPE_CHECKING, Any

from data_prep.manifest import Histogram, Manifest
from data_prep.task import SPLITS
from workspace.bilingual import Text, number, percent
from workspace.fonts import Font
from workspace.markdown import one_line
from workspace.picture_style import (
    BLUE,
    GREEN,
    GREY,
    HALO,
    INK,
    ORANGE,
    PALE_BLUE,
    PALE_ORANGE,
    Pen,
    add_title,
    canvas,
    drawing,
    empty_figure,
    png,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

SPLIT_WORDS = {"train": Text("训练", "train"), "val": Text("验证", "val"), "test": Text("测试", "test")}
SPLIT_COLOURS = {"train": BLUE, "val": PALE_BLUE, "test": ORANGE}
CLASS_COLOURS = (BLUE, ORANGE, PALE_BLUE, GREEN, PALE_ORANGE, GREY)  # more classes than these are not told apart
CLASSES_SHOWN = 20  # of more classes the largest and the smallest are shown, half of each
WIDEST = 20  # columns of a label word that is shown whole; a Chinese character takes two


def draw_card(manifest: Manifest, font: Font | None) -> dict[str, bytes]:
    """Every picture of the card as file name -> PNG bytes; in English alone when `font` is None."""
    with drawing(font) as pen:
        return {name: png(draw(manifest, pen)) for name, draw in PICTURES.items()}


def class_balance(manifest: Manifest, pen: Pen) -> "Figure":
    """A bar for each class, its parts the rows of each split."""
    labels, counts = shown_labels(manifest), manifest.counts
    sums = [sum(counts.of(name)[label] for name in SPLITS) for label in labels]
    n = sum(counts.of(name)["total"] for name in SPLITS)
    figure, axes = canvas(2.6 + 0.62 * len(labels))
    title = Text("各类别的行数", "Rows by class")
    if len(labels) < len(manifest.labels):
        title = Text(
            f"最大和最小的类别（共 {len(manifest.labels)} 个）",
            f"Largest and smallest of {len(manifest.labels)} classes",
        )
    add_title(figure, pen, title, f"n = {number(n)}")
    left = [0] * len(labels)
    for name in SPLITS:
        part = [counts.of(name)[label] for label in labels]
        axes.barh(
            range(len(labels)), part, 0.62, left, color=SPLIT_COLOURS[name], label=pen.both(SPLIT_WORDS[name], " ")
        )
        left = [before + more for before, more in zip(left, part, strict=True)]
    for at, rows in enumerate(sums):
        text = f"{number(rows)} · {percent(rows / n)}"
        axes.annotate(text, (rows, at), (8, 0), textcoords="offset points", va="center", fontsize=15, bbox=HALO["bbox"])
    axes.set_yticks(range(len(labels)), label_names(labels, pen))
    axes.set(ylim=(len(labels) - 0.5, -0.5), xlim=(0, max(sums) * 1.34))
    axes.grid(axis="y", visible=False)
    _count_axis(axes.xaxis)
    axes.set_xlabel(pen.both(Text("行数", "rows"), " "))
    figure.legend(loc="outside lower left", ncols=len(SPLITS))
    return figure


def lengths(manifest: Manifest, pen: Pen) -> "Figure":
    """Histograms of the reviews' characters and, where a tokenizer was given, of the whole rows' tokens."""
    from matplotlib.patches import Patch

    characters, tokens = manifest.characters, manifest.tokens
    labels, rows = manifest.labels, sum(manifest.counts.of(name)["total"] for name in SPLITS)
    figure = empty_figure(8.6 if tokens else 5.2)
    add_title(figure, pen, Text("长度分布", "Lengths"), f"n = {number(rows)}")
    plots = figure.subplots(2 if tokens else 1, 1, squeeze=False)[:, 0]
    shown = [(characters.histogram, Text("评论的字数", "characters of the review"), characters.median)]
    if tokens:
        title = Text("整行的词元数，截断前", "tokens of the whole row, uncut")
        shown.append((tokens.histogram, title, tokens.before.median))
    for axes, (histogram, title, median) in zip(plots, shown, strict=True):
        _histogram(axes, pen, histogram, labels)
        axes.set_xlabel(pen.both(title, " "))
        _mark(axes, pen, Text("中位数", "median"), median, ":")
    if tokens and manifest.max_length <= tokens.histogram.edges[-1]:
        _mark(plots[1], pen, Text("上限", "limit"), manifest.max_length, "-")
    for axes in plots:
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.2)  # above: it covers no bar
    if len(labels) <= len(CLASS_COLOURS):
        colours = zip(label_names(labels, pen), CLASS_COLOURS, strict=False)
        handles = [Patch(facecolor=colour, label=name) for name, colour in colours]
        figure.legend(handles=handles, loc="outside lower left", ncols=min(len(labels), 3))
    return figure


def shown_labels(manifest: Manifest) -> list[str]:
    """All labels in the task's order; of many the largest and the smallest, the largest first."""
    labels, counts = manifest.labels, manifest.counts
    if len(labels) <= CLASSES_SHOWN:
        return labels
    by_size = sorted(labels, key=lambda label: -sum(counts.of(name)[label] for name in SPLITS))
    return [*by_size[: CLASSES_SHOWN // 2], *by_size[-CLASSES_SHOWN // 2 :]]


def label_names(labels: list[str], pen: Pen) -> list[str]:
    """The label words as they are drawn: on one line, shortened, numbered where no font has their characters."""
    return [pen.word(_shortened(one_line(label)), f"label {at}") for at, label in enumerate(labels, start=1)]


def _histogram(axes: "Axes", pen: Pen, histogram: Histogram, labels: list[str]) -> None:
    """Bars of the classes upon each other; the last bar, a little apart, holds all that is longer."""
    edges = histogram.edges
    step = edges[1] - edges[0]
    last = edges[-1] + step
    left, below = [*edges[:-1], last], [0] * len(edges)
    rows = [histogram.classes[label].counts for label in labels]
    if len(rows) > len(CLASS_COLOURS):
        rows = [[sum(several) for several in zip(*rows, strict=True)]]
    for counts, colour in zip(rows, CLASS_COLOURS, strict=False):
        axes.bar(left, counts, step, below, align="edge", color=colour, edgecolor="white", linewidth=0.6)
        below = [before + more for before, more in zip(below, counts, strict=True)]
    axes.set_ylabel(pen.both(Text("行数", "rows"), " "))
    axes.grid(axis="x", visible=False)
    _count_axis(axes.yaxis)
    room = last - (last - edges[0]) / 10 if below[-1] else last  # for the name of the last bar
    ticks = [tick for tick in _round_ticks().tick_values(edges[0], edges[-1]) if edges[0] <= tick <= room]
    names = [f"{tick:,.0f}" for tick in ticks]
    if below[-1]:
        ticks, names = [*ticks, last + step / 2], [*names, f"≥{number(edges[-1])}"]
    axes.set_xticks(ticks, names)


def _mark(axes: "Axes", pen: Pen, name: Text, value: float, style: str) -> None:
    axes.axvline(value, color=INK, linestyle=style, linewidth=2, label=f"{pen.both(name, ' ')} {value:,.0f}")


def _count_axis(axis: Any) -> None:
    axis.set_major_locator(_round_ticks())
    axis.set_major_formatter("{x:,.0f}")


def _round_ticks() -> "MaxNLocator":
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=True)


def _shortened(label: str) -> str:
    width = 0
    for at, char in enumerate(label):
        width += 2 if unicodedata.east_asian_width(char) in "WF" else 1
        if width > WIDEST:
            return label[:at] + "…"
    return label


PICTURES = {"class_balance.png": class_balance, "lengths.png": lengths}
