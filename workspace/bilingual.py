"""A text in Chinese and English, and how counts and shares are written: the same in reports and data cards."""

from typing import NamedTuple

NONE = "–"  # what stands where a number is undefined or was not measured


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
