"""Label Studio's files: tasks to import, with a model's answers, and the exports that come back (JSON, JSON_MIN, CSV).

A task's `data` are the text (`text`, or `text_1`, `text_2` of several columns), the row's number and the user's own id
(`row`, `source_id`); its label is a choice of the control LABEL. https://labelstud.io/guide/predictions and
https://labelstud.io/guide/export describe the files.
"""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import quoteattr

from pydantic import BaseModel, Field

from data_prep.table.encoding import find_encoding
from workspace.errors import UserError
from workspace.files import read_json
from workspace.paths import shown
from workspace.records import Damaged, parse

LABEL, TEXT = "label", "text"
FLAT = ("annotation_id", "annotator")  # keys of an export with an annotation a line


class LabelledTask(NamedTuple):
    """A task with the labels that its annotators gave, each once; of annotations that are marked as ground truth those
    alone. `where` names file and task."""

    where: str
    data: dict[str, str]
    labels: tuple[str, ...]


class _Result(BaseModel):
    type: str = ""
    value: dict[str, Any] = Field(default_factory=dict)


class _Annotation(BaseModel):
    result: list[_Result] = Field(default_factory=list)
    was_cancelled: bool | None = False
    ground_truth: bool | None = False

    @property
    def label(self) -> str:
        """What was chosen; several choices, which are no label, with commas between; empty where nothing was."""
        chosen = [one.value.get("choices") for one in self.result if one.type == "choices"]
        return _joined([choice for choices in chosen if isinstance(choices, list) for choice in choices])


class _Task(BaseModel):
    id: int | str | None = None
    data: dict[str, Any]
    annotations: list[_Annotation]


def text_keys(columns: int) -> list[str]:
    """The keys of a task's texts, of so many text columns."""
    return [TEXT] if columns == 1 else [f"{TEXT}_{number}" for number in range(1, columns + 1)]


def import_task(
    texts: Sequence[str], row: int, source_id: str | None, label: str, confidence: float, model: str
) -> dict[str, Any]:
    """A task to import, with the model's answer as a prediction: `score` is its probability, from 0 to 1."""
    keys = text_keys(len(texts))
    result = {"id": f"row-{row}", "from_name": LABEL, "to_name": keys[0], "type": "choices"}
    return {
        "data": {**dict(zip(keys, texts, strict=True)), "row": row}
        | ({"source_id": source_id} if source_id is not None else {}),
        "predictions": [
            {
                "model_version": model,
                "score": round(confidence, 6),
                "result": [{**result, "value": {"choices": [label]}}],
            }
        ],
    }


def interface(columns: Sequence[str], labels: Iterable[str]) -> str:
    """The labelling interface for such tasks: XML to paste under Settings > Labeling Interface > Code."""
    keys = text_keys(len(columns))
    lines = ["<View>"]
    for key, column in zip(keys, columns, strict=True):
        lines += [f"  <Header value={quoteattr(column)}/>"] if len(columns) > 1 else []
        lines.append(f'  <Text name="{key}" value="${key}"/>')
    lines.append(f'  <Choices name="{LABEL}" toName="{keys[0]}" choice="single" showInline="true" required="true">')
    lines += [f"    <Choice value={quoteattr(label)}/>" for label in labels]
    return "\n".join([*lines, "  </Choices>", "</View>", ""])


def read_export(path: Path) -> list[LabelledTask] | None:
    """The labelled tasks of an export; None where the file is none of Label Studio's. Tasks that were skipped or not
    looked at have no label and are left out. Raises UserError naming the task that cannot be read."""
    if path.suffix.lower() == ".json":
        return _json_tasks(path)
    if path.suffix.lower() in (".csv", ".tsv") and path.is_file():
        encoding = find_encoding(path)
        csv.field_size_limit(2**31 - 1)
        with open(path, encoding=encoding.name, errors=encoding.errors, newline="") as stream:
            header = stream.readline()
            if all(f'"{key}"' in header for key in FLAT):  # the converter quotes every name
                rest = io.StringIO(header + stream.read(), newline="")
                return _flat_tasks(path, list(csv.DictReader(rest, delimiter="\t" if '"\t"' in header else ",")))
    return None


def _json_tasks(path: Path) -> list[LabelledTask] | None:
    try:
        found = read_json(path)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{shown(path)} is no JSON ({error}): export it from Label Studio again") from error
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        return None
    if found and all(FLAT[0] in one for one in found):
        return _flat_tasks(path, found)
    if not all({"data", "annotations"} <= one.keys() for one in found):
        return None
    result = []
    for place, one in enumerate(found, 1):
        where = f"{shown(path)}, task {one.get('id', place)}"
        try:
            task = parse(_Task, json.dumps(one))
        except Damaged as error:
            raise UserError(f"{where} cannot be read ({error}): export it from Label Studio again") from error
        given = [annotation for annotation in task.annotations if annotation.label and not annotation.was_cancelled]
        given = [annotation for annotation in given if annotation.ground_truth] or given
        if labels := tuple(dict.fromkeys(annotation.label for annotation in given)):
            result.append(LabelledTask(where, {key: _text(value) for key, value in task.data.items()}, labels))
    return result


def _flat_tasks(path: Path, lines: list[dict[str, Any]]) -> list[LabelledTask]:
    """The tasks of an export with an annotation a line, which name their task as `id`."""
    tasks: dict[str, LabelledTask] = {}
    if lines and not any(LABEL in line for line in lines):
        raise UserError(
            f"{shown(path)} has no {LABEL}, the control of the labelling interface; found: {', '.join(lines[0])}: "
            "export it as JSON, which says what was chosen whatever the control is called"
        )
    for place, line in enumerate(lines, 1):
        if label := _choice(line.get(LABEL)):
            key = _text(line.get("id") or place)
            known = tasks.get(key) or LabelledTask(f"{shown(path)}, task {key}", {}, ())
            data = {name: _text(value) for name, value in line.items() if name is not None}
            tasks[key] = known._replace(data=data, labels=tuple(dict.fromkeys([*known.labels, label])))
    return list(tasks.values())


def _choice(value: Any) -> str:
    """The label in a cell: the word, or of several choices an object that lists them."""
    if isinstance(value, str) and value.startswith("{"):
        try:
            value = json.loads(value)
        except ValueError:
            return value
    return _joined(value.get("choices", [])) if isinstance(value, dict) else _text(value).strip()


def _joined(choices: list[Any]) -> str:
    return ", ".join(str(choice).strip() for choice in choices)


def _text(value: Any) -> str:
    return "" if value is None else str(value)
