"""Recipes by name: `<task>/<name>` is swift_configs/<task>/<name>.yaml, plain ms-swift; `<task>` is its default."""

from pathlib import Path
from typing import Any, NamedTuple

import yaml

from data_prep.task import Task, load_task
from workspace.errors import UserError
from workspace.paths import CONFIGS, shown

DEFAULT_TASK = "hotel_reviews"
NOT_RECIPES = {"task.yaml", "infer.yaml"}


class Recipe(NamedTuple):
    """A task, and one way to tune for it: the keys of `swift sft` and of `swift infer`."""

    name: str
    path: Path
    task: Task
    sft: dict[str, Any]
    infer: dict[str, Any]


def recipe_names() -> list[str]:
    """Every recipe there is, as <task>/<name>."""
    paths = sorted(CONFIGS.glob("*/*.yaml"))
    return [f"{path.parent.name}/{path.stem}" for path in paths if path.name not in NOT_RECIPES]


def load_recipe(name: str) -> Recipe:
    """The recipe called `name` (<task> or <task>/<name>). Raises `UserError` for an unknown one, with those known."""
    task_name, _, recipe_name = name.partition("/")
    folder = CONFIGS / task_name
    known = recipe_names()
    if not task_name or Path(task_name).name != task_name or not (folder / "task.yaml").is_file():
        raise UserError(f"there is no recipe {name}; known are {', '.join(known)}")
    task = load_task(folder / "task.yaml")
    recipe_name = recipe_name or task.default_recipe
    if f"{task_name}/{recipe_name}" not in known:
        raise UserError(f"there is no recipe {name}; known are {', '.join(known)}")
    path = folder / f"{recipe_name}.yaml"
    return Recipe(f"{task_name}/{recipe_name}", path, task, load_yaml(path), load_yaml(folder / "infer.yaml"))


def load_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises `UserError` naming file and line."""
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{shown(path)} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        line = error.problem_mark.line + 1 if getattr(error, "problem_mark", None) else "?"
        raise UserError(f"{shown(path)}, line {line}: not valid YAML ({getattr(error, 'problem', error)})") from error
    if not isinstance(value, dict):
        raise UserError(f"{shown(path)}: expected `key: value` lines, found {type(value).__name__}")
    return value
