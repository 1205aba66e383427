"""A checkpoint's trainer_state.json: how far training was, what it logged, and whether it had ended there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workspace.files import read_json
from workspace.paths import shown

STATE = "trainer_state.json"


@dataclass(frozen=True)
class TrainerState:
    """What ms-swift's trainer_state.json says of a checkpoint; `log_history` has an entry a log line or validation."""

    step: int
    max_steps: int
    log_history: list[dict[str, Any]]
    best_checkpoint: str | None  # its path on the machine that trained
    best_metric: float | None

    @classmethod
    def read(cls, checkpoint: Path) -> "TrainerState":
        """The state in a checkpoint's folder. Raises FileNotFoundError, and ValueError for one that is torn."""
        state = read_json(checkpoint / STATE)
        try:
            return cls(
                step=state["global_step"],
                max_steps=state["max_steps"],
                log_history=state["log_history"],
                best_checkpoint=state.get("best_model_checkpoint"),
                best_metric=state.get("best_metric"),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{shown(checkpoint / STATE)} is torn") from error

    def best(self, train: Path) -> Path | None:
        """The best checkpoint so far in the folder `train`, wherever that was moved; None without validation."""
        return train / Path(self.best_checkpoint).name if self.best_checkpoint else None


def is_finished(checkpoint: Path, values: Mapping[str, Any]) -> bool:
    """Whether training ended at this checkpoint: at its last step, or early. `values` are those of sft.yaml."""
    state = TrainerState.read(checkpoint)
    return state.step >= state.max_steps or stopped_early(state.log_history, values)


def stopped_early(log_history: Sequence[Mapping[str, Any]], values: Mapping[str, Any]) -> bool:
    """Whether the last `early_stop_interval` validations brought no better metric: ms-swift's callback then stops.

    Going on from such a checkpoint would train on, because the callback begins to count again.
    """
    patience, metric = int(values.get("early_stop_interval") or 0), values.get("metric_for_best_model")
    scores = [line[f"eval_{metric}"] for line in log_history if f"eval_{metric}" in line]
    if not patience or not scores:
        return False
    sign = -1 if str(values.get("greater_is_better", True)).lower() == "false" else 1
    best = max(range(len(scores)), key=lambda at: (sign * scores[at], -at))  # the first of equal ones
    return len(scores) - 1 - best >= patience
