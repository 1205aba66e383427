"""What a finished run's classifier is, as classifier.json has it: how it is asked and what that was measured to be."""

from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.chat.frame import ChatFrame, chat_frame
from data_prep.chat.parts import SEPARATOR
from eval.scoring.reading_names import READINGS
from eval.scoring.responses import Split
from eval.scoring.temperature import Calibration
from plan.resolved import is_head
from plan.run import Run
from serve.classifier_file import (
    DIGITS,
    EVERY_ROW,
    REPORTED,
    ClassifierFile,
    Expected,
    Kind,
    Measured,
    Prompt,
    Reading,
    Thresholds,
)
from serve.finished_run import FinishedRun
from workspace import stages
from workspace.bilingual import Text
from workspace.errors import UserError
from workspace.files import sha256_json
from workspace.paths import shown

THRESHOLD = "_threshold"  # ends the name of a reading whose labels a threshold picks
ADVISED = {name: reading for reading, name in REPORTED.items()}
ADVISED |= {"after_generate": "tuned", "after_score_threshold": "tuned"}
BINS = 10  # of confidences and of lengths, of equally many validation rows each

FloatArray = NDArray[np.float64]


def describe(run: Run, reading: Reading | None = None) -> ClassifierFile:
    """The classifier of a finished run: the `reading` that is asked for, else the one that its report advises.

    Raises `UserError` where the run is not finished, or has no such reading.
    """
    return describe_finished(FinishedRun.read(run), reading)


def describe_finished(finished: FinishedRun, reading: Reading | None = None) -> ClassifierFile:
    """As `describe` does, of a run that is read already."""
    run, metrics, manifest, task = finished.run, finished.metrics, finished.manifest, finished.task
    advised = metrics["decision"]["advised"]
    advice = ADVISED.get(advised)
    reading = reading or advice
    if reading is None:
        named = READINGS.get(advised or "", Text("", "none of them")).en
        raise UserError(
            f"the report of {shown(run.folder)} advises {named}, which is no tuned or linear model: say which one to "
            "take with --reading tuned, --reading linear or --reading stack"
        )
    reported = advised if reading == advice and advised.endswith(THRESHOLD) else REPORTED[reading]
    if reported not in metrics["readings"]:
        raise UserError(
            f"{shown(run.folder)} has no answers of the {reading} model ({reported} is not in its report): "
            "take another --reading"
        )
    kind: Kind | None = None if reading == "linear" else "head" if is_head(run.folder) else "words"
    record = stages.read_record(run.folder, "after")
    facts = metrics["run"]
    calibration = finished.predictions.test[reported.removesuffix(THRESHOLD)].calibration or Calibration()
    return ClassifierFile(
        task=run.task,
        labels=run.labels,
        reading=reading,
        reported=reported,
        kind=kind,
        prompt=_prompt(finished),
        temperature=calibration.temperature,
        biases=calibration.biases,
        thresholds=_thresholds(metrics, reported),
        measured=_measured(metrics, reported),
        advice=advice,
        expected=_expected(finished, reported),
        synonyms=task.synonyms,
        costs=task.costs,
        base_model=PurePath(run.model).name if run.model and PurePath(run.model).is_absolute() else run.model,
        model_type=run.sft_values().get("model_type") if kind else None,
        base_fingerprint=run.model_fingerprint if kind else None,
        dtype=run.infer_values().get("torch_dtype") if kind else None,
        quant_bits=run.infer_values().get("quant_bits") or run.sft_values().get("quant_bits") if kind else None,
        weights="merged" if kind else None,
        licences={"data": manifest.licence},
        data_sha256=manifest.rows_sha256,
        code_sha256=record.inputs.get("plugin") if record and kind else None,
        versions={name: version for name, version in facts["versions"].items() if name != "plugins"},
    )


def characters(texts: Split) -> NDArray[np.int64]:
    """How many characters each row's texts have (n,), before they are cut, of several columns in all."""
    return np.array([len(text.replace(SEPARATOR, "")) for text in texts.columns or texts.reviews], dtype=np.int64)


def frame_of(run: Run, system: str, wanted: str | None = None) -> ChatFrame:
    """The chat that the run's rows are written in. Raises `UserError` where it is not the one with the hash `wanted`,
    in which the dataset's rows were counted and cut."""
    template = run.sft_values().get("template")
    for name in (template, None):
        frame = chat_frame(name, system, shown(run.folder / "sft.yaml"))
        if wanted is None or sha256_json(frame.parts) == wanted:
            return frame
    raise UserError(
        f"the chat template {template} is not written as when {shown(run.dataset)} was made: run the same "
        "`bash run_sft.sh` command again"
    )


def _prompt(finished: FinishedRun) -> Prompt:
    run, manifest, task = finished.run, finished.manifest, finished.task
    return Prompt(
        template=manifest.template,
        system=manifest.system,
        places=task.columns.places,
        columns=tuple(map(str, task.columns.text)),
        parts=frame_of(run, manifest.system, manifest.inputs.get("chat")).parts,
        chat_template=str(run.sft_values().get("template")),
        max_length=manifest.max_length,
        keep_head=manifest.keep_head,
    )


def _thresholds(metrics: dict[str, Any], reported: str) -> Thresholds:
    scores = reported.removesuffix(THRESHOLD)
    own = metrics["readings"].get(f"{scores}{THRESHOLD}")
    selective, costs = metrics["selective"] or {}, metrics["costs"] or {}
    chosen = selective.get("readings", {}).get(scores, {}).get("chosen") or {}
    priced = costs.get("readings", {}).get(scores)
    return Thresholds(
        label=own["threshold"] if own else None,
        selective=chosen.get("threshold"),
        target=selective.get("target"),
        level=selective.get("level"),
        cost=None if priced is None else EVERY_ROW if priced["threshold"] is None else priced["threshold"],
    )


def _measured(metrics: dict[str, Any], reported: str) -> Measured:
    metric, found = metrics["primary_metric"], metrics["readings"][reported]
    interval = (found["intervals"] or {}).get(metric)
    return Measured(metric, found[metric], interval and tuple(interval), found["n"])


def _expected(finished: FinishedRun, reported: str) -> Expected | None:
    labels, val = finished.run.labels, finished.val
    shares = finished.predictions.validation.get(reported.removesuffix(THRESHOLD))
    if shares is None or not len(val):
        return None
    threshold = finished.predictions.test[reported].threshold
    codes = threshold.apply(shares) if threshold else shares.argmax(axis=1)
    counts = np.bincount(codes, minlength=len(labels)) / len(val)
    confidence = _binned(shares[np.arange(len(codes)), codes].round(DIGITS))  # as a labelled table has them
    length = _binned(characters(val).astype(np.float64))
    return Expected(len(val), dict(zip(labels, counts.tolist(), strict=True)), *confidence, *length)


def _binned(values: FloatArray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Upper bounds of bins of equally many values, and the shares in each and above the last bound."""
    bounds = np.unique(np.quantile(values, np.arange(1, BINS) / BINS))
    counts = np.bincount(np.searchsorted(bounds, values), minlength=len(bounds) + 1)
    return tuple(bounds.tolist()), tuple((counts / len(values)).tolist())
