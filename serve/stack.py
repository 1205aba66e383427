"""The stack as JSON: coefficients that make one probability of the tuned model's and the linear model's."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, FiniteFloat
from sklearn.linear_model import LogisticRegression

from eval.scoring.predictions import STACK, STACKED
from eval.scoring.stack import fit_stack, log_odds
from serve.finished_run import FinishedRun
from serve.linear import AGAIN, CLOSE
from workspace.errors import UserError
from workspace.files import write_json
from workspace.paths import shown
from workspace.records import read

NAME = "stack.json"


@dataclass(frozen=True)
class StackScorer:
    """Logistic regression on the log-odds (eval.scoring.stack) of both models, tuned first: coefficients
    (1 or labels, features) and intercepts; with two labels they are the second's."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    coefficients: tuple[tuple[FiniteFloat, ...], ...]
    intercepts: tuple[FiniteFloat, ...]

    @classmethod
    def fit(cls, finished: FinishedRun) -> "StackScorer":
        """The stack of a run, learned again from its validation rows. Raises `UserError` where the report has none, or
        it does not answer the test rows as in the report."""
        run, predictions = finished.run, finished.predictions
        reported = predictions.test.get(STACK)
        model = None
        if reported is not None:
            model = fit_stack([predictions.validation[name] for name in STACKED], finished.val.codes(run.labels))
        if reported is None or model is None:
            raise UserError(
                f"{shown(run.folder)} has no stack (too few validation rows, or no linear baseline): "
                "take --reading tuned or --reading linear"
            )
        made = cls(tuple(map(tuple, model.coef_.tolist())), tuple(model.intercept_.tolist()))
        tuned, linear, wanted = (predictions.test[name].probabilities for name in (*STACKED, STACK))
        if tuned is None or linear is None or wanted is None:
            raise ValueError("a reading of the stack has no probabilities")  # which load_predictions rules out
        apart = float(np.abs(made.probabilities(tuned, linear) - wanted).max())
        if not apart <= CLOSE:
            raise UserError(
                f"the stack of {shown(run.folder)}, learned again, answers otherwise than in its report (by up to "
                f"{apart:.1g}): run `python -m eval.report {shown(run.folder)}` again with this scikit-learn"
            )
        return made

    def probabilities(self, tuned: NDArray[np.float64], linear: NDArray[np.float64]) -> NDArray[np.float64]:
        """Label probabilities (n, labels) from those of both models (n, labels)."""
        if not len(tuned):
            return np.zeros(tuned.shape)
        model = LogisticRegression()
        model.classes_ = np.arange(tuned.shape[1])
        model.coef_, model.intercept_ = np.array(self.coefficients), np.array(self.intercepts)
        return np.asarray(model.predict_proba(log_odds([tuned, linear])))

    def write(self, folder: Path) -> Path:
        """Write stack.json; its path."""
        write_json(folder / NAME, asdict(self))
        return folder / NAME

    @classmethod
    def read(cls, folder: Path, labels: int) -> "StackScorer":
        """What `write` wrote, of so many labels. Raises `UserError` for a file that is missing or of another number."""
        path = folder / NAME
        found = read(path, cls, AGAIN)
        rows = 1 if labels == 2 else labels
        features = 2 * (labels - 1)
        if [len(row) for row in found.coefficients] != [features] * rows or len(found.intercepts) != rows:
            raise UserError(f"{shown(path)} is not of {labels} labels: {AGAIN}")
        return found
