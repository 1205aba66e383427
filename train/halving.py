"""Successive halving: each point of a grid is tried on part of the training rows, the better half goes on with more.

What is given out bit by bit is rows, not epochs or steps. A schedule that decays to zero, such as the recipes' cosine,
is another recipe when it is cut short: its learning rate has not come down, so the figure at that place says little
about the end, and flatters small rates. A trial on a quarter of the rows is the whole recipe, with its warm-up, decay
and every epoch, on a smaller table. What remains: fewer rows make fewer steps, which favours more epochs
(docs/quality.md); therefore half goes on and not less, and none is judged on fewer than `FEWEST` rows of a label.

Optuna's SuccessiveHalvingPruner says who goes on. It judges a trial by those that reported before it, so each point is
judged in a study of its own, in memory, after all others: its place in the grid decides nothing, and equal points go on
together. Nothing of a study is kept; it is made again from the trials' results.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import yaml

from data_prep.task import Task
from train.trials import METRIC, SECONDS_AN_HOUR, Trial, TrialList, TrialResult
from workspace.errors import UserError
from workspace.files import write_text

SHARE = 2  # one of so many goes on, with so many times the rows
RUNGS = 2  # on part of the rows: a quarter, a half
FEWEST = 50  # training rows of the rarest label
WHOLE_VALIDATION = "learning-curve"  # the override with which fewer training rows leave the validation rows whole


class Halved(NamedTuple):
    """What trials on part of the rows came to: the points that go on to all rows, every result, those left out.

    `alike`: results whose seconds are those that trials of all rows will probably take.
    """

    points: Sequence[Trial]
    results: list[TrialResult]
    pruned: list[TrialResult]
    alike: list[TrialResult]


def rungs(train_rows: int, rarest: int) -> list[int]:
    """On how many of the training rows points are tried before all rows, rising; none where they are too few.

    `rarest`: how many of them have the rarest label, of which every part has its share.
    """
    parts = (SHARE**rung for rung in range(RUNGS, 0, -1))
    return [train_rows // part for part in parts if rarest >= FEWEST * part]


def same_validation(folder: Path, task: Task, limit: int | None) -> tuple[str, ...]:
    """The override with which part of the training rows leaves the validation rows those of all of them.

    With a limit, which takes part of the validation rows too, it is written into `folder`: all of the table's would be
    other ones, and may take longer than the training that they judge.
    """
    if task.limit_of == "train":
        return ()
    if limit is None:
        return (WHOLE_VALIDATION,)
    path = folder / "validation-rows.yaml"
    write_text(path, yaml.safe_dump({"task": {"held_out_limit": task.held_out_limit or limit}}))
    return (str(path),)


def halve(
    trials: TrialList,
    words: Sequence[str],
    points: Sequence[Trial],
    rows: Sequence[int],
    hours: float | None,
    each: Callable[[list[TrialResult], list[TrialResult]], None],
    same: Sequence[str] = (WHOLE_VALIDATION,),
) -> Halved:
    """Tune the points on each number of `rows`, the better half on the next, by macro F1 on the same validation rows,
    which the overrides `same` see to (`same_validation`).

    `each` gets all results and those left out, after every trial. A point that fails goes no further. Raises
    `UserError` when the budget of `hours` ends before all points of a number of rows had their turn.
    """
    begin = time.monotonic()
    so_far = Halved(points, [], [], [])
    for number in rows:
        points, results, pruned, alike = so_far
        rung = [replace(one, rows=number, overrides=(*one.overrides, *same)) for one in points]
        new = trials.run(rung, words, left(hours, begin), partial(_tell, each, so_far), alike)
        if len(new) < len(rung):
            raise out_of_time(hours)
        goes = goes_on([one.scores.get(METRIC, math.nan) for one in new])
        so_far = Halved(
            [point for point, on in zip(points, goes, strict=True) if on],
            results + new,
            pruned + [one for one, on in zip(new, goes, strict=True) if not on and METRIC in one.scores],
            [replace(one, seconds=SHARE * one.seconds) for one, on in zip(new, goes, strict=True) if on],
        )
    return so_far


def goes_on(values: Sequence[float]) -> list[bool]:
    """Whether each point goes on, by what all reached on the same number of rows; NaN, a failure, never does.

    The better half, rounded down, but one at least; points equal to the last of them go on too.
    """
    return [_judged_last([*values[:at], *values[at + 1 :], value]) for at, value in enumerate(values)]


def left(hours: float | None, begin: float) -> float | None:
    """What is left of a budget of `hours`, which began at `begin` by `time.monotonic`; None for no budget."""
    return None if hours is None else max(0.0, hours - (time.monotonic() - begin) / SECONDS_AN_HOUR)


def out_of_time(hours: float | None) -> UserError:
    """The error when no trial had all rows within the budget."""
    return UserError(
        f"--hours {hours:g} ended before a trial with all rows did: give more, or go on from there by the same command"
    )


def _tell(each: Callable[[list[TrialResult], list[TrialResult]], None], old: Halved, new: list[TrialResult]) -> None:
    each(old.results + new, old.pruned)


def _judged_last(values: Sequence[float]) -> bool:
    import optuna  # here, because a second goes by, and only halving needs it

    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it would tell of every study
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=SHARE)
    study = optuna.create_study(direction="maximize", pruner=pruner)
    pruned = True
    for value in values:
        trial = study.ask()
        trial.report(value, step=1)
        pruned = trial.should_prune()
        study.tell(trial, None if pruned else value, optuna.trial.TrialState.PRUNED if pruned else None)
    return not pruned
