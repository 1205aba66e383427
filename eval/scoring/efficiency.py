"""The efficiency of each reading: parameters, training time, milliseconds a review."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from eval.inference.summary import Summary
from eval.scoring.baseline_records import EMBEDDING, ENCODER, Baselines
from eval.scoring.decision import TUNED, cost_of
from eval.scoring.predictions import STACK, STACKED
from plan.run import Run
from train.checkpoints import BEST, Best, checkpoints, weight_files
from workspace import stages
from workspace.safetensors_header import read_header


@dataclass(frozen=True)
class Efficiency:
    """None where a value is not known. parameters: of the whole model; trained_parameters: of what tuning changed."""

    parameters: int | None
    trained_parameters: int | None
    train_seconds: float | None
    ms_per_review: float | None


def count_parameters(weights: Path) -> int | None:
    """The number of values in the *.safetensors files of a folder, or in one such file, read from the headers alone.

    Tied weights are in the file once and count once. None when there are none or a header cannot be read.
    """
    files = sorted(weights.glob("*.safetensors")) if weights.is_dir() else [weights]
    try:
        counts = [read_header(file).parameters for file in files]
    except (OSError, ValueError):
        return None
    return sum(counts) if counts else None


def used_checkpoint(train: Path) -> Path | None:
    """The checkpoint that best.json names, else the newest that has weights; None when there is none."""
    tuned = [checkpoint for checkpoint in checkpoints(train) if weight_files(checkpoint)]
    if (train / BEST).is_file() and (best := train / Best.read(train).path) in tuned:
        return best
    return next(iter(tuned), None)


def costs(efficiency: Mapping[str, Efficiency]) -> dict[str, int]:
    """What each reading costs, as `cost_of` says; an encoder that is no smaller than the language model, as that."""
    found = {name: cost_of(name) for name in efficiency}
    encoder = efficiency[ENCODER].parameters if ENCODER in found else None
    whole = [one.parameters for name, one in efficiency.items() if cost_of(name) == TUNED]
    if encoder and any(model and model <= encoder for model in whole):
        found[ENCODER] = TUNED
    return found


def load_efficiency(run: Run, names: Collection[str]) -> dict[str, Efficiency]:
    """The efficiency of each reading, from the baselines' record, the model's files and the time the answers took."""
    baselines = Baselines.read(run.folder)
    whole = count_parameters(run.model_folder) if run.model_folder else None
    checkpoint = used_checkpoint(run.train_folder)
    adapter = count_parameters(checkpoint) if checkpoint else None
    efficiency = {}
    for name in names:
        if known := getattr(baselines, name, None):
            read_by = whole if name == EMBEDDING else 0
            parameters = None if read_by is None else read_by + known.parameters
            efficiency[name] = Efficiency(parameters, known.parameters, known.train_seconds, known.ms_per_review)
            continue
        if name == STACK:
            continue
        side, _, kind = name.partition("_")
        summary = Summary.read(run.folder / side)
        speed = (
            summary.ms_per_review.get(kind.removesuffix("_threshold").removesuffix("_calibrated")) if summary else None
        )
        tuned = (adapter, stages.seconds_taken(run.folder, "train")) if side == "after" else (None, None)
        efficiency[name] = Efficiency(whole, *tuned, speed)
    if STACK in names:
        efficiency[STACK] = _together(*(efficiency[name] for name in STACKED))
    return efficiency


def _together(*models: Efficiency) -> Efficiency:
    """What it costs to ask each of them; the stack's own arithmetic takes about a microsecond a row."""
    by_key = {key: [getattr(one, key) for one in models] for key in Efficiency.__dataclass_fields__}
    return Efficiency(**{key: None if None in values else sum(values) for key, values in by_key.items()})
