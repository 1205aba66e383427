"""What to change when tuning or answering needs more memory than there is, and what was changed already."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import PositiveInt
from typing_extensions import TypedDict

from plan.distributed import BATCH, smaller_batch, whole_number
from plan.option_values import is_true
from workspace.files import write_json
from workspace.records import read_if_whole

EVAL_BATCH = "per_device_eval_batch_size"
CHECKPOINTING = "gradient_checkpointing"
AUTO_BATCH_FILE = "auto_batch.json"


class _Fitting(TypedDict, total=False):
    per_device_train_batch_size: PositiveInt
    gradient_accumulation_steps: PositiveInt
    per_device_eval_batch_size: PositiveInt
    gradient_checkpointing: bool


def less_memory(values: Mapping[str, Any]) -> dict[str, Any] | None:
    """The options of `swift sft` that need less memory than `values` and leave the effective batch as it is.

    A smaller batch with more accumulation, half of it where that divides, and half as many validation rows; at a batch
    of one, one validation row, which changes no result, then activations computed again instead of kept; None when all
    that is done already.
    """
    eval_batch = whole_number(values, EVAL_BATCH, whole_number(values, BATCH))
    if smaller := smaller_batch(values):
        return {**smaller, EVAL_BATCH: max(1, eval_batch // 2)}
    if eval_batch > 1 and str(values.get("eval_strategy")) != "no":
        return {EVAL_BATCH: 1}
    if not is_true(values, CHECKPOINTING, True):
        return {CHECKPOINTING: True}
    return None


def as_options(values: Mapping[str, Any]) -> str:
    """Options as a user types them."""
    return " ".join(f"--{key} {str(value).lower()}" for key, value in values.items())


def found_before(run: Path) -> dict[str, Any]:
    """What `--auto-batch` found to fit in earlier attempts of this run, as options of `swift sft`."""
    return dict(read_if_whole(run / AUTO_BATCH_FILE, _Fitting) or {})


def remember(run: Path, values: Mapping[str, Any]) -> None:
    """Keep what fits, so that going on starts from it."""
    write_json(run / AUTO_BATCH_FILE, found_before(run) | dict(values))
