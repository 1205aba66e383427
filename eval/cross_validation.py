"""Cross-validation for small tables: every row is answered once, by a model that saw neither it nor its near copies.

Run as: python -m eval.cross_validation RECIPE [--cv 5] [--repeats 1] [options]   (bash run_sft.sh RECIPE --cv 5)

The rows are dealt into folds, near copies together and class by class. For each fold a model is tuned on the others (a
share of them being its validation rows) and answers it; so do the linear model and the majority label. The answers of
all folds together are scored. Each fold is a run of its own below runs/<task>/<recipe>.cv; writes cv.md, cv.json and
rows.jsonl there. The same command again goes on where it stopped.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import product
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import yaml

from data_prep.manifest import Manifest
from data_prep.task import SplitSettings
from eval.reporting.wording import reading_name
from eval.scoring.baseline_records import LINEAR
from eval.scoring.intervals import Metric
from eval.scoring.metrics import Classification, classify
from eval.scoring.reading_names import primary
from eval.scoring.significance import MARGIN, Comparison, compare, wilson
from eval.scoring.verdict import Contrast, baseline_verdict
from eval.trial_answers import answer
from plan.options import parse_options
from plan.recipes import DEFAULT_TASK, Recipe, ensure_task, load_recipe
from plan.run import Notice, Run
from train.trials import Trial, TrialList, list_folder, stop_at_a_fault
from workspace.bilingual import interval, number, percent
from workspace.command_line import Parser, caller_folder, given_number
from workspace.errors import UserError, run_main
from workspace.files import write_json, write_jsonl, write_text
from workspace.folder_lock import locked
from workspace.markdown import table
from workspace.paths import shown
from workspace.ranges import whole

OWN = {"column", "values", "files", "folds", "fold"}  # of the task's `split`: not a fold's


@dataclass(frozen=True)
class Answer:
    """What the readings said of one row, in the fold that it was tested in."""

    id: str
    source_id: str | None
    gold: str
    fold: int
    repeat: int
    readings: dict[str, str | None]


def main(argv: Sequence[str] | None = None) -> None:
    """Tune and answer what is missing, and write the pooled result."""
    parser = Parser(
        "bash run_sft.sh",
        __doc__,
        usage="bash run_sft.sh [recipe] --cv K [--repeats N] [options]",
        epilog="Other options are those of bash run_sft.sh, for every fold.",
        allow_abbrev=False,
    )
    parser.add_argument("--cv", type=given_number(whole(2, 20)), default=5, metavar="K", help="folds; default: 5")
    parser.add_argument(
        "--repeats",
        type=given_number(whole(1, 20)),
        default=1,
        metavar="N",
        help="with other folds and seeds; default: 1",
    )
    known, words = parser.parse_known_args(list(sys.argv[1:] if argv is None else argv))
    options = parse_options(list(words))
    ensure_task(options.recipe)
    recipe = load_recipe(options.recipe or DEFAULT_TASK, options.overrides, caller_folder())
    trials = TrialList(list_folder(words, "cv"))
    with locked(trials.folder):
        cross_validate(trials, words, recipe, known.cv, known.repeats, options.number("seed", 42))


def cross_validate(
    trials: TrialList, words: Sequence[str], recipe: Recipe, folds: int, repeats: int, seed: int
) -> list[Answer]:
    """The answers to every row, once a repeat; writes cv.md, cv.json and rows.jsonl into the list's folder.

    `words`: the command line that all folds share. Raises `UserError` for a task with splits or rows added, and when a
    fold fails: a result without it would be another one.
    """
    if recipe.task.split.own:
        raise UserError(
            f"{shown(recipe.task.path)} has splits of its own, and --cv makes others: leave one of them out"
        )
    if recipe.task.added:  # labelled, it may be, by a model that has learned from rows that a fold tests
        raise UserError(
            f"{shown(recipe.task.path)} has `added` rows, which every fold would learn from: put those that people "
            "labelled into the table, and take `added` out for --cv"
        )
    every = {}
    for repeat, fold in product(range(repeats), range(1, folds + 1)):
        path = write_fold(trials.folder, recipe.task.split, folds, fold, recipe.task.split.seed + repeat)
        every[Trial(path.stem, seed + repeat, (str(path),))] = (repeat, fold)
    results = trials.run(list(every), words, each=stop_at_a_fault)
    answers: list[Answer] = []
    for result in results:
        answers += answers_of(result.run, *every[result.trial])
    check_each_once(answers)
    answers = of_common_readings(answers)
    labels = Run.read(results[0].run).labels
    write_jsonl(trials.folder / "rows.jsonl", map(asdict, answers))
    by = (recipe.task.primary_metric, recipe.task.margin)
    write_json(trials.folder / "cv.json", summary(answers, labels, folds, repeats, *by))
    left_out = sum(not_answered(one.run) for one in results[:folds])
    text = page(answers, labels, folds, repeats, recipe.name, *by, Run.read(results[0].run).notice, left_out)
    write_text(trials.folder / "cv.md", text)
    print(f"\n{text}\ncv: {shown(trials.folder / 'cv.md')}, {shown(trials.folder / 'rows.jsonl')}", flush=True)
    return answers


def write_fold(folder: Path, split: SplitSettings, folds: int, fold: int, seed: int) -> Path:
    """The override file that makes a task's dataset that of one fold."""
    settings = {field.name: getattr(split, field.name) for field in fields(split) if field.name not in OWN}
    settings |= {"scheme": "stratified", "seed": seed, "folds": folds, "fold": fold}
    path = folder / f"fold{fold}of{folds}-split{seed}.yaml"
    write_text(path, yaml.safe_dump({"task": {"split": settings}}, sort_keys=False))
    return path


def answers_of(folder: Path, repeat: int, fold: int) -> list[Answer]:
    """What baselines and tuned model answer the test rows of a tuned run."""
    _, test, predictions = answer(folder)
    readings = predictions.test
    ids = test.source_ids or (None,) * len(test)
    return [
        Answer(key, own, gold, fold, repeat, {name: one.predicted[at] for name, one in readings.items()})
        for at, (key, own, gold) in enumerate(zip(test.ids, ids, test.gold, strict=True))
    ]


def not_answered(folder: Path) -> int:
    """How many rows of the fold of a run its limit left out."""
    return Manifest.read(Run.read(folder).dataset).counts.not_used["test"]


def of_common_readings(answers: Sequence[Answer]) -> list[Answer]:
    """The answers without readings that some fold has not: texts may not have been generated for all of its rows."""
    common = set.intersection(*(set(answer.readings) for answer in answers))
    return [
        replace(one, readings={name: said for name, said in one.readings.items() if name in common}) for one in answers
    ]


def check_each_once(answers: Sequence[Answer]) -> None:
    """Raise `UserError` when a row was answered in two folds: its model may have learned from it."""
    if len({(answer.repeat, answer.id) for answer in answers}) < len(answers):
        raise UserError("the folds do not hold each row once, so the table has changed between them: give --fresh")


def scores(answers: Sequence[Answer], labels: Sequence[str]) -> dict[str, Classification]:
    """The metrics of each reading over all folds together."""
    gold = [answer.gold for answer in answers]
    names = answers[0].readings
    return {name: classify(gold, [answer.readings[name] for answer in answers], labels) for name in names}


def against_linear(
    answers: Sequence[Answer], labels: Sequence[str], metric: Metric, margin: float
) -> Comparison | None:
    """The tuned model against the linear one, on the same rows by the same folds; None without either."""
    names = answers[0].readings
    if (tuned := primary(names)) is None or LINEAR not in names:
        return None
    linear, ours = ([answer.readings[name] for answer in answers] for name in (LINEAR, tuned))
    return compare(linear, ours, [answer.gold for answer in answers], labels, metric=metric, margin=margin)


def summary(
    answers: Sequence[Answer],
    labels: Sequence[str],
    folds: int,
    repeats: int,
    metric: Metric = "macro_f1",
    margin: float = MARGIN,
) -> dict[str, Any]:
    """What cv.json holds: for each repeat the pooled metrics of each reading, and the comparison."""
    pooled = []
    for repeat in range(repeats):
        mine = [answer for answer in answers if answer.repeat == repeat]
        found, comparison = scores(mine, labels), against_linear(mine, labels, metric, margin)
        pooled.append({
            "readings": {name: {**asdict(s), "accuracy_ci": wilson(s.correct, s.n)} for name, s in found.items()},
            "against_linear": asdict(comparison) if comparison else None,
        })  # fmt: skip
    return {"format": 1, "folds": folds, "labels": list(labels), "repeats": pooled}


def page(
    answers: Sequence[Answer],
    labels: Sequence[str],
    folds: int,
    repeats: int,
    name: str,
    metric: Metric = "macro_f1",
    margin: float = MARGIN,
    notice: Notice | None = None,
    left_out: int = 0,
) -> str:
    """cv.md: the pooled result, by repeat, fold and class; `left_out`: rows that a limit kept out of all tests."""
    first = [answer for answer in answers if answer.repeat == 0]
    found, tuned = scores(first, labels), primary(first[0].readings)
    lines = [
        f"# 交叉验证 / Cross-validation: {name}, {folds} folds, n = {number(len(first))}",
        "",
        "每一行由没有见过它、也没有见过其近似文本的模型回答一次；下面是全部折合在一起的结果。",
        "Each row was answered once, by a model that saw neither it nor its near copies; these are all folds together.",
        "",
        *([f"另有 {number(left_out)} 行被上限（limit）排除，没有被回答。"] if left_out else []),
        *([f"{number(left_out)} other rows were left out by the limit, and not answered.", ""] if left_out else []),
        *([f"第一折：{notice['zh']}", f"In the first fold: {notice['en']}", ""] if notice else []),
        *table(["判读 reading", "准确率 accuracy", "95%", "macro F1", "未识别 unparsed"], [
            [" ".join(reading_name(key)), percent(s.accuracy), interval(wilson(s.correct, s.n)), f"{s.macro_f1:.3f}",
             percent(s.unparsed_rate)]
            for key, s in found.items()
        ]),
        "",
    ]  # fmt: skip
    if tuned and (comparison := against_linear(first, labels, metric, margin)):
        said = baseline_verdict(Contrast(found[LINEAR], found[tuned], comparison))
        lines += [said.zh, said.en, ""]
    if tuned and repeats > 1:
        each = [scores([a for a in answers if a.repeat == repeat], labels)[tuned] for repeat in range(repeats)]
        accuracies = [one.accuracy for one in each]
        lines += [
            f"{repeats} 次不同划分 / with {repeats} draws of folds: accuracy "
            f"{percent(fmean(accuracies))} ± {100 * stdev(accuracies):.1f}, "
            f"macro F1 {fmean(one.macro_f1 for one in each):.3f} ± {stdev(one.macro_f1 for one in each):.3f}",
            "",
        ]
    names = [key for key in (LINEAR, tuned) if key and key in found]
    by_fold = {fold: scores([a for a in first if a.fold == fold], labels) for fold in range(1, folds + 1)}
    lines += [
        *table(["折 fold", "n", *(" ".join(reading_name(key)) for key in names)], [
            [str(fold), number(next(iter(s.values())).n), *(percent(s[key].accuracy) for key in names)]
            for fold, s in by_fold.items()
        ]),
        "",
        *table(["类别 class", "n", *(f"F1 {' '.join(reading_name(key))}" for key in names)], [
            [label, number(found[names[0]].per_class[label].support),
             *(f"{found[key].per_class[label].f1:.3f}" for key in names)]
            for label in labels
        ] if names else [], 1),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    run_main(main)
