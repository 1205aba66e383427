"""A YAML file read into a pydantic dataclass; each fault is one sentence with file, line, key and remedy."""

import dataclasses
import re
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import AfterValidator, BeforeValidator, Strict, TypeAdapter, ValidationError

from workspace.errors import UserError, nearest
from workspace.paths import ROOT, expanded, shown
from workspace.ranges import Range
from workspace.yaml_files import YamlFile, read_yaml

T = TypeVar("T")
MAPPING = "`key: value` lines"
EXPECTED = {  # pydantic's error type -> what the file should have held
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "dict_type": MAPPING,
    "dataclass_type": MAPPING,
}


class SettingError(ValueError):
    """What is wrong with a value, to follow its key in a sentence; `key` names the part of it that is wrong."""

    def __init__(self, what: str, key: str = "") -> None:
        super().__init__(what)
        self.key = key


def _not_empty(text: str) -> str:
    if not text.strip():
        raise SettingError("is empty, expected text")
    return text


def between(low: float, high: float) -> AfterValidator:
    """A pydantic validator of numbers: low <= value <= high."""
    return within(Range(low, high))


def within(limits: Range) -> AfterValidator:
    """A pydantic validator of numbers of a range."""

    def check(value: float) -> float:
        if fault := limits.fault(value):
            raise SettingError(fault)
        return value

    return AfterValidator(check)


def matching(pattern: str, expected: str) -> AfterValidator:
    """A pydantic validator of texts: all of the text matches the regular expression."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise SettingError(f"is {text!r}, expected {expected}")
        return text

    return AfterValidator(check)


def _below_root(path: Any) -> Path:
    """A path of the file, relative to the repository where it is not absolute."""
    if not isinstance(path, str | Path):
        raise SettingError(f"is {path!r}, expected text")
    if not str(path).strip():
        raise SettingError("is empty, expected text")
    try:
        return ROOT / expanded(path)
    except UserError as error:
        raise SettingError(f"is {str(path)!r}, but that home folder is not known: write the path out") from error


String = Annotated[str, Strict()]
Text = Annotated[str, Strict(), AfterValidator(_not_empty)]
Whole = Annotated[int, Strict()]
Number = Annotated[float, Strict()]  # a whole number is one too
Flag = Annotated[bool, Strict()]
RootPath = Annotated[Path, BeforeValidator(_below_root)]
RootPaths = Annotated[  # one or several
    tuple[RootPath, ...], BeforeValidator(lambda given: given if isinstance(given, list | tuple) else [given])
]


def read_settings(kind: type[T], path: Path, changes: Sequence[YamlFile], given: Mapping[str, Any]) -> T:
    """The settings in the YAML file `path` as an instance of the pydantic dataclass `kind`.

    The section `task` of each override in `changes` takes the place of the file's keys, the last one's first. `given`
    are fields that no file sets. Raises UserError for a key that is unknown, missing or doubled, and for a wrong value.
    """
    file = read_yaml(path, "give a task by its name or its task.yaml")
    values = dict(file.values)
    changed: dict[str, YamlFile] = {}
    for change in changes:
        values |= change.values["task"]
        changed |= dict.fromkeys(change.values["task"], change)
    known = [field.name for field in dataclasses.fields(kind) if field.name not in given]  # type: ignore[arg-type]
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key, value in list(values.items()):
        if key not in known:
            raise UserError(f"{_place(file, changed, str(key))} {_unknown(str(key), known)}")
        if value is None and defaults.get(key) == "":
            values[key] = ""  # a text that may be empty
        elif value is None:
            raise UserError(f"{_place(file, changed, key)} has no value: give one, or take the line out")
    try:
        return TypeAdapter(kind).validate_python({**values, **given})
    except ValidationError as error:
        key, what = _fault(kind, error)
        raise UserError(f"{_place(file, changed, key)} {what}") from error


def replaced(settings: T, values: Mapping[str, Any], place: Callable[[str], str]) -> T:
    """The settings with other values in the place of their own; `place` names a key's place for a message.

    Raises UserError for a wrong value, as `read_settings` does.
    """
    try:
        return dataclasses.replace(settings, **values)  # type: ignore[type-var]
    except ValidationError as error:
        key, what = _fault(type(settings), error)
        raise UserError(f"{place(key)} {what}") from error


def _place(file: YamlFile, changed: Mapping[str, YamlFile], key: str) -> str:
    """`file, line N: key` of the file that sets the key; a key without a line of its own has that of its section."""
    section = key.partition(".")[0]
    source, outer = (changed[section], "task.") if section in changed else (file, "")
    line = source.lines.get(outer + key) or source.lines.get(outer + section)
    return f"{shown(source.path)}{f', line {line}' if line else ''}: {key}"


def _fault(kind: type, error: ValidationError) -> tuple[str, str]:
    """The key of the first fault, inner ones as `outer.inner`, and what is wrong with it."""
    fault = error.errors(include_url=False)[0]
    place, value, context = fault["loc"], fault["input"], fault.get("ctx", {})
    key, name = ".".join(map(str, place)), str(place[-1]) if place else ""
    match fault["type"]:
        case "missing":
            field = _fields(kind, place[:-1])[name]
            wanted = MAPPING if dataclasses.is_dataclass(field) or get_origin(field) is dict else "text"
            return key, f"is missing: add a line `{name}: ...` with {wanted}"
        case "unexpected_keyword_argument":
            return key, _unknown(name, list(_fields(kind, place[:-1])))
        case "literal_error":
            choices = re.findall(r"'([^']*)'", context["expected"])
            return key, f"is {value!r}, expected one of {', '.join(choices)}{nearest(str(value), choices)}"
        case "value_error":
            cause = context["error"]
            inner = getattr(cause, "key", "")
            return f"{key}.{inner}".strip(".") if inner else key, str(cause)
    return key, f"is {value!r}, expected {EXPECTED.get(fault['type'], fault['msg'])}"


def _unknown(key: str, known: Sequence[str]) -> str:
    return f"is not a known key{nearest(key, known)}; known are {', '.join(known)}"


def _fields(kind: Any, place: Sequence[int | str]) -> dict[str, Any]:
    """The fields, by name, of the dataclass at `place` in the dataclass `kind`."""
    for name in place:
        kind = kind.__pydantic_fields__[name].annotation
        if get_origin(kind) in (Union, types.UnionType):
            kind = next(option for option in get_args(kind) if dataclasses.is_dataclass(option))
    return {name: field.annotation for name, field in kind.__pydantic_fields__.items()}
