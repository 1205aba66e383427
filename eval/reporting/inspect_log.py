"""The file format of Inspect's logs, version 2: a ZIP of JSON that its viewer and `read_eval_log` read.

Written here from its published description (UK AI Security Institute, Inspect, "Log Files" and the reference of
inspect_ai.log), because the package brings some eighty others along for what are four kinds of record:
header.json (EvalLog without samples), summaries.json (EvalSampleSummary), samples/ID_epoch_1.json (EvalSample).
"""

import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from workspace.files import replace_file

VERSION = 2
STOP_REASONS = {"stop": "stop", "decided": "stop", "length": "max_tokens"}  # Inspect's word for a finish reason of ours
RIGHT, WRONG, NO_ANSWER = "C", "I", "N"  # inspect_ai.scorer's CORRECT, INCORRECT, NOANSWER
SUMMARISED = ("id", "epoch", "input", "target", "scores", "metadata")
FIRST_DAY = (1980, 1, 1, 0, 0, 0)  # of ZIP: the same log is the same bytes

Json = dict[str, Any]


def score(label: str | None, correct: bool, probabilities: Mapping[str, float] | None) -> Json:
    """A Score: `label` is None where the answer names none, which is a value of its own and counts as wrong."""
    value = NO_ANSWER if label is None else RIGHT if correct else WRONG
    return {"value": value, "answer": label, "metadata": {"probabilities": probabilities} if probabilities else {}}


def sample(
    key: str, prompt: Sequence[Mapping[str, str]], gold: str, answer: str | None, finish_reason: str | None, model: str
) -> Json:
    """An EvalSample without its scores: the chat `prompt` as it was asked, and the text that came back, if any did."""
    said = [] if answer is None else [{"role": "assistant", "content": answer, "source": "generate", "model": model}]
    stop = STOP_REASONS.get(finish_reason or "", "unknown")
    choices = [{"message": turn, "stop_reason": stop} for turn in said]
    return {
        "id": key,
        "epoch": 1,
        "input": list(prompt),
        "target": gold,
        "messages": [*prompt, *said],
        "output": {"model": model, "choices": choices, "completion": answer or ""},
    }


def results(readings: Mapping[str, Mapping[str, float | None]], rows: int) -> Json:
    """EvalResults of so many rows: figures by reading, `n` the rows that it answered, undefined ones left out."""
    scores = [
        {
            "name": name,
            "scorer": name,
            "scored_samples": int(figures["n"] or 0),
            "unscored_samples": rows - int(figures["n"] or 0),
            "metrics": {
                metric: {"name": metric, "value": value}
                for metric, value in figures.items()
                if value is not None and metric != "n"
            },
        }
        for name, figures in readings.items()
    ]
    return {"total_samples": rows, "completed_samples": rows, "scores": scores}


def write_log(path: Path, header: Json, samples: Iterable[Json]) -> None:
    """Write a finished evaluation, whole or not at all; `header` has `eval`, `results` and `stats`."""
    summaries = []
    with replace_file(path, "wb") as stream, zipfile.ZipFile(stream, "w") as log:

        def add(name: str, value: Any) -> None:
            member = zipfile.ZipInfo(name, FIRST_DAY)
            member.compress_type = zipfile.ZIP_DEFLATED
            log.writestr(member, json.dumps(value, ensure_ascii=False, allow_nan=False))

        for one in samples:
            add(f"samples/{one['id']}_epoch_{one['epoch']}.json", one)
            summaries.append({key: one[key] for key in SUMMARISED} | {"completed": True})
        add("summaries.json", summaries)
        add("header.json", {"version": VERSION, "status": "success", **header})
