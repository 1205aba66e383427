"""Reviews that give orders: how far the model before and after tuning, and the linear model, obey them.

Run as: python -m eval.injection RUN [--rows 300]. Takes test rows that each answered right, puts orders into them
(eight families, three places) and as controls neutral text, orders aimed at the true label, and harmless sentences;
asks `swift infer` for the labels' probabilities, and writes RUN/injection.json, RUN/injection/*.jsonl and the report.
The most probable label counts as the answer. Interrupted, it goes on where it stopped.
"""

import argparse
import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_prep.chat.injection import TRIGGERS
from data_prep.chat.prompt import control_pattern, neutralise
from data_prep.chat.tokenizer import ModelTokenizer
from data_prep.overrides import find_overrides
from data_prep.task import Task, load_task
from eval.baselines import fit_linear
from eval.infer import answer_all, model_inputs, read_plan
from eval.inference.backends import way_to_ask
from eval.inference.freshness import check_answers_are_current
from eval.inference.prompts import Request
from eval.inference.workers import Question
from eval.report import write_report
from eval.robustness.attacks import KINDS, Attack, Row, attacks_on
from eval.robustness.rates import injection_rates
from eval.robustness.record import FILE, current_inputs
from eval.robustness.table import summary_lines
from eval.scoring.predictions import BASELINES_ANSWERS
from eval.scoring.responses import Answers, Split, load_answers, load_split
from train.checkpoints import best_checkpoint, weights_sha256
from workspace.errors import UserError, run_main
from workspace.files import read_json, sha256_file, sha256_json, write_json, write_jsonl
from workspace.folder_lock import locked_run
from workspace.paths import ROOT, shown

ROWS = 300
LINEAR = "tfidf_linear"
SCHEMA_VERSION = 1


def measure(run: Path, rows: int = ROWS) -> dict[str, Any]:
    """Ask every attack and write RUN/injection.json; returns what stands there.

    Raises `UserError` when the run has no answers yet, or too few rows were answered right.
    """
    plan = read_plan(run)
    dataset, labels = ROOT / plan["dataset"], tuple(plan["labels"])
    manifest = read_json(dataset / "manifest.json")
    task = _task(plan)
    check_answers_are_current(run, plan, dataset)
    test = load_split(dataset, "test", labels)
    saved = _saved_answers(run, test, labels)
    if not saved.keys() & {"before", "after"}:
        raise UserError(f"{shown(run)} has no answers of the model yet: run `bash run_sft.sh` first")
    found: dict[str, Any] = {}
    for name, answers in saved.items():
        right = _answered_right(test, answers, labels, rows, plan["seed"])
        attacks = list(attacks_on(right, task))
        told = _linear(dataset, attacks, labels) if name == LINEAR else _ask(run, name, attacks, task, plan)
        write_jsonl(
            run / "injection" / f"{name}.jsonl",
            ({**attack._asdict(), "answer": answer} for attack, answer in zip(attacks, told, strict=True)),
        )
        mixed = name == "after" and bool(manifest.get("injected"))
        found[name] = injection_rates(attacks, told, labels, mixed)
    result = {
        "schema_version": SCHEMA_VERSION,
        "inputs": current_inputs(run, dataset),
        "rows": rows,
        "mixed": manifest.get("injected"),
        "kinds": list(KINDS),
        "triggers": list(TRIGGERS),
        "ways": found,
    }
    write_json(run / FILE, result)
    return result


def _saved_answers(run: Path, test: Split, labels: Sequence[str]) -> dict[str, Answers]:
    """The answers with probabilities to the unchanged rows, by way: linear, before, after."""
    places = {LINEAR: run / BASELINES_ANSWERS, "before": run / "before", "after": run / "after"}
    found = {name: load_answers(folder / "test.jsonl", test, labels) for name, folder in places.items()}
    return {name: answers for name, answers in found.items() if answers and answers.probabilities is not None}


def _answered_right(test: Split, answers: Answers, labels: Sequence[str], rows: int, seed: int) -> list[Row]:
    """At most `rows` rows, drawn by a hash of seed and id, that were answered right and stand whole in the prompt."""
    said = answers.probabilities.argmax(axis=1)
    right = [
        Row(key, review, gold)
        for key, review, gold, cut, code in zip(test.ids, test.reviews, test.gold, test.cut, said, strict=True)
        if labels[code] == gold and not cut
    ]
    if not right:
        raise UserError(f"no row of {shown(test.path)} was answered right: there is no answer that could be turned")
    right.sort(key=lambda row: hashlib.sha256(f"{seed}:{row.id}".encode()).digest())
    return right[:rows]


def _linear(dataset: Path, attacks: Sequence[Attack], labels: Sequence[str]) -> list[str]:
    model = fit_linear(load_split(dataset, "train", labels), load_split(dataset, "val", labels), labels)
    return [labels[code] for code in model.probabilities([attack.review for attack in attacks]).argmax(axis=1)]


def _ask(run: Path, stage: str, attacks: Sequence[Attack], task: Task, plan: dict[str, Any]) -> list[str]:
    """The model's most probable label of each attacked review, which goes into the prompt as prep puts it there."""
    pattern = control_pattern(ModelTokenizer(Path(plan["model_folder"])).control_tokens)
    requests = [
        Request(
            "injection",
            attack.key,
            attack.gold,
            False,
            (
                {"role": "system", "content": task.system},
                {"role": "user", "content": task.render(neutralise(attack.review, pattern))},
            ),
        )
        for attack in attacks
    ]
    adapter = best_checkpoint(run) if stage == "after" else None
    way = way_to_ask(run, stage, len(plan["labels"]))
    inputs = {
        **model_inputs(run, plan),
        "adapter": weights_sha256(adapter) if adapter else None,
        "plugin": sha256_file(way.plugin),
    }
    question = Question(run, f"injection/{stage}", plan["labels"], adapter, way)
    # Rows of one length in a batch need no padding.
    ordered = sorted(requests, key=lambda request: (len(request.messages[-1]["content"]), request.id))
    answered = answer_all(question, ordered, sha256_json(inputs), plan.get("auto_batch", False))
    said = {
        request.id: max(answer.logprobs, key=answer.logprobs.__getitem__)
        for request, answer in zip(ordered, answered, strict=True)
    }
    return [said[attack.key] for attack in attacks]


def _task(plan: dict[str, Any]) -> Task:
    path = Path(plan["task_file"])
    if not path.is_file():
        raise UserError(f"the run's task {shown(path)} is gone: put it back, or run the same command anew")
    task = load_task(path, find_overrides(plan.get("task_overrides", []), path.parent))
    if plan["prompt"] not in task.prompts:
        raise UserError(f"{shown(path)} has no prompt {plan['prompt']} any more: run the same command anew")
    return dataclasses.replace(task, prompt=plan["prompt"])


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(prog="python -m eval.injection", description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a finished run")
    parser.add_argument("--rows", type=int, default=ROWS, metavar="N", help=f"test rows of each way (default {ROWS})")
    args = parser.parse_args(argv)
    if args.rows < 1:
        raise UserError(f"--rows {args.rows} leaves nothing: give a whole number of at least 1")
    with locked_run(args.run):
        result = measure(args.run.absolute(), args.rows)
        print("\n".join(summary_lines(result)))
        print(f"report: {shown(write_report(args.run.absolute()))}")
    return 0


if __name__ == "__main__":
    run_main(main)
