"""A recipe over several seeds: each trains a model, and the verdict is on the recipe, not on one checkpoint of it.

Run as: python -m eval.seeds RECIPE --seeds 42 43 44 [options]   (bash run_sft.sh RECIPE --seeds 42 43 44)

Each seed is a run of its own below runs/<task>/<recipe>.seeds, with metrics.json and rows.jsonl, so that
python -m eval.report A.seeds B.seeds compares two recipes. Only the first also has the untuned model's answers, which
no seed changes, and the full report. Writes seeds.md and seeds.json. The same command again goes on where it stopped.

With --soup all seeds begin with the adapter of the first, in a list of its own (….soup), and their average, one adapter
more in its folder soup, is held against the best of them (eval/soup.py).
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from data_prep.task import PrimaryMetric
from eval.evaluate import evaluate
from eval.report import write_report
from eval.reporting.seeds_page import seeds_page
from eval.scoring.baseline_records import LINEAR
from eval.scoring.multiplicity import corrected_codes, holm
from eval.scoring.predictions import STACK
from eval.scoring.reading_names import primary_pair
from eval.scoring.seed_intervals import outcome, p_value_of, score_draws
from eval.soup import judge_soup
from eval.trial_answers import Answered, answer, check_same_rows, is_tuned, tuned_reading
from plan.options import parse_options
from plan.recipes import DEFAULT_TASK, ensure_task, load_recipe
from plan.run import locked_run
from train.seed_options import add_seeds, check_seeds
from train.trials import Trial, TrialList, list_folder, stop_at_a_fault
from workspace.command_line import Parser, caller_folder
from workspace.errors import UserError, run_main
from workspace.files import read_json, write_json, write_text
from workspace.folder_lock import locked
from workspace.paths import shown

FORMAT = 1  # of seeds.json


def main(argv: Sequence[str] | None = None) -> None:
    """Train and answer what is missing, and write the result."""
    parser = Parser(
        "bash run_sft.sh",
        __doc__,
        usage="bash run_sft.sh [recipe] --seeds N N N … [options]",
        epilog="Other options are those of bash run_sft.sh, for every seed.",
        allow_abbrev=False,
    )
    add_seeds(parser)
    parser.add_argument("--soup", action="store_true", help="average the seeds' adapters into one, and judge it too")
    known, words = parser.parse_known_args(list(sys.argv[1:] if argv is None else argv))
    check_seeds(known.seeds, words, fewest=2)
    options = parse_options(list(words))
    ensure_task(options.recipe)
    if known.soup:
        recipe = load_recipe(options.recipe or DEFAULT_TASK, options.overrides, caller_folder())
        if (kind := {**recipe.sft, **options.swift}.get("tuner_type", "lora")) != "lora":
            raise UserError(f"--soup averages LoRA adapters, and tuner_type is {kind}: leave one of the two out")
    trials = TrialList(list_folder(words, "soup" if known.soup else "seeds"))
    with locked(trials.folder):
        over_seeds(trials, words, known.seeds, known.soup)


def over_seeds(trials: TrialList, words: Sequence[str], seeds: Sequence[int], soup: bool = False) -> dict[str, Any]:
    """Train each seed, let each model answer, write seeds.json and seeds.md into the list's folder; returns the former.

    `words`: the command line that all seeds share; `soup`: judge their average, too. Raises `UserError` when a seed
    fails: the mean of the others would be of a recipe that does not fail.
    """
    start = seeds[0] if soup else None
    results = trials.run([Trial("run", seed, start=start) for seed in seeds], words, each=stop_at_a_fault)
    answered = [answer(one.run, ("after",) if place else ("before", "after")) for place, one in enumerate(results)]
    check_same_rows(answered)
    for place, one in enumerate(answered):
        with locked_run(one.run.folder):
            evaluate(one.run.folder) if place else write_report(one.run.folder)
    stacks = [read_json(one.run.folder / "metrics.json")["stack"] for one in answered]
    helps = all(stack is not None and stack["helps"] for stack in stacks)
    found = summary(answered, seeds, *answered[0].judged_by, helps)
    write_json(trials.folder / "seeds.json", found)
    if soup:
        found["soup"] = judge_soup(trials.folder / "soup", answered, seeds)
        write_json(trials.folder / "seeds.json", found)
    text = seeds_page(found)
    write_text(trials.folder / "seeds.md", text)
    print(f"\n{text}\nseeds: {shown(trials.folder / 'seeds.md')}", flush=True)
    return found


def summary(
    answered: Sequence[Answered], seeds: Sequence[int], metric: PrimaryMetric, margin: float, stack_helps: bool = False
) -> dict[str, Any]:
    """What seeds.json holds: the metric of each reading by seed and over them, and the recipe against what else there
    is, where it was measured.

    A reading that the first run alone has, and one of baselines, is one that no seed changes. stack_helps: validation
    rows advise the stack of each seed; it is then held against the linear model, too, both corrected for two (Holm).
    Raises `UserError` where the tuned model has none.
    """
    first, test = answered[0], answered[0].test
    tuned = tuned_reading(answered)
    columns, places = list[tuple[str | None, ...]](), dict[str, list[int]]()
    for name in first.readings:
        own = answered if is_tuned(name) and all(name in one.readings for one in answered) else answered[:1]
        places[name] = list(range(len(columns), len(columns) + len(own)))
        columns += [one.predicted(name) for one in own]
    labels = first.run.labels
    draws = score_draws(test.gold, columns, labels, metric)
    balanced = score_draws(test.gold, [columns[at] for at in places[tuned]], labels, "balanced_accuracy")
    above_guessing = balanced.mean(range(len(answered)))
    guessing = 1 / len(set(test.gold))
    compared, p_values = list[dict[str, Any]](), list[float]()
    pair = primary_pair(first.predictions.asked)
    against = [(LINEAR, tuned), *([(LINEAR, STACK)] if stack_helps else [])] if LINEAR in places else []
    for a, b in ([pair] if pair else []) + against:
        if {a, b} <= places.keys():
            these, n, at = draws, len(test), (places[a], places[b])
        else:  # one of them was asked a part of the rows alone
            rows = first.predictions.part
            columns = [first.predicted_on(a, rows), *(one.predicted_on(b, rows) for one in answered)]
            these, n, at = score_draws(rows.gold, columns, labels, metric), len(rows), ([0], [*range(1, len(columns))])
        estimate = these.difference(*at)
        code = outcome(estimate, margin)
        if b != STACK and code == "better" and (above_guessing.ci or above_guessing.rows_ci)[0] <= guessing:
            code = "undecided"
        reached = {"of_a": these.mean(at[0]).value, "of_b": these.mean(at[1]).value}
        compared.append({"a": a, "b": b, "n": n, **reached, **asdict(estimate), "code": code})
        if a == LINEAR and stack_helps:
            p_values.append(p_value_of(partial(these.difference, *at, False)))
    two = compared[len(compared) - len(p_values) :]
    codes = corrected_codes([one["code"] for one in two], p_values)
    for one, code, p in zip(two, codes, holm(p_values), strict=True):
        one |= {"code": code, "holm_p": p}
    return {
        "format": FORMAT,
        "recipe": first.run.recipe,
        "notice": first.run.notice_over_seeds,
        "labels": list(labels),
        "metric": metric,
        "margin": margin,
        "n": len(test),
        "seeds": list(seeds),
        "tuned": tuned,
        "readings": {
            name: {"values": draws.observed[at].tolist(), **asdict(draws.mean(at))} for name, at in places.items()
        },
        "guessing": guessing,
        "balanced_accuracy": asdict(above_guessing),
        "comparisons": compared,
    }


if __name__ == "__main__":
    run_main(main)
