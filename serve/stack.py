"""The stack as JSON: weights that make one probability of the tuned model's and the linear model's."""

from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import ConfigDict, FiniteFloat

from eval.scoring.log_linear import FloatArray, LogLinear
from eval.scoring.predictions import STACKED
from serve.finished_run import FinishedRun
from serve.linear import AGAIN
from workspace.errors import UserError
from workspace.files import write_json
from workspace.paths import shown
from workspace.records import read

NAME = "stack.json"


@dataclass(frozen=True)
class StackScorer:
    """The log-linear pool (eval.scoring.log_linear) of both models' uncalibrated probabilities, tuned first, and a bias
    a label, None without."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    weights: tuple[FiniteFloat, ...]
    biases: tuple[FiniteFloat, ...] | None

    @classmethod
    def fit(cls, finished: FinishedRun) -> "StackScorer":
        """The stack of a run, learned again from its validation rows. Raises `UserError` where it has none."""
        if (stack := finished.predictions.stack) is None:
            raise UserError(
                f"{shown(finished.run.folder)} has no stack (too few validation rows, or no linear baseline): "
                "take --reading tuned or --reading linear"
            )
        return cls(stack.pool.weights, stack.pool.biases)

    def probabilities(self, tuned: FloatArray, linear: FloatArray) -> FloatArray:
        """Label probabilities (n, labels) from those of both models (n, labels)."""
        return LogLinear(self.weights, self.biases).apply([tuned, linear])

    def write(self, folder: Path) -> Path:
        """Write stack.json; its path."""
        write_json(folder / NAME, asdict(self))
        return folder / NAME

    @classmethod
    def read(cls, folder: Path, labels: int) -> "StackScorer":
        """What `write` wrote, of so many labels. Raises `UserError` for a file that is missing or of another number."""
        path = folder / NAME
        found = read(path, cls, AGAIN)
        if len(found.weights) != len(STACKED) or len(found.biases or range(labels)) != labels:
            raise UserError(f"{shown(path)} is not of {labels} labels: {AGAIN}")
        return found
