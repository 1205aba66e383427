"""What each reading costs: parameters, training time, milliseconds a review."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.scoring.predictions import BASELINES_RECORD
from train.checkpoints import weight_files
from workspace import stages
from workspace.files import read_json
from workspace.safetensors_header import read_header


@dataclass(frozen=True)
class Costs:
    """None where a value is not known. parameters: of the whole model; trained_parameters: of what tuning changed."""

    parameters: int | None = None
    trained_parameters: int | None = None
    train_seconds: float | None = None
    ms_per_review: float | None = None


def count_parameters(weights: Path) -> int | None:
    """The number of values in the *.safetensors files of a folder, or in one such file, read from the headers alone.

    Tied weights stand in the file once and count once. None when there are none or a header cannot be read.
    """
    files = sorted(weights.glob("*.safetensors")) if weights.is_dir() else [weights]
    try:
        counts = [read_header(file).parameters for file in files]
    except (OSError, ValueError):
        return None
    return sum(counts) if counts else None


def used_checkpoint(train: Path) -> Path | None:
    """The checkpoint that best.json names, else the newest that has weights; None when there is none."""
    if (train / "best.json").is_file():
        step = read_json(train / "best.json").get("step")
        if (train / f"checkpoint-{step}").is_dir():
            return train / f"checkpoint-{step}"
    found = [path for path in train.glob("checkpoint-*") if _step(path) is not None and weight_files(path)]
    return max(found, key=lambda folder: _step(folder) or 0, default=None)


def reading_costs(run: Path, plan: dict[str, Any], names: list[str]) -> dict[str, Costs]:
    """The costs of each reading by name, from the baselines' record, the model's files and the speed the answers took.

    RUN/before/summary.json and RUN/after/summary.json hold {"ms_per_review": {"generate", "score", "few_shot"}}.
    """
    baselines = read_json(run / BASELINES_RECORD) if (run / BASELINES_RECORD).is_file() else {}
    whole = count_parameters(Path(plan["model_folder"])) if plan.get("model_folder") else None
    checkpoint = used_checkpoint(run / "train")
    adapter = count_parameters(checkpoint) if checkpoint else None
    costs = {}
    for name in names:
        side, _, how = name.partition("_")
        if name in baselines:
            known = baselines[name]
            costs[name] = Costs(
                known["parameters"], known["parameters"], known["train_seconds"], known["ms_per_review"]
            )
            continue
        summary = run / side / "summary.json"
        speeds = read_json(summary).get("ms_per_review") or {} if summary.is_file() else {}
        tuned = side == "after"
        costs[name] = Costs(
            parameters=whole,
            trained_parameters=adapter if tuned else None,
            train_seconds=stages.seconds_taken(run, "train") if tuned else None,
            ms_per_review=speeds.get(how.removesuffix("_threshold")),
        )
    return costs


def _step(checkpoint: Path) -> int | None:
    digits = checkpoint.name.removeprefix("checkpoint-")
    return int(digits) if digits.isdecimal() else None
