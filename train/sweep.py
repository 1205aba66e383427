"""Which recipe is better: a small grid over overrides and options, each with several seeds, chosen on validation.

Run as: python -m train.sweep RECIPE --vary NAME NAME … [--vary …] [--seeds N …] [--trials N] [--hours H] [options]
(bash run_sft.sh sweep … goes on with the answers and the report of the chosen run). Prints the chosen run's folder.

Every trial is a run of its own below runs/<task>/<recipe>.sweep, prepared and tuned, and never shown the test rows.
A point's mark is the mean over its seeds of the best checkpoint's validation macro F1; of the best point the run with
the first seed is chosen, not the one that came out best. The same command again goes on where it stopped.
"""

import contextlib
import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import fmean, stdev

from plan.options import parse_options
from plan.recipes import ensure_task
from plan.run import tell_folder
from train.trials import METRIC, Trial, TrialList, TrialResult, add_seeds, check_seeds, list_folder
from workspace.command_line import Parser, given_number
from workspace.errors import UserError, run_main
from workspace.files import write_text
from workspace.folder_lock import locked
from workspace.paths import shown
from workspace.ranges import Range, whole

AS_IT_IS = "none"  # the recipe without an override


def main(argv: Sequence[str] | None = None) -> None:
    """Run the trials that are missing, write the table, print the chosen run's folder."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = Parser(
        "bash run_sft.sh sweep",
        __doc__,
        usage="bash run_sft.sh sweep [recipe] --vary NAME NAME … [--vary …] [options]",
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
    points = grid(known.vary, known.trials, known.seeds[0])
    for point in points:
        point.words(rest, Path())  # before the folder is made
    # stdout is for the folder alone: run_sft.sh reads it
    with contextlib.redirect_stdout(sys.stderr):
        ensure_task(parse_options(rest).recipe)
        trials = TrialList(list_folder(rest, "sweep"))
        with locked(trials.folder):
            run = sweep(trials, rest, points, known.seeds, known.hours)
    tell_folder(run)


def sweep(
    trials: TrialList, words: Sequence[str], points: Sequence[Trial], seeds: Sequence[int], hours: float | None
) -> Path:
    """Tune every point with every seed, write sweep.md, return the chosen run's folder.

    `words`: the command line that all trials share. Seeds come one after the other over all points, so that what a
    budget of `hours` leaves out is the same for all. Raises `UserError` for an override or option that is none, before
    any trial starts, and when no trial came to an end.
    """
    every = [replace(point, seed=seed) for seed in seeds for point in points]
    table = trials.folder / "sweep.md"
    results = trials.run(every, words, hours, lambda so_far: write_text(table, sweep_table(so_far, len(every))))
    best = chosen(results)
    if best is None:
        raise UserError(f"none of the {len(results)} trials came to an end: see {shown(trials.file)}")
    print(f"\n{sweep_table(results, len(every))}\nsweep: {shown(table)}; chosen: {best.trial.name}", flush=True)
    return best.run


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


def by_point(results: Sequence[TrialResult]) -> dict[str, list[TrialResult]]:
    """The trials that came to an end, by point, the best mean macro F1 first; equal ones in the order tried."""
    groups: dict[str, list[TrialResult]] = {}
    for result in results:
        if METRIC in result.scores:
            groups.setdefault(result.trial.name, []).append(result)
    return dict(sorted(groups.items(), key=lambda item: -fmean(_values(item[1]))))


def chosen(results: Sequence[TrialResult]) -> TrialResult | None:
    """The first trial of the best point: its seed was fixed before, not picked for its result."""
    groups = by_point(results)
    return next(iter(groups.values()))[0] if groups else None


def sweep_table(results: Sequence[TrialResult], planned: int) -> str:
    """The table in Markdown, and what it does not show: points that failed, were left out, or are as good."""
    groups = by_point(results)
    lines = [
        f"# 选参 / Sweep: {len(results)} of {planned} trials",
        "",
        "验证集上的结果，按宏平均 F1 排序；± 为各随机种子之间的标准差。测试集只在选定之后看一次。",
        "Results on the validation rows, by macro F1; ± is the standard deviation over seeds. The test rows are looked "
        "at once, for the chosen run.",
        "",
        "| point | seeds | val macro F1 | val accuracy | minutes a trial |",
        "|---|---|---|---|---|",
    ]
    for name, group in groups.items():
        accuracies = [100 * value for value in _values(group, "label_accuracy")]
        cells = [_cell(name), str(len(group)), _spread(_values(group), 4), f"{_spread(accuracies, 1)} %"]
        lines.append(f"| {' | '.join(cells)} | {fmean(result.seconds for result in group) / 60:.1f} |")
    lines.append("")
    if len(groups) > 1:
        lines += _as_good(list(groups.items()))
    lines += [
        f"- failed: {_cell(one.trial.name)}, seed {one.trial.seed}: {_cell(one.fault)}" for one in results if one.fault
    ]
    return "\n".join(lines) + "\n"


def _values(results: Sequence[TrialResult], metric: str = METRIC) -> list[float]:
    return [result.scores[metric] for result in results if metric in result.scores]


def _as_good(groups: list[tuple[str, list[TrialResult]]]) -> list[str]:
    """A sentence for points within one standard deviation of the best, or on having no deviation to judge by."""
    (best, first), *others = groups
    if len(first) < 2:
        return [
            "每个组合只有一个随机种子：差别可能只是偶然。 / One seed a point: the differences may be chance "
            "(`--seeds 42 43 44`).",
            "",
        ]
    least = fmean(_values(first)) - stdev(_values(first))
    near = [name for name, group in others if fmean(_values(group)) > least]
    if not near:
        return []
    listed = ", ".join(map(_cell, near))
    return [f"与最好者 {_cell(best)} 相差不到一个标准差 / within one standard deviation of the best: {listed}", ""]


def _spread(values: Sequence[float], digits: int) -> str:
    if not values:
        return "–"
    mean = f"{fmean(values):.{digits}f}"
    return f"{mean} ± {stdev(values):.{digits}f}" if len(values) > 1 else mean


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    run_main(main)
