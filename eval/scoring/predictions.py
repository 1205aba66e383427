"""The readings of a run: every way in which its test rows were answered, each as one predicted label a row.

generate: the model's text, parsed. score: its most probable label word. score_threshold: the same probabilities with
a threshold from the validation rows. few_shot: untuned, with examples in the prompt. baseline: no language model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from eval.scoring.parse import parse_answer
from eval.scoring.responses import Responses, Split, load_responses
from eval.scoring.thresholds import Threshold, choose
from workspace.errors import UserError
from workspace.files import read_json
from workspace.paths import shown

# The order in which readings are shown: from the cheapest to the tuned model.
LADDER = (
    "majority",
    "tfidf_linear",
    "before_generate",
    "before_score",
    "before_score_threshold",
    "before_few_shot",
    "after_generate",
    "after_score",
    "after_score_threshold",
)
ROW_DECIMALS = 4  # of a probability in rows.jsonl, which is for reading
BASELINES_RECORD = "baselines.json"
BASELINES_ANSWERS = Path("baselines", "tfidf_linear")

Kind = Literal["generate", "score", "score_threshold", "few_shot", "baseline"]


@dataclass(frozen=True)
class Reading:
    """One predicted label a row, None for unparsed, and what it was read from.

    texts, strict (n,): where text was generated. probabilities (n, labels): where the label is the most probable one.
    confidence (n,): the predicted label's probability, where there are probabilities.
    """

    name: str
    kind: Kind
    predicted: tuple[str | None, ...]
    texts: tuple[str, ...] | None = None
    strict: tuple[bool, ...] | None = None
    probabilities: NDArray[np.float64] | None = None
    confidence: NDArray[np.float64] | None = None
    threshold: Threshold | None = None


@dataclass(frozen=True)
class Readings:
    """A run's readings of the test rows by name, in the ladder's order, and the validation probabilities (m, labels)
    of those score readings that have them."""

    test: dict[str, Reading]
    validation: dict[str, NDArray[np.float64]]


def load_readings(
    run: Path, test: Split, val: Split, labels: Sequence[str], synonyms: Mapping[str, Sequence[str]]
) -> Readings:
    """Every reading whose files are in `run`. Raises `UserError` when a file does not fit the rows."""
    found: list[Reading] = []
    validation: dict[str, NDArray[np.float64]] = {}
    if (run / BASELINES_RECORD).is_file():
        majority = read_json(run / BASELINES_RECORD)["majority"]["label"]
        found.append(Reading("majority", "baseline", (majority,) * len(test)))
        linear = load_responses(run / BASELINES_ANSWERS / "test.jsonl", test, labels)
        if linear is not None:
            found.append(by_score("tfidf_linear", "baseline", linear.probabilities, labels))
    for side in ("before", "after"):
        answers = load_responses(run / side / "test.jsonl", test, labels)
        if answers is None:
            continue
        if answers.texts is not None:
            found.append(by_text(f"{side}_generate", "generate", answers, labels, synonyms))
        if answers.probabilities is None:
            continue
        found.append(by_score(f"{side}_score", "score", answers.probabilities, labels))
        held_out = load_responses(run / side / "val.jsonl", val, labels)
        if held_out is not None and held_out.probabilities is not None and len(val):
            validation[f"{side}_score"] = held_out.probabilities
            threshold = choose(held_out.probabilities, val.codes(labels), labels)
            found.append(by_threshold(f"{side}_score_threshold", answers.probabilities, threshold))
    few_shot = load_responses(run / "before" / "few_shot.jsonl", test, labels)
    if few_shot is not None and few_shot.texts is not None:
        found.append(by_text("before_few_shot", "few_shot", few_shot, labels, synonyms))
    elif few_shot is not None:
        found.append(by_score("before_few_shot", "few_shot", few_shot.probabilities, labels))
    if not found:
        raise UserError(f"{shown(run)} holds no answers yet (before/test.jsonl, after/test.jsonl): run the inference")
    return Readings(
        {reading.name: reading for reading in sorted(found, key=lambda r: LADDER.index(r.name))}, validation
    )


def by_text(
    name: str, kind: Kind, answers: Responses, labels: Sequence[str], synonyms: Mapping[str, Sequence[str]]
) -> Reading:
    """The label that each generated text asserts."""
    parsed = [parse_answer(text, labels, synonyms) for text in answers.texts or ()]
    return Reading(
        name=name,
        kind=kind,
        predicted=tuple(p.label for p in parsed),
        texts=answers.texts,
        strict=tuple(p.strict for p in parsed),
    )


def by_score(name: str, kind: Kind, probabilities: NDArray[np.float64] | None, labels: Sequence[str]) -> Reading:
    """The most probable label of each row; of several, the first in `labels`."""
    if probabilities is None:
        raise UserError(f"the answers of {name} hold neither text nor probabilities: run that step again")
    return Reading(
        name=name,
        kind=kind,
        predicted=tuple(labels[code] for code in probabilities.argmax(axis=1)),
        probabilities=probabilities,
        confidence=probabilities.max(axis=1),
    )


def by_threshold(name: str, probabilities: NDArray[np.float64], threshold: Threshold) -> Reading:
    """The label that the threshold picks. Its probabilities are the score reading's and are not judged twice."""
    codes = threshold.apply(probabilities)
    return Reading(
        name=name,
        kind="score_threshold",
        predicted=tuple(threshold.labels[code] for code in codes),
        confidence=probabilities[np.arange(len(codes)), codes],
        threshold=threshold,
    )


def headline_pair(names: Mapping[str, Any]) -> tuple[str, str] | None:
    """The readings before and after that the verdict rests on: generate where both have it, else score, else None."""
    for kind in ("generate", "score"):
        if f"before_{kind}" in names and f"after_{kind}" in names:
            return f"before_{kind}", f"after_{kind}"
    return None


def headline(names: Mapping[str, Any]) -> str | None:
    """The reading that stands for the tuned model, else for the untuned one; None when only baselines answered."""
    pair = headline_pair(names)
    order = ("after_generate", "after_score", "before_generate", "before_score")
    return pair[1] if pair else next((name for name in order if name in names), None)


def row_records(readings: dict[str, Reading], test: Split) -> list[dict[str, Any]]:
    """One row a test review; `status` compares the two readings of the verdict, null without them."""
    pair = headline_pair(readings)
    status = {(False, True): "fixed", (True, False): "broken", (True, True): "right", (False, False): "wrong"}
    rows = []
    for i, (key, review, gold, cut) in enumerate(zip(test.ids, test.reviews, test.gold, test.cut, strict=True)):
        told = {
            name: {
                "label": reading.predicted[i],
                "answer": None if reading.texts is None else reading.texts[i],
                "p": None if reading.confidence is None else round(float(reading.confidence[i]), ROW_DECIMALS),
                "correct": reading.predicted[i] == gold,
            }
            for name, reading in readings.items()
        }
        changed = status[told[pair[0]]["correct"], told[pair[1]]["correct"]] if pair else None
        rows.append({"id": key, "review": review, "gold": gold, "cut": cut, "readings": told, "status": changed})
    return rows
