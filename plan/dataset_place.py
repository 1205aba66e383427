"""Where the dataset of a run lies: the task's own folder, or one beside it for what an option makes another dataset."""

from pathlib import Path

from data_prep.task import Task
from plan.options import Options
from plan.recipes import Recipe
from workspace.files import sha256_json
from workspace.paths import DATASETS


def dataset_folder(task: Task, options: Options, model: Path, max_length: int, recipe: Recipe) -> Path:
    """dataset_jsonl/<task>, or a folder next to it when an option makes the data another than the task's own."""
    own = {"prompt": task.prompt, "max_length": task.max_length, "recipe": task.default_recipe}
    values = {
        "csv": str(options.csv) if options.csv else None,
        "limit": options.limit,
        "prompt": options.prompt,
        "max_length": max_length,
        "model": str(model) if options.model else None,  # another tokenizer cuts long reviews elsewhere
        "recipe": recipe.path.stem,
        "template": options.swift.get("template"),
        "overrides": [change.values["task"] for change in recipe.overrides if change.values["task"]] or None,
    }
    changed = {key: value for key, value in values.items() if value not in (None, own.get(key))}
    if not changed:
        return DATASETS / task.name
    limit = f"limit{options.limit}-" if options.limit else ""
    return DATASETS / f"{task.name}@{limit}{sha256_json(changed)[:8]}"
