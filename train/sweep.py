"""Which recipe is better: a small grid over overrides and options, each with several seeds, chosen on validation.

Run as: python -m train.sweep RECIPE [--vary NAME NAME …] [--halving] [--seeds N …] [--trials N] [--hours H] [options]
(bash run_sft.sh sweep … goes on with the answers and the report of the chosen run). Prints the chosen run's folder.

Every trial is a run of its own below runs/<task>/<recipe>.sweep, prepared and tuned, and never shown the test rows.
A point's mark is the mean over its seeds of the best checkpoint's validation macro F1; of the best point the run with
the first seed is chosen, not the one that came out best. With halving only the points that do well on part of the rows
are tuned on all of them (train/halving.py). The same command again goes on where it stopped.
"""

import argparse
import contextlib
import random
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from data_prep.rows import read_rows
from plan.options import Options, parse_options
from plan.recipes import DEFAULT_TASK, Recipe, check_recipe, ensure_task, load_recipe
from plan.run import tell_folder
from train.halving import FEWEST, WHOLE_VALIDATION, halve, left, out_of_time, rungs, same_validation
from train.seed_options import add_seeds, check_seeds
from train.sweep_table import by_point, sweep_table
from train.trials import Trial, TrialList, TrialResult, list_folder
from workspace.command_line import Parser, caller_folder, given_number
from workspace.errors import UserError, run_main
from workspace.files import write_text
from workspace.folder_lock import locked
from workspace.paths import shown
from workspace.ranges import Range, whole

AS_IT_IS = "none"  # the recipe without an override
RATES = (0.5, 1, 2)  # times the recipe's own
EPOCHS = (2.0, 3.0, 5.0)  # and the recipe's own


def main(argv: Sequence[str] | None = None) -> None:
    """Run the trials that are missing, write the table, print the chosen run's folder."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = Parser(
        "bash run_sft.sh sweep",
        __doc__,
        usage="bash run_sft.sh sweep [recipe] [--vary NAME NAME …] [--halving] [options]",
        epilog="Other options are those of bash run_sft.sh, for every trial.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--vary",
        nargs="+",
        action="append",
        metavar="NAME",
        help="what to choose from: overrides, key=value for an option of `swift sft`, none for the recipe as it is; "
        "given twice, every combination is tried; default: half, once and twice the recipe's learning_rate, and 2, 3 "
        "and 5 epochs, but for what is given",
    )
    parser.add_argument(
        "--halving",
        action=argparse.BooleanOptionalAction,
        help="try every point on a quarter of the training rows, the better half on half of them, and the better half "
        "of those on all, there alone with every seed; default: without --vary",
    )
    add_seeds(parser, [42])
    parser.add_argument(
        "--trials", type=given_number(whole(1, 10**6)), metavar="N", help="at most N combinations, drawn from the grid"
    )
    parser.add_argument(
        "--hours",
        type=given_number(Range(0, 10**5, above=True)),
        metavar="H",
        help="start no trial that would end after H hours",
    )
    known, rest = parser.parse_known_args(words)
    check_seeds(known.seeds, rest)
    options = parse_options(rest)
    # stdout is for the folder alone: run_sft.sh reads it
    with contextlib.redirect_stdout(sys.stderr):
        ensure_task(options.recipe)
        recipe = load_recipe(options.recipe or DEFAULT_TASK, options.overrides, caller_folder())
        points = grid(known.vary or default_grid(recipe, options.swift), known.trials, known.seeds[0])
        for point in points:
            point.words(rest, Path())  # before the folder is made
        trials = TrialList(list_folder(rest, "sweep"))
        with locked(trials.folder):
            check_same_validation(trials, rest, points, options)
            rows: list[int] = []
            same: tuple[str, ...] = ()
            halving = not known.vary if known.halving is None else known.halving
            if halving and len(points) > 1:
                counts = trials.train_rows(points[0], rest)
                rows = rungs(every := sum(counts.values()), min(counts.values()))
                same = same_validation(trials.folder, recipe.task, options.limit or recipe.task.limit)
                if not rows:
                    print(f"sweep: no halving, for half of {every} training rows has fewer than {FEWEST} of a label")
            run = sweep(trials, rest, points, known.seeds, known.hours, rows, same)
    tell_folder(run)


def check_same_validation(trials: TrialList, words: Sequence[str], points: Sequence[Trial], options: Options) -> None:
    """Raise `UserError` where points would be judged on other validation rows than the first one: by an override that
    changes the task, so only those that do are prepared before the trials start."""

    apart: dict[tuple[Path, ...], Trial] = {}
    for point in points:
        recipe = load_recipe(options.recipe or DEFAULT_TASK, (*options.overrides, *point.overrides), caller_folder())
        apart.setdefault(tuple(one.path for one in recipe.overrides if one.values["task"]), point)
    if len(apart) < 2:
        return
    first: tuple[Trial, list[tuple[str, str]]] | None = None
    for point in apart.values():
        try:
            dataset = trials.dataset(point, words)
        except UserError:
            continue  # a trial that fails, which is told in its turn
        # A prompt and the words of the labels may differ.
        rows = sorted((row.id, str(row.label_id)) for row in read_rows(dataset / "val.jsonl"))
        first = first or (point, rows)
        if rows != first[1]:
            raise UserError(
                f"{point.name} has other validation rows than {first[0].name}, so that one would win by its rows: vary "
                "only what leaves the rows as they are"
            )


def sweep(
    trials: TrialList,
    words: Sequence[str],
    points: Sequence[Trial],
    seeds: Sequence[int],
    hours: float | None,
    rows: Sequence[int] = (),
    same: Sequence[str] = (WHOLE_VALIDATION,),
) -> Path:
    """Tune every point with every seed, write sweep.md, return the chosen run's folder.

    `words`: the command line that all trials share. With `rows`, which rise, the points are first tried on so many
    training rows, with the overrides `same`, and those that go on are tuned on all. Seeds come one after the other over
    all points, so that what a budget of `hours` leaves out is the same for all. Raises `UserError` for an override or
    option that is none, before any trial starts, and when no trial with all rows came to an end.
    """
    begin, table = time.monotonic(), trials.folder / "sweep.md"
    halved = halve(
        trials, words, points, rows, hours, lambda now, pruned: write_text(table, sweep_table(now, None, pruned)), same
    )
    every = [replace(point, seed=seed) for seed in seeds for point in halved.points]
    planned = len(halved.results) + len(every)

    def text(so_far: Sequence[TrialResult]) -> str:
        return sweep_table([*halved.results, *so_far], planned, halved.pruned)

    results = trials.run(every, words, left(hours, begin), lambda so_far: write_text(table, text(so_far)), halved.alike)
    best = chosen(results)
    if best is None and rows and len(results) < len(every):
        raise out_of_time(hours)
    if best is None:
        raise UserError(
            f"none of the {len(halved.results) + len(results)} trials came to an end: see {shown(trials.file)}"
        )
    print(f"\n{text(results)}\nsweep: {shown(table)}; chosen: {best.trial.name}", flush=True)
    return best.run


def default_grid(recipe: Recipe, given: Mapping[str, Any]) -> list[list[str]]:
    """Learning rates and epochs around the recipe's own, which is one of the points; what is `given` stays as it is.

    Nothing else is varied: rank, batch, dropout and loss moved no figure beyond its seeds' spread, or for the worse
    (docs/quality.md). `given`: the command line's options. Raises `UserError` for a recipe that ms-swift does not take,
    and where nothing is left to vary.
    """
    check_recipe(recipe)
    rate, dimensions = recipe.sft.get("learning_rate"), []
    if "learning_rate" not in given:
        if rate is None:
            raise UserError(
                f"{shown(recipe.path)} has no learning_rate to vary around: add it, or name choices by --vary"
            )
        dimensions.append([f"learning_rate={times * float(rate):.3g}" for times in RATES])
    if "num_train_epochs" not in given and "max_steps" not in {**recipe.sft, **given}:
        own = float(recipe.sft.get("num_train_epochs") or EPOCHS[1])
        dimensions.append([f"num_train_epochs={epochs:g}" for epochs in sorted({*EPOCHS, own})])
    if not dimensions:
        raise UserError("learning rate and epochs are both given: leave one out to have it varied, or name --vary")
    return dimensions


def grid(dimensions: Sequence[Sequence[str]], most: int | None, seed: int) -> list[Trial]:
    """All combinations of one choice from each of `dimensions`, or `most` of them drawn by `seed`, which they have too.

    A choice is the name of an override, `key=value` for an option of `swift sft`, or `none`. Raises `UserError` for
    a choice that is named twice.
    """
    for choices in dimensions:
        if len(set(choices)) < len(choices):
            raise UserError(f"--vary {' '.join(choices)} names a choice twice: name each once")
    points = [_point(choices, seed) for choices in product(*dimensions)]
    if most is not None and most < len(points):
        points = [points[at] for at in sorted(random.Random(seed).sample(range(len(points)), most))]
    return points


def _point(choices: Sequence[str], seed: int) -> Trial:
    overrides = tuple(choice for choice in choices if "=" not in choice and choice != AS_IT_IS)
    pairs = (choice.partition("=") for choice in choices if "=" in choice)
    options = tuple((key.lstrip("-").replace("-", "_"), value) for key, _, value in pairs)
    name = "+".join([*overrides, *(f"{key}={value}" for key, value in options)]) or AS_IT_IS
    return Trial(name, seed, overrides, options)


def chosen(results: Sequence[TrialResult]) -> TrialResult | None:
    """The first trial of the best point: its seed was fixed before, not picked for its result."""
    groups = by_point(results)
    return next(iter(groups.values()))[0] if groups else None


if __name__ == "__main__":
    run_main(main)
