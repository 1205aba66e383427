"""A checkpoint's trainer_state.json: how far training was, what it logged, and whether it had ended there."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, FiniteFloat, WrapValidator

from workspace.records import parse, read_if_whole

LABEL_METRIC = "label_metric.json"
STATE = "trainer_state.json"


CHECKPOINT = re.compile(r"checkpoint-\d{1,18}")


def _number_or_none(value: Any, handler: Callable[[Any], Any]) -> Any:
    try:
        return handler(value)
    except ValueError:
        return None


def _names_a_checkpoint(path: str | None) -> str | None:
    if path and not CHECKPOINT.fullmatch(Path(path).name):
        raise ValueError(f"{path!r} is no checkpoint")
    return path


# What is no number in a line of the log says nothing here.
LogLine = dict[str, Annotated[int | float | None, WrapValidator(_number_or_none)]]


@dataclass(frozen=True)
class TrainerState:
    """What ms-swift's trainer_state.json says of a checkpoint; `log_history` has an entry a log line or validation."""

    step: Annotated[int, Field(validation_alias="global_step")]
    max_steps: int
    log_history: list[LogLine]
    # Its path on the machine that trained.
    best_checkpoint: Annotated[
        str | None, Field(validation_alias="best_model_checkpoint"), AfterValidator(_names_a_checkpoint)
    ] = None
    best_metric: Annotated[FiniteFloat | None, WrapValidator(_number_or_none)] = None

    @classmethod
    def read(cls, checkpoint: Path) -> "TrainerState":
        """The state in a checkpoint's folder. Raises FileNotFoundError, and ValueError for one that is torn."""
        return parse(cls, (checkpoint / STATE).read_bytes())

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
    scores = [score for line in log_history if (score := line.get(f"eval_{metric}")) is not None]
    if not patience or not scores:
        return False
    sign = -1 if str(values.get("greater_is_better", True)).lower() == "false" else 1
    best = max(range(len(scores)), key=lambda at: (sign * scores[at], -at))  # the first of equal ones
    return len(scores) - 1 - best >= patience


@dataclass(frozen=True)
class LabelMetric:
    """train/label_metric.json: the rows that ms-swift really used, and the hash of each validation prompt in order."""

    train_rows: int | None = None
    val_rows: int | None = None
    val_prompt_sha256: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, train: Path) -> "LabelMetric | None":
        """What plugins/label_metric.py left in a folder of checkpoints; None without it, or where it is damaged."""
        return read_if_whole(train / LABEL_METRIC, cls)
