"""A YAML file of settings whose every key is checked: unknown, missing, doubled and wrongly typed ones are told."""

import difflib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from workspace.errors import UserError
from workspace.paths import shown

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
    """The mapping at `name` in the settings file `path`: `take` its keys one by one, then `finish`."""

    def __init__(self, path: Path, values: dict[Any, Any], name: str = ""):
        self.path = path
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
        return None if values is None else Section(self.path, values, f"{self.name}{key}.")

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
        return UserError(f"{shown(self.path)}: {self.name}{key} {what}")


def read_settings(path: Path) -> Section:
    """The settings in the YAML file `path`. Raises UserError naming file and line."""
    try:
        values = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_Loader)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UserError(f"{shown(path)} cannot be read ({reason}): give a task by its name or its task.yaml") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{shown(path)}{line}: not valid YAML ({getattr(error, 'problem', None) or error})") from error
    except (ValueError, RecursionError) as error:  # an impossible date such as 2024-13-99; nesting without end
        raise UserError(f"{shown(path)}: not valid YAML ({error})") from error
    if not isinstance(values, dict):
        raise UserError(f"{shown(path)}: expected `key: value` lines, found {'nothing' if values is None else values}")
    return Section(path, values)


def nearest(word: str, known: Collection[str]) -> str:
    """', did you mean X?' for the nearest of `known`, or nothing when none is near."""
    close = difflib.get_close_matches(word, [str(one) for one in known], n=1)
    return f", did you mean {close[0]}?" if close else ""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which lets the last of two equal keys win in silence: here that is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is not None and key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key} stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)
