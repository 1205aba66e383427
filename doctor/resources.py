"""What doctor says of the resources of a run: folders to write to, disk and memory."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from doctor.result import FAULT, OK, WARNING, Check
from plan.disk import by_disk, dataset_cache, existing, gib, needed_space, space_fault
from plan.hardware import Machine
from workspace.errors import UserError
from workspace.paths import cache_folder, shown

NOWHERE = Path("/nowhere")  # a table or a model that is not on disk yet: it counts as no bytes


def folders(run: Path, dataset: Path) -> Check:
    """Whether the folders to write to can be written to, and the run's is a run's."""
    from plan.run import check_run_folder

    try:
        check_run_folder(run)
    except OSError as error:
        return Check("folders", FAULT, f"{shown(run)}: {error.strerror}", "choose another folder with --run DIR")
    for folder in (run, dataset, cache_folder()):
        place = existing(folder)
        if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
            return Check("folders", FAULT, f"{shown(folder)} cannot be written ({shown(place)})",
                         "change its owner, or choose another folder with --run DIR or SWIFT_SFT_CACHE")  # fmt: skip
    return Check("folders", OK, f"{shown(run)} and {shown(dataset)} can be written")


def disk(
    sft: Mapping[str, Any], run: Path, dataset: Path, csv: Path | None, model: Path | None, rows: int | None
) -> Check:
    """Free space against what the run will write; a folder that is no run's is not looked through.

    `sft`: the resolved keys of `swift sft`; `rows`: the limit of training rows, None for the whole table.
    """
    from plan.run import check_run_folder

    check_run_folder(run)
    disks = by_disk(needed_space(sft, run, dataset, csv or NOWHERE, model or NOWHERE, rows))
    for need in disks:
        if need.needed > need.free:
            found, remedy = space_fault(need, {dataset_cache(): "MODELSCOPE_CACHE", run: "--run"})
            return Check("disk", FAULT, found, remedy)
    found = "; ".join(
        f"{' and '.join(shown(folder) for folder in need.folders)}: at most {gib(need.needed)} of {gib(need.free)} free"
        for need in disks
    )
    if model is None or csv is None:
        found += ", without the model's or the data's share"
        return Check("disk", WARNING, found, "look again once they are there")
    return Check("disk", OK, found)


def kept_in_parts(sft: Mapping[str, Any], machine: Machine, model: Path) -> str:
    """Why one card does not load the whole model as it is stored, as doctor's pass would; empty where it does."""
    from plan.training_memory import spread_over, step_gib

    if bits := sft.get("quant_bits"):
        return f"the run loads these weights in {bits} bits"
    if (over := spread_over(sft)[0]) > 1:
        return f"the run spreads these weights over {over} GPUs"
    larger = machine.gpu is not None and step_gib(sft, model, 0) > machine.total_of(1)
    return f"the weights are larger than {machine.gpu}" if larger else ""


def memory(machine: Machine, sft: Mapping[str, Any], model: Path | None) -> Check:
    """Free memory against the estimate by which the batch is chosen (plan/resolve.py)."""
    import psutil

    from plan.cpu_kernels import CALLBACK
    from plan.distributed import BATCH, planned_processes, whole_number
    from plan.option_values import is_true
    from plan.training_memory import check_room, step_gib

    free = psutil.virtual_memory().available / 2**30
    of = f"{free:.1f} of {machine.memory_gib:.1f} GiB memory are free"
    if model is None:
        return Check("memory", WARNING, f"{of}; the need is known once the model is there", "look again then")
    try:
        check_room(sft, machine, model)
    except UserError as error:
        found, _, remedy = str(error).rpartition(": ")
        return Check("memory", FAULT, found, remedy)
    batch = whole_number(sft, BATCH)
    processes = 1 if machine.gpu else planned_processes(sft).per_node
    fused = CALLBACK in sft.get("callbacks", [])
    checkpointing = is_true(sft, "gradient_checkpointing", True)
    need = processes * step_gib(sft, model, batch, fused)
    text = f"training needs about {need:.1f} GiB at batch {batch}"
    if sft.get("tuner_type") == "full":
        text += ", and more for all weights' gradients and moments"
    card = machine.memory_of(planned_processes(sft).per_node)
    has, what = (card, f"the GPU has {card:.0f} GiB") if machine.gpu else (free, of)
    if need <= has:
        return Check("memory", OK, f"{text}; {what}")
    remedy = "end other programs, or add --auto-batch, or --max_length 256 / 关闭其他程序或加 --auto-batch"
    lost = need > (card if machine.gpu else machine.memory_gib) and not checkpointing
    return Check("memory", FAULT if lost and not machine.gpu else WARNING, f"{text}; {what}", remedy)
