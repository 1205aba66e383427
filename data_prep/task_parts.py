"""The parts of a task.yaml that are settings of their own: source, columns, split, near copies, files beside it."""

import re
from dataclasses import dataclass
from pathlib import Path

from data_prep.settings import Section
from workspace.paths import ROOT

SCHEMES = ("stratified", "original")


@dataclass(frozen=True)
class Source:
    """Where the table can be downloaded, and the SHA-256 (hex) it must have."""

    url: str
    sha256: str


@dataclass(frozen=True)
class Columns:
    """The names of the two columns in the table."""

    text: str
    label: str


@dataclass(frozen=True)
class SplitSettings:
    """How rows go to train, val and test; see data_prep.splitting. `val` and `test` are shares of all rows."""

    scheme: str = "stratified"
    seed: int = 42
    val: float = 0.1
    test: float = 0.1


@dataclass(frozen=True)
class NearDuplicates:
    """Two reviews are near copies when the Jaccard similarity of their character n-grams reaches the threshold."""

    threshold: float = 0.8
    ngram: int = 3


@dataclass(frozen=True)
class Corrections:
    """A CSV of corrected labels (data_prep.table.corrections), and whether it may change val and test labels too."""

    path: Path
    test: bool = False


@dataclass(frozen=True)
class KnownPublic:
    """A file of texts that a model may have seen: one a line, or the column `column` of a table."""

    path: Path
    column: str | None = None


def take_text(section: Section, key: str) -> str:
    """The text at `key`, not empty."""
    value = section.take(key, str)
    if not value.strip():
        raise section.error(key, "is empty, expected text")
    return value


def take_split(top: Section) -> SplitSettings:
    """The section `split`."""
    section = top.section("split", None)
    if section is None:
        return SplitSettings()
    split = SplitSettings(
        scheme=section.choice("scheme", SCHEMES, "stratified"),
        seed=section.number("seed", int, 0, 2**32 - 1, 42),
        val=section.number("val", float, 0.001, 0.9, 0.1),
        test=section.number("test", float, 0.001, 0.9, 0.2 if section.values.get("scheme") == "original" else 0.1),
    )
    section.finish()
    if split.val + split.test > 0.95:
        raise section.error("test", f"and val take {split.val + split.test:.0%} of the rows, expected at most 95 %")
    return split


def take_near_duplicates(top: Section) -> NearDuplicates:
    """The section `near_duplicates`."""
    section = top.section("near_duplicates", None)
    if section is None:
        return NearDuplicates()
    settings = NearDuplicates(
        threshold=section.number("threshold", float, 0.5, 1, 0.8), ngram=section.number("ngram", int, 1, 16, 3)
    )
    section.finish()
    return settings


def take_columns(top: Section) -> Columns:
    """The section `columns`."""
    section = top.section("columns")
    columns = Columns(text=take_text(section, "text").strip(), label=take_text(section, "label").strip())
    section.finish()
    if columns.text == columns.label:
        raise section.error("label", f"is {columns.label!r}, the same column as columns.text")
    return columns


def take_source(top: Section) -> Source | None:
    """The section `source`; None where it is absent."""
    section = top.section("source", None)
    if section is None:
        return None
    source = Source(url=take_text(section, "url"), sha256=take_text(section, "sha256").lower())
    section.finish()
    if not re.match(r"https?://", source.url):
        raise section.error("url", f"is {source.url!r}, expected an address that begins with https:// or http://")
    if not re.fullmatch(r"[0-9a-f]{64}", source.sha256):
        raise section.error("sha256", f"is {source.sha256!r}, expected 64 hexadecimal digits")
    return source


def take_corrections(top: Section) -> Corrections | None:
    """The keys `corrections` and `corrections_test`; None where the first is absent."""
    path = top.take("corrections", str, None)
    test = top.take("corrections_test", bool, False)
    if path is None and test:
        raise top.error("corrections_test", "is true, but there is no `corrections`: name the CSV there")
    return None if path is None else Corrections(ROOT / Path(path).expanduser(), test)


def take_known_public(top: Section) -> KnownPublic | None:
    """The section `known_public`; None where it is absent."""
    section = top.section("known_public", None)
    if section is None:
        return None
    known = KnownPublic(ROOT / Path(take_text(section, "path")).expanduser(), section.take("column", str, None))
    section.finish()
    return known
