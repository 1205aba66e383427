"""What follows from the readings for whoever uses the model: answering only when sure, costs, other shares of classes,
wrong gold labels."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from data_prep.decision_settings import SelectiveSettings
from data_prep.task import Task
from eval.scoring.costs import cost_record
from eval.scoring.metrics import Classification
from eval.scoring.predictions import RunPredictions, primary
from eval.scoring.prevalence import noise_ceiling, prevalence_shift
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
    shown = primary(scores) or next(iter(scores))
    return {
        "selective": selective_answering(predictions.validation, on_test, gold, np.ones(len(val), bool), settings),
        "costs": cost_record(predictions.validation, on_test, gold, labels, task.costs if task else None),
        "prevalence": {"reading": shown, "classes": [asdict(one) for one in prevalence_shift(scores[shown], labels)]},
        "ceiling": asdict(noise_ceiling(len(issues.ids), len(test))) | {"judge": issues.judge} if issues else None,
    }
