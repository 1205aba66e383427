"""A list of trials: runs that differ in overrides, options, seed or rows, tuned one after the other.

The list is a folder with our marker: a run's folder for each trial, and trials.json, {"format", "metric", "results"},
written again whenever a trial ends. The same trials in the same folder go on where they were stopped: what is tuned is
not tuned again. A trial that is done keeps its best checkpoint alone. Nothing here looks at the test rows.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import fmean

from pydantic import FiniteFloat, PositiveInt

from data_prep.manifest import Manifest
from data_prep.rows import read_rows
from plan.options import parse_options
from plan.planning import Plan, make_plan, write_run
from plan.recipes import DEFAULT_TASK, load_recipe
from plan.run import names_in
from train.checkpoints import keep_best_alone, validation_scores
from train.sft import tune
from train.texts import learn_texts
from workspace import stages
from workspace.child_process import OutOfMemory
from workspace.command_line import caller_folder
from workspace.errors import MachineFault, UserError
from workspace.files import sha256_json, write_json
from workspace.folder_lock import locked
from workspace.gate import check_folder
from workspace.marker import MARKER, is_ours, mark
from workspace.paths import RUNS, shown
from workspace.records import read_if_whole

METRIC = "label_macro_f1"  # on the validation rows, logged by plugins/label_metric.py: what trials are compared by
TRIALS = "trials.json"
FORMAT = 1  # of trials.json
SECONDS_AN_HOUR = 3600
NAME_BYTES = 180  # of a trial's folder; disks take 255


@dataclass(frozen=True)
class Trial:
    """What a trial has of its own, added to what all have: a name, a seed, overrides, options of `swift sft`, rows.

    `rows`: the limit of training rows; None for that of all. `start`: the seed of the adapter that it begins with,
    where that is another's; its own `seed` then decides the order of the rows alone.
    """

    name: str
    seed: int
    overrides: tuple[str, ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    rows: PositiveInt | None = None
    start: int | None = None

    @property
    def folder_name(self) -> str:
        """The name of its run's folder in the list's."""
        name = self.name.replace("/", "-")
        if len(name.encode()) > NAME_BYTES:
            name = f"{name[: NAME_BYTES // 6]}-{sha256_json(name)[:8]}"
        return f"{name}{f'-rows{self.rows}' if self.rows else ''}-seed{self.seed}"

    def words(self, words: Sequence[str], folder: Path) -> list[str]:
        """The command line of bash run_sft.sh that makes this trial in `folder`; `words`: what all trials have.

        The last value given for an option counts; overrides add up. Raises `UserError` for an option that all trials
        have too, or that is none of `swift sft`.
        """
        given = parse_options(list(words)).swift
        for key, value in self.options:
            if key in given:
                raise UserError(f"option --{key} is given and varied: leave one of the two out")
            if key not in parse_options([f"--{key}={value}"]).swift:
                raise UserError(f"{key}={value}: only options of `swift sft`, and overrides by name, can be varied")
            if key in ("seed", "data_seed"):
                raise UserError(f"{key}={value}: give --seeds instead")
        own = [f"--{key}={value}" for key, value in self.options]
        start = self.seed if self.start is None else self.start
        own += ["--seed", str(start), "--data_seed", str(self.seed), "--run", str(folder)]
        own += ["--limit", str(self.rows)] if self.rows else []
        return [*words, *(["--with", *self.overrides] if self.overrides else []), *own]


@dataclass(frozen=True)
class TrialResult:
    """What became of a trial: its run's folder, validation scores of the best checkpoint by metric, or why it failed.

    `seconds`: of reading texts, where it was the first to read them, and of tuning, all attempts together.
    """

    trial: Trial
    run: Path = Path()
    scores: dict[str, FiniteFloat] = field(default_factory=dict)
    seconds: FiniteFloat = 0.0
    fault: str | None = None


@dataclass(frozen=True)
class _Kept:
    results: list[TrialResult]
    last: list[str] | None = None  # the folders of the trials that were planned last; None: of an earlier version


class TrialList:
    """The trials in one folder."""

    def __init__(self, folder: Path) -> None:
        """Take the list in `folder`, made where there is nothing yet.

        Raises `UserError`, before anything there is touched, where the folder holds something else.
        """
        _check_folder(folder)
        mark(folder, "sweep")
        self.folder = folder

    @property
    def file(self) -> Path:
        """The results of all trials that ended."""
        return self.folder / TRIALS

    def results(self) -> list[TrialResult]:
        """What became of the trials that ended, in the order of their first end. None where the file cannot be read."""
        kept = read_if_whole(self.file, _Kept)  # without it they come again with their trials, which are tuned already
        return [replace(one, run=self.folder / one.trial.folder_name) for one in kept.results] if kept else []

    def run(
        self,
        trials: Sequence[Trial],
        words: Sequence[str],
        hours: float | None = None,
        each: Callable[[list[TrialResult]], None] = lambda results: None,
        alike: Sequence[TrialResult] = (),
    ) -> list[TrialResult]:
        """Tune the trials that are not tuned yet; the results of all of them, in their order.

        `words` is the command line that all trials share. A trial that fails has its reason as its result. None is
        begun that would end after `hours`; the first is taken for as long as the mean of those `alike`, and without any
        always begun. `each` gets the results so far after every trial.
        Raises `UserError` for a trial that cannot be planned, before any is tuned, and `MachineFault` for a full disk.
        """
        planned = [(trial, self._plan(trial, words)) for trial in trials]
        results: list[TrialResult] = []
        begin = time.monotonic()
        for number, (trial, plan) in enumerate(planned):
            ran, spent = results or alike, time.monotonic() - begin
            if ran and hours is not None and too_late(ran, spent, hours * SECONDS_AN_HOUR):
                print(
                    f"trials: {round(hours, 2):g} h leave out {len(planned) - number} of {len(planned)} trials",
                    flush=True,
                )
                break
            print(f"\ntrials: {number + 1} of {len(planned)}: {trial.folder_name}", flush=True)
            results.append(run_trial(trial, plan))
            self.keep(results[-1:], [trial for trial, _ in planned])
            each(results)
            if left := len(planned) - len(results):
                minutes = fmean(result.seconds for result in results) * left / 60
                print(f"trials: about {minutes:.0f} min for the {left} left", flush=True)
        return results

    def train_rows(self, trial: Trial, words: Sequence[str]) -> dict[str, int]:
        """How many training rows of its table a trial has of each label: those that --limit chooses from, without the
        task's `added`, which stand behind them."""
        dataset = self.dataset(trial, words)
        manifest = Manifest.read(dataset)
        count = manifest.added.get("train", 0)
        added = Counter(row.label for row in read_rows(dataset / "train.jsonl")[-count:]) if count else Counter[str]()
        return {label: manifest.counts.train[label] - added[label] for label in manifest.labels}

    def dataset(self, trial: Trial, words: Sequence[str]) -> Path:
        """The folder of a trial's dataset, which is made where it is missing. Raises `UserError` where it cannot be."""
        plan = self._plan(trial, words)
        write_run(plan)
        return plan.run.dataset

    def _plan(self, trial: Trial, words: Sequence[str]) -> Plan:
        own = trial.words(words, self.folder / trial.folder_name)
        return make_plan(parse_options(own), own)

    def keep(self, results: Sequence[TrialResult], last: Sequence[Trial]) -> None:
        """Put results into the file, in place of earlier ones of the same trials' folders, and what is planned now."""
        known = {one.run: one for one in self.results()} | {one.run: one for one in results}
        entries = [asdict(one) for one in known.values()]
        for entry in entries:
            del entry["run"]  # follows from the trial, wherever the folder is moved
        names = [trial.folder_name for trial in last]
        write_json(self.file, {"format": FORMAT, "metric": METRIC, "last": names, "results": entries})


def list_folder(words: Sequence[str], kind: str) -> Path:
    """The folder of a list of trials: --run, or one named after the recipe and the kind of list."""
    options = parse_options(list(words))
    if options.run:
        return options.run.absolute()
    recipe = load_recipe(options.recipe or DEFAULT_TASK, options.overrides, caller_folder())
    return (RUNS / f"{recipe.name}.{kind}").absolute()


def runs_of_list(folder: Path) -> list[Path]:
    """The folders of the runs in a list of trials that came to an end, of those that the last command asked for; none
    where `folder` is no such list."""
    kept = read_if_whole(folder / TRIALS, _Kept) if is_ours(folder, "sweep") else None
    ended = [one.trial.folder_name for one in kept.results if one.fault is None] if kept else []
    return [folder / name for name in ended if not kept or kept.last is None or name in kept.last]


def stop_at_a_fault(results: Sequence[TrialResult]) -> None:
    """Raise `UserError` when the last trial failed: for a result that would be another one without it."""
    if fault := results[-1].fault:
        name = results[-1].trial.folder_name
        raise UserError(f"{name} failed ({fault}): the same command goes on once that is mended")


def run_trial(trial: Trial, plan: Plan) -> TrialResult:
    """Prepare and tune one run; what it reached on the validation rows, or why it failed."""
    begin, run = time.monotonic(), plan.run.folder
    try:
        write_run(plan)
        with locked(run):
            learn_texts(run)
            read = time.monotonic() - begin  # texts without labels; next to nothing where another trial has read them
            tune(run, estimate=False)  # the first trial shows how long the others take
            keep_best_alone(run / "train")
    except UserError as error:
        if isinstance(error, MachineFault) and not isinstance(error, OutOfMemory):
            raise  # every other trial would fail in the same way
        fault = str(error).splitlines()[0]
        print(f"trials: this one failed: {fault}", flush=True)
        return TrialResult(trial, run, seconds=time.monotonic() - begin, fault=fault)
    # A diverged run logs NaN, which is no score.
    scores = {name: value for name, value in validation_scores(run / "train").items() if math.isfinite(value)}
    missing = f"the recipe logs no {METRIC}: add plugins/label_metric.py to its external_plugins"
    tuned = stages.seconds_taken(run, "train")
    seconds = time.monotonic() - begin if tuned is None else read + tuned
    return TrialResult(trial, run, scores, seconds, None if METRIC in scores else missing)


def too_late(results: Sequence[TrialResult], spent: float, budget: float) -> bool:
    """Whether a trial as long as the mean of those that ran would end after the budget, both in seconds."""
    return spent + fmean(result.seconds for result in results) > budget


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--run {shown(folder)} is a file: name a folder")
    names = names_in(folder)
    if names and not is_ours(folder, "sweep"):
        earlier = {"sweep.json", "sweep.md"} <= names
        what = "a sweep of an earlier version" if earlier else "something other than a sweep"
        raise UserError(f"--run {shown(folder)} holds {what} (no {MARKER} of a sweep): name another folder")
    if names:
        check_folder(folder, "sweep")
