"""What follows from the readings for whoever uses the model: answering only when sure, costs, other shares of classes,
wrong gold labels; and how their probabilities were made on the validation rows."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from data_prep.decision_settings import SelectiveSettings
from data_prep.task import Task
from eval.scoring.calibration import IntArray, probability_metrics
from eval.scoring.costs import cost_record
from eval.scoring.intervals import Metric
from eval.scoring.metrics import Classification, classify
from eval.scoring.predictions import STACK, STACKED, TUNED_SCORE, Predictions, RunPredictions
from eval.scoring.prevalence import noise_ceiling, prevalence_shift
from eval.scoring.reading_names import primary
from eval.scoring.responses import Split
from eval.scoring.selective import selective_answering
from eval.scoring.slices import LabelIssues


def decisions(
    predictions: RunPredictions,
    scores: Mapping[str, Classification],
    splits: tuple[Split, Split],
    labels: Sequence[str],
    task: Task | None,
    issues: LabelIssues | None,
) -> dict[str, Any]:
    """The keys selective, costs, prevalence and ceiling of metrics.json. `splits`: validation and test; `task`: where
    it is known, else selective answering has its defaults and nothing has a cost."""
    val, test = splits
    gold = val.codes(labels), test.codes(labels)
    on_test = {name: one.probabilities for name, one in predictions.test.items()}
    settings = task.selective if task else SelectiveSettings()
    shown = primary(predictions.test) or next(iter(predictions.test))
    return {
        "selective": selective_answering(predictions.validation, on_test, gold, np.ones(len(val), bool), settings),
        "costs": cost_record(predictions.validation, on_test, gold, labels, task.costs if task else None),
        "prevalence": {"reading": shown, "classes": [asdict(one) for one in prevalence_shift(scores[shown], labels)]},
        "ceiling": asdict(noise_ceiling(len(issues.ids), len(test))) | {"judge": issues.judge} if issues else None,
    }


def stack_record(
    predictions: RunPredictions, val: Split, labels: Sequence[str], metric: Metric
) -> dict[str, Any] | None:
    """The key stack of metrics.json: the pool, and whether the stack may be advised: where `metric` on the validation
    rows, each answered without it, is above that of either model. None without a stack."""
    if (stack := predictions.stack) is None:
        return None
    pool, shares = stack.pool, predictions.validation | {TUNED_SCORE: stack.alone}
    codes = {name: shares[name].argmax(axis=1) for name in (*STACKED, STACK)}
    on_val = {
        name: getattr(classify(val.gold, [labels[code] for code in found], labels), metric)
        for name, found in codes.items()
    }
    return {
        "weights": dict(zip(STACKED, pool.weights, strict=True)),
        "biases": dict(zip(labels, pool.biases, strict=True)) if pool.biases else None,
        "rows": len(val),
        "validation": on_val,
        "helps": on_val[STACK] > max(on_val[name] for name in STACKED),
    }


def calibration_record(reading: Predictions, gold: IntArray, labels: Sequence[str]) -> dict[str, Any] | None:
    """A reading's calibration in metrics.json, with what its probabilities (n, labels) were worth without it on the
    rows of the labels `gold` (n,); None where there is none."""
    one, shares = reading.calibration, reading.uncalibrated
    if one is None or shares is None:
        return None
    before = asdict(probability_metrics(shares, gold))
    return {
        "temperature": one.temperature,
        "biases": dict(zip(labels, one.biases, strict=True)) if one.biases else None,
        "before": {key: before[key] for key in ("log_loss", "brier", "ece", "ece_ci", "ece_bins")},
    }
