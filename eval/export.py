"""Write what a run's models were asked and what they answered as logs that Inspect shows.

Run as: python -m eval.export RUN, after python -m eval.report RUN. Needs no model, and nothing of Inspect: writes
RUN/inspect/before.eval, before_few_shot.eval and after.eval, for `inspect view --log-dir RUN/inspect`.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from data_prep.manifest import Manifest
from eval.evaluate import load_run_task
from eval.infer import check_responses_are_current, prompts_sha256, stage_prompts
from eval.inference.prompts import Prompt
from eval.inference.summary import Summary
from eval.reporting.inspect_log import results, sample, score, write_log
from eval.scoring.predictions import STACK, Predictions, RunPredictions, load_predictions
from eval.scoring.responses import Response, Split, load_split
from plan.run import Run, locked_run
from workspace.command_line import Parser, given_path
from workspace.errors import UserError, run_main
from workspace.files import read_json, sha256_json
from workspace.paths import shown
from workspace.records import read_lines

FOLDER = "inspect"  # in the run's
# By log: the side, the purpose of its prompts, and whether a reading is of these answers.
LOGS = {
    "before": ("before", "test", lambda name: name.startswith("before_") and name != "before_few_shot"),
    "before_few_shot": ("before", "few_shot", lambda name: name == "before_few_shot"),
    "after": ("after", "test", lambda name: name.startswith("after_") or name == STACK),
}
FIGURES = ("n", "accuracy", "macro_f1", "balanced_accuracy", "mcc", "unparsed_rate")
KEPT = ("finish_reason", "label_mass", "probabilities", "cut", "prompt_tokens", "prompt_sha256", "chat_sha256")


def export(folder: Path) -> list[Path]:
    """Write a log of each model that answered; returns their paths.

    Raises `UserError` where the run is not scored, its answers have changed since, or were to other prompts.
    """
    run = Run.read(folder)
    check_responses_are_current(run)
    test, predictions = _scored(run)
    metrics = read_json(folder / "metrics.json")
    written = []
    for log, (side, purpose, is_of) in LOGS.items():
        file = folder / side / f"{purpose}.jsonl"
        readings = {name: found for name, found in predictions.every.items() if is_of(name)}
        if not file.is_file() or not readings:
            continue
        prompts = {one.id: one for one in _asked(run, side, predictions.part) if one.purpose == purpose}
        answers = {one.id: one for one in read_lines(file, Response, "run the inference again")}
        figures = {name: {key: metrics["readings"][name].get(key) for key in FIGURES} for name in readings}
        path = folder / FOLDER / f"{log}.eval"
        rows = predictions.part if side == "before" else test
        header = _header(run, log, rows, metrics) | {"results": results(figures, len(rows))}
        write_log(path, header, _samples(rows, test, prompts, answers, predictions, readings, run))
        written.append(path)
    if not written:
        raise UserError(f"{shown(folder)} holds no answers of a language model yet: run `bash run_sft.sh` to its end")
    return written


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = Parser("python -m eval.export", __doc__)
    parser.add_argument("run", type=given_path, metavar="RUN", help="the run's folder, with metrics.json")
    folder = parser.parse_args(argv).run
    with locked_run(folder):
        for path in export(folder):
            print(f"export: {shown(path)}")
    return 0


def _scored(run: Run) -> tuple[Split, RunPredictions]:
    """The test rows and every reading of them, which must be those that metrics.json has figures of."""
    again = f"run `python -m eval.report {shown(run.folder)}` first"
    if not (run.folder / "metrics.json").is_file():
        raise UserError(f"{shown(run.folder)} is not scored yet: {again}")
    files = Manifest.read(run.dataset).files
    test, val = (load_split(run.dataset, name, run.labels, files.get(f"{name}.jsonl")) for name in ("test", "val"))
    task = load_run_task(run)
    predictions = load_predictions(run.folder, test, val, run.labels, task.synonyms if task else {})
    figures = read_json(run.folder / "metrics.json")["readings"]
    if predictions.correct(test) != {name: reading["correct"] for name, reading in figures.items()}:
        raise UserError(f"{shown(run.folder / 'metrics.json')} is of other answers than the run has now: {again}")
    return test, predictions


def _asked(run: Run, side: str, part: Split) -> list[Prompt]:
    """The prompts of a stage, made again. Raises `UserError` where they are not those that were answered."""
    prompts, summary = stage_prompts(run, side, part.ids), Summary.read(run.folder / side)
    digest = prompts_sha256(prompts)
    if summary and summary.inputs.get("prompts", digest) != digest:
        raise UserError(
            f"the answers in {shown(run.folder / side)} are to other prompts than this version asks: run the same "
            "command again"
        )
    return prompts


def _header(run: Run, log: str, rows: Split, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """EvalSpec and EvalStats."""
    when = datetime.fromisoformat(run.planned).astimezone(UTC).isoformat() if run.planned else ""
    name = f"{run.recipe} {log}"
    spec = {
        "created": when,
        "task": f"{run.task} {log}",
        "task_id": sha256_json([run.task, log])[:22],
        "run_id": (run.config_sha256 or "")[:22],
        "eval_id": sha256_json([run.config_sha256, log])[:22],
        "dataset": {
            "name": run.task,
            "location": run.csv,
            "samples": len(rows),
            "sample_ids": list(rows.ids),
            "shuffled": False,
        },
        "model": run.model or name,
        "config": {"epochs": 1},
        "packages": metrics["run"]["versions"],
        "scorers": [],
        "metadata": {
            "recipe": run.recipe,
            "labels": list(run.labels),
            "primary_metric": metrics["primary_metric"],
            "verdict": metrics["verdict"]["en"],
            "metrics_schema_version": metrics["schema_version"],
            "config_sha256": run.config_sha256,
        },
    }
    return {"eval": spec, "stats": {"started_at": when, "completed_at": when}}


def _samples(
    rows: Split,
    test: Split,
    prompts: Mapping[str, Prompt],
    answers: Mapping[str, Response],
    predictions: RunPredictions,
    readings: Mapping[str, Predictions],
    run: Run,
) -> Iterator[dict[str, Any]]:
    places = predictions.places(test)
    for row, (key, gold) in enumerate(zip(rows.ids, rows.gold, strict=True)):
        answer = dataclasses.asdict(answers[key])
        one = sample(
            key, prompts[key].messages, gold, answer["answer"], answer["finish_reason"], run.model or run.recipe
        )
        one["scores"] = {
            name: score(found.predicted[at], found.predicted[at] == gold, _shares(found, at, run.labels))
            for name, found in readings.items()
            if (at := places[name].get(key)) is not None
        }
        own = {"source_id": rows.source_ids[row]} if rows.source_ids else {}
        yield one | {"metadata": {name: answer[name] for name in KEPT} | own | {"text": rows.reviews[row]}}


def _shares(reading: Predictions, at: int, labels: tuple[str, ...]) -> dict[str, float] | None:
    if reading.probabilities is None:
        return None
    return dict(zip(labels, map(float, reading.probabilities[at]), strict=True))


if __name__ == "__main__":
    run_main(main)
