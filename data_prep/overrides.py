"""Override files: a few keys that take the place of a recipe's, in the sections `task`, `sft` and `infer`.

`swift_configs/overrides/NAME.yaml` fits every task, `swift_configs/<task>/overrides/NAME.yaml` one; any other file can
be named by its path.
"""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from workspace.errors import UserError, nearest
from workspace.paths import CONFIGS, expanded, shown
from workspace.yaml_files import YamlFile, read_yaml

SECTIONS = ("task", "sft", "infer")
FOLDER = "overrides"


def find_overrides(names: Sequence[str], task_folder: Path, caller: Path | None = None) -> list[YamlFile]:
    """The override files called `names`, in that order; relative paths are taken from `caller`.

    Raises UserError for a name without a file, a broken file, and two files that set one key to two values.
    """
    files = [read_override(_find(name, task_folder, caller)) for name in names]
    for former, latter in combinations(files, 2):
        for section in SECTIONS:
            mine, theirs = former.values.get(section, {}), latter.values.get(section, {})
            for key in sorted(mine.keys() & theirs.keys()):
                if mine[key] != theirs[key]:
                    raise UserError(
                        f"{latter.place(f'{section}.{key}')} is {theirs[key]!r}, but {shown(former.path)} says "
                        f"{mine[key]!r}: leave one of the two overrides out"
                    )
    return files


def read_override(path: Path) -> YamlFile:
    """The override in the file `path`; absent sections are empty. Raises UserError for what is no override."""
    file = read_yaml(path, "name an override of swift_configs/overrides, or a YAML file")
    for section, keys in file.values.items():
        if section not in SECTIONS:
            raise UserError(
                f"{file.place(str(section))} is no section of an override{nearest(str(section), SECTIONS)}; "
                f"known are {', '.join(SECTIONS)}"
            )
        if not isinstance(keys, dict) or not all(isinstance(key, str) for key in keys):
            raise UserError(f"{file.place(section)} is {keys!r}, expected `key: value` lines below it")
    return file._replace(values={section: file.values.get(section, {}) for section in SECTIONS})


def known_overrides(task_folder: Path) -> dict[str, Path]:
    """Every override that fits the task in `task_folder`, by name; a task's own comes before the common one."""
    paths = [*sorted((CONFIGS / FOLDER).glob("*.yaml")), *sorted((task_folder / FOLDER).glob("*.yaml"))]
    return {path.stem: path for path in paths}


def _find(name: str, task_folder: Path, caller: Path | None) -> Path:
    known = known_overrides(task_folder)
    if name in known:
        return known[name]
    path = Path(caller or Path.cwd(), expanded(name))
    if path.is_file():
        return path
    raise UserError(f"there is no override {name}{nearest(name, known)}; known are {', '.join(known) or 'none'}")
