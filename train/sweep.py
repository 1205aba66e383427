"""Which recipe is better: a small grid over overrides and options, each with several seeds, chosen on validation.

Run as: python -m train.sweep RECIPE --vary NAME NAME … [--vary …] [--seeds N …] [--trials N] [--hours H] [options]
(bash run_sft.sh sweep … goes on with the answers and the report of the chosen run). Prints the chosen run's folder.

Every trial is a run of its own below runs/<task>/<recipe>.sweep, prepared and tuned, and never shown the test rows.
A point's mark is the mean over its seeds of the best checkpoint's validation macro F1; of the best point the run with
the first seed is chosen, not the one that came out best. The same command again goes on where it stopped.
"""

import argparse
import contextlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from plan import cli as plan
from plan.options import Options, caller_folder, parse_options
from train.checkpoints import validation_scores
from train.grid import Point, grid
from train.sft import tune
from train.sweep_table import Trial, chosen, sweep_table
from workspace.errors import UserError, run_main
from workspace.files import write_json, write_text
from workspace.folder_lock import locked
from workspace.paths import RUNS, shown

METRIC = "label_macro_f1"
SECONDS = 3600


def main(argv: Sequence[str] | None = None) -> None:
    """Run the trials that are missing, write the table, print the chosen run's folder."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="bash run_sft.sh sweep",
        usage="bash run_sft.sh sweep [recipe] --vary NAME NAME … [--vary …] [options]",
        description=__doc__.splitlines()[0],
        epilog="Other options are those of bash run_sft.sh, for every trial.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--vary",
        nargs="+",
        action="append",
        required=True,
        metavar="NAME",
        help="what to choose from: overrides, key=value for an option of `swift sft`, none for the recipe as it is; "
        "given twice, every combination is tried",
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[42], metavar="N", help="default: 42")
    parser.add_argument("--trials", type=int, metavar="N", help="at most N combinations, drawn from the grid")
    parser.add_argument("--hours", type=float, metavar="H", help="start no trial that would end after H hours")
    known, rest = parser.parse_known_args(words)
    options = parse_options(rest)
    # stdout is for the folder alone: run_sft.sh reads it
    with contextlib.redirect_stdout(sys.stderr), locked(sweep_folder(options)):
        run = sweep(options, rest, grid(known.vary, known.trials, known.seeds[0]), known.seeds, known.hours)
    print(run)


def sweep(
    options: Options, words: Sequence[str], points: Sequence[Point], seeds: Sequence[int], hours: float | None
) -> Path:
    """Tune every point with every seed, write sweep.json and sweep.md, return the chosen run's folder.

    Seeds come one after the other over all points, so that what a budget leaves out is the same for all. A trial that
    fails is recorded and left out. Raises `UserError` for an override or option that is none, before any trial starts,
    and when no trial came to an end.
    """
    folder = sweep_folder(options)
    every = [trial_options(options, point, seed, folder) for seed in seeds for point in points]
    # A slip is told before hours are spent.
    planned = [(one, plan.make_plan(one, trial_words(words, one))) for one in every]
    trials: list[Trial] = []
    begin = time.monotonic()
    for number, (one, trial_plan) in enumerate(planned):
        point, seed = points[number % len(points)], int(one.swift["seed"])
        if trials and hours is not None and _too_late(trials, time.monotonic() - begin, hours * SECONDS):
            print(f"sweep: the budget of {hours:g} h leaves out {len(planned) - number} of {len(planned)} trials")
            break
        print(f"\nsweep: trial {number + 1} of {len(planned)}: {point.name}, seed {seed}", flush=True)
        trials.append(run_trial(trial_plan, point, seed))
        if left := len(planned) - len(trials):
            minutes = fmean(trial.seconds for trial in trials) * left / 60
            print(f"sweep: about {minutes:.0f} min for the {left} trials left", flush=True)
        write_json(folder / "sweep.json", {"metric": METRIC, "trials": [trial._asdict() for trial in trials]})
        write_text(folder / "sweep.md", sweep_table(trials, len(planned)))
    best = chosen(trials)
    if best is None:
        raise UserError(f"none of the {len(trials)} trials came to an end: see {shown(folder / 'sweep.json')}")
    print(
        f"\n{sweep_table(trials, len(planned))}\nsweep: {shown(folder / 'sweep.md')}; chosen: {best.point}", flush=True
    )
    return Path(best.run)


def run_trial(planned: plan.Plan, point: Point, seed: int) -> Trial:
    """Prepare and tune one run; what it reached on the validation rows, or why it failed."""
    begin, run = time.monotonic(), planned.run.folder
    try:
        plan.write_run(planned)
        with locked(run):
            tune(run, estimate=False)  # the first trial tells how long the others take
        scores: dict[str, Any] = validation_scores(run / "train")
        fault = None
    except UserError as error:
        scores, fault = {}, str(error).splitlines()[0]
        print(f"sweep: this trial failed: {fault}", flush=True)
    macro_f1, accuracy = scores.get(METRIC), scores.get("label_accuracy")
    if fault is None and macro_f1 is None:
        fault = f"the recipe logs no {METRIC}: add plugins/label_metric.py to its external_plugins"
    return Trial(point.name, seed, str(run), macro_f1, accuracy, time.monotonic() - begin, fault)


def trial_options(options: Options, point: Point, seed: int, folder: Path) -> Options:
    """The options of one trial: the user's, with the point's overrides and values and the seed."""
    if doubled := [key for key, _ in point.values if key in options.swift]:
        raise UserError(f"option --{doubled[0]} is given and varied: leave one of the two out")
    return options._replace(
        overrides=(*options.overrides, *point.overrides),
        swift={**options.swift, **dict(point.values), "seed": str(seed), "data_seed": str(seed)},
        run=folder / f"{point.name}-seed{seed}",
    )


def trial_words(words: Sequence[str], trial: Options) -> list[str]:
    """The command line of bash run_sft.sh that makes one trial: what the user gave all, then what is the trial's own.

    The last value given for an option counts; overrides add up, so the user's are not said twice.
    """
    given = parse_options(list(words))
    names = trial.overrides[len(given.overrides) :]
    own = [word for key, value in trial.swift.items() if given.swift.get(key) != value for word in (f"--{key}", value)]
    return [*words, *(["--with", *names] if names else []), *own, "--run", str(trial.run)]


def sweep_folder(options: Options) -> Path:
    """The folder of a sweep: --run, or one named after the recipe."""
    from plan.recipes import DEFAULT_TASK, load_recipe

    if options.run:
        return options.run
    return RUNS / f"{load_recipe(options.recipe or DEFAULT_TASK, options.overrides, caller_folder()).name}.sweep"


def _too_late(trials: Sequence[Trial], spent: float, budget: float) -> bool:
    """Whether a trial as long as the mean of those that ran would end after the budget, both in seconds."""
    return spent + (fmean(trial.seconds for trial in trials) if trials else 0) > budget


if __name__ == "__main__":
    run_main(main)
