"""The predictions of a run: for every way in which its test rows were answered (a reading), one label a row.

generate: the model's text, parsed. score: its most probable label word. score_calibrated: untuned, the same with its
bias towards a label taken off (label_bias.py): what the untuned model is credited with. score_threshold: the
probabilities with a threshold from the validation rows. few_shot: untuned, with examples in the prompt. baseline: no
language model, or its embedding of the text alone (eval/embedding.py), or a fine-tuned encoder (eval/encoder.py).
stack: the tuned model's scores and the linear model's together (stack.py). Probabilities of the tuned model and of the
baselines are calibrated on the validation rows (temperature.py), those of the untuned model are its own.
"""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.scoring.asked_part import asked_part, rows_answered
from eval.scoring.baseline_records import ANSWERS, BASELINES_RECORD, LINEAR, MAKE_BASELINES, Baselines
from eval.scoring.label_bias import batch_calibrated
from eval.scoring.parse import parse_answer
from eval.scoring.responses import Responses, Split, load_responses
from eval.scoring.stack import Stack, stacked
from eval.scoring.temperature import Calibration, calibrate
from eval.scoring.thresholds import Threshold, choose
from workspace.errors import UserError
from workspace.paths import shown

# The order in which readings are shown: from the cheapest to the tuned model.
LADDER = (
    "majority",
    "tfidf_linear",
    "embedding_linear",
    "encoder",
    "before_generate",
    "before_score",
    "before_score_calibrated",
    "before_score_threshold",
    "before_few_shot",
    "after_generate",
    "after_score",
    "after_score_threshold",
    "stack",
)
CALIBRATED, TUNED_SCORE, STACK = "before_score_calibrated", "after_score", "stack"
STACKED = (TUNED_SCORE, LINEAR)
# Both at thresholds from the validation rows: what a preferred label cost is gone on both sides.
BIAS_FREE = ("before_score_threshold", "after_score_threshold")

Metrics = Mapping[str, Any]  # metrics.json: metrics.schema.json says what each key means
Row = Mapping[str, Any]  # a line of rows.jsonl: eval/scoring/row_records.py


@dataclass(frozen=True)
class Predictions:
    """One reading's predicted label a row, None for unparsed, and what it was read from.

    texts, strict, finish_reasons (n,): where text was generated. probabilities (n, labels): where the label is the most
    probable one. confidence (n,): the predicted label's probability, where there are probabilities. label_mass (n,):
    what the label words hold in all, where the model answers in words and that is known. calibration: what made the
    probabilities of `uncalibrated` (n, labels); None of both where nothing did.
    """

    name: str
    predicted: tuple[str | None, ...]
    texts: tuple[str, ...] | None = None
    strict: tuple[bool, ...] | None = None
    probabilities: NDArray[np.float64] | None = None
    confidence: NDArray[np.float64] | None = None
    threshold: Threshold | None = None
    finish_reasons: tuple[str | None, ...] | None = None
    label_mass: NDArray[np.float64] | None = None
    calibration: Calibration | None = None
    uncalibrated: NDArray[np.float64] | None = None

    @property
    def kind(self) -> str:
        """How the rows were answered: generate, score, score_calibrated, score_threshold, few_shot, stack or
        baseline."""
        side, _, kind = self.name.partition("_")
        return kind if side in ("before", "after") else "stack" if self.name == STACK else "baseline"

    @property
    def own_probabilities(self) -> NDArray[np.float64] | None:
        """The model's own probabilities (n, labels), whether they were calibrated or not."""
        return self.probabilities if self.uncalibrated is None else self.uncalibrated


@dataclass(frozen=True)
class RunPredictions:
    """A run's predictions by reading, in the ladder's order: `test` for all test rows, `asked` for the rows `part` of
    them that the untuned model was asked and texts were generated for; where those are all, both are the same.

    validation: probabilities (m, labels) of the readings that have them; stack: None where there is none.
    """

    test: dict[str, Predictions]
    asked: dict[str, Predictions]
    part: Split
    validation: dict[str, NDArray[np.float64]]
    stack: Stack | None = None

    @property
    def every(self) -> dict[str, Predictions]:
        """Each reading, on as many rows as it answered."""
        return {name: self.test.get(name, one) for name, one in self.asked.items()}

    def rows(self, reading: str, test: Split) -> Split:
        """The rows of `every` reading's predictions."""
        return test if reading in self.test else self.part

    def places(self, test: Split) -> dict[str, dict[str, int]]:
        """Where each reading's prediction of a row stands among its own, by the row's id."""
        return {name: self.rows(name, test).places for name in self.every}

    def correct(self, test: Split) -> dict[str, int]:
        """How many of its rows each reading has right."""
        return {
            name: sum(map(operator.eq, self.rows(name, test).gold, one.predicted)) for name, one in self.every.items()
        }


def load_predictions(
    run: Path, test: Split, val: Split, labels: Sequence[str], synonyms: Mapping[str, Sequence[str]]
) -> RunPredictions:
    """The predictions of every reading with files in `run`. Raises `UserError` when a file does not fit the rows."""
    part = asked_part(run, test)
    asked, validation, stack = _load(run, test if part is None else part, test, val, labels, synonyms)
    if part is None:
        return RunPredictions(asked, asked, test, validation, stack)
    return RunPredictions(_load(run, test, None, val, labels, synonyms)[0], asked, part, validation, stack)


def _load(
    run: Path,
    rows: Split,
    whole: Split | None,
    val: Split,
    labels: Sequence[str],
    synonyms: Mapping[str, Sequence[str]],
) -> tuple[dict[str, Predictions], dict[str, NDArray[np.float64]], Stack | None]:
    """The readings of `rows`, those of the validation rows, the stack. `whole`: the test rows, of which `rows`
    may be the part that was asked in every way; None for what answered all of them, although others did not."""
    loaded: list[Predictions] = []
    validation: dict[str, NDArray[np.float64]] = {}
    stack, gold = None, val.codes(labels)
    if baselines := Baselines.read(run):
        majority = baselines.majority.label
        if majority not in labels:
            raise UserError(f"{shown(run / BASELINES_RECORD)}: {majority!r} is none of the labels: {MAKE_BASELINES}")
        loaded.append(Predictions("majority", (majority,) * len(rows)))
        for name, answers_of in ANSWERS.items():
            if answered := load_responses(run / answers_of / "test.jsonl", rows, labels, whole):
                loaded.append(by_score(name, answered.probabilities, labels))
                if (shares := _probabilities(run / answers_of / "val.jsonl", val, labels)) is not None:
                    validation[name] = shares
    for side in ("after",) if whole is None else ("before", "after"):
        of_all = whole if side == "after" or (whole and rows_answered(run, side, "test", whole) == len(whole)) else None
        answers = load_responses(run / side / "test.jsonl", rows, labels, of_all, texts=whole is not None)
        if answers and answers.texts is not None:
            loaded.append(by_text(f"{side}_generate", answers, labels, synonyms))
        if not answers or answers.probabilities is None:
            continue
        scored = by_score(f"{side}_score", answers.probabilities, labels)
        loaded.append(replace(scored, label_mass=answers.label_mass))
        if (shares := _probabilities(run / side / "val.jsonl", val, labels)) is not None:
            validation[f"{side}_score"] = shares
            if side == "before":
                loaded.append(by_score(CALIBRATED, batch_calibrated(answers.probabilities, shares), labels))
                validation[CALIBRATED] = batch_calibrated(shares, shares)
    few_shot = None
    if whole is not None:
        of_all = whole if rows_answered(run, "before", "few_shot", whole) == len(whole) else None
        few_shot = load_responses(run / "before" / "few_shot.jsonl", rows, labels, of_all)
    if few_shot:
        if few_shot.texts is not None:
            loaded.append(by_text("before_few_shot", few_shot, labels, synonyms))
        else:
            loaded.append(by_score("before_few_shot", few_shot.probabilities, labels))
    on_test = {one.name: one.probabilities for one in loaded if one.probabilities is not None}
    if on_test.keys() & validation.keys() >= set(STACKED):
        known, asked = ([by_name[name] for name in STACKED] for by_name in (validation, on_test))
        if stack := stacked(known, asked, gold):
            validation[STACK] = stack.on_val
            loaded.append(by_score(STACK, stack.on_test, labels))
    for at, one in enumerate(loaded):
        if one.name in validation and one.name in (TUNED_SCORE, *ANSWERS) and one.probabilities is not None:
            calibration = calibrate(validation[one.name], gold, one.name == TUNED_SCORE)
            validation[one.name] = calibration.apply(validation[one.name])
            loaded[at] = calibrated(one, calibration, labels)
    loaded += [
        by_threshold(f"{one.name}_threshold", one.probabilities, choose(validation[one.name], gold, labels))
        for one in loaded
        if one.kind == "score" and one.name in validation and one.probabilities is not None
    ]
    if not loaded and whole is None:
        raise UserError(
            f"{shown(run)} has answers to a part of the test rows alone: run `python -m eval.baselines {shown(run)}`"
        )
    if not loaded:
        raise UserError(f"{shown(run)} holds no answers yet (before/test.jsonl, after/test.jsonl): run the inference")
    return {p.name: p for p in sorted(loaded, key=lambda p: LADDER.index(p.name))}, validation, stack


def _probabilities(path: Path, split: Split, labels: Sequence[str]) -> NDArray[np.float64] | None:
    responses = load_responses(path, split, labels)
    return responses.probabilities if responses and len(split) else None


def by_text(name: str, answers: Responses, labels: Sequence[str], synonyms: Mapping[str, Sequence[str]]) -> Predictions:
    """The label that each generated text asserts."""
    parsed = [parse_answer(text, labels, synonyms) for text in answers.texts or ()]
    predicted, strict = tuple(p.label for p in parsed), tuple(p.strict for p in parsed)
    return Predictions(name, predicted, answers.texts, strict, finish_reasons=answers.finish_reasons)


def by_score(name: str, probabilities: NDArray[np.float64] | None, labels: Sequence[str]) -> Predictions:
    """The most probable label of each row; of several, the first in `labels`."""
    if probabilities is None:
        raise UserError(f"the answers of {name} hold neither text nor probabilities: run that step again")
    predicted = tuple(labels[code] for code in probabilities.argmax(axis=1))
    return Predictions(name, predicted, probabilities=probabilities, confidence=probabilities.max(axis=1))


def calibrated(reading: Predictions, calibration: Calibration, labels: Sequence[str]) -> Predictions:
    """A score reading with its probabilities calibrated; its labels are others only where there are biases."""
    if reading.probabilities is None:
        raise ValueError(f"{reading.name} has no probabilities")
    found = by_score(reading.name, calibration.apply(reading.probabilities), labels)
    return replace(found, label_mass=reading.label_mass, calibration=calibration, uncalibrated=reading.probabilities)


def by_threshold(name: str, probabilities: NDArray[np.float64], threshold: Threshold) -> Predictions:
    """The label that the threshold picks. Its probabilities are the score reading's and are not judged twice."""
    codes = threshold.apply(probabilities)
    predicted = tuple(threshold.labels[code] for code in codes)
    confidence = probabilities[np.arange(len(codes)), codes]
    return Predictions(name, predicted, confidence=confidence, threshold=threshold)


def cut_off(reading: Predictions) -> dict[str, int] | None:
    """How many answers max_new_tokens ended, and how many of them are unparsed; None where that is not known."""
    reasons = reading.finish_reasons
    if reasons is None or None in reasons:
        return None
    at = [place for place, reason in enumerate(reasons) if reason == "length"]
    return {"answers": len(at), "unparsed": sum(reading.predicted[place] is None for place in at)}
