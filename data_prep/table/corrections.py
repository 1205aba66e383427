"""Labels that a person corrected, from a CSV or Label Studio: read, checked against the table, put into the frame.

Columns: row (the number of the data row, as `id` in the dataset), label (the right label: a label word, or a value of
the table), and optionally review (to see that it is the same row). Other columns are left alone, and so are rows with
an empty label: what `python -m data_prep.audit` writes is such a file, with the labels still to fill in. An export of
Label Studio has the row in its tasks' `data`, and the text to see that it is the same.
"""

import csv
import re
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from data_prep.duplicates.deduplication import conflicting, first_equal, group_counts
from data_prep.manifest import CorrectionCounts
from data_prep.table.encoding import find_encoding
from data_prep.table.label_studio import TEXT, LabelledTask, read_export
from data_prep.table.text_column import Texts, shared_strings
from data_prep.task import SPLITS, Task, canonical_value
from workspace.errors import UserError
from workspace.files import sha256_file
from workspace.paths import shown
from workspace.spreadsheet import safe_cell


class Correction(NamedTuple):
    """A line of the file, named by `where`: the row's number, its label as given, the review (None: not given)."""

    where: str
    row: int
    label: str
    review: str | None


def read_corrections(path: Path) -> list[Correction]:
    """The lines of `path`, a CSV or an export of Label Studio, that have a label.

    Raises UserError naming the line or the task of what is no correction, and annotators who disagree.
    """
    if not path.is_file():
        raise UserError(f"there is no file {shown(path)}: correct or remove `corrections` in the task")
    if (tasks := read_export(path)) is not None:
        return [_of_task(task) for task in tasks]
    encoding = find_encoding(path)
    if encoding.fault:
        raise UserError(f"{shown(path)}, line {encoding.fault[0]}: not {encoding.name}: save it as UTF-8")
    corrections = []
    csv.field_size_limit(2**31 - 1)
    with open(path, encoding=encoding.name, newline="") as stream:
        reader = csv.DictReader(stream, strict=True, restkey="", restval="")
        line = 1
        try:
            for name in ("row", "label"):
                if name not in (reader.fieldnames or []):
                    header = ", ".join(reader.fieldnames or []) or "nothing"
                    raise UserError(f"{shown(path)} has no column {name}; found: {header}; expected row, label, review")
            line = reader.line_num + 1
            for cells in reader:
                if label := cells["label"].strip():
                    corrections.append(
                        Correction(
                            where := f"{shown(path)}, line {line}",
                            _row(where, cells["row"]),
                            label,
                            cells.get("review"),
                        )
                    )
                line = reader.line_num + 1
        except csv.Error as error:
            raise UserError(f"{shown(path)}, line {line}: not a row of a CSV ({error}): save the file again") from error
    return corrections


def correct_labels(
    kept: pd.DataFrame, rejects: pd.DataFrame, task: Task
) -> tuple[pd.DataFrame, CorrectionCounts | None]:
    """`kept` (row, text, label, normalised, split) with the labels corrected, and what the manifest says of it.

    Labels of train rows alone are changed, unless the task has `corrections_test: true`; splits stay as they are.
    Raises UserError for a row that the table has not or has with another review, a label that the task has not, and
    two labels for one row.
    """
    if task.corrections is None:
        return kept, None
    path = task.corrections
    texts = {row: text for part in (kept, rejects) for row, text in zip(part["row"], part["text"], strict=True)}
    labelled: dict[int, str] = {}
    for where, row, given, review in read_corrections(path):
        label = label_word(where, given, task)
        if (before := labelled.setdefault(row, label)) != label:
            raise UserError(f"{where}: row {row} is {label} here and {before} before: keep one of the two")
        if row not in texts:
            raise UserError(f"{where}: the table has no row {row}, its rows are 1 to {len(texts)}: correct the number")
        if review and not _same(review, texts[row]):
            raise UserError(
                f"{where}: row {row} of the table has another review: the corrections were made for another table; "
                "correct row and review, or list them again"
            )
    given_labels = kept["row"].map(labelled).astype("str")
    named, of_split = given_labels.notna(), {name: kept["split"] == name for name in SPLITS}
    allowed = of_split["train"] | task.corrections_test
    changed = named & allowed & (given_labels != kept["label"])
    result = kept.assign(label=kept["label"].where(~changed, given_labels))
    equal = first_equal(Texts(result["normalised"]))
    conflicts = group_counts(equal[conflicting(equal, shared_strings(result["label"]))])
    _stop_if_class_left(path, kept, result)
    left = {"set_aside": len(labelled) - int(named.sum())} | {
        name: int((named & ~allowed & of_split[name]).sum()) for name in ("val", "test")
    }
    return result, CorrectionCounts(
        path=path.name,
        sha256=sha256_file(path),
        test_allowed=task.corrections_test,
        named=len(labelled),
        changed={"total": int(changed.sum())} | {name: int((changed & of_split[name]).sum()) for name in SPLITS},
        same=len(labelled) - int(changed.sum()) - sum(left.values()),
        not_applied={"total": sum(left.values()), **left},
        conflicts=conflicts,
        ids={name: kept["row"][changed & of_split[name]].astype(str).tolist() for name in SPLITS},
    )


def _of_task(task: LabelledTask) -> Correction:
    if len(task.labels) > 1:
        raise UserError(
            f"{task.where}: one annotator says {task.labels[0]} and another {task.labels[1]}: agree on one in Label "
            "Studio, or mark an annotation as ground truth, and export again"
        )
    texts = [text for key, text in task.data.items() if re.fullmatch(rf"{TEXT}(_\d+)?", key) and text.strip()]
    return Correction(task.where, _row(task.where, task.data.get("row", "")), task.labels[0], "\n".join(texts))


def _row(where: str, text: str) -> int:
    number = canonical_value(text.replace(",", ""))
    if not re.fullmatch(r"[0-9]{1,15}", number):
        raise UserError(f"{where}: row is {text!r}, expected the number of a row")
    return int(number)


def label_word(where: str, label: str, task: Task) -> str:
    """The label word that a person gave: itself, or a value of the table. Raises UserError for what is neither."""
    if label in task.label_words:
        return label
    if known := task.labels.get(canonical_value(label)):
        return known
    expected = ", ".join(dict.fromkeys([*task.label_words, *(value for value, word in task.labels.items() if word)]))
    raise UserError(f"{where}: the label is {label!r}, expected one of {expected}")


def _same(cell: str, text: str) -> bool:
    """Whether a cell holds the text; a spreadsheet may have changed line ends and white space at the ends."""
    text = text.replace("\0", "")
    return any("".join(cell.split()) == "".join(form.split()) for form in (text, safe_cell(text)))


def _stop_if_class_left(path: Path, before: pd.DataFrame, after: pd.DataFrame) -> None:
    """Raise UserError where a split had rows of a class and has none any more."""
    used = after["used"]
    for name, word in before.loc[used, ["split", "label"]].drop_duplicates().itertuples(index=False):
        if not (used & (after["split"] == name) & (after["label"] == word)).any():
            raise UserError(f"{shown(path)} leaves no {name} row of {word}: add rows, or correct the file")
