"""Score a run's saved answers: every reading, the paired statistics, the verdict, written to metrics.json.

Run as: python -m eval.evaluate RUN. Reads what is in the folder, needs no model, writes RUN/metrics.json (keys:
metrics.schema.json) and RUN/rows.jsonl, and enters the look at the test split in the ledger beside it.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data_prep.overrides import find_overrides
from data_prep.task import load_task
from eval.inference.freshness import check_answers_are_current
from eval.robustness.record import load_injection
from eval.scoring.calibration import check_selective, choose_selective, probability_metrics
from eval.scoring.consistency import parity_gates
from eval.scoring.curves import load_curves
from eval.scoring.efficiency import Costs, reading_costs
from eval.scoring.label_issues import load_disputed
from eval.scoring.ledger import Look, record_look
from eval.scoring.metrics import UNPARSED, Classification, classify
from eval.scoring.predictions import Reading, Readings, headline, headline_pair, load_readings, row_records
from eval.scoring.responses import Split, load_split
from eval.scoring.significance import Comparison, balanced_accuracy_interval, compare, wilson
from eval.scoring.slices import slice_reading
from eval.scoring.verdict import Contrast, Guessing, baseline_verdict, verdict
from plan.run import is_head
from workspace import stages
from workspace.errors import UserError, run_main
from workspace.files import read_json, sha256_file, sha256_json, write_json, write_jsonl
from workspace.paths import ROOT, shown

SCHEMA_VERSION = 1
STAGES = ("prep", "before", "train", "after")
MODEL_ANSWERS = ("before/test.jsonl", "before/few_shot.jsonl", "after/test.jsonl")


def evaluate(run: Path) -> dict[str, Any]:
    """Score `run`; returns what metrics.json holds. Deterministic for the same files.

    Raises `UserError` when the folder is no run, holds no answers, or holds answers to other rows than its dataset's.
    """
    plan = _read(run / "run.json", f"{shown(run)} is not a run (no run.json): name a folder that run_sft.sh made")
    dataset, labels = ROOT / plan["dataset"], tuple(plan["labels"])
    manifest = _read(dataset / "manifest.json", f"{shown(dataset)} has no manifest.json: build the dataset anew")
    check_answers_are_current(run, plan, dataset)
    test, val = (load_split(dataset, name, labels, manifest["files"].get(f"{name}.jsonl")) for name in ("test", "val"))
    if not len(test):
        raise UserError(f"{shown(test.path)} has no rows: there is nothing to score")
    task_file = Path(plan.get("task_file") or "")
    changes = find_overrides(plan.get("task_overrides", []), task_file.parent)
    synonyms = load_task(task_file, changes).synonyms if task_file.is_file() else {}
    readings = load_readings(run, test, val, labels, synonyms)
    scores = {name: classify(test.gold, r.predicted, labels, r.strict) for name, r in readings.test.items()}
    comparisons = compare_readings(readings.test, test, labels)
    costs = reading_costs(run, plan, list(readings.test))
    curves = load_curves(run / "train")
    known = (manifest.get("known_public") or {}).get("ids", [])
    disputed = load_disputed(dataset, test)
    metrics = {
        "schema_version": SCHEMA_VERSION,
        "run": _run_facts(run, plan, manifest),
        "notice": plan.get("notice"),
        "head": is_head(run),
        "verdict": _verdicts(readings.test, scores, comparisons, test, labels, is_head(run)),
        "labels": list(labels),
        "counts": manifest["counts"],
        "test": _looks(run, plan, dataset, manifest, scores),
        "readings": {
            name: describe(reading, scores[name], costs[name], test, labels) for name, reading in readings.test.items()
        },
        "gain": decompose_gain(scores),
        "comparisons": [{"a": a, "b": b, **asdict(c)} for (a, b), c in comparisons.items()],
        "slices": [
            asdict(part)
            for name, reading in readings.test.items()
            for part in slice_reading(name, reading.predicted, test, labels, known, disputed.ids if disputed else ())
        ],
        "disputed": {"n": len(disputed.ids), "judge": disputed.judge} if disputed else None,
        "injection": load_injection(run, dataset),
        "curves": asdict(curves) if curves else None,
        "selective": _selective(readings, val, test, labels),
        "parity": [asdict(gate) for gate in parity_gates(run, val.ids)],
    }
    write_jsonl(run / "rows.jsonl", row_records(readings.test, test))
    write_json(run / "metrics.json", metrics)
    return read_json(run / "metrics.json")


def compare_readings(
    readings: dict[str, Reading], test: Split, labels: Sequence[str]
) -> dict[tuple[str, str], Comparison]:
    """Before against after in each reading, then what a user would take instead against the tuned model's readings."""
    chosen = headline(readings)
    pairs = [(f"before_{how}", f"after_{how}") for how in ("generate", "score", "score_threshold")]
    pairs += [(other, chosen) for other in ("before_few_shot", "majority", "tfidf_linear") if chosen]
    pairs += [("tfidf_linear", f"after_{how}") for how in ("score", "score_threshold")]
    return {
        (a, b): compare(readings[a].predicted, readings[b].predicted, test.gold, labels)
        for a, b in dict.fromkeys(pairs)
        if a in readings and b in readings and a != b
    }


def decompose_gain(scores: dict[str, Classification]) -> dict[str, dict[str, float]] | None:
    """The generated answers' gain as format + task + remainder = total; None unless all four readings are there.

    format: score before - generate before, what the untuned model knew but did not say in the wanted form;
    task: score after - score before; remainder: generate after - score after.
    """
    if not {"before_generate", "before_score", "after_generate", "after_score"} <= scores.keys():
        return None
    gain = {}
    for metric in ("accuracy", "macro_f1"):
        said, knew, knows, says = (
            getattr(scores[name], metric)
            for name in ("before_generate", "before_score", "after_score", "after_generate")
        )
        gain[metric] = {"total": says - said, "format": knew - said, "task": knows - knew, "remainder": says - knows}
    return gain


def describe(
    reading: Reading, score: Classification, costs: Costs, test: Split, labels: Sequence[str]
) -> dict[str, Any]:
    """One reading as it stands in metrics.json."""
    facts = asdict(score)
    probabilities = reading.probabilities
    return {
        "kind": reading.kind,
        **facts,
        "accuracy_ci": wilson(score.correct, score.n),
        "confusion": {"columns": [*labels, UNPARSED], "counts": score.confusion},
        "threshold": reading.threshold.value() if reading.threshold else None,
        **asdict(costs),
        "probabilities": None
        if probabilities is None
        else asdict(probability_metrics(probabilities, test.codes(labels))),
    }


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m eval.evaluate", description=__doc__.split("\n")[0])
    parser.add_argument(
        "run", type=Path, metavar="RUN", help="the run's folder, with before/test.jsonl, after/test.jsonl"
    )
    run = parser.parse_args(argv).run
    metrics = evaluate(run)
    print(metrics["verdict"]["en"])
    if metrics["verdict"]["baseline"]:
        print(metrics["verdict"]["baseline"]["en"])
    print(f"scores: {shown(run / 'metrics.json')}, {shown(run / 'rows.jsonl')}")
    return 0


def _read(path: Path, otherwise: str) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(otherwise)
    return read_json(path)


def _run_facts(run: Path, plan: dict[str, Any], manifest: dict[str, Any]) -> dict[str, Any]:
    return {
        **{key: plan.get(key) for key in ("task", "recipe", "model", "csv", "limit", "git")},
        "seed": manifest.get("seed"),
        "machine": plan.get("machine_text"),
        "versions": (plan.get("versions") or {}) | ({"python": plan["python"]} if plan.get("python") else {}),
        "started": plan.get("planned"),
        "seconds": {stage: stages.seconds_taken(run, stage) for stage in STAGES},
    }


def _verdicts(
    readings: dict[str, Reading],
    scores: dict[str, Classification],
    comparisons: dict[tuple[str, str], Comparison],
    test: Split,
    labels: Sequence[str],
    head: bool,
) -> dict[str, Any]:
    def contrast(a: str | None, b: str | None) -> Contrast | None:
        found = comparisons.get((a, b))
        return Contrast(scores[a], scores[b], found) if found else None

    pair, guessing = headline_pair(readings), None
    if pair:
        interval = balanced_accuracy_interval(readings[pair[1]].predicted, test.gold, labels)
        guessing = Guessing(scores[pair[1]].balanced_accuracy, interval, 1 / len(set(test.gold)))
    by_score = pair == ("before_score", "after_score")
    main_sentence = verdict(
        contrast(*pair) if pair else None,
        by_score,
        guessing,
        None if by_score else contrast("before_score", "after_score"),
        head,
    )
    tuned = headline(readings)
    baseline = contrast("tfidf_linear", tuned) if tuned and tuned.startswith("after") else None
    return {**asdict(main_sentence), "baseline": asdict(baseline_verdict(baseline)) if baseline else None}


def _looks(
    run: Path, plan: dict[str, Any], dataset: Path, manifest: dict[str, Any], scores: dict[str, Classification]
) -> dict[str, Any]:
    rows_sha256, n = manifest["rows_sha256"]["test"], next(iter(scores.values())).n
    name, chosen = run.resolve(), headline(scores) or next(reversed(scores))
    looked_at = {file: sha256_file(run / file) for file in MODEL_ANSWERS if (run / file).is_file()}
    summary = run / "after" / "summary.json"
    looks = record_look(
        dataset.parent / f"{plan['task']}.looks.jsonl",
        Look(
            run=str(name.relative_to(ROOT)) if name.is_relative_to(ROOT) else str(name),
            config_sha256=plan.get("config_sha256"),
            model=plan.get("model"),
            adapter_sha256=read_json(summary).get("adapter_sha256") if summary.is_file() else None,
            n=n,
            accuracy=scores[chosen].accuracy,
            rows_sha256=rows_sha256,
            answers_sha256=sha256_json(looked_at),
        ),
    )
    return {"rows_sha256": rows_sha256, "n": n, "looks": looks.rows, "looks_this_task": looks.task}


def _selective(readings: Readings, val: Split, test: Split, labels: Sequence[str]) -> dict[str, Any] | None:
    """Answering only when sure, for the tuned model's scores: chosen on validation, checked on test."""
    name = "after_score"
    if name not in readings.validation:
        return None
    chosen = choose_selective(readings.validation[name], val.codes(labels))
    if chosen is None:
        return None
    return {
        "reading": name,
        "chosen_on": "val",
        "target_accuracy": chosen.target_accuracy,
        "threshold": chosen.threshold,
        "val": {"n": chosen.n, "coverage": chosen.coverage, "accuracy": chosen.accuracy},
        "test": asdict(check_selective(chosen.threshold, readings.test[name].probabilities, test.codes(labels))),
    }


if __name__ == "__main__":
    run_main(main)
