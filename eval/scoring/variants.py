"""How far the untuned model's figure hangs on the wording of the prompt, and on which examples it is shown."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.inference.prompts import VARIANTS
from eval.inference.variants import wordings
from eval.scoring.label_bias import batch_calibrated, only_answer
from eval.scoring.metrics import classify
from eval.scoring.predictions import Predictions
from eval.scoring.responses import VARIANTS_FILE, Response, Split, probability_matrix
from workspace.errors import UserError
from workspace.paths import shown
from workspace.records import read_lines

FIGURES = ("accuracy", "macro_f1", "balanced_accuracy", "mcc")
OWN = ("before_score", "before_few_shot")  # the task's own prompt and the first draw, on the same rows

FloatArray = NDArray[np.float64]


def untuned_variants(
    run: Path, rows: Split, predictions: Mapping[str, Predictions], labels: Sequence[str], of: int
) -> dict[str, Any] | None:
    """Each variant's figures as metrics.json has them, the run's own prompt and examples first; None without variants.

    rows: those that the readings are of. All are of the same `n` of the `of` test rows, by score; `calibrated` are the
    figures after batch calibration by these rows' probabilities, of which no gold label is read. Raises `UserError` for
    responses to other rows.
    """
    path = run / "before" / VARIANTS_FILE
    if not path.is_file():
        return None
    answered = read_lines(path, Response, "run the inference again")
    places = rows.places
    by_name: dict[str, dict[int, Response]] = {name: {} for name in VARIANTS}
    for number, row in enumerate(answered, 1):
        name, place = (row.key or "").partition("/")[0], places.get(row.id)
        if name not in by_name or place is None or rows.gold[place] != row.gold or place in by_name[name]:
            raise UserError(
                f"{shown(path)}, line {number} answers no row of {shown(rows.path)}: run the inference again"
            )
        by_name[name][place] = row
    at = sorted(by_name[VARIANTS[0]])
    if any(sorted(found) != at for found in by_name.values()):
        raise UserError(f"{shown(path)} has not all variants of the same rows: run the inference again")
    gold = [rows.gold[place] for place in at]
    texts = wordings(labels)
    found: dict[str, list[dict[str, Any]]] = {"prompts": [], "few_shot": []}
    for kind, own in zip(found, OWN, strict=True):
        if own in predictions and (shares := predictions[own].probabilities) is not None:
            found[kind].append({"name": own, "prompt": None, **_figures(gold, shares[at], labels)})
    for name, answers in by_name.items():
        shares = probability_matrix(path, [answers[place].probabilities for place in at], labels)
        kind = "few_shot" if name.startswith("few_shot") else "prompts"
        found[kind].append({"name": name, "prompt": texts.get(name), **_figures(gold, shares, labels)})
    return {"n": len(at), "of": of, **found}


def _figures(gold: Sequence[str], shares: FloatArray, labels: Sequence[str]) -> dict[str, Any]:
    def figures(shares: FloatArray) -> dict[str, Any]:
        predicted = [labels[code] for code in shares.argmax(axis=1)]
        scores = classify(gold, predicted, labels)
        return {name: getattr(scores, name) for name in FIGURES} | {"only_answer": only_answer(predicted)}

    return figures(shares) | {"calibrated": figures(batch_calibrated(shares, shares))}
