"""What the model of a tuned trial and its baselines answer on the test rows; what is answered is not asked again."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from data_prep.task import PrimaryMetric
from eval.baselines import make_baselines
from eval.evaluate import load_run_task
from eval.infer import infer
from eval.scoring.predictions import Predictions, RunPredictions, load_predictions
from eval.scoring.reading_names import primary
from eval.scoring.responses import Split, load_split
from plan.run import Run, locked_run
from workspace.errors import UserError
from workspace.paths import shown


class Answered(NamedTuple):
    """A run's test rows and the predictions of them."""

    run: Run
    test: Split
    predictions: RunPredictions

    @property
    def readings(self) -> dict[str, Predictions]:
        """The readings of all test rows."""
        return self.predictions.test

    @property
    def judged_by(self) -> tuple[PrimaryMetric, float]:
        """The task's primary metric, and its margin."""
        task = load_run_task(self.run)
        return (task.primary_metric, task.margin) if task else ("macro_f1", 0.01)

    def predicted(self, reading: str) -> tuple[str | None, ...]:
        """The label that a reading gave each test row; None for unparsed."""
        return self.readings[reading].predicted

    def predicted_on(self, reading: str, rows: Split) -> tuple[str | None, ...]:
        """The label that a reading gave each of `rows`. Raises `UserError` where it was not asked one of them."""
        own = self.predictions.rows(reading, self.test).ids
        said = dict(zip(own, self.predictions.every[reading].predicted, strict=True))
        if missing := [key for key in rows.ids if key not in said]:
            raise UserError(
                f"{shown(self.run.folder)} has no answer of {reading} to test row {missing[0]}, which the others have: "
                "run the same command again with --fresh"
            )
        return tuple(said[key] for key in rows.ids)


def answer(folder: Path, stages: Sequence[str] = ("after",)) -> Answered:
    """The baselines' answers in a tuned run, and those of the models of these stages."""
    with locked_run(folder):
        make_baselines(folder)
        for stage in stages:
            infer(folder, stage)
    run = Run.read(folder)
    task = load_run_task(run)
    test, val = (load_split(run.dataset, name, run.labels) for name in ("test", "val"))
    return Answered(run, test, load_predictions(folder, test, val, run.labels, task.synonyms if task else {}))


def check_same_rows(answered: Sequence[Answered]) -> None:
    """Raise `UserError` unless all runs answered the same test rows."""
    for one in answered:
        if (one.test.ids, one.test.gold) != (answered[0].test.ids, answered[0].test.gold):
            raise UserError(
                f"{shown(one.run.folder)} was tested on other rows than {shown(answered[0].run.folder)}, so the table "
                "has changed between them: give --fresh"
            )


def tuned_reading(answered: Iterable[Answered]) -> str:
    """The reading by which the tuned models of several runs are judged: one that all have, as texts may not have been
    generated for all rows. Raises `UserError` where there is none."""
    every = list(answered)
    if (name := primary(set.intersection(*(set(one.readings) for one in every)))) and name.startswith("after"):
        return name
    raise UserError(f"{shown(every[0].run.folder)} holds no answers of the tuned model: run the same command again")


def is_tuned(reading: str) -> bool:
    """Whether another seed of training makes another reading."""
    return reading.startswith(("after", "stack"))
