"""The soup of several seeds' adapters (train/soup.py) against the best of them, chosen on the validation rows."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data_prep.task import PrimaryMetric
from eval.evaluate import evaluate
from eval.scoring.metrics import classify
from eval.scoring.predictions import STACK, by_score
from eval.scoring.responses import load_responses, load_split
from eval.scoring.seed_intervals import outcome, score_draws
from eval.trial_answers import Answered, answer, check_same_rows, tuned_reading
from plan.run import Run, locked_run
from train.soup import make_soup
from workspace.errors import UserError
from workspace.paths import shown


def judge_soup(folder: Path, answered: Sequence[Answered], seeds: Sequence[int]) -> dict[str, Any]:
    """Make the run `folder` of the average of the seeds' adapters, have it answer, and hold it against the best seed.

    Returns what seeds.json holds of it. Raises `UserError` where the adapters cannot be averaged.
    """
    make_soup(folder, [one.run.folder for one in answered])
    soup = answer(folder)
    check_same_rows([answered[0], soup])
    with locked_run(folder):
        evaluate(folder)
    metric, margin = soup.judged_by
    validation = [on_validation(one.run, metric) for one in answered]
    found = against_best(answered, soup, validation, metric, margin)
    return found | {"seed": seeds[found.pop("best")], "validation": validation, "own": on_validation(soup.run, metric)}


def on_validation(run: Run, metric: PrimaryMetric) -> float:
    """What the tuned model's most probable labels reach on the validation rows."""
    val = load_split(run.dataset, "val", run.labels)
    responses = load_responses(run.folder / "after" / "val.jsonl", val, run.labels)
    if responses is None:
        raise UserError(f"{shown(run.folder)} has no answers to validation rows: the best seed is chosen by them")
    predicted = by_score("after_score", responses.probabilities, run.labels).predicted
    return float(getattr(classify(val.gold, predicted, run.labels), metric))


def against_best(
    answered: Sequence[Answered],
    soup: Answered,
    validation: Sequence[float],
    metric: PrimaryMetric,
    margin: float,
) -> dict[str, Any]:
    """{"best": the place of the seed that is best on `validation`, the first of equal ones, "comparisons": the soup
    against it on the test rows, by the tuned model's reading and, where both have it, by the stack}."""
    best = max(range(len(validation)), key=lambda at: (validation[at], -at))
    both = (soup, answered[best])
    names = [tuned_reading(both)] + [STACK] * all(STACK in one.readings for one in both)
    compared = []
    for name in names:
        columns = [answered[best].predicted(name), soup.predicted(name)]
        draws = score_draws(soup.test.gold, columns, soup.run.labels, metric)
        estimate = draws.difference([0], [1])
        values = {"reading": name, "of_best": float(draws.observed[0]), "of_soup": float(draws.observed[1])}
        compared.append({**values, **asdict(estimate), "code": outcome(estimate, margin)})
    return {"best": best, "comparisons": compared}
