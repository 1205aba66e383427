"""The keys of task.yaml that say which table is read and how: its columns, its layout, splits of its own."""

import codecs
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from data_prep.settings import Flag, RootPath, SettingError

PLACE = "{review}"  # the place of the text in a prompt, where there is one text column
PLACE_LIKE = re.compile(r"\{\s*\w[\w .-]*\}")
SPLITS = ("train", "val", "test")
Split = Literal["train", "val", "test"]
STRICT = ConfigDict(extra="forbid")
Column = str | int  # a column's name in the header, or its number from 1
# What a split column usually says, in the form of `split_value`.
USUAL_SPLITS = {
    **dict.fromkeys(("train", "training", "tr", "训练", "训练集"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "development", "eval", "验证", "验证集"), "val"),
    **dict.fromkeys(("test", "testing", "te", "测试", "测试集"), "test"),
}
DELIMITER_NAMES = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "space": " ", "pipe": "|"}


def _column(value: Any) -> Column:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise SettingError(f"is {value!r}, expected a column's name in quotes or its number")
    if isinstance(value, int):
        if value < 1:
            raise SettingError(f"is {value}, expected a column's number: they count from 1")
        return value
    if not value.strip():
        raise SettingError("is empty, expected text")
    return value.strip()


def _columns(value: Any) -> tuple[Column, ...]:
    return tuple(map(_column, value if isinstance(value, list | tuple) else [value]))


def _text_columns(value: Any) -> tuple[Column, ...]:
    names = _columns(value)
    if not names:
        raise SettingError("is an empty list, expected the name of a column")
    return names


Segments = Annotated[tuple[Column, ...], BeforeValidator(_columns)]


def _encoding(name: Any) -> str:
    if not isinstance(name, str) or not name.strip():
        raise SettingError(f"is {name!r}, expected an encoding such as utf-8, gb18030, big5 or cp1252")
    try:
        return codecs.lookup(name.strip()).name
    except LookupError as error:
        raise SettingError(
            f"is {name!r}, which is no known encoding: expected one such as utf-8, utf-16-le, gb18030, big5 or cp1252"
        ) from error


def _delimiter(text: Any) -> str:
    if not isinstance(text, str) or not text:
        raise SettingError(f'is {text!r}, expected what stands between two fields, in quotes: ",", "\\t", ";", "||"')
    text = DELIMITER_NAMES.get(text.lower(), text)
    if any(mark in text for mark in '"\r\n\0'):
        raise SettingError(f"is {text!r}, which holds a quote or a line end: expected other characters")
    return text


def _header(value: Any) -> bool | int:
    if isinstance(value, bool) or (isinstance(value, int) and value >= 1):
        return value
    raise SettingError(f"is {value!r}, expected true, false, or the number of the header's line")


def _sheets(value: Any) -> tuple[str, ...]:
    names = value if isinstance(value, list | tuple) else [value]
    if not names or not all(isinstance(name, str) and name for name in names):
        raise SettingError(f"is {value!r}, expected a sheet's name in quotes, a list of them, or all")
    return tuple(names)


@dataclass(frozen=True, config=STRICT)
class Columns:
    """The table's columns: one or several of text, the label, and an id of the user's own."""

    text: Annotated[tuple[Column, ...], BeforeValidator(_text_columns)]
    label: Annotated[Column, BeforeValidator(_column)]
    id: Annotated[Column, BeforeValidator(_column)] | None = None

    @property
    def places(self) -> tuple[str, ...]:
        """What stands for the text in a prompt; for several columns one each, in their order."""
        return (PLACE,) if len(self.text) == 1 else tuple(f"{{{name}}}" for name in self.text)

    @property
    def all(self) -> tuple[Column, ...]:
        """Text columns, label and id."""
        return (*self.text, self.label, *([] if self.id is None else [self.id]))


def distinct(columns: Columns) -> Columns:
    """A pydantic validator: no column is named twice."""
    if len(set(columns.text)) < len(columns.text):
        raise SettingError(f"is {list(columns.text)!r}: the same column twice", "text")
    if columns.label in columns.text:
        raise SettingError(f"is {columns.label!r}, the same column as columns.text", "label")
    return columns


def check_places(columns: Columns, system: str, prompts: Mapping[str, str]) -> None:
    """Raise SettingError unless each text column has one place in each prompt, and nothing else looks like a place."""
    for key, text in {"system": system, **{f"prompts.{name}": text for name, text in prompts.items()}}.items():
        places = () if key == "system" else columns.places
        if len(columns.text) == 1 and key != "system":  # the column's own name will do too
            text = text.replace(f"{{{columns.text[0]}}}", PLACE)
        for place in places:
            if (count := text.count(place)) != 1:
                raise SettingError(f"has {place} {count} times, expected once", key)
            text = text.replace(place, "")
        if unknown := PLACE_LIKE.search(text):
            known = f"known are {', '.join(places)}" if places else "places are filled in prompts alone"
            remedy = (
                "name the column in columns.text, or write it without braces" if places else "write it without braces"
            )
            raise SettingError(f"has {unknown[0]}, which stands for nothing ({known}): {remedy}", key)


@dataclass(frozen=True, config=STRICT)
class TableSettings:
    """How the table's file is to be read; what is None is found out (data_prep.table)."""

    encoding: Annotated[str, BeforeValidator(_encoding)] | None = None
    delimiter: Annotated[str, BeforeValidator(_delimiter)] | None = None
    header: Annotated[bool | int, BeforeValidator(_header)] | None = None  # a number: the header's line
    quoting: Flag | None = None  # false: a quote is a character as any other
    sheet: Annotated[tuple[str, ...], BeforeValidator(_sheets)] | None = None  # of a workbook; ("all",): every one
    fill_merged: Flag | None = None  # true: every row of a merged cell has its value, not the first alone


@dataclass(frozen=True, config=STRICT)
class TextFile:
    """A file of texts: one a line, or the column `column` of a table, which `table` says how to read."""

    path: RootPath
    column: Annotated[Column, BeforeValidator(_column)] | None = None
    table: TableSettings = Field(default_factory=TableSettings)


def split_value(value: Any) -> str:
    """A cell of a split column as it is looked up."""
    return unicodedata.normalize("NFKC", str(value)).strip().lower()


def _values(given: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(given, dict):
        raise SettingError(f"is {given!r}, expected lines such as `test: [test, holdout]`")
    seen: dict[str, str] = {}
    result = {}
    for split, values in given.items():
        if split not in SPLITS:
            raise SettingError(f"is not a split, expected {', '.join(SPLITS)}", str(split))
        values = values if isinstance(values, list | tuple) else [values]
        if not values or any(isinstance(value, bool) or not isinstance(value, str | int) for value in values):
            raise SettingError(f"is {values!r}, expected a list of the column's values in quotes", split)
        result[split] = tuple(map(split_value, values))
        for value in result[split]:
            if seen.setdefault(value, split) != split:
                raise SettingError(f"has {value!r}, which {seen[value]} has too", split)
    return result


def _files(files: "dict[Split, Path]") -> "dict[Split, Path]":
    for split in ("train", "test"):
        if split not in files:
            raise SettingError(f"has no {split}: add a line `{split}: PATH`")
    if len(set(files.values())) < len(files):
        raise SettingError("names the same file twice")
    return files


SplitValues = Annotated[dict[str, tuple[str, ...]], BeforeValidator(_values)]
SplitFiles = Annotated[dict[Split, RootPath], AfterValidator(_files)]


@dataclass(frozen=True, config=STRICT)
class OwnSplits:
    """Splits that the user made: a column that names each row's, or a file for each (`val` may be missing)."""

    column: Annotated[Column, BeforeValidator(_column)] | None = None
    values: SplitValues | None = None
    files: SplitFiles | None = None

    @model_validator(mode="after")
    def _one_way(self) -> "OwnSplits":
        if self.column is not None and self.files is not None:
            raise SettingError("is given beside files: keep one of the two", "column")
        if self.values is not None and self.column is None:
            raise SettingError("is given without the column that has them: add a line `column: NAME`", "values")
        return self

    @property
    def split_of(self) -> dict[str, str]:
        """Value of the column, as `split_value` has it -> split; usual names besides those that are given."""
        given = {value: split for split, values in (self.values or {}).items() for value in values}
        return {value: split for value, split in USUAL_SPLITS.items() if split not in (self.values or {})} | given
