"""A recipe that tunes a classification head in place of answers in words: `task_type: seq_cls`."""

from pathlib import Path
from typing import Any

import yaml

from workspace.errors import UserError
from workspace.paths import ROOT

PLUGIN = ROOT / "plugins" / "label_head.py"
TASK_TYPES = ("causal_lm", "seq_cls")


def head_values(values: dict[str, Any], overrides: dict[str, Any], classes: int) -> dict[str, Any]:
    """The keys of `swift sft` that follow where `values` tune a head; none where they tune answers in words.

    The head has one output a class of the task; plugins/label_head.py, without which ms-swift shows the head the
    answer, is added where it is missing. `overrides` are the user's. Raises `UserError` for what cannot be evaluated.
    """
    kind = values.get("task_type", "causal_lm")
    if kind not in TASK_TYPES:
        raise UserError(f"task_type {kind} cannot be evaluated here: use one of {', '.join(TASK_TYPES)}")
    if kind != "seq_cls":
        return {}
    if str(overrides.get("num_labels", classes)) != str(classes):
        raise UserError(f"--num_labels {overrides['num_labels']}: the task has {classes} labels; leave the option out")
    if (problem := values.get("problem_type", "single_label_classification")) != "single_label_classification":
        raise UserError(f"problem_type {problem}: every review has one label here; leave the option out")
    plugins = values.get("external_plugins", [])
    if not any(Path(plugin).name == PLUGIN.name for plugin in plugins):
        plugins = [str(PLUGIN), *plugins]
    return {"num_labels": classes, "external_plugins": plugins}


def is_head(run: Path) -> bool:
    """Whether the run tunes a head, by its resolved sft.yaml; not before it has one."""
    path = run / "sft.yaml"
    return path.is_file() and yaml.safe_load(path.read_text(encoding="utf-8")).get("task_type") == "seq_cls"
