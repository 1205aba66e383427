"""What doctor says of the room for a run: folders to write to, disk and memory."""

import os
from pathlib import Path

from doctor.check import FAULT, OK, WARNING, Check, Ready
from plan.disk import by_disk, dataset_cache, existing, gib, needed_space, space_sentence
from workspace.paths import cache_folder, shown


def folders(ready: Ready) -> Check:
    """Whether the folders to write to can be written to, and the run's is a run's."""
    from plan.run import check_run_folder

    try:
        check_run_folder(ready.run)
    except OSError as error:
        return Check("folders", FAULT, f"{shown(ready.run)}: {error.strerror}", "choose another folder with --run DIR")
    for folder in (ready.run, ready.dataset, cache_folder()):
        place = existing(folder)
        if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
            return Check("folders", FAULT, f"{shown(folder)} cannot be written ({shown(place)})",
                         "change its owner, or choose another folder with --run DIR or SWIFT_SFT_CACHE")  # fmt: skip
    return Check("folders", OK, f"{shown(ready.run)} and {shown(ready.dataset)} can be written")


def disk(ready: Ready) -> Check:
    """Free space against what the run will write."""
    csv = ready.csv or Path("/nowhere")
    place = ready.model or Path("/nowhere")
    needs = needed_space(
        ready.sft, ready.run, ready.dataset, csv, place, ready.options.limit or ready.recipe.task.limit
    )
    disks = by_disk(needs)
    for need in disks:
        if need.needed > need.free:
            sentence = space_sentence(need, {dataset_cache(): "MODELSCOPE_CACHE", ready.run: "--run"})
            found, _, remedy = sentence.partition(": ")
            return Check("disk", FAULT, found, remedy)
    found = "; ".join(
        f"{' and '.join(shown(folder) for folder in need.folders)}: at most {gib(need.needed)} of {gib(need.free)} free"
        for need in disks
    )
    if ready.model is None or ready.csv is None:
        return Check(
            "disk", WARNING, f"{found}, without the model's or the data's share", "look again once they are there"
        )
    return Check("disk", OK, found)


def memory(ready: Ready) -> Check:
    """Free memory against the estimate by which the batch is chosen (plan/resolve.py)."""
    import psutil

    from plan.distributed import BATCH, planned_processes, whole_number
    from plan.resolve import training_gib

    machine, free = ready.machine, psutil.virtual_memory().available / 2**30
    of = f"{free:.1f} of {machine.memory_gib:.1f} GiB memory are free"
    if ready.model is None:
        return Check("memory", WARNING, f"{of}; the need is known once the model is there", "look again then")
    batch, tokens = whole_number(ready.sft, BATCH), whole_number(ready.sft, "max_length", 512)
    processes = 1 if machine.gpu else planned_processes(ready.sft).per_node
    need = processes * training_gib(ready.model, batch, tokens, str(ready.sft.get("torch_dtype", "float32")))
    checkpointing = str(ready.sft.get("gradient_checkpointing", True)).lower() == "true"
    text = f"training needs about {need:.1f} GiB at batch {batch}"
    text += ", less with gradient checkpointing" if checkpointing else ""
    if ready.sft.get("tuner_type") == "full":
        text += ", and more for all weights' gradients and moments"
    has, what = (machine.gpu_memory_gib, f"the GPU has {machine.gpu_memory_gib:.0f} GiB") if machine.gpu else (free, of)
    if need <= has:
        return Check("memory", OK, f"{text}; {what}")
    remedy = "end other programs, or add --auto-batch, or --max_length 256 / 关闭其他程序或加 --auto-batch"
    # With checkpointing the estimate is far above the need: then it is no fault.
    lost = need > (machine.gpu_memory_gib if machine.gpu else machine.memory_gib) and not checkpointing
    return Check("memory", FAULT if lost and not machine.gpu else WARNING, f"{text}; {what}", remedy)
