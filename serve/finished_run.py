"""A run that is finished, read once for all that is made of it: its figures, its data, what its readings answered."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from data_prep.manifest import Manifest
from data_prep.task import Task
from eval.baselines import SPLITS
from eval.evaluate import load_run_task
from eval.infer import check_responses_are_current
from eval.scoring.predictions import RunPredictions, load_predictions
from eval.scoring.responses import Split, as_shown, load_split
from plan.run import Run
from workspace.errors import UserError
from workspace.paths import shown
from workspace.records import read

CLOSE = 1e-4  # of a temperature, weight or bias: of a probability less than that


@dataclass(frozen=True)
class FinishedRun:
    """A run, the metrics.json of its answers, the manifest and the splits of its dataset, its task, its readings."""

    run: Run
    metrics: dict[str, Any]
    manifest: Manifest
    task: Task
    train: Split
    val: Split
    test: Split
    predictions: RunPredictions

    @classmethod
    def read(cls, run: Run) -> "FinishedRun":
        """All of the run. Raises `UserError` where it is not finished, or what it was scored from has changed since."""
        again = f"run `python -m eval.report {shown(run.folder)}` again"
        path = run.folder / "metrics.json"
        if not path.is_file():
            raise UserError(
                f"{shown(run.folder)} is not finished (it has no metrics.json): "
                f"run the same `bash run_sft.sh` command again, to its end"
            )
        metrics = read(path, dict[str, Any], again)
        check_responses_are_current(run)
        manifest = Manifest.read(run.dataset)
        train, val, test = (
            load_split(run.dataset, name, run.labels, manifest.files.get(f"{name}.jsonl")) for name in SPLITS
        )
        task = load_run_task(run)
        if task is None:
            raise UserError(
                f"{shown(run.task_file or run.folder)} is not the task of {shown(run.folder)} any more: put it back as "
                "it was when the run was planned"
            )
        found = load_predictions(run.folder, test, val, run.labels, task.synonyms)
        correct = found.correct(test)
        try:
            scored = {name: reading["correct"] for name, reading in metrics["readings"].items()}
            same = correct == scored and _as_reported(found, metrics) and "decision" in metrics
        except (KeyError, TypeError, AttributeError):
            same = False
        if not same:
            raise UserError(f"{shown(path)} is of other answers than the run has now: {again}")
        return cls(run, metrics, manifest, task, train, val, test, found)

    def as_shown(self) -> tuple[Split, Split, Split]:
        """Train, validation and test rows as eval.baselines reads them: cut, without the prompt around them."""
        train, val, test = as_shown(self.train, self.val, self.test)
        return train, val, test


def _as_reported(found: RunPredictions, metrics: dict[str, Any]) -> bool:
    """Whether calibrations and stack are those of the report, on whose probabilities its thresholds were chosen."""
    calibrations = [one.calibration for one in found.test.values() if one.calibration]
    own = [(one.temperature, *(one.biases or ())) for one in calibrations]
    own += [(*found.stack.pool.weights, *(found.stack.pool.biases or ()))] if found.stack else []
    reported = [one["calibration"] for one in metrics["readings"].values() if one["calibration"]]
    told = [(one["temperature"], *(one["biases"] or {}).values()) for one in reported]
    if stack := metrics["stack"]:
        told.append((*stack["weights"].values(), *(stack["biases"] or {}).values()))
    return [len(one) for one in own] == [len(one) for one in told] and all(
        np.allclose(*pair, rtol=0, atol=CLOSE) for pair in zip(own, told, strict=True)
    )
