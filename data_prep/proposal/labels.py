"""Label words for the values of a table's column: its own words, or proposed ones for 1 and 0 and for stars."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from data_prep.label_words import alike, normal, strip_marks
from data_prep.splits.splitting import FEWEST_GROUPS
from data_prep.task import LABELS, RESERVED_WORDS, canonical_value
from workspace.errors import UserError

# Each pair and list differs from its first token on, and no word begins or negates another.
TWO = {"zh": ("正面", "负面"), "en": ("positive", "negative")}
THREE = {"zh": ("正面", "中性", "负面"), "en": ("positive", "neutral", "negative")}
STARS = {
    "zh": ("糟糕", "较差", "一般", "良好", "优秀"),
    "en": ("terrible", "poor", "average", "good", "excellent"),
}  # from one star to five
STAR_NAMES = {"rating", "ratings", "stars", "star", "score", "评分", "星级", "评级", "打分", "評分", "星"}
SEPARATORS = "|;,/、；，"  # between several labels of one row
LISTED = 20  # labels that a prompt names


@dataclass(frozen=True)
class ProposedLabels:
    """`labels`: value in the table -> label word, or None where its rows are left out, in the order of the classes."""

    labels: dict[str, str | None]
    rows: dict[str, int]  # by value
    reason: str
    odd: tuple[str, ...]

    @property
    def words(self) -> list[str]:
        """The label words, each once."""
        return list(dict.fromkeys(word for word in self.labels.values() if word is not None))


def propose_labels(column: pd.Series, name: str | int, language: str) -> ProposedLabels:
    """Label words for the values of the column `name`; `language` is "zh" or "en".

    Raises UserError for several labels a row, for numbers to predict, and where fewer than two classes are left.
    """
    counts = Counter({value: int(rows) for value, rows in column.map(canonical_value).value_counts().items()})
    empty = counts.pop("", 0)
    odd = [f"{empty:,} rows have no label: they are set aside"] if empty else []
    _check_one_label_each(counts, name)
    rare = {value for value, rows in counts.items() if rows < FEWEST_GROUPS}
    usual = [value for value in counts if value not in rare]
    if rare:
        listed = ", ".join(sorted(rare)[:8]) + (", …" if len(rare) > 8 else "")
        odd.append(f"left out, with fewer than {FEWEST_GROUPS} rows each: {listed}")
    words, reason = _words(usual, counts, str(name), language)
    kinds = list(dict.fromkeys(words.values()))
    if not LABELS[0] <= len(kinds) <= LABELS[1]:
        raise UserError(
            f"the column {name} has {len(kinds)} classes of {FEWEST_GROUPS} rows or more, expected {LABELS[0]} to "
            f"{LABELS[1]}: give another column with --label COLUMN"
        )
    joined = [f"{value} = {word}" for value, word in words.items() if value != word and not _is_number(value)]
    if joined:
        odd.append(f"values that differ in case, width or script alone are one class: {', '.join(joined[:8])}")
    odd += alike(kinds)
    labels: dict[str, str | None] = {**words, **dict.fromkeys(sorted(rare))}
    return ProposedLabels(labels, dict(counts), reason, tuple(odd))


def _words(values: Sequence[str], counts: Counter[str], name: str, language: str) -> tuple[dict[str, str], str]:
    """(value -> word in the order of the classes, where the words come from)."""
    numbers = {float(value): value for value in values if _is_number(value)}
    if len(numbers) < len(values):
        return _own_words(values, counts), "the table's own words"
    if any(number % 1 for number in numbers) and len(numbers) > len(STARS["en"]) * 2:
        raise UserError(
            f"the column {name} holds {len(numbers)} different numbers, a quantity and not classes: "
            "give another column with --label COLUMN, or write classes in its place"
        )
    found, ordered = set(numbers), [numbers[number] for number in sorted(numbers)]
    parts = {name.lower(), *name.lower().replace("-", "_").split("_")}
    if found in ({0.0, 1.0}, {-1.0, 1.0}):
        return dict(zip(reversed(ordered), TWO[language], strict=True)), "proposed: the greater number is the good one"
    if found == {-1.0, 0.0, 1.0}:
        words = dict(zip(reversed(ordered), THREE[language], strict=True))
        return words, "proposed: the greater number is the good one"
    if found <= {1.0, 2.0, 3.0, 4.0, 5.0} and len(found) > 2 and parts & STAR_NAMES:
        return {
            numbers[star]: STARS[language][int(star) - 1] for star in sorted(found)
        }, "proposed for one to five stars"
    return {value: value for value in ordered}, "the table's own numbers: better give words, which a model knows"


def _own_words(values: Sequence[str], counts: Counter[str]) -> dict[str, str]:
    """Each value as its word, the most frequent first; values that a reader of answers cannot tell apart share one."""
    ordered = sorted(values, key=lambda value: (-counts[value], value))
    word_of: dict[str, str] = {}
    result: dict[str, str] = {}
    for value in ordered:
        word = " ".join(value.split())
        key = strip_marks(normal(word))
        if not key:
            raise UserError(
                f"the label {value!r} has no letter, digit or symbol to know it by: write a word in its place, "
                "or give another column with --label COLUMN"
            )
        if word.lower() in RESERVED_WORDS:
            word = f"{word} class"
        result[value] = word_of.setdefault(key, word)
    return result


def _check_one_label_each(counts: Counter[str], name: str | int) -> None:
    """Raise UserError where values are lists of other values: several labels a row."""
    for separator in SEPARATORS:
        parts = {value: [part.strip() for part in value.split(separator)] for value in counts if separator in value}
        lists = [value for value, several in parts.items() if sum(part in counts for part in several) > 1]
        if len(lists) > 1 or (lists and sum(counts[value] for value in lists) > 0.02 * counts.total()):
            raise UserError(
                f"the column {name} has several labels in a row, such as {lists[0]!r}: a classifier here gives one "
                "label a text; keep the first of each, or make a column of 1 and 0 for each label"
            )


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return value.lower() not in ("nan", "inf", "-inf", "infinity")
