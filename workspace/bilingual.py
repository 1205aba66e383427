"""A text in Chinese and English, and how figures are written: the same in reports and data cards."""

from typing import NamedTuple

NONE = "–"  # shown where a number is undefined or was not measured


class Text(NamedTuple):
    """One text in both languages."""

    zh: str
    en: str


def percent(value: float | None, digits: int = 1) -> str:
    """0.9034 -> 90.3%."""
    return NONE if value is None else f"{value * 100:.{digits}f}%"


def number(value: int | None) -> str:
    """1553 -> 1,553."""
    return NONE if value is None else f"{value:,}"


def signed(value: float | None, digits: int = 1) -> str:
    """A difference of two shares in percentage points, 0.142 -> +14.2; what rounds to zero has no sign."""
    if value is None:
        return NONE
    text = f"{value * 100:+.{digits}f}".replace("-", "\N{MINUS SIGN}")
    return text[1:] if float(text[1:]) == 0 else text


def interval(bounds: tuple[float, float] | list[float] | None) -> str:
    """[0.887, 0.917] -> 88.7–91.7, in per cent."""
    return NONE if bounds is None or None in bounds else f"{bounds[0] * 100:.1f}–{bounds[1] * 100:.1f}"


def signed_interval(bounds: tuple[float, float] | list[float] | None) -> str:
    """[-0.012, 0.034] -> −1.2 … +3.4, in percentage points."""
    return NONE if bounds is None or None in bounds else f"{signed(bounds[0])} … {signed(bounds[1])}"


def decimal(value: float | None, digits: int = 3) -> str:
    """0.8861 -> 0.886."""
    return NONE if value is None else f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def p_value(value: float | None) -> str:
    """A p value as papers print it: never as zero."""
    if value is None:
        return NONE
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def parameters(value: int | None) -> str:
    """26878464 -> 26.9M."""
    if value is None:
        return NONE
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return str(value)


def duration(seconds: float | None) -> str:
    """Seconds in the unit that fits: 0.4 s, 12 s, 3.4 min, 1.2 h."""
    if seconds is None:
        return NONE
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def milliseconds(value: float | None) -> str:
    """0.0512 -> 0.05; 61.7 -> 62."""
    return NONE if value is None else f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 10 else f"{value:,.0f}"
