"""Rows that were labelled later, from the files of the task's `added`: checked, and put behind the table's train rows.

Such rows were chosen, by a model or by a person: they are no sample of what will come, so they are trained on and never
tested on, and a text that stands in a validation or test row, word for word or nearly, is set aside. The table's own
rows stay in their splits whatever is added. A file is a table with the task's columns, such as `serve.next` writes, or
an export of Label Studio; lines without a label wait until they have one.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from data_prep.duplicates.deduplication import Normaliser, conflicting, find_duplicates, first_equal
from data_prep.table.checking import Checked, check_rows, reject_columns
from data_prep.table.corrections import label_word
from data_prep.table.delimited import frame_of
from data_prep.table.label_studio import LabelledTask, read_export, text_keys
from data_prep.table.reading import Table, read_table
from data_prep.table.table_settings import TableSettings
from data_prep.table.text_column import Texts, shared_strings
from data_prep.task import Task
from workspace.errors import UserError
from workspace.paths import shown
from workspace.spreadsheet import unsafe_text

WAITING, USED = "no label yet", "train"


def join_added(
    kept: pd.DataFrame, checked: Checked, task: Task, rows: int
) -> tuple[pd.DataFrame, Checked, dict[str, int]]:
    """`kept` (as split_frame leaves it) and `checked` with the added rows, numbered on from `rows`, those of the table;
    and how many of the files' lines became what: train, the reason why they were set aside, or no label yet.

    Raises UserError for a file that is missing or no such table, and for a label that the task has not.
    """
    if not task.added:
        return kept, checked, {}
    parts = [_read(path, task) for path in task.added]
    given = pd.concat([part[part["label"].str.strip() != ""] for part in parts], ignore_index=True)
    counts = {WAITING: sum(map(len, parts)) - len(given)}
    if not len(given):
        return kept, checked, counts
    given["row"] = np.arange(rows + 1, rows + 1 + len(given))
    values = {word: value for value, word in task.labels.items() if word is not None}
    given["label"] = given["label"].map(lambda cell: values.get(cell.strip(), cell)).astype("str")  # a word will do
    disagree = given.pop("disagree").to_numpy(bool)
    disputed = given[disagree].assign(reason="annotators_disagree")[reject_columns(given)]
    new = (
        check_rows(Table(task.added[0], given[~disagree].reset_index(drop=True), None, 0, ()), task)
        if not disagree.all()
        else None
    )
    rejects, left_out = [checked.rejects, disputed], [checked.left_out]
    if new:
        good = new.kept.assign(normalised=Normaliser().column(Texts(new.kept["text"])), group=-1, split=USED, used=True)
        reason = _reasons(kept, good, task)
        bad = good[reason != ""].assign(reason=reason[reason != ""])
        kept = pd.concat([kept, good[reason == ""][list(kept)]], ignore_index=True)
        rejects += [new.rejects, bad[reject_columns(good)]]
        left_out.append(new.left_out)
        counts[USED] = int((reason == "").sum())
    aside = pd.concat(rejects[1:])
    counts |= {str(why): int(count) for why, count in aside["reason"].value_counts().items()}
    counts |= {"left out": sum(map(len, left_out[1:]))}
    return (
        kept,
        Checked(checked.kept, pd.concat(rejects, ignore_index=True), pd.concat(left_out, ignore_index=True)),
        {what: count for what, count in counts.items() if count},
    )


def labelled(counts: dict[str, int]) -> int:
    """How many of the lines that `join_added` counted had a label: each is a row."""
    return sum(count for what, count in counts.items() if what != WAITING)


def _reasons(kept: pd.DataFrame, good: pd.DataFrame, task: Task) -> np.ndarray:
    """Why each of the rows `good` cannot be used beside the rows `kept`; empty where it can."""
    count = len(kept)
    texts = [*Texts(kept["normalised"]), *Texts(good["normalised"])]
    labels = shared_strings(pd.concat([kept["label"], good["label"]], ignore_index=True))
    held = np.append((kept["split"] != USED).to_numpy(), np.zeros(len(good), bool))
    exact, near = first_equal(texts), find_duplicates(texts, task.near_duplicates, task.split.seed + 1).near
    return np.select(
        [
            np.isin(near, near[held])[count:],
            conflicting(exact, labels)[count:],
            exact[count:] != np.arange(count, len(texts)),
        ],
        ["held_out_text", "conflicting_label", "repeated_text"],
        default="",
    )


def _read(path: Path, task: Task) -> pd.DataFrame:
    """The lines of a file: line, text, label, undecodable, disagree (several annotators, several labels), and the
    columns that only some tasks have."""
    if not path.is_file():
        raise UserError(f"there is no file {shown(path)}: correct or remove it in `added` of {shown(task.path)}")
    if (tasks := read_export(path)) is not None:
        return _exported(path, tasks, task)
    frame = read_table(path, task.columns, TableSettings()).frame
    for name in frame.columns.difference(["row", "line", "label", "undecodable"]):
        frame[name] = frame[name].map(unsafe_text).astype("str")
    for line, label in zip(frame["line"].tolist(), frame["label"].str.strip().tolist(), strict=True):
        if label:
            label_word(f"{shown(path)}, line {line}", label, task)
    return frame.assign(disagree=False)


def _exported(path: Path, tasks: list[LabelledTask], task: Task) -> pd.DataFrame:
    keys, places = text_keys(len(task.columns.text)), task.columns.places
    rows = []
    for one in tasks:
        if not set(keys) <= one.data.keys():
            raise UserError(f"{one.where} has no {keys[0]} in its data: import the tasks that `serve.next` wrote")
        for label in one.labels:
            label_word(one.where, label, task)
        texts = [one.data[key] for key in keys]
        several = ["\n".join(filter(str.strip, texts)), *texts] if len(keys) > 1 else texts
        own = [one.data.get("source_id", "")] if task.columns.id is not None else []
        rows.append(([*several, " / ".join(one.labels), *own], 0))
    names = ["text", *(places if len(keys) > 1 else []), "label", *(["id"] if task.columns.id is not None else [])]
    if not rows:
        return pd.DataFrame({name: pd.Series(dtype="str") for name in names}).assign(
            line=0, undecodable=False, disagree=False
        )
    disagree = [len(one.labels) > 1 for one in tasks]
    return frame_of(rows, names, halves=True).assign(undecodable=False, disagree=disagree)
