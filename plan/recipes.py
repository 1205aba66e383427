"""Recipes by name: `<task>/<model>` is swift_configs/models/<model>.yaml on the task's rows; `<task>` is its default.

A task's folder, in swift_configs or anywhere, needs a task.yaml alone. A recipe of its own in it, and an infer.yaml,
come before those that all tasks share.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from data_prep.overrides import FOLDER, find_overrides
from data_prep.task import Task, load_task
from plan.option_values import RESERVED
from plan.swift_schema import check_values
from workspace.command_line import caller_folder
from workspace.errors import UserError, nearest
from workspace.paths import CONFIGS, expanded, shown
from workspace.yaml_files import YamlFile, read_yaml

DEFAULT_TASK = "hotel_reviews"
MODELS = CONFIGS / "models"
DEMO_MODEL = "minimind2-small"  # the recipe whose model is built from the demo's package, and has no hub's id
NOT_RECIPES = {"task.yaml", "infer.yaml"}
REMEDY = "name a recipe by <task>/<model>, or a YAML file next to a task.yaml"


class Recipe(NamedTuple):
    """A task and a model to tune for it: the keys of `swift sft` and of `swift infer`, overrides put in."""

    name: str
    path: Path
    task: Task
    sft: dict[str, Any]
    infer: dict[str, Any]
    files: tuple[YamlFile, YamlFile]  # for `swift sft` and `swift infer`, as they are on disk
    overrides: tuple[YamlFile, ...] = ()

    @property
    def is_demo_model(self) -> bool:
        """Whether its model is the demo's, which is built here and is in no hub."""
        return "model" not in self.sft and self.path.stem == DEMO_MODEL

    @property
    def sft_layers(self) -> list[Mapping[str, Any]]:
        """The keys of `swift sft` by who sets them: the model's file, the task, each override; a later one counts."""
        return [self.files[0].values, self.task.sft, *(change.values["sft"] for change in self.overrides)]


def recipe_names() -> list[str]:
    """Every recipe there is, as <task>/<model>."""
    tasks = sorted(path.parent.name for path in CONFIGS.glob("*/task.yaml"))
    return [f"{task}/{path.stem}" for task in tasks for path in sorted(MODELS.glob("*.yaml"))]


def load_recipe(name: str, overrides: Sequence[str] = (), caller: Path | None = None) -> Recipe:
    """The recipe called `name`: <task>, <task>/<model>, or the path of a task's folder, of a YAML file in one, or of a
    task's table.

    Relative paths are taken from `caller`. Of keys that several files set, those of the recipe come first, then those
    below `sft:` in task.yaml, then those of the overrides, the later replacing the earlier. Raises `UserError` for an
    unknown recipe or override, with those known.
    """
    folder, stem = _find(name, caller)
    changes = find_overrides(overrides, folder, caller)
    task = load_task(folder / "task.yaml", changes)
    path = _recipe_file(folder, stem or task.default_recipe)
    if path is None:
        raise _unknown(name)
    own_infer = folder / "infer.yaml"
    files = (
        read_yaml(path, REMEDY),
        read_yaml(own_infer if own_infer.is_file() else CONFIGS / "infer.yaml", "restore it from the repository"),
    )
    # A recipe that all tasks share takes the length to which this task's rows are cut.
    length = {"max_length": task.max_length} if path.parent == MODELS else {}
    sft, infer = {**files[0].values, **length, **task.sft}, dict(files[1].values)
    for change in changes:
        sft |= change.values["sft"]
        infer |= change.values["infer"]
    # The override's file, not a name typed by its path, is in names of folders.
    full = "+".join([f"{task.name}/{path.stem}", *(change.path.stem for change in changes)])
    return Recipe(full, path, task, sft, infer, files, tuple(changes))


def check_recipe(recipe: Recipe) -> None:
    """Raise `UserError`, with file and line, for a key or a value that ms-swift does not take or the pipeline sets."""
    for file, command in zip(recipe.files, ("sft", "infer"), strict=True):
        check_values(file.values, command, file.place)
    # A recipe has its own places, for `swift sft RECIPE.yaml` by hand; here they are replaced.
    check_values(recipe.task.sft, "sft", lambda key: f"{shown(recipe.task.path)}: sft.{key}", RESERVED)
    for change in recipe.overrides:
        for command in ("sft", "infer"):
            check_values(change.values[command], command, _places(change, command), RESERVED)


def _places(change: YamlFile, command: str) -> Callable[[str], str]:
    return lambda key: change.place(f"{command}.{key}")


def _recipe_file(folder: Path, stem: str) -> Path | None:
    """The task's own recipe of this name, else the one that all tasks share; None where there is neither."""
    paths = (place / f"{stem}.yaml" for place in (folder, MODELS))
    fits = Path(stem).name == stem and f"{stem}.yaml" not in NOT_RECIPES
    return next((path for path in paths if path.is_file()), None) if fits else None


def _find(name: str, caller: Path | None) -> tuple[Path, str | None]:
    """(the task's folder, the recipe's name or None for the default)."""
    task_name, _, stem = name.partition("/")
    folder = CONFIGS / task_name
    if task_name != FOLDER and Path(task_name).name == task_name and (folder / "task.yaml").is_file():
        return folder, stem or None
    path = Path(caller or Path.cwd(), expanded(name))
    if (path / "task.yaml").is_file():
        return path, None
    if path.suffix == ".yaml" and path.is_file() and (path.parent / "task.yaml").is_file():
        return path.parent, path.stem
    if (path.parent / "task.yaml").is_file() and _recipe_file(path.parent, path.name):
        return path.parent, path.name
    if is_table(path):
        if found := task_of_table(path):
            return found, None
        raise UserError(f"{shown(path)} has no task yet: `bash run_sft.sh init {shown(path)}` writes one")
    raise _unknown(name)


def is_table(path: Path) -> bool:
    """Whether a word of the command line that names a file means a table, and not a recipe."""
    return path.is_file() and path.suffix not in (".yaml", ".yml")


def ensure_task(name: str | None) -> None:
    """Where a table is given in place of a recipe and no task reads it, write one, and print what it took."""
    if name is not None and is_table(path := caller_folder() / expanded(name)) and task_of_table(path) is None:
        from data_prep.init import init  # here, because it is seldom needed

        init(path)


def task_of_table(table: Path) -> Path | None:
    """The folder of the task below swift_configs that reads this table; None where there is none.

    Raises `UserError` where several do.
    """
    found = []
    for path in sorted(CONFIGS.glob("*/task.yaml")):
        with contextlib.suppress(UserError):  # another task's fault is told when that task is run
            task = load_task(path)
            if task.csv is not None and task.csv.absolute() == table.absolute():
                found.append(path.parent)
    if len(found) > 1:
        names = ", ".join(folder.name for folder in found)
        raise UserError(f"{shown(table)} is the table of several tasks ({names}): give one of them in its place")
    return found[0] if found else None


def _unknown(name: str) -> UserError:
    known = recipe_names()
    return UserError(f"there is no recipe {name}{nearest(name, known)}; known are {', '.join(known)}")
