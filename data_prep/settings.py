"""A YAML file of settings whose every key is checked: unknown, missing, doubled and wrongly typed ones are told."""

import difflib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from workspace.errors import UserError
from workspace.paths import shown
from workspace.yaml_files import YamlFile, read_yaml

KINDS = {
    str: "text",
    int: "a whole number",
    float: "a number",
    dict: "`key: value` lines",
    list: "a list",
    bool: "true or false",
}
REQUIRED = object()


class Section:
    """The mapping at `name` in the settings file `path`: `take` its keys one by one, then `finish`.

    `elsewhere` names the file of a key that another file has set.
    """

    def __init__(self, path: Path, values: dict[Any, Any], name: str = "", elsewhere: Mapping[str, Path] | None = None):
        self.path = path
        self.elsewhere = elsewhere or {}
        self.values = values
        self.name = name
        self.taken: list[str] = []

    def take(self, key: str, kind: type, default: Any = REQUIRED) -> Any:
        """The value of `key`, checked to be of `kind`; `default` where the key is absent.

        A whole number is accepted where `kind` is float, and nothing but true and false where it is bool. Raises
        UserError for a missing key without a default and for a value of another kind.
        """
        self.taken.append(key)
        if key not in self.values:
            if default is REQUIRED:
                raise self.error(key, f"is missing: add a line `{key}: ...` with {KINDS[kind]}")
            return default
        value = self.values[key]
        if kind is float and type(value) is int:
            return float(value)
        if type(value) is not kind:
            raise self.error(key, f"is {value!r}, expected {KINDS[kind]}")
        return value

    def section(self, key: str, default: Any = REQUIRED) -> "Section | None":
        """The mapping at `key` as a section of its own; None where it is absent and the default is None."""
        values = self.take(key, dict, default)
        path = self.elsewhere.get(key, self.path)
        return None if values is None else Section(path, values, f"{self.name}{key}.")

    def choice(self, key: str, choices: Collection[str], default: Any = REQUIRED) -> Any:
        """The value of `key`, one of `choices`."""
        value = self.take(key, str, default)
        if value not in choices and value is not default:
            raise self.error(key, f"is {value!r}, expected one of {', '.join(choices)}{nearest(value, choices)}")
        return value

    def number(self, key: str, kind: type, low: float, high: float, default: Any = REQUIRED) -> Any:
        """The value of `key`, a number of `kind` with low <= value <= high."""
        value = self.take(key, kind, default)
        if value is not None and not low <= value <= high:  # NaN fails this too
            raise self.error(key, f"is {value!r}, expected a number from {low:g} to {high:g}")
        return value

    def finish(self) -> None:
        """Raise UserError when the file has a key here that nobody took, with the nearest right one."""
        for key in self.values:
            if key not in self.taken:
                raise self.error(
                    key, f"is not a known key{nearest(str(key), self.taken)}; known are {', '.join(self.taken)}"
                )

    def error(self, key: Any, what: str) -> UserError:
        """A UserError that names the file and the key."""
        path = self.elsewhere.get(str(key).partition(".")[0], self.path)
        return UserError(f"{shown(path)}: {self.name}{key} {what}")


def read_settings(path: Path, changes: Sequence[YamlFile] = ()) -> Section:
    """The settings in the YAML file `path`, keys in `changes` put in place of its own, the later ones last.

    Raises UserError naming file and line.
    """
    values = dict(read_yaml(path, "give a task by its name or its task.yaml").values)
    elsewhere = {}
    for change in changes:
        values |= change.values["task"]
        elsewhere |= dict.fromkeys(change.values["task"], change.path)
    return Section(path, values, elsewhere=elsewhere)


def nearest(word: str, known: Collection[str]) -> str:
    """', did you mean X?' for the nearest of `known`, or nothing when none is near."""
    close = difflib.get_close_matches(word, [str(one) for one in known], n=1)
    return f", did you mean {close[0]}?" if close else ""
