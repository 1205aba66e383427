"""A soup: the adapters of runs that went from one start through their rows in other orders, averaged into one adapter.

Wortsman et al. (ICML, 2022) average whole weights. Of LoRA, A and B are averaged each by itself, so that the soup has
their rank and costs what one of them does. That is near the mean of the products B A only where all began with the same
A: `swift sft` draws it by `seed`, while `data_seed` alone decides the order of the rows, so runs of one `seed` and
several `data_seed` share it (B begins at zero).
"""

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from plan.provenance import DATA_FILE, PACKAGES_FILE
from plan.run import Run
from train.checkpoints import ADAPTER_CONFIG, ADAPTER_WEIGHTS, Best, best_checkpoint, weights_sha256
from workspace import stages
from workspace.errors import UserError
from workspace.files import remove
from workspace.marker import mark
from workspace.paths import shown
from workspace.records import read

# What decides the adapter that a run begins with: fields of its record, keys of its sft.yaml.
BEGUN, DRAWN = ("model_fingerprint", "start_adapter"), ("seed", "init_weights", "tuner_type")
# Fields of adapter_config.json that say what the weights are applied to, and how.
APPLIED = ("r", "lora_alpha", "target_modules", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora", "peft_type")
SETTINGS_FILES = (ADAPTER_CONFIG, "args.json")


def make_soup(folder: Path, runs: Sequence[Path]) -> None:
    """Make `folder` a run whose tuned model is the average of those of `runs`; what is that already is left alone.

    Raises `UserError` for runs that are not tuned, hold no adapter, or began from other adapters.
    """
    parts = [Run.read(one) for one in runs]
    checkpoints = [best_checkpoint(one.folder) for one in parts]
    check_same_start(parts, checkpoints)
    tuned = stages.read_record(parts[0].folder, "train")
    inputs = tuned.inputs if tuned else {}  # also what rows it was tuned on, for whoever goes on from it
    inputs = inputs | {"soup": [weights_sha256(one) for one in checkpoints], "config": parts[0].config_sha256}
    if stages.finished(folder, "train", inputs):
        return
    begin = time.monotonic()
    soup = replace(parts[0], folder=folder.absolute(), command=None)
    mark(folder, "run")
    stages.forget(folder, "train")
    header = f"# {soup.recipe}, the average of {', '.join(shown(one.folder) for one in parts)}"
    soup.write_yaml("sft", parts[0].sft_values() | {"output_dir": str(soup.train_folder)}, header)
    soup.write_yaml("infer", parts[0].infer_values(), header)
    for name in (DATA_FILE, PACKAGES_FILE):
        if (parts[0].folder / name).is_file():
            shutil.copy(parts[0].folder / name, folder / name)
    soup.write()
    if soup.train_folder.exists():
        remove(soup.train_folder)
    made = soup.train_folder / checkpoints[0].name
    write_average(made, checkpoints)
    best = Best(Best.read(parts[0].train_folder).step, made.name).write(soup.train_folder)
    outputs = [best, *(made / name for name in (ADAPTER_WEIGHTS, *SETTINGS_FILES))]
    seconds = sum(stages.seconds_taken(one.folder, "train") or 0.0 for one in parts) + time.monotonic() - begin
    stages.record(folder, "train", inputs, outputs, seconds)


def write_average(made: Path, checkpoints: Sequence[Path]) -> None:
    """Write the adapter whose every tensor is the mean of those of `checkpoints`, with the first one's settings.

    Raises `UserError` for adapters of other layers or shapes.
    """
    import torch  # seconds, which only this takes
    from safetensors.torch import load_file, save_file

    loaded = [load_file(one / ADAPTER_WEIGHTS) for one in checkpoints]
    shapes = [{name: (tensor.shape, tensor.dtype) for name, tensor in one.items()} for one in loaded]
    for one, checkpoint in zip(shapes, checkpoints, strict=True):
        if one != shapes[0]:
            raise UserError(f"{_other(checkpoint, checkpoints[0])} in its layers: average runs of one recipe")
    mean = {name: torch.stack([one[name] for one in loaded]).double().mean(0) for name in shapes[0]}
    made.mkdir(parents=True)
    for name in SETTINGS_FILES:
        shutil.copy(checkpoints[0] / name, made / name)
    weights = {name: tensor.to(loaded[0][name].dtype) for name, tensor in mean.items()}
    save_file(weights, made / ADAPTER_WEIGHTS, metadata={"format": "pt"})


def check_same_start(runs: Sequence[Run], checkpoints: Sequence[Path]) -> None:
    """Raise `UserError` unless all runs are of adapters that fit together and began as the same one."""
    known: list[dict[str, Any]] = []
    for run, checkpoint in zip(runs, checkpoints, strict=True):
        if not (checkpoint / ADAPTER_WEIGHTS).is_file():
            raise UserError(f"{shown(checkpoint)} holds no adapter, and only adapters are averaged: leave --soup out")
        config, values = read(checkpoint / ADAPTER_CONFIG, dict[str, Any], "tune the run again"), run.sft_values()
        facts = {name: getattr(run, name) for name in BEGUN} | {name: config.get(name) for name in APPLIED}
        facts["target_modules"] = sorted(config.get("target_modules") or ())
        known.append(facts | {name: values.get(name) for name in DRAWN})
        for name, value in known[-1].items():
            if value != known[0][name]:
                raise UserError(
                    f"{_other(run.folder, runs[0].folder)} in {name} ({value} and {known[0][name]}), so "
                    "the adapters did not begin as the same one: tune them again with --seeds N N N --soup"
                )


def _other(one: Path, first: Path) -> str:
    return f"{shown(one)} cannot be averaged with {shown(first)}: it differs"
