"""What the page and report.md show of a run, taken from metrics.json and rows.jsonl: the same for both."""

from collections.abc import Mapping, Sequence
from typing import Any

from eval.reporting import wording
from eval.reporting.calibration_wording import calibration_notes, no_stack_note, stack_note
from eval.reporting.class_tables import worst_slices
from eval.reporting.curve_wording import sentences
from eval.reporting.first_screen import first_screen
from eval.reporting.public_record import public_record
from eval.reporting.untuned_notes import encoder_note, label_mass_note, only_answer_notes, part_note, variant_notes
from eval.reporting.use_wording import shifted_classes, use_sentences
from eval.robustness.table import injection_section
from eval.scoring.intervals import Metric
from eval.scoring.multiplicity import holm
from eval.scoring.predictions import Metrics, Row
from eval.scoring.reading_names import primary_pair, shown_reading
from workspace.bilingual import Text, duration

FACTS = ("task", "recipe", "model", "csv", "limit", "seed", "machine", "git", "started")
EXAMPLES = 5  # rows of each kind in report.md
EXAMPLE_KINDS = {
    "confident": Text("最自信的错误", "most confident errors"),
    "fixed": Text("修正", "fixed"),
    "broken": Text("弄坏", "broken"),
}
SHOWN = 120  # characters of a review in report.md


def report_context(metrics: Metrics) -> dict[str, Any]:
    """The variables of both templates."""
    pair = primary_pair(metrics["readings"])
    run = metrics["run"]
    injection = metrics["injection"]
    slices: dict[str, dict[str, dict[str, Any]]] = {}  # by, value, reading (of the verdict's two)
    for part in metrics["slices"]:
        if pair and part["reading"] in pair:
            slices.setdefault(part["by"], {}).setdefault(part["value"], {})[part["reading"]] = part
    if pair and "label" in slices:
        slices["label"] = worst_slices(slices["label"], pair[1])
    return {
        "m": metrics,
        # With --model the recipe's name alone would stand for another model than the one that was tuned.
        "names": [run["recipe"] or run["task"], *([run["model"].rstrip("/").split("/")[-1]] if run["model"] else [])],
        "readings": metrics["readings"],
        "pair": pair,
        "second": second_metric(metrics),
        "shown": {stage: shown_reading(metrics["readings"], stage) for stage in ("before", "after")},
        "compared": next((c for c in metrics["comparisons"] if (c["a"], c["b"]) == pair), None),
        "paired": with_holm_p(each_pair_once(metrics["comparisons"])),
        "baseline": best_baseline(metrics),
        "reading_notes": reading_notes(metrics),
        "calibration_notes": calibration_notes(metrics["readings"]),
        "slices": slices,
        "facts": run_facts(run),
        "decision": wording.decision(metrics),
        "brief": first_screen(metrics) if wording.is_decided(metrics) else [],
        "injection": injection and injection_section(injection),
        "disputed": wording.disputed_note(metrics),
        "leaks": wording.leak_note(metrics),
        "uses": use_sentences(metrics),
        "public_record": public_record(metrics),
        "curve_sentences": sentences(metrics["learning_curve"]["found"]) if metrics["learning_curve"] else [],
        "shifted": shifted_classes(metrics["prevalence"]),
    }


def each_pair_once(comparisons: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The comparisons without those that an earlier one is the reverse of: the decision weighs some the other way."""
    found: dict[frozenset[str], Mapping[str, Any]] = {}
    for one in comparisons:
        found.setdefault(frozenset((one["a"], one["b"])), one)
    return list(found.values())


def with_holm_p(comparisons: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The comparisons, each with the p of its primary metric's test, corrected for their number."""
    p = [one["mcnemar_p"] if one["randomisation_p"] is None else one["randomisation_p"] for one in comparisons]
    return [{**one, "holm_p": corrected} for one, corrected in zip(comparisons, holm(p), strict=True)]


def reading_notes(metrics: Metrics) -> list[Text]:
    """What must be known of how the readings came about before they are compared."""
    readings = metrics["readings"]
    mass = label_mass_note(readings)
    part = part_note(metrics["test"])
    notes = [
        *([part] if part else []),
        *wording.cut_off_notes(readings),
        *only_answer_notes(readings),
        *([mass] if mass else []),
    ]
    if encoder := encoder_note(metrics.get("encoder")):
        notes.append(encoder)
    stack = stack_note(metrics.get("stack"), metrics.get("primary_metric", "macro_f1"))
    if stack := stack or no_stack_note(readings, metrics["counts"]["val"]):
        notes.append(stack)
    return notes + variant_notes(metrics.get("untuned"), metrics.get("primary_metric", "macro_f1"))


def best_baseline(metrics: Metrics) -> str | None:
    """The baseline with the highest primary metric."""
    baselines = {name: r for name, r in metrics["readings"].items() if r["kind"] == "baseline"}
    return max(baselines, key=lambda name: baselines[name][metrics["primary_metric"]], default=None)


def second_metric(metrics: Metrics) -> Metric:
    """What is shown next to accuracy: the primary metric, macro F1 where that is accuracy."""
    primary: Metric = metrics["primary_metric"]
    return "macro_f1" if primary == "accuracy" else primary


def run_facts(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What ran, on what, and how long each stage took, as (key, text)."""
    facts = [(key, str(run[key])) for key in FACTS if run.get(key) is not None]
    seconds = {stage: duration(s) for stage, s in (run.get("seconds") or {}).items() if s is not None}
    versions = {name: version for name, version in (run.get("versions") or {}).items() if version}
    for key, several in (("seconds", seconds), ("versions", versions)):
        if several:
            facts.append((key, ", ".join(f"{name} {text}" for name, text in several.items())))
    return facts


def browser_rows(metrics: Metrics, rows: Sequence[Row]) -> dict[str, Any]:
    """What the row browser shows, packed: rows as lists, labels by their position, answers only where they differ from
    the label word that they were read as."""
    labels, names, pair = list(metrics["labels"]), list(metrics["readings"]), primary_pair(metrics["readings"])
    codes = {label: k for k, label in enumerate(labels)} | {None: -1}
    scored = (n for n in ("after_score", "after_score_threshold") if n in names)
    known = {name for row in rows for name, one in row["readings"].items() if one["p"] is not None}
    sure = next((n for n in scored if n in known), None)

    def packed(prediction: Mapping[str, Any] | None) -> list[Any] | None:
        if prediction is None:  # the row was not asked so
            return None
        answer = prediction["answer"] if prediction["answer"] != prediction["label"] else None
        return [codes[prediction["label"]], prediction["p"], answer]

    texts = {name: wording.reading_name(name) for name in names}
    near = {one["id"]: one["nearest"] for one in metrics["mistakes"]}
    return {
        "labels": labels,
        "readings": [{"zh": t.zh, "en": t.en, "stage": wording.stage_of(name)} for name, t in texts.items()],
        "pair": [names.index(name) for name in pair] if pair else [],
        "sure": names.index(sure) if sure else -1,
        "nearest": {
            at: [[one["id"], codes[one["label"]], one["similarity"], one["review"]] for one in near[row["id"]]]
            for at, row in enumerate(rows)
            if row["id"] in near
        },
        "rows": [
            [
                shown_id(r),
                r["review"],
                codes[r["gold"]],
                r["cut"],
                r["status"],
                [packed(r["readings"].get(n)) for n in names],
            ]
            for r in rows
        ],
    }


def shown_id(row: Row) -> str:
    """The row's number in the table, and its id in the user's own column where there is one."""
    return f"{row['id']} · {row['source_id']}" if row.get("source_id") else str(row["id"])


def example_rows(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each kind of which report.md shows the first few."""
    changed = {status: [row for row in rows if row["status"] == status] for status in ("fixed", "broken")}
    return {"confident": confident_errors(rows), **changed}


def confident_errors(rows: Sequence[Row]) -> list[Row]:
    """The rows that the tuned model's score has wrong, the surest first."""
    scores = ((row, row["readings"].get("after_score")) for row in rows)
    wrong = [(score["p"], row) for row, score in scores if score and not score["correct"] and score["p"] is not None]
    return [row for _, row in sorted(wrong, key=lambda pair: -pair[0])]
