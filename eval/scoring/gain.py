"""Where the generated answers' gain comes from: guessing, form, label bias, discrimination.

The parts are steps between readings of the same rows and add up to the total:

    before_generate  -> the same with its unparsed answers guessed    guessing: what any label at all would give
                     -> before_score                                  form: known, and not said in the wanted form
    before_score     -> before_score_threshold, less what a threshold
                        still gains after tuning                      bias: lost to a preferred label
    before_score_threshold -> after_score_threshold                   discrimination: rows told apart, without that bias
    after_score      -> after_generate                                remainder

Guesses are drawn evenly, or are one label for all, whichever reaches more on these rows. Intervals are those of paired
differences (intervals.py): a pair of columns of one joint posterior is distributed as the posterior of that pair.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from eval.scoring.intervals import DRAWS, Cells, Interval, Metric, enough_rows, paired_ends
from eval.scoring.metrics import classify, encode
from eval.scoring.predictions import BIAS_FREE, Predictions
from eval.scoring.significance import Code, Comparison, balanced_accuracy_interval
from eval.scoring.verdict import Guessing

PartName = Literal["total", "guessing", "form", "bias", "discrimination", "remainder"]
READINGS = ("before_generate", "before_score", *BIAS_FREE, "after_score", "after_generate")


@dataclass(frozen=True)
class Part:
    """A difference in a metric, in shares, with its 95 % interval; None with too few rows."""

    difference: float
    ci: Interval | None


@dataclass(frozen=True)
class Gain:
    """The parts by metric; the untuned scores beside guessing; whether tuning improved the judgement, by the code of
    the comparison that is free of label bias."""

    metrics: dict[Metric, dict[PartName, Part]]
    untuned_scores: Guessing
    judgement: Code


def decompose_gain(
    predictions: Mapping[str, Predictions],
    comparisons: Mapping[tuple[str, str], Comparison],
    gold: Sequence[str],
    labels: Sequence[str],
    metric: Metric = "macro_f1",
    draws: int = DRAWS,
) -> Gain | None:
    """The generated answers' gain in `metric` and in accuracy; None unless READINGS are all there."""
    if not set(READINGS) <= predictions.keys():
        return None
    answers = {name: predictions[name].predicted for name in READINGS}
    rows = np.stack([encode(column, labels) for column in (gold, *answers.values())], axis=1)
    cells, scores = Cells.of(rows, len(labels)), answers["before_score"]
    metrics = tuple(dict.fromkeys((metric, "accuracy")))
    guesses = {name: _best_guesses(cells, name) for name in metrics}
    observed = _parts(cells, cells.counts, guesses)
    drawn = [_parts(cells, piece, guesses) for piece in cells.shares(draws)] if enough_rows(rows[:, 0]) else []

    def part(name: Metric, key: PartName) -> Part:
        ci = paired_ends(np.concatenate([piece[name][key] for piece in drawn])) if drawn else None
        return Part(float(observed[name][key]), ci)

    return Gain(
        {name: {key: part(name, key) for key in observed[name]} for name in metrics},
        Guessing(
            classify(gold, scores, labels).balanced_accuracy,
            balanced_accuracy_interval(scores, gold, labels),
            1 / len(set(gold)),
        ),
        comparisons[BIAS_FREE].code,
    )


def _parts(
    cells: Cells, shares: NDArray[np.float64], guesses: Mapping[Metric, NDArray[np.float64]]
) -> dict[Metric, dict[PartName, NDArray[np.float64]]]:
    """Each part in each metric, by shares or counts (..., c); `guesses` as `_best_guesses` has them."""
    found = [cells.figures(shares, column + 1) for column in range(len(READINGS))]
    parts: dict[Metric, dict[PartName, NDArray[np.float64]]] = {}
    for metric, said in guesses.items():
        wrote, scored, fair, fair_after, scores, writes = (one[metric] for one in found)
        guessed = cells.figures(shares, 1, said)[metric]
        parts[metric] = {
            "total": writes - wrote,
            "guessing": guessed - wrote,
            "form": scored - guessed,
            "bias": (fair - scored) - (fair_after - scores),
            "discrimination": fair_after - fair,
            "remainder": writes - scores,
        }
    return parts


def _best_guesses(cells: Cells, metric: Metric) -> NDArray[np.float64]:
    """What stands for each answer (classes + 1, classes + 1), where a guess stands for one that is unparsed."""
    classes = cells.classes
    choices = []
    for guess in (np.full(classes, 1 / classes), *np.eye(classes)):
        said = np.eye(classes + 1)
        said[-1] = [*guess, 0]
        choices.append(said)
    return max(choices, key=lambda said: float(cells.figures(cells.counts, 1, said)[metric]))
