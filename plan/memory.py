"""What to change when tuning or answering needs more memory than there is, what was changed already, and what of the
machine's choices a run that has begun keeps."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import PositiveInt
from typing_extensions import TypedDict

from plan.distributed import (
    ACCUMULATION,
    BATCH,
    planned_processes,
    rows_a_step,
    share_batch,
    smaller_batch,
    whole_number,
)
from plan.hardware import Machine
from plan.option_values import is_true
from plan.resolved import resolved_values
from plan.result_values import result_values
from plan.run import RECORD, Run
from plan.training_memory import room_gib, step_gib
from workspace import stages
from workspace.errors import UserError
from workspace.files import write_json
from workspace.records import read_if_whole

EVAL_BATCH = "per_device_eval_batch_size"
CHECKPOINTING = "gradient_checkpointing"
PROCESSES = "NPROC_PER_NODE"
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


def bf16_as_begun(run: Path, measured: bool) -> bool:
    """Whether a CPU trains in bfloat16: as measured now, but as it was where the run has begun to train.

    Another measurement, on another machine or under load, must not throw finished steps away.
    """
    if not (run / RECORD).is_file() or not _has_steps(run):
        return measured
    try:
        earlier = Run.read(run).measured_bf16
    except UserError as error:  # it is written again
        print(error, file=sys.stderr, flush=True)
        return measured
    return measured if earlier is None else earlier


def shared_as_begun(
    run: Path, values: Mapping[str, Any], machine: Machine, recipe: Mapping[str, Any]
) -> dict[str, Any]:
    """Batch and accumulation that the tuning of this run has begun with, as keys of `swift sft`, where they are another
    share of the same rows a step, the `recipe` asks for the same batch, the machine holds it, and all else that decides
    the result is as in `values`; of finished tuning also the number of processes that was left to the machine.

    Who else uses a card's memory must not make finished steps stale; and going on, transformers takes the batch of the
    checkpoint, with the accumulation that it is given.
    """
    record = _record(run) if _has_steps(run) else None
    if record is None or record.recipe_batch != recipe_batch(recipe):
        return {}
    if not (earlier := _earlier(run, "sft.yaml", values)):
        return {}
    begun, wanted = {key: earlier[key] for key in (BATCH, ACCUMULATION) if key in earlier}, rows_a_step(values)
    done = stages.read_record(run, "train") is not None
    processes = (earlier.get("ENV") or {}).get(PROCESSES)
    by_machine = (recipe.get("ENV") or {}).get(PROCESSES) == "gpu" and not {PROCESSES, "NNODES"} & os.environ.keys()
    if done and by_machine and processes:  # the recipe's rows, shared out over as many processes as there were
        begun["ENV"] = {**(values.get("ENV") or {}), PROCESSES: processes}
        own = dict(zip((BATCH, ACCUMULATION), record.recipe_batch, strict=True))
        there = {**values, **own, "ENV": begun["ENV"]}
        wanted = rows_a_step({**there, **share_batch(own, {}, planned_processes(there))})
    now = {**values, **begun}
    if result_values(now) != result_values(earlier) or rows_a_step(now) != wanted:
        return {}
    each = planned_processes(now).per_node
    memory = machine.total_of(each) if machine.gpu else machine.memory_gib / each
    fits = step_gib(now, Path(now["model"]), whole_number(begun, BATCH)) <= room_gib(now, memory, Path(now["model"]))
    return begun if done or fits else {}


def recipe_batch(recipe: Mapping[str, Any]) -> tuple[int, int]:
    """Batch and accumulation by the keys of `swift sft` that a recipe has, before the machine shares them out."""
    return whole_number(recipe, BATCH), whole_number(recipe, ACCUMULATION)


def answers_as_begun(run: Path, values: Mapping[str, Any], rows: Path) -> str | None:
    """The dtype that the machine chose when answers of this run were begun, with the model of `values` and the test
    `rows`; None without any."""
    begun = any((run / side / "journal").is_dir() for side in ("before", "after"))
    record = _record(run) if begun else None
    same = record is not None and _earlier(run, "infer.yaml", values).get("val_dataset") == [str(rows)]
    return record.chosen_dtype if record and same else None


def _record(run: Path) -> Run | None:
    """What the run's earlier plan recorded; None where that cannot be read, for it is written anew."""
    try:
        return Run.read(run) if (run / RECORD).is_file() else None
    except UserError:
        return None


def _has_steps(run: Path) -> bool:
    return any((run / "train").glob("checkpoint-*"))


def _earlier(run: Path, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a YAML of the run's earlier plan; none where it cannot be read, for it is written anew, and where the
    model is another than in `values`."""
    try:
        earlier = resolved_values(run / name) if (run / name).is_file() else {}
    except UserError:
        return {}
    record = _record(run)
    base = record.text_base if record else None  # of a model that has read texts, which stands in its place
    return earlier if values.get("model") in (earlier.get("model"), base and str(base)) else {}
