"""Score a run's saved answers: every reading, the paired statistics, the verdict, written to metrics.json.

Run as: python -m eval.evaluate RUN. Reads what is in the folder, needs no model, writes RUN/metrics.json (keys:
metrics.schema.json) and RUN/rows.jsonl, and enters the look at the test split in the ledger next to it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.manifest import Manifest
from data_prep.overrides import find_overrides
from data_prep.task import Task, load_task
from eval.infer import check_responses_are_current
from eval.inference.summary import Summary
from eval.robustness.rates import load_injection
from eval.scoring.baseline_records import encoder_facts
from eval.scoring.calibration import probability_metrics
from eval.scoring.consistency import consistency_checks
from eval.scoring.curves import load_curves
from eval.scoring.decisions import calibration_record, decisions, stack_record
from eval.scoring.efficiency import Efficiency, costs, load_efficiency
from eval.scoring.gain import decompose_gain
from eval.scoring.judgement import compare_all, judge, judge_all
from eval.scoring.label_bias import only_answer
from eval.scoring.learning_curve import near_curve
from eval.scoring.ledger import Look, record_look
from eval.scoring.metrics import UNPARSED, Classification, classify
from eval.scoring.nearest_rows import confident_mistakes
from eval.scoring.predictions import STACK, Metrics, Predictions, cut_off, load_predictions
from eval.scoring.reading_names import READINGS, primary
from eval.scoring.responses import Split, SplitName, load_split
from eval.scoring.row_records import row_records
from eval.scoring.segments import load_segments, of_rows
from eval.scoring.significance import MARGIN, wilson
from eval.scoring.slices import load_label_issues, slice_metrics
from eval.scoring.variants import untuned_variants
from plan.distributed import whole_number
from plan.provenance import recipe_sha256
from plan.resolved import is_head
from plan.run import Run
from workspace import stages
from workspace.command_line import Parser, given_path
from workspace.errors import UserError, run_main
from workspace.files import read_json, sha256_file, sha256_json, write_json, write_jsonl
from workspace.paths import ROOT, shown

SPLITS: tuple[SplitName, ...] = ("test", "val", "train")
SCHEMA_VERSION = 2
LEAKS_NAMED = 20  # of each two splits
STAGES = ("before", "train", "after")
MODEL_ANSWERS = ("before/test.jsonl", "before/few_shot.jsonl", "after/test.jsonl")


def evaluate(folder: Path) -> Metrics:
    """Score the run in `folder`; returns what metrics.json holds. Deterministic for the same files.

    Raises `UserError` when the folder is no run, holds no answers, or holds answers to other rows than its dataset's.
    """
    run = Run.read(folder)
    labels, head = run.labels, is_head(folder)
    manifest = Manifest.read(run.dataset)
    check_responses_are_current(run)
    splits = (load_split(run.dataset, name, labels, manifest.files.get(f"{name}.jsonl")) for name in SPLITS)
    test, val, train = splits
    if not len(test):
        raise UserError(f"{shown(test.path)} has no rows: there is nothing to score")

    task = load_run_task(run)
    predictions = load_predictions(folder, test, val, labels, task.synonyms if task else {})
    every, rows = predictions.every, {name: predictions.rows(name, test) for name in predictions.every}
    scores = {name: classify(rows[name].gold, p.predicted, labels, p.strict) for name, p in every.items()}
    metric, margin = (task.primary_metric, task.margin) if task else ("macro_f1", MARGIN)
    stack = stack_record(predictions, val, labels, metric)
    off = () if stack is None or stack["helps"] else (STACK,)
    comparisons = compare_all(predictions, test, labels, metric, margin, off)
    efficiency = load_efficiency(run, every)
    judged = (predictions, test, scores, comparisons, labels, READINGS, metric)
    decision, intervals = judge_all(*judged, costs(efficiency), off)
    curves, issues = load_curves(run.train_folder, len(val)), load_label_issues(run.dataset, test)
    disputed = issues.ids if issues else ()
    segments = load_segments(task, manifest.source, test.ids)
    known = manifest.known_public.ids if manifest.known_public else ()
    gain = decompose_gain(predictions.asked, comparisons, predictions.part.gold, labels, metric)
    metrics = {
        "schema_version": SCHEMA_VERSION,
        "run": _run_facts(run, manifest),
        "notice": run.notice,
        "head": head,
        "verdict": judge(predictions, test, comparisons, labels, head),
        "decision": asdict(decision),
        "primary_metric": metric,
        "margin": margin,
        "labels": list(labels),
        "counts": manifest.counts.model_dump(),
        "leaks": _leaks(manifest),
        "test": _looks(run, manifest, {name: scores[name] for name in predictions.test})
        | {"asked": len(predictions.part)},
        "readings": {
            name: _reading(p, scores[name], efficiency[name], rows[name], labels) | {"intervals": intervals[name]}
            for name, p in every.items()
        },
        "stack": stack,
        "encoder": encoder_facts(folder),
        "untuned": untuned_variants(folder, predictions.part, predictions.asked, labels, len(test)),
        "gain": asdict(gain) if gain else None,
        "comparisons": [{"a": a, "b": b, **asdict(comparison)} for (a, b), comparison in comparisons.items()],
        "slices": [
            asdict(part)
            for name, p in every.items()
            for part in slice_metrics(
                name,
                p.predicted,
                rows[name],
                labels,
                known,
                disputed,
                of_rows(segments, test, rows[name]),
            )
        ],
        "mistakes": [asdict(one) for one in confident_mistakes(predictions.test.get("after_score"), test, train)],
        "learning_curve": near_curve(run, manifest),
        "disputed": {"n": len(issues.ids), "judge": issues.judge} if issues else None,
        "injection": load_injection(run),
        "curves": asdict(curves) if curves else None,
        **decisions(predictions, scores, (val, test), labels, task, issues),
        "parity": [asdict(one) | {"detail": one.detail._asdict()} for one in consistency_checks(folder, val.ids)],
    }
    write_jsonl(folder / "rows.jsonl", row_records(predictions, test))
    write_json(folder / "metrics.json", metrics)
    return read_json(folder / "metrics.json")


def load_run_task(run: Run) -> Task | None:
    """The task that the run was planned for; None where it is gone or has other labels, which is said: its synonyms are
    not known."""
    if run.task_file is None or not run.task_file.is_file():
        if run.task_file:
            print(f"report: {shown(run.task_file)} is gone, so synonyms of labels are not read", flush=True)
        return None
    task = load_task(run.task_file, find_overrides(run.task_overrides, run.task_file.parent))
    if task.label_words != run.labels:
        print(f"report: {shown(run.task_file)} has other labels now, so synonyms of labels are not read", flush=True)
        return None
    return task


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = Parser("python -m eval.evaluate", __doc__)
    parser.add_argument(
        "run", type=given_path, metavar="RUN", help="the run's folder, with before/test.jsonl, after/test.jsonl"
    )
    folder = parser.parse_args(argv).run
    verdict = evaluate(folder)["verdict"]
    print(verdict["en"])
    if verdict["baseline"]:
        print(verdict["baseline"]["en"])
    print(f"scores: {shown(folder / 'metrics.json')}, {shown(folder / 'rows.jsonl')}")
    return 0


def _leaks(manifest: Manifest) -> dict[str, Any] | None:
    """The rows that stand in two splits, counted and the first few named; None where there are none."""
    if not any(leak.exact + leak.near for leak in manifest.leaks.values()):
        return None
    return {
        "counts": {key: leak.model_dump() for key, leak in manifest.leaks.items()},
        "rows": {key: pairs[:LEAKS_NAMED] for key, pairs in manifest.leaking.items()},
    }


def _run_facts(run: Run, manifest: Manifest) -> dict[str, Any]:
    made_by = _made_by(run)
    return {
        **{key: getattr(run, key) for key in ("task", "recipe", "model", "csv", "limit")},
        "git": made_by.pop("git", None),
        "seed": manifest.seed,
        "training_seed": run.seed,
        "soup": bool((tuned := stages.read_record(run.folder, "train")) and "soup" in tuned.inputs),
        "data_seed": whole_number(run.sft_values(), "data_seed", run.seed or 0),
        "recipe_sha256": recipe_sha256(run, manifest),
        "machine": made_by.pop("machine", None),
        "versions": made_by,
        "started": run.planned,
        "seconds": {stage: stages.seconds_taken(run.folder, stage) for stage in STAGES},
    }


def _made_by(run: Run) -> dict[str, str]:
    """What really computed the stages, by name; where that differs, each value with its stages.

    The plan's own for a run of which no stage has recorded it.
    """
    records = {stage: stages.read_record(run.folder, stage) for stage in STAGES}
    planned = {"machine": run.machine_text or "", **run.versions, "python": run.python or "", "git": run.git or ""}
    made = {stage: record.made_by for stage, record in records.items() if record and record.made_by} or {"": planned}
    by_value: dict[str, dict[str, list[str]]] = {}
    for stage, facts in made.items():
        for name, value in facts.items():
            if value:
                by_value.setdefault(name, {}).setdefault(value, []).append(stage)
    return {
        name: next(iter(values))
        if len(values) == 1
        else ", ".join(f"{v} ({' and '.join(s)})" for v, s in values.items())
        for name, values in by_value.items()
    }


def _reading(
    predictions: Predictions, score: Classification, efficiency: Efficiency, rows: Split, labels: Sequence[str]
) -> dict[str, Any]:
    """One reading's entry in metrics.json."""
    shares = predictions.probabilities
    return {
        "kind": predictions.kind,
        **asdict(score),
        "accuracy_ci": wilson(score.correct, score.n),
        "confusion": {"columns": [*labels, UNPARSED], "counts": score.confusion},
        "cut_off": cut_off(predictions),
        "only_answer": only_answer(predictions.predicted),
        "label_mass": None if predictions.label_mass is None else float(np.median(predictions.label_mass)),
        "threshold": predictions.threshold.value() if predictions.threshold else None,
        **asdict(efficiency),
        "calibration": calibration_record(predictions, rows.codes(labels), labels),
        "probabilities": None if shares is None else asdict(probability_metrics(shares, rows.codes(labels))),
    }


def _looks(run: Run, manifest: Manifest, scores: Mapping[str, Classification]) -> dict[str, Any]:
    """How often the test rows were looked at, this time included."""
    folder, name = run.folder, run.folder.resolve()
    score = scores[primary(scores) or list(scores)[-1]]
    answers = {file: sha256_file(folder / file) for file in MODEL_ANSWERS if (folder / file).is_file()}
    after = Summary.read(folder / "after")
    look = Look(
        run=str(name.relative_to(ROOT)) if name.is_relative_to(ROOT) else str(name),
        config_sha256=run.config_sha256,
        model=run.model,
        adapter_sha256=after.adapter_sha256 if after else None,
        n=score.n,
        accuracy=score.accuracy,
        rows_sha256=manifest.rows_sha256["test"],
        answers_sha256=sha256_json(answers),
    )
    looks = record_look(run.dataset.parent / f"{run.task}.looks.jsonl", look)
    return {"rows_sha256": look.rows_sha256, "n": look.n, "looks": looks.rows, "looks_this_task": looks.task}


if __name__ == "__main__":
    run_main(main)
