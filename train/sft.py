"""Tune: `swift sft` with the run's resolved YAML, going on from the newest whole checkpoint.

Run as: python -m train.sft RUN

Where several nodes tune, all see the folder RUN, and each runs this command; the first alone plans, prepares, keeps the
records and evaluates.
"""

import math
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_prep.manifest import Counts, Manifest
from data_prep.rows import read_rows
from plan.distributed import (
    check_planned_for,
    launch_environment,
    left_out_line,
    node_rank,
    planned_processes,
    steps_an_epoch,
    wait_for_first_node,
)  # fmt: skip
from plan.hardware import child_environment, this_machine, used_by
from plan.memory import as_options, less_memory, remember
from plan.provenance import code_sha256, current_model, made_by
from plan.result_values import result_values
from plan.run import Run, locked_run
from plan.training_memory import larger_room
from train.checkpoints import (
    checkpoints,
    choose_best,
    newest_whole,
    settings_files,
    settings_sha256,
    step_of,
    weight_files,
    weights_sha256,
)
from train.estimate import LossLine, swift_command, warn_if_long
from train.trainer_state import LABEL_METRIC, LabelMetric, is_finished
from workspace import stages
from workspace.child_process import OutOfMemory, run_child
from workspace.command_line import Parser, given_path
from workspace.errors import UserError, run_main
from workspace.files import remove, sha256_file, sha256_json
from workspace.folder_lock import kept
from workspace.paths import ROOT, shown
from workspace.records import whole_lines


def main(argv: Sequence[str] | None = None) -> int:
    """Tune the model of a run."""
    parser = Parser("python -m train.sft", __doc__)
    parser.add_argument("run", type=given_path, help="the run folder, made by `python -m plan`")
    run = parser.parse_args(argv).run.absolute()
    if node_rank(os.environ) > 0:
        join(run)
        return 0
    with locked_run(run):
        tune(run)
    return 0


def tune(folder: Path, estimate: bool = True) -> None:
    """Write train/checkpoint-N and train/best.json in a run's folder. A finished run trains nothing more.

    `estimate`: measure first how long it will take, where that may be hours.
    Raises `UserError` when `swift sft` fails or has used other rows than prep wrote.
    """
    tune_run(Run.read(folder), estimate)


def tune_run(run: Run, estimate: bool = True) -> None:
    """The same for a run at hand, which may have no record of its own (eval/encoder.py)."""
    while True:
        try:
            return _tune(run, estimate)
        except OutOfMemory as error:
            _need_less(run, error)


def _tune(run: Run, estimate: bool) -> None:
    train, values, inputs = run.train_folder, run.sft_values(), _inputs(run)
    counts = Manifest.read(run.dataset).counts
    if stages.finished(run.folder, "train", inputs):
        return
    check_planned_for(run.machine, this_machine())
    for split in ("train", "val"):
        read_rows(run.dataset / f"{split}.jsonl")  # ms-swift reads more into a row than prep writes
    if line := left_out_line(values, counts.train["total"]):
        print(f"train: {line}", flush=True)
    _discard_changed(run.folder)
    stages.forget(run.folder, "train")
    progress = stages.begin(run.folder, "train", sha256_json(inputs))
    last = newest_whole(train)
    begin, earlier = time.monotonic(), progress.seconds
    if last is None or not is_finished(last, values):
        if last is not None:
            print(f"train: going on from {last.name}", flush=True)
        _discard_after(train, last)
        if last is None and estimate and planned_processes(values).nodes == 1:
            warn_if_long(run.folder, values, run.dataset, _environment(values))
        (train / LABEL_METRIC).unlink(missing_ok=True)  # written again before the first step
        try:
            with kept(run.dataset):
                _run_swift(run, values, last, run.folder / "train.log")
        except OutOfMemory:
            raise
        except UserError:
            check_rows(train, counts)  # says more, where rows are missing
            raise
        finally:
            progress.seconds = earlier + time.monotonic() - begin
            progress.write(train)
        _check_unchanged(run, inputs)
    check_rows(train, counts)
    best = choose_best(train, values.get("metric_for_best_model"))
    outputs = [best.write(train), *weight_files(train / best.path), *settings_files(train / best.path)]
    seconds = earlier + time.monotonic() - begin
    stages.record(run.folder, "train", inputs, outputs, seconds, made_by(values.get("external_plugins", [])))
    reached = "not measured" if best.value is None else f"{best.value:.4f}"
    print(f"train: best checkpoint {best.path} ({best.metric} {reached})", flush=True)
    if "tensorboard" in str(values.get("report_to", "")):
        print(f"train: curves with `tensorboard --logdir {shown(train / 'runs')}`", flush=True)


def join(folder: Path) -> None:
    """Take part, as a node that is not the first, in the tuning that the first node does in the same folder.

    Raises `UserError` when the folder is no run, or `swift sft` fails.
    """
    if planned_processes(Run.read(folder).sft_values()).nodes == 1:
        number = os.environ["NODE_RANK"]
        raise UserError(f"NODE_RANK is {number}, but {shown(folder)} is planned for one node: unset it")
    wait_for_first_node(os.environ)
    # Only now are plan and checkpoints those of the tuning that has begun.
    run = Run.read(folder)
    check_planned_for(run.machine, this_machine())
    log = folder / f"train.node{node_rank(os.environ)}.log"
    _run_swift(run, run.sft_values(), newest_whole(run.train_folder), log)


def check_rows(train: Path, counts: Counts) -> None:
    """Raise `UserError` when ms-swift trains or validates on fewer rows than prep wrote: it drops rows silently.

    The counts come from plugins/label_metric.py, before the first step; a recipe without it cannot be checked.
    """
    seen = LabelMetric.read(train)
    if seen is None:
        return
    for split in ("train", "val"):
        used, expected = getattr(seen, f"{split}_rows"), counts.of(split)["total"]
        if used not in (None, expected):
            raise UserError(
                f"{shown(train / LABEL_METRIC)}: ms-swift takes {used} of the {expected} {split} rows, because in its "
                "template the others have more tokens than max_length: set `template:` to the model's own in the "
                "recipe, or shorten the prompt"
            )


def _need_less(run: Run, error: OutOfMemory) -> None:
    """Write a plan that needs less memory into sft.yaml, where that is allowed; raise `OutOfMemory` where it is not."""
    values = run.sft_values()
    less = less_memory(values)
    if less is None:
        machine, more = used_by(values, this_machine()), "take a smaller model, or a machine with more memory"
        if machine.gpu and not error.killed and swift_command(values) == "sft":
            more = larger_room(values, machine.gpus)
        shorter = int(values.get("max_length", 512)) // 2
        raise OutOfMemory(f"{error} at the smallest batch: add --max_length {shorter}, or {more}") from error
    if not run.auto_batch:
        raise OutOfMemory(f"{error}: run the same command with {as_options(less)}, or with --auto-batch") from error
    print(f"train: {error}; --auto-batch starts again with {as_options(less)}", flush=True)
    remember(run.folder, less)
    run.write_yaml("sft", {**values, **less}, f"# resolved, then with less memory by --auto-batch: {as_options(less)}")


def _inputs(run: Run) -> dict[str, Any]:
    """All that the tuned weights depend on, by hash."""
    decisive, start = result_values(run.sft_values()), run.start_adapter
    begun = {"adapter": weights_sha256(start), "adapter_settings": settings_sha256(start)} if start else {}
    return begun | {
        "sft.yaml": sha256_json(decisive),
        "model": current_model(run),
        "train.jsonl": sha256_file(run.dataset / "train.jsonl"),
        "val.jsonl": sha256_file(run.dataset / "val.jsonl"),
        "plugins": code_sha256([ROOT / one for one in decisive.get("external_plugins", [])]),
    }


def _check_unchanged(run: Run, inputs: dict[str, Any]) -> None:
    """Raise `UserError` where an input was replaced while ms-swift ran: nobody knows what the checkpoints learned."""
    try:
        stages.check_unchanged("train", inputs, _inputs(run))
    except UserError:
        remove(run.train_folder)
        raise


def _discard_changed(folder: Path) -> None:
    """Remove checkpoints of a finished training that were changed since: they are trained again."""
    changed = {path.parent for path in stages.changed_outputs(folder, "train")}
    for checkpoint in checkpoints(folder / "train"):  # a damaged record may name any file of the run
        if checkpoint in changed:
            print(f"train: {checkpoint.name} was changed after it was written, and is trained again", flush=True)
            remove(checkpoint)


def _discard_after(train: Path, last: Path | None) -> None:
    """Remove the torn checkpoints that are newer than the one gone on from: their names will be used again."""
    for path in checkpoints(train):
        if last is None or step_of(path) > step_of(last):
            shutil.rmtree(path)


def _environment(values: dict[str, Any]) -> dict[str, str]:
    """The environment of `swift sft`, with what starts its processes."""
    machine = used_by(values, this_machine())
    base = child_environment(machine, planned_processes(values).per_node)
    return base | launch_environment(values, machine, os.environ)


def _run_swift(run: Run, values: dict[str, Any], last: Path | None, log: Path) -> None:
    # Here, wherever the YAML says: the run may have been moved, or come from a stranger.
    command = ["swift", swift_command(values), str(run.folder / "sft.yaml"), "--output_dir", str(run.train_folder)]
    command += ["--external_plugins", *values["external_plugins"]] if values.get("external_plugins") else []
    command += ["--resume_from_checkpoint", str(last)] if last else []
    counts = Manifest.read(run.dataset).counts
    rows = counts.train["total"]
    total = _total_steps(values, rows)
    environment = _environment(values) | {"LABEL_ROWS": f"{rows} {counts.val['total']}"}
    run_child(command, log, environment, "train", total, lambda: _steps_done(run.train_folder), "step")


def _total_steps(values: dict[str, Any], rows: int) -> int:
    if int(values.get("max_steps", -1)) > 0:
        return int(values["max_steps"])
    return math.ceil(steps_an_epoch(values, rows) * float(values.get("num_train_epochs", 3)))


def _steps_done(train: Path) -> int:
    """The last step in ms-swift's log, which gets a line every `logging_steps`."""
    return max((line.step for line in whole_lines(train / "logging.jsonl", LossLine)), default=0)


if __name__ == "__main__":
    run_main(main)
