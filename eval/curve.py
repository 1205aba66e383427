"""How good with how many rows: the learning curves of a recipe and of the linear model, and what more rows would bring.

Run as: python -m eval.curve RECIPE [--rows N …] [--seeds N …] [--hours H] [options]   (bash run_sft.sh curve RECIPE)

For each seed the numbers of rows are nested: more rows are the same ones and others. Which they are is drawn by the
seed, so that the spread over seeds holds that chance too. All test and validation rows are used throughout. Each point
is a run of its own below runs/<task>/<recipe>.curve; writes curve.md, curve.html, curve.png and curve.json there. The
same command again goes on where it stopped, and with more --rows or --seeds adds those.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import yaml

from data_prep.manifest import Manifest
from data_prep.task import PrimaryMetric
from eval.reporting.curve_page import draw_curve, render_curve
from eval.scoring.baseline_records import LINEAR
from eval.scoring.learning_curve import FORMAT, extrapolate, further_rows, mean_draws, measured_on, worth_from
from eval.scoring.seed_intervals import outcome, score_draws
from eval.trial_answers import Answered, answer, check_same_rows, tuned_reading
from plan.options import parse_options
from plan.recipes import DEFAULT_TASK, ensure_task, load_recipe
from train.seed_options import add_seeds, check_seeds
from train.trials import Trial, TrialList, list_folder, stop_at_a_fault
from workspace.command_line import Parser, caller_folder, given_number
from workspace.errors import UserError, run_main
from workspace.files import write_bytes, write_json, write_text
from workspace.folder_lock import locked
from workspace.paths import shown
from workspace.ranges import ROWS, Range

STEPS = (100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)
SMALL = 2_000  # rows, below which they are halved: the steps would be too few for a law
HALVINGS = 3
STACK = "stack"
Points = dict[tuple[int, int], Answered]  # by number of rows and seed


def main(argv: Sequence[str] | None = None) -> None:
    """Train and answer what is missing, and write the page."""
    parser = Parser(
        "bash run_sft.sh curve",
        __doc__,
        usage="bash run_sft.sh curve [recipe] [--rows N N …] [--seeds N N …] [--hours H] [options]",
        epilog="Other options are those of bash run_sft.sh, for every point; --limit N makes N rows all there are.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--rows",
        nargs="+",
        type=given_number(ROWS._replace(low=2)),
        metavar="N",
        help="numbers of training rows besides all; default: 100 300 1000 …, of fewer than 2,000 the halves",
    )
    add_seeds(parser, [42, 43, 44])
    parser.add_argument(
        "--hours",
        type=given_number(Range(0, 10**5, above=True)),
        metavar="H",
        help="start no model that would end after H hours; whole seeds count",
    )
    known, words = parser.parse_known_args(list(sys.argv[1:] if argv is None else argv))
    check_seeds(known.seeds, words)
    options = parse_options(list(words))
    ensure_task(options.recipe)
    recipe = load_recipe(options.recipe or DEFAULT_TASK, options.overrides, caller_folder())
    check_rows(known.rows, len(recipe.task.label_words))
    if recipe.task.added:
        raise UserError(
            f"{shown(recipe.task.path)} has `added` rows, which every point would learn from whatever its number of "
            "rows: put them into the table, or take `added` out for the curve"
        )
    trials = TrialList(list_folder(words, "curve"))
    with locked(trials.folder):
        curve(trials, words, known.rows, known.seeds, known.hours)


def curve(
    trials: TrialList,
    words: Sequence[str],
    rows: Sequence[int] | None,
    seeds: Sequence[int],
    hours: float | None = None,
) -> dict[str, Any]:
    """Train each number of rows with each seed, let each model answer, write the page; returns what curve.json holds.

    `words`: the command line that all points share. Seeds come one after the other over all numbers of rows, so that
    what a budget of `hours` leaves out are whole seeds. Raises `UserError` for more rows than there are, and when a
    point fails.
    """
    most = sum(trials.train_rows(point(trials, None, seeds[0]), words).values())
    numbers = all_numbers(rows, most)
    every = {
        point(trials, None if number == most else number, seed): (number, seed) for seed in seeds for number in numbers
    }
    results = trials.run(list(every), words, hours, stop_at_a_fault)
    whole = seeds[: len(results) // len(numbers)]
    if not whole:
        raise UserError(
            f"--hours {hours:g} ends before one seed has all {len(numbers)} points: give more, or fewer --rows"
        )
    points = {every[one.trial]: answer(one.run) for one in results[: len(whole) * len(numbers)]}
    check_same_rows(list(points.values()))
    last = points[numbers[-1], whole[0]]
    found = summary(points, numbers, whole, *last.judged_by)
    found["measured_on"] = measured_on(last.run, Manifest.read(last.run.dataset))
    write_json(trials.folder / "curve.json", found)
    page, text = render_curve(found)
    write_bytes(trials.folder / "curve.png", draw_curve(found))
    write_text(trials.folder / "curve.html", page)
    write_text(trials.folder / "curve.md", text)
    print(f"\n{text}\ncurve: {shown(trials.folder / 'curve.html')}", flush=True)
    return found


def point(trials: TrialList, rows: int | None, seed: int) -> Trial:
    """The trial with so many rows, None for all, which are drawn by the seed; writes its override file."""
    path = trials.folder / f"rows-drawn-by-{seed}.yaml"
    write_text(path, yaml.safe_dump({"task": {"limit_of": "train", "limit_seed": seed}}, sort_keys=False))
    return Trial("curve", seed, (str(path),), rows=rows)


def check_rows(rows: Sequence[int] | None, labels: int) -> None:
    """Raise `UserError` for numbers of rows that no curve can have, before anything is fetched."""
    given = " ".join(map(str, rows or ()))
    if len(set(rows or ())) < len(rows or ()):
        raise UserError(f"--rows {given} names a number twice: name each once")
    if rows and min(rows) < labels:
        raise UserError(f"--rows {min(rows)} leaves classes without a row: give at least {labels}")


def all_numbers(rows: Sequence[int] | None, most: int) -> list[int]:
    """The numbers of rows to measure, rising, all `most` of them last. Raises `UserError` for more than there are."""
    if rows is None:
        rows = STEPS if most >= SMALL else [most >> k for k in range(1, HALVINGS + 1)]
        return sorted({number for number in rows if 2 <= number < 0.8 * most} | {most})
    if max(rows) > most:
        raise UserError(
            f"--rows {max(rows)} is more than the {most} training rows there are: leave it out, all rows are measured"
        )
    return sorted({*rows, most})


def summary(
    points: Points, numbers: Sequence[int], seeds: Sequence[int], metric: PrimaryMetric, margin: float
) -> dict[str, Any]:
    """What curve.json holds: each reading with each number of rows, what more would bring, and from how many rows on
    the tuned model, and the stack of both, are better than the linear model."""
    last = points[numbers[-1], seeds[0]]
    tuned = tuned_reading(points.values())
    names = [name for name in (tuned, LINEAR, STACK) if all(name in one.readings for one in points.values())]
    order = [(name, number, seed) for name in names for number in numbers for seed in seeds]
    columns = [points[number, seed].predicted(name) for name, number, seed in order]
    draws = score_draws(last.test.gold, columns, last.run.labels, metric)
    shape = (len(names), len(numbers), len(seeds))
    places, observed = [*_grid(shape)], draws.observed.reshape(shape)
    drawn = draws.drawn.reshape(-1, *shape)
    more = further_rows(numbers[-1])
    readings, against = {}, {}
    for at, name in enumerate(names):
        means, mean_drawn = mean_draws(observed[at], drawn[:, at])
        ahead = extrapolate(numbers, means, mean_drawn, more)
        readings[name] = {
            "points": [asdict(draws.mean(places[at][k])) | {"rows": number} for k, number in enumerate(numbers)],
            "more": asdict(ahead) if ahead else None,
        }
        if name == LINEAR or LINEAR not in names:
            continue
        compared = []
        for k, number in enumerate(numbers):
            estimate = draws.difference(places[names.index(LINEAR)][k], places[at][k], paired=True)
            compared.append({"rows": number, **asdict(estimate), "code": outcome(estimate, margin)})
        worth = worth_from(numbers, [one["code"] == "better" for one in compared])
        against[name] = {"by_rows": compared, "from_rows": worth}
    return {
        "format": FORMAT,
        "recipe": last.run.recipe.split("+rows-drawn-by-")[0],
        "notice": last.run.notice_over_seeds,
        "metric": metric,
        "margin": margin,
        "n": len(last.test),
        "rows": list(numbers),
        "seeds": list(seeds),
        "tuned": tuned,
        "readings": readings,
        "against_linear": against,
    }


def _grid(shape: tuple[int, int, int]) -> list[list[range]]:
    """The columns of each reading and number of rows, those of its seeds side by side."""
    readings, numbers, seeds = shape
    return [
        [range((at * numbers + k) * seeds, (at * numbers + k + 1) * seeds) for k in range(numbers)]
        for at in range(readings)
    ]


if __name__ == "__main__":
    run_main(main)
