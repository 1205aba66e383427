"""Instructions injected into reviews: how far the model before and after tuning, and the linear model, obey them.

Run as: python -m eval.injection RUN [--rows 300]. Takes test rows that all of them answered right, puts instructions
into them (eight families, three places) and as controls text that names the same label and orders nothing,
instructions aimed at the true label, and harmless sentences; asks `swift infer` for the labels' probabilities, and
writes RUN/injection.json, RUN/injection/*.jsonl and the report. The most probable label counts as the answer.
Interrupted, it goes on where it stopped.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.chat.frame import chat_frame
from data_prep.chat.injection import TRIGGERS
from data_prep.chat.parts import as_read
from data_prep.chat.prompt import control_pattern, neutralise
from data_prep.chat.tokenizer import ModelTokenizer
from data_prep.manifest import Manifest
from data_prep.task import Task
from eval.baselines import fit_linear, primary_metric
from eval.evaluate import load_run_task
from eval.infer import SIDES, check_responses_are_current
from eval.inference.collect import collect
from eval.inference.job import InferenceJob
from eval.inference.prompts import Prompt, by_length
from eval.report import write_report
from eval.robustness.attacks import KINDS, Attack, Row, attacks_on
from eval.robustness.rates import FILE, current_inputs, injection_differences, injection_rates
from eval.robustness.table import summary_lines
from eval.scoring.asked_part import asked_part
from eval.scoring.baseline_records import ANSWERS, LINEAR
from eval.scoring.responses import Split, SplitName, as_shown, load_responses, load_split
from plan.run import Run, locked_run
from workspace import ranges
from workspace.command_line import Parser, given_number, given_path
from workspace.errors import UserError, run_main
from workspace.files import sha256_json, write_json, write_jsonl
from workspace.paths import shown

ROWS = 300
LEARNED_FROM: tuple[SplitName, ...] = ("train", "val")
SCHEMA_VERSION = 2


def measure(folder: Path, rows: int = ROWS) -> dict[str, Any]:
    """Answer every attack and write RUN/injection.json; returns what the report has of it.

    Raises `UserError` when the run has no responses yet, or too few rows were answered right.
    """
    run = Run.read(folder)
    injected = Manifest.read(run.dataset).injected
    task = _task(run)
    check_responses_are_current(run)
    test = load_split(run.dataset, "test", run.labels)
    part = asked_part(run.folder, test)
    asked = test if part is None else part
    probabilities = _saved_probabilities(run, asked, test)
    if not probabilities.keys() & set(SIDES):
        raise UserError(f"{shown(run.folder)} has no answers of the model yet: run `bash run_sft.sh` first")
    rows_right = _answered_right(asked, list(probabilities.values()), run.labels, rows, run.seed)
    attacks = list(attacks_on(rows_right, task))
    answers = {
        name: _by_linear_model(run, attacks, task) if name == LINEAR else _by_model(run, name, attacks, task)
        for name in probabilities
    }
    for name, given in answers.items():
        write_jsonl(
            run.folder / "injection" / f"{name}.jsonl",
            ({**attack._asdict(), "answer": answer} for attack, answer in zip(attacks, given, strict=True)),
        )
    result = {
        "rows": rows,
        "mixed": injected.model_dump() if injected else None,
        "ways": {
            name: injection_rates(attacks, given, run.labels, name == "after" and injected is not None)
            for name, given in answers.items()
        },
        "differences": injection_differences(attacks, answers),
    }
    about = {"schema_version": SCHEMA_VERSION, "inputs": current_inputs(run)}
    write_json(run.folder / FILE, {**about, "kinds": list(KINDS), "triggers": list(TRIGGERS), **result})
    return result


def _saved_probabilities(run: Run, asked: Split, test: Split) -> dict[str, NDArray[np.float64]]:
    """The label probabilities (n, labels) of the unchanged rows that were `asked` in every way, by who answered: linear
    model, before, after."""
    folders = {LINEAR: run.folder / ANSWERS[LINEAR], **{side: run.folder / side for side in SIDES}}
    found = {
        name: load_responses(folder / "test.jsonl", asked, run.labels, None if name == "before" else test, texts=False)
        for name, folder in folders.items()
    }
    return {name: one.probabilities for name, one in found.items() if one and one.probabilities is not None}


def _answered_right(
    test: Split, probabilities: Sequence[NDArray[np.float64]], labels: Sequence[str], rows: int, seed: int
) -> list[Row]:
    """At most `rows` rows, drawn by a hash of seed and id, that every model answered right and that are whole in the
    prompt: judged on rows of their own, the models could not be compared."""
    all_right = np.all([shares.argmax(axis=1) == test.codes(labels) for shares in probabilities], axis=0)
    chosen = [
        Row(key, review, gold)
        for key, review, gold, cut, right in zip(
            test.ids, test.columns or test.reviews, test.gold, test.cut, all_right, strict=True
        )
        if right and not cut
    ]
    if not chosen:
        raise UserError(f"no row of {shown(test.path)} was answered right by every model: there is no answer to turn")
    chosen.sort(key=lambda row: hashlib.sha256(f"{seed}:{row.id}".encode()).digest())
    return chosen[:rows]


def _by_linear_model(run: Run, attacks: Sequence[Attack], task: Task) -> list[str]:
    train, val = as_shown(*(load_split(run.dataset, name, run.labels) for name in LEARNED_FROM))
    model = fit_linear(train, val, run.labels, metric=primary_metric(run))
    probabilities = model.probabilities([as_read(attack.review, len(task.columns.places)) for attack in attacks])
    return [run.labels[code] for code in probabilities.argmax(axis=1)]


def _by_model(run: Run, side: str, attacks: Sequence[Attack], task: Task) -> list[str]:
    """The model's most probable label of each attacked review, which goes into the prompt as prep puts it there."""
    if run.model_folder is None:
        raise UserError(f"{shown(run.folder)} names no model folder: run `bash run_sft.sh` again")
    frame = chat_frame(run.sft_values().get("template"), task.system, shown(run.folder / "sft.yaml"))
    pattern = control_pattern((*frame.control_tokens, *ModelTokenizer(run.model_folder).control_tokens))
    questions = (task.render(neutralise(attack.review, pattern)) for attack in attacks)
    prompts = [
        Prompt("injection", attack.key, attack.gold, False, (*task.system_turns, {"role": "user", "content": question}))
        for attack, question in zip(attacks, questions, strict=True)
    ]
    job, ordered = InferenceJob.of(run, side, f"injection/{side}"), by_length(prompts)
    completions = collect(job, ordered, sha256_json(job.inputs()))
    labels = {prompt.id: completion.label for prompt, completion in zip(ordered, completions, strict=True)}
    return [labels[attack.key] for attack in attacks]


def _task(run: Run) -> Task:
    task, where = load_run_task(run), shown(run.task_file) if run.task_file else "it was planned for"
    if task is None:
        raise UserError(
            f"the run's task {where} is gone, or has other labels now: put it back, or run the same command again"
        )
    if run.prompt is None or run.prompt not in task.prompts:
        raise UserError(f"{where} has no prompt {run.prompt} any more: run the same command again")
    return dataclasses.replace(task, prompt=run.prompt)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and report."""
    parser = Parser("python -m eval.injection", __doc__)
    parser.add_argument("run", type=given_path, metavar="RUN", help="the folder of a finished run")
    parser.add_argument(
        "--rows",
        type=given_number(ranges.ROWS),
        default=ROWS,
        metavar="N",
        help=f"test rows, the same for each model (default {ROWS})",
    )
    args = parser.parse_args(argv)
    with locked_run(args.run):
        result = measure(args.run, args.rows)
        print("\n".join(summary_lines(result)))
        print(f"report: {shown(write_report(args.run.absolute()))}")
    return 0


if __name__ == "__main__":
    run_main(main)
