"""A run's resolved sft.yaml and infer.yaml: plain ms-swift, written by the plan; a user may have changed them since."""

from pathlib import Path
from typing import Any

from pydantic import ConfigDict, JsonValue, PositiveFloat, PositiveInt, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic wants it before Python 3.12

from workspace.errors import UserError
from workspace.yaml_files import read_yaml

AGAIN = "run the same `bash run_sft.sh` command again"


class _Used(TypedDict, total=False):
    """What the keys of a resolved YAML must be where this project counts with them; ms-swift judges the others."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    external_plugins: str | list[str]
    callbacks: str | list[str]
    ENV: dict[str, str | int | float | bool]
    per_device_train_batch_size: PositiveInt
    per_device_eval_batch_size: PositiveInt
    gradient_accumulation_steps: PositiveInt
    max_batch_size: PositiveInt
    num_train_epochs: PositiveFloat
    max_steps: int
    max_length: PositiveInt
    early_stop_interval: int | None
    output_dir: str
    template: str
    metric_for_best_model: str
    task_type: str


# Values are hashed as JSON.
_RESOLVED: tuple[TypeAdapter[Any], ...] = (TypeAdapter(dict[str, JsonValue]), TypeAdapter(_Used))


def resolved_values(path: Path) -> dict[str, Any]:
    """The keys in a resolved sft.yaml or infer.yaml. Raises `UserError` where one that is used here is damaged."""
    file = read_yaml(path, AGAIN)
    try:
        for adapter in _RESOLVED:
            adapter.validate_python(file.values)
        return file.values
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        key = str(fault["loc"][0]) if fault["loc"] else ""
        raise UserError(f"{file.place(key)} cannot be used ({fault['msg']}): {AGAIN}") from error


def is_head(folder: Path) -> bool:
    """Whether the run tunes a classification head, by its resolved sft.yaml; not before it has one."""
    path = folder / "sft.yaml"
    return path.is_file() and resolved_values(path).get("task_type") == "seq_cls"
