"""Recipes by name: `<task>/<name>` is swift_configs/<task>/<name>.yaml, plain ms-swift; `<task>` is its default."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from data_prep.overrides import FOLDER, find_overrides
from data_prep.task import Task, load_task
from plan.options import RESERVED
from plan.swift_schema import check_values
from workspace.errors import UserError, nearest
from workspace.paths import CONFIGS
from workspace.yaml_files import YamlFile, read_yaml

DEFAULT_TASK = "hotel_reviews"
NOT_RECIPES = {"task.yaml", "infer.yaml"}
PIPELINES = RESERVED.keys() - {"external_plugins"}  # what an override may not set
REMEDY = "name a recipe by <task>/<name>, or a YAML file beside a task.yaml"


class Recipe(NamedTuple):
    """A task, and one way to tune for it: the keys of `swift sft` and of `swift infer`, overrides put in."""

    name: str
    path: Path
    task: Task
    sft: dict[str, Any]
    infer: dict[str, Any]
    files: tuple[YamlFile, YamlFile]  # for `swift sft` and `swift infer`, as they stand on disk
    overrides: tuple[YamlFile, ...] = ()


def recipe_names() -> list[str]:
    """Every recipe there is, as <task>/<name>."""
    paths = sorted(path for task in CONFIGS.glob("*/task.yaml") for path in task.parent.glob("*.yaml"))
    return [f"{path.parent.name}/{path.stem}" for path in paths if path.name not in NOT_RECIPES]


def load_recipe(name: str, overrides: Sequence[str] = (), caller: Path | None = None) -> Recipe:
    """The recipe called `name`: <task>, <task>/<name>, or the path of a task's folder or of a YAML file in one.

    Relative paths are taken from `caller`. Raises `UserError` for an unknown recipe or override, with those known.
    """
    folder, stem = _find(name, caller)
    changes = find_overrides(overrides, folder, caller)
    task = load_task(folder / "task.yaml", changes)
    path = folder / f"{stem or task.default_recipe}.yaml"
    if not path.is_file() or path.name in NOT_RECIPES:
        raise _unknown(name)
    files = (read_yaml(path, REMEDY), read_yaml(folder / "infer.yaml", "a task's folder needs an infer.yaml"))
    sft, infer = dict(files[0].values), dict(files[1].values)
    for change in changes:
        sft |= change.values["sft"]
        infer |= change.values["infer"]
    # The override's file, not a name typed by its path, stands in names of folders.
    full = "+".join([f"{task.name}/{path.stem}", *(change.path.stem for change in changes)])
    return Recipe(full, path, task, sft, infer, files, tuple(changes))


def check_recipe(recipe: Recipe) -> None:
    """Raise `UserError`, with file and line, for a key or a value that ms-swift does not take or the pipeline sets."""
    for file, command in zip(recipe.files, ("sft", "infer"), strict=True):
        check_values(file.values, command, file.place)
    for change in recipe.overrides:
        for key in sorted(PIPELINES & change.values["sft"].keys()):
            raise UserError(f"{change.place(f'sft.{key}')} is decided by the pipeline: {RESERVED[key]}")
        for command in ("sft", "infer"):
            check_values(change.values[command], command, _places(change, command))


def _places(change: YamlFile, command: str) -> Any:
    return lambda key: change.place(f"{command}.{key}")


def _find(name: str, caller: Path | None) -> tuple[Path, str | None]:
    """(the task's folder, the recipe's name in it or None for the default)."""
    task_name, _, stem = name.partition("/")
    folder = CONFIGS / task_name
    if task_name != FOLDER and Path(task_name).name == task_name and (folder / "task.yaml").is_file():
        return folder, stem or None
    path = Path(caller or Path.cwd(), Path(name).expanduser())
    if (path / "task.yaml").is_file():
        return path, None
    if path.suffix == ".yaml" and path.is_file() and (path.parent / "task.yaml").is_file():
        return path.parent, path.stem
    raise _unknown(name)


def _unknown(name: str) -> UserError:
    known = recipe_names()
    return UserError(f"there is no recipe {name}{nearest(name, known)}; known are {', '.join(known)}")
