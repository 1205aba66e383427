"""Tune: `swift sft` with the run's resolved YAML, going on from the newest whole checkpoint.

Run as: python -m train.sft RUN

Where several nodes tune, all see the folder RUN, and each runs this command; the first alone plans, prepares, keeps the
records and evaluates.
"""

import argparse
import math
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from plan.distributed import (
    launch_environment,
    left_out_line,
    node_rank,
    planned_processes,
    steps_an_epoch,
    wait_for_first_node,
)
from plan.hardware import child_environment, this_machine
from plan.memory import as_options, less_memory, remember
from plan.run import result_values
from train.checkpoints import checkpoints, choose_best, is_finished, newest_whole, step_of, weight_files
from train.estimate import tell_if_long
from workspace import stages
from workspace.child_process import OutOfMemory, run_child
from workspace.errors import UserError, run_main
from workspace.files import read_json, sha256_file, sha256_json, whole_lines, write_json, write_text
from workspace.folder_lock import locked_run
from workspace.paths import shown


def main(argv: Sequence[str] | None = None) -> int:
    """Tune the model of a run."""
    parser = argparse.ArgumentParser(prog="python -m train.sft", description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="the run folder, made by plan.cli")
    run = parser.parse_args(argv).run.absolute()
    if node_rank(os.environ) > 0:
        join(run)
        return 0
    with locked_run(run):
        tune(run)
    return 0


def tune(run: Path, estimate: bool = True) -> None:
    """Write run/train/checkpoint-N and run/train/best.json. A finished run trains nothing more.

    `estimate`: measure first how long it will take, where that may be hours.
    Raises `UserError` when `swift sft` fails or has used other rows than prep wrote.
    """
    _check_run(run)
    while True:
        try:
            return _tune(run, estimate)
        except OutOfMemory as error:
            _need_less(run, error)


def _tune(run: Path, estimate: bool) -> None:
    plan, train = read_json(run / "run.json"), run / "train"
    dataset = Path(plan["dataset"])
    values = yaml.safe_load((run / "sft.yaml").read_text(encoding="utf-8"))
    inputs = {
        "sft.yaml": sha256_json(result_values(values)),
        "model": plan["model_fingerprint"],
        "train.jsonl": sha256_file(dataset / "train.jsonl"),
        "val.jsonl": sha256_file(dataset / "val.jsonl"),
        "plugins": [sha256_file(Path(path)) for path in result_values(values).get("external_plugins", [])],
    }
    if stages.finished(run, "train", inputs):
        return
    if line := left_out_line(values, read_json(dataset / "manifest.json")["counts"]["train"]["total"]):
        print(f"train: {line}", flush=True)
    stages.forget(run, "train")
    seconds = _start_or_continue(train, inputs)
    last = newest_whole(train)
    begin = time.monotonic()
    if last is None or not is_finished(last, values):
        if last is not None:
            print(f"train: going on from {last.name}", flush=True)
        _discard_after(train, last)
        if last is None and estimate and planned_processes(values).nodes == 1:
            tell_if_long(run, values, dataset, _environment(values))
        try:
            _run_swift(run, values, plan, last, run / "train.log")
        finally:
            write_json(train / "inputs.json", {"inputs": inputs, "seconds": seconds + time.monotonic() - begin})
    check_rows(train, read_json(dataset / "manifest.json"))
    best = choose_best(train)
    best["metric"] = values.get("metric_for_best_model")
    write_json(train / "best.json", best)
    outputs = [train / "best.json", *weight_files(train / best["path"])]
    stages.record(run, "train", inputs, outputs, seconds + time.monotonic() - begin)
    print(f"train: best checkpoint {best['path']} ({best['metric']} {_shown_value(best['value'])})", flush=True)
    if "tensorboard" in str(values.get("report_to", "")):
        print(f"train: curves with `tensorboard --logdir {shown(train / 'runs')}`", flush=True)


def join(run: Path) -> None:
    """Take part, as a node that is not the first, in the tuning that the first node does in the same folder.

    Raises `UserError` when the folder is no run, or `swift sft` fails.
    """
    _check_run(run)
    if planned_processes(yaml.safe_load((run / "sft.yaml").read_text(encoding="utf-8"))).nodes == 1:
        raise UserError(f"NODE_RANK is {os.environ['NODE_RANK']}, but {shown(run)} is planned for one node: unset it")
    wait_for_first_node(os.environ)
    # Only now are plan and checkpoints those of the tuning that has begun.
    values = yaml.safe_load((run / "sft.yaml").read_text(encoding="utf-8"))
    log = run / f"train.node{node_rank(os.environ)}.log"
    _run_swift(run, values, read_json(run / "run.json"), newest_whole(run / "train"), log)


def check_rows(train: Path, manifest: dict[str, Any]) -> None:
    """Raise `UserError` when ms-swift trained or validated on fewer rows than prep wrote: it drops rows silently.

    The counts come from plugins/label_metric.py; a recipe without it cannot be checked.
    """
    seen = train / "label_metric.json"
    if not seen.is_file():
        return
    counts = read_json(seen)
    for split in ("train", "val"):
        expected = manifest["counts"][split]["total"]
        if counts[f"{split}_rows"] != expected:
            raise UserError(
                f"ms-swift used {counts[f'{split}_rows']} of the {expected} {split} rows: the rest is over max_length "
                "or empty; build the dataset anew with this model's tokenizer"
            )


def _need_less(run: Path, error: OutOfMemory) -> None:
    """Write a plan that needs less memory into sft.yaml, where that is allowed; raise `OutOfMemory` where it is not."""
    values = yaml.safe_load((run / "sft.yaml").read_text(encoding="utf-8"))
    less = less_memory(values)
    if less is None:
        raise OutOfMemory(
            f"{error} at the smallest batch: add --max_length {int(values.get('max_length', 512)) // 2}, or take a "
            "smaller model or a machine with more memory"
        ) from error
    if not read_json(run / "run.json").get("auto_batch"):
        raise OutOfMemory(f"{error}: run the same command with {as_options(less)}, or with --auto-batch") from error
    print(f"train: {error}; --auto-batch begins anew with {as_options(less)}", flush=True)
    remember(run, less)
    text = yaml.safe_dump({**values, **less}, allow_unicode=True, sort_keys=False, width=1000)
    write_text(run / "sft.yaml", f"# resolved, then with less memory by --auto-batch: {as_options(less)}\n{text}")


def _check_run(run: Path) -> None:
    if not (run / "sft.yaml").is_file():
        raise UserError(f"{shown(run)} is not a run folder (no sft.yaml): make one with `bash run_sft.sh`")


def _start_or_continue(train: Path, inputs: dict[str, Any]) -> float:
    """Make the folder ready. Checkpoints made from other inputs are removed, never gone on from.

    Returns the seconds that earlier, interrupted attempts took.
    """
    record = train / "inputs.json"
    if record.is_file() and read_json(record)["inputs"] == inputs:
        return read_json(record)["seconds"]
    if checkpoints(train):
        print("train: data, model or recipe changed; the old checkpoints are removed", flush=True)
    for path in [*train.iterdir()] if train.exists() else []:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    # Answers of the adapter that is gone must not stand beside the new one.
    shutil.rmtree(train.parent / "after", ignore_errors=True)
    write_json(record, {"inputs": inputs, "seconds": 0.0})
    return 0.0


def _discard_after(train: Path, last: Path | None) -> None:
    """Remove the torn checkpoints that are newer than the one gone on from: their names will be used again."""
    for path in checkpoints(train):
        if last is None or step_of(path) > step_of(last):
            shutil.rmtree(path)


def _environment(values: dict[str, Any]) -> dict[str, str]:
    """The environment of `swift sft`, with what starts its processes."""
    machine = this_machine()
    base = child_environment(machine, planned_processes(values).per_node)
    return base | launch_environment(values, machine, os.environ)


def _run_swift(run: Path, values: dict[str, Any], plan: dict[str, Any], last: Path | None, log: Path) -> None:
    train = run / "train"
    command = ["swift", "sft", str(run / "sft.yaml")]
    command += ["--resume_from_checkpoint", str(last)] if last else []
    rows = read_json(Path(plan["dataset"]) / "manifest.json")["counts"]["train"]["total"]
    run_child(
        command,
        log,
        _environment(values),
        "train",
        _total_steps(values, rows),
        lambda: _steps_done(train),
        "step",
    )


def _total_steps(values: dict[str, Any], rows: int) -> int:
    if int(values.get("max_steps", -1)) > 0:
        return int(values["max_steps"])
    return math.ceil(steps_an_epoch(values, rows) * float(values.get("num_train_epochs", 3)))


def _steps_done(train: Path) -> int:
    """The last step in ms-swift's log, which gets a line every `logging_steps`."""
    steps = [line["global_step/max_steps"] for line in whole_lines(train / "logging.jsonl") if "loss" in line]
    return int(steps[-1].split("/")[0]) if steps else 0


def _shown_value(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4f}"


if __name__ == "__main__":
    run_main(main)
