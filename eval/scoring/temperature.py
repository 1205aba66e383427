"""The tuned model's probabilities made as sure as they are right: temperature scaling (Guo et al. 2017).

p' is in proportion to p ** (1 / temperature), fitted by log loss on the validation rows and drawn towards 1 where they
are few (log_linear.py). It changes how sure an answer is and never which of its labels is the most probable. Biases do
that, and are added only where validation rows show that they help, and where the caller lets them: a baseline is
calibrated and stays the baseline that it was.
"""

from dataclasses import dataclass

from eval.scoring.log_linear import (
    FloatArray,
    IntArray,
    LogLinear,
    Models,
    answer_out_of_fold,
    fit,
    fit_with_biases_that_help,
)

LOWEST, HIGHEST = 0.05, 20.0  # no model is less or more sure than this by rights


@dataclass(frozen=True)
class Calibration:
    """The temperature, and a bias a label in log space (mean 0), None without."""

    temperature: float = 1.0
    biases: tuple[float, ...] | None = None

    def apply(self, probabilities: FloatArray) -> FloatArray:
        """The calibrated probabilities (n, labels) of `probabilities`, which come back as they are at temperature 1."""
        if self == Calibration():
            return probabilities
        return LogLinear((1 / self.temperature,), self.biases).apply([probabilities])


def calibrate(probabilities: FloatArray, gold: IntArray, may_have_biases: bool) -> Calibration:
    """The calibration of a model's probabilities (n, labels) on validation rows of the labels `gold` (n,), n > 0."""

    models = [probabilities]
    found = fit_with_biases_that_help(_fit, models, gold) if may_have_biases else _fit(models, gold, False)
    return Calibration(1 / found.weights[0], found.biases)


def calibrated_out_of_fold(probabilities: FloatArray, gold: IntArray, biased: bool) -> FloatArray:
    """The probabilities (n, labels) of validation rows, each calibrated by what was fitted without it.

    Raises ValueError where a label has fewer rows than there are folds.
    """
    return answer_out_of_fold(_fit, [probabilities], gold, biased)


def _fit(models: Models, gold: IntArray, biased: bool) -> LogLinear:
    return fit(models, gold, models[0], biased, 1 / HIGHEST, 1 / LOWEST)
