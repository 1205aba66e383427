"""What the model of a tuned trial and its baselines answer on the test rows; what is answered is not asked again."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from data_prep.task import PrimaryMetric
from eval.baselines import make_baselines
from eval.evaluate import load_run_task
from eval.infer import infer
from eval.scoring.predictions import Predictions, load_predictions, primary
from eval.scoring.responses import Split, load_split
from plan.run import Run, locked_run
from workspace.errors import UserError
from workspace.paths import shown


class Answered(NamedTuple):
    """A run's test rows and the readings of them."""

    run: Run
    test: Split
    readings: dict[str, Predictions]

    @property
    def judged_by(self) -> tuple[PrimaryMetric, float]:
        """The task's primary metric, and its margin."""
        task = load_run_task(self.run)
        return (task.primary_metric, task.margin) if task else ("macro_f1", 0.01)

    def predicted(self, reading: str) -> tuple[str | None, ...]:
        """The label that a reading gave each test row; None for unparsed."""
        return self.readings[reading].predicted


def answer(folder: Path, stages: Sequence[str] = ("after",)) -> Answered:
    """The baselines' answers in a tuned run, and those of the models of these stages."""
    with locked_run(folder):
        make_baselines(folder)
        for stage in stages:
            infer(folder, stage)
    run = Run.read(folder)
    task = load_run_task(run)
    test, val = (load_split(run.dataset, name, run.labels) for name in ("test", "val"))
    return Answered(run, test, load_predictions(folder, test, val, run.labels, task.synonyms if task else {}).test)


def check_same_rows(answered: Sequence[Answered]) -> None:
    """Raise `UserError` unless all runs answered the same test rows."""
    for one in answered:
        if (one.test.ids, one.test.gold) != (answered[0].test.ids, answered[0].test.gold):
            raise UserError(
                f"{shown(one.run.folder)} was tested on other rows than {shown(answered[0].run.folder)}, so the table "
                "has changed between them: give --fresh"
            )


def tuned_reading(answered: Answered) -> str:
    """The reading by which the tuned model is judged. Raises `UserError` where it has none."""
    if (name := primary(answered.readings)) is None or not name.startswith("after"):
        raise UserError(f"{shown(answered.run.folder)} holds no answers of the tuned model: run the same command again")
    return name


def is_tuned(reading: str) -> bool:
    """Whether another seed of training makes another reading."""
    return reading.startswith(("after", "stack"))
