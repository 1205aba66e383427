"""YAML files that a person wrote: read safely, doubled keys refused, each key's line known for messages."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from workspace.errors import UserError
from workspace.paths import shown

HALF = re.compile("[\ud800-\udfff]")  # a surrogate without its other half
MOST_NODES = 100_000  # keys and values of a file
MOST_BYTES = 1_000_000


class YamlFile(NamedTuple):
    """The mapping in a file. `lines` counts from 1 and names keys of inner mappings as `outer.inner`."""

    path: Path
    values: dict[Any, Any]
    lines: Mapping[str, int]

    def place(self, key: str) -> str:
        """`file, line N: key`, for a message."""
        line = self.lines.get(key)
        return f"{shown(self.path)}{f', line {line}' if line else ''}: {key.rsplit('.', 1)[-1]}"


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which lets the last of two equal keys win, and reads 010 as 8, in silence: here errors.

    So is half a character, which "\\ud800" stands for: no file could be written with it.
    """

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        text = super().construct_scalar(node)
        if isinstance(text, str) and HALF.search(text):
            raise yaml.constructor.ConstructorError(None, None, "half of a character in a text", node.start_mark)
        return text

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is not None and key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key} stands twice", key_node.start_mark)
            seen.add(key)
            # 010 is the number 8 to YAML, 12:30 is 750, 1_000 is 1000: none of them is what a table has.
            value = self.construct_object(key_node, deep=True)
            if isinstance(value, int | float) and not isinstance(value, bool) and str(value) != key:
                problem = f"the key {key} is read as the number {value}: put it in quotes"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path, remedy: str) -> YamlFile:
    """The mapping in the YAML file `path`. Raises UserError naming file and line; `remedy` ends the sentence for a
    file that cannot be read."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"{shown(path)} has more than {MOST_BYTES:,} bytes: {remedy}")
        loader = _Loader(path.read_text(encoding="utf-8-sig"))
        node = loader.get_single_node()
        if node is not None and _size(node, {}) > MOST_NODES:
            raise UserError(f"{shown(path)} has more than {MOST_NODES:,} values, aliases written out: write fewer")
        values = None if node is None else loader.construct_document(node)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UserError(f"{shown(path)} cannot be read ({reason}): {remedy}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        reason = " ".join(str(getattr(error, "problem", None) or error).split())
        raise UserError(f"{shown(path)}{line}: not valid YAML ({reason})") from error
    except (ValueError, RecursionError) as error:  # an impossible date such as 2024-13-99; nesting without end
        raise UserError(f"{shown(path)}: not valid YAML ({error})") from error
    if not isinstance(values, dict) or not isinstance(node, yaml.MappingNode):
        found = "nothing" if values is None else f"{values!r:.100}"
        raise UserError(f"{shown(path)}: expected `key: value` lines, found {found}")
    for key in values:
        if not isinstance(key, str):
            raise UserError(f"{shown(path)}: the key {key!r:.100} is no text: put it in quotes")
    return YamlFile(path, values, _lines(node))


def _size(node: yaml.Node, known: dict[yaml.Node, float]) -> float:
    """The keys and values below a node, every alias counted as what it stands for; infinite for one inside itself."""
    if node not in known:
        known[node] = math.inf
        below = node.value if isinstance(node, yaml.CollectionNode) else ()
        known[node] = 1 + sum(
            _size(one, known) for pair in below for one in (pair if isinstance(pair, tuple) else (pair,))
        )
    return known[node]


def _lines(node: yaml.MappingNode) -> dict[str, int]:
    found = {}
    for key, value in node.value:
        if isinstance(key, yaml.ScalarNode):
            found[key.value] = key.start_mark.line + 1
            for inner, _ in value.value if isinstance(value, yaml.MappingNode) else ():
                if isinstance(inner, yaml.ScalarNode):
                    found[f"{key.value}.{inner.value}"] = inner.start_mark.line + 1
    return found
