"""Training and validation curves from the trainer_state.json that ms-swift leaves in each checkpoint."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.scoring.significance import Interval, wilson
from train.checkpoints import BEST, Best, checkpoints
from train.trainer_state import TrainerState

# Teacher-forced accuracies that ms-swift logs, the wanted one first: whole answers, or single tokens.
_TEACHER_FORCED = ("eval_seq_acc", "eval_token_acc")


@dataclass(frozen=True)
class TrainPoint:
    """Training loss (nats a token, for a head a row; the mean since the last point) at an optimiser step."""

    step: int
    epoch: float | None
    loss: float | None


@dataclass(frozen=True)
class ValPoint:
    """Validation at an optimiser step; what was not logged is None. label_*: the labels that the model would give, the
    interval Wilson's, 95 %, which knows of no choice among checkpoints."""

    step: int
    epoch: float | None
    loss: float | None
    teacher_forced_accuracy: float | None
    label_accuracy: float | None
    label_macro_f1: float | None
    label_accuracy_ci: Interval | None = None


@dataclass(frozen=True)
class Curves:
    """Points by rising step. teacher_forced_metric: which of ms-swift's two accuracies the points hold, or None;
    best_step: the step of the checkpoint that was kept, or None."""

    train: list[TrainPoint]
    val: list[ValPoint]
    teacher_forced_metric: str | None
    best_step: int | None


def load_curves(train: Path, rows: int = 0) -> Curves | None:
    """The curves of the newest readable checkpoint in `train` (RUN/train); None when there is none. rows: validation
    rows, where they are known."""
    state = _newest_state(train)
    if state is None:
        return None
    # ms-swift evaluates twice at the last step, and a metric may come in an entry of its own: one point a step.
    losses: dict[int, dict[str, Any]] = {}
    evaluations: dict[int, dict[str, Any]] = {}
    for entry in state.log_history:
        if not isinstance(step := entry.get("step"), int):
            continue
        if any(key.startswith("eval_") for key in entry):
            evaluations.setdefault(step, {}).update(entry)
        elif "loss" in entry:
            losses[step] = entry
    logged = {key for entry in evaluations.values() for key in entry}
    metric = next((name for name in _TEACHER_FORCED if name in logged), None)
    return Curves(
        train=[TrainPoint(step, _number(e, "epoch"), _number(e, "loss")) for step, e in sorted(losses.items())],
        val=[
            ValPoint(
                step,
                _number(e, "epoch"),
                _number(e, "eval_loss"),
                _number(e, metric),
                _number(e, "eval_label_accuracy"),
                _number(e, "eval_label_macro_f1"),
                _interval(_number(e, "eval_label_accuracy"), rows),
            )
            for step, e in sorted(evaluations.items())
        ],
        teacher_forced_metric=metric,
        best_step=Best.read(train).step if (train / BEST).is_file() else None,
    )


def _newest_state(train: Path) -> TrainerState | None:
    """The newest trainer state; one that a killed run left half written is passed over."""
    for checkpoint in checkpoints(train):
        try:
            return TrainerState.read(checkpoint)
        except (FileNotFoundError, ValueError):
            continue
    return None


def _interval(share: float | None, rows: int) -> Interval | None:
    return None if share is None else wilson(round(share * rows), rows)


def _number(entry: dict[str, Any], key: str | None) -> float | None:
    """A logged number; None when it is missing, or not finite (a diverged run logs NaN)."""
    value = entry.get(key) if key else None
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
