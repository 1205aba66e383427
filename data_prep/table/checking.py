"""Which rows of a table can be used; every other is set aside with its reason, and too many of them stop the run."""

import re
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from data_prep.chat.columns import places_in
from data_prep.duplicates.deduplication import Normaliser, conflicting, find_duplicates, first_of, group_counts
from data_prep.label_words import shortened
from data_prep.manifest import Duplicates
from data_prep.table.reading import Table
from data_prep.table.text_column import PIECE, Texts, shared_strings
from data_prep.task import Task, canonical_value
from workspace.errors import UserError
from workspace.paths import shown

OF_THE_TABLE = ("undecodable", "empty", "empty_label", "unknown_label", "too_short", "conflicting_label")
REASONS = (*OF_THE_TABLE, "held_out_text", "repeated_text", "annotators_disagree")  # the last three of added rows
LEAVE_OUT = '`"": null` among the `labels`'
# White space, and invisible characters used for it: a text of these alone is empty.
# Compiled: pandas has Python read it, not the library of its string type, whose \s is ASCII and which knows no \u.
INVISIBLE = re.compile(r"[\s\u00ad\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff\ufe0e\ufe0f]+")


class Checked(NamedTuple):
    """The parts of a table, each in the file's order. `kept` has the columns row, line, text, label (now a label word),
    and those of the table's that only some tasks have: id, split, and one for each of several text columns; `rejects`
    has row, line, id where there is one, reason, label (as in the file), text; `left_out`, the rows whose value is null
    in the task's `labels`, has row and label (the canonical value)."""

    kept: pd.DataFrame
    rejects: pd.DataFrame
    left_out: pd.DataFrame


def reject_columns(frame: pd.DataFrame) -> list[str]:
    """The columns of the rows set aside from a table."""
    return ["row", "line", *(["id"] if "id" in frame else []), "reason", "label", "text"]


def usable_rows(table: Table, task: Task) -> tuple[Checked, Duplicates]:
    """The rows that can be used, with normalised and group; and the duplicates in the table.

    The table gives up its texts: they are in the result. Raises UserError when too many rows, or all of a class,
    cannot be used.
    """
    checked = check_rows(table, task)
    stop_if_too_many(table, task, checked)
    stop_if_class_is_gone(table, task, checked.kept)
    for name in ["text", *places_in(table.frame)]:
        del table.frame[name]
    labels = shared_strings(checked.kept["label"])
    normalised = Normaliser().column(Texts(checked.kept["text"]))
    groups = find_duplicates(Texts(normalised), task.near_duplicates, task.split.seed)
    contested = conflicting(groups.exact, labels)
    duplicates = Duplicates(
        exact=group_counts(groups.exact),
        near=group_counts(groups.near),
        conflicting_exact=group_counts(groups.exact[contested]),
        conflicting_near=group_counts(groups.near[conflicting(groups.near, labels)]),
        threshold=task.near_duplicates.threshold,
        ngram=task.near_duplicates.ngram,
        conflicts=task.conflicts,
    )
    checked = checked._replace(kept=checked.kept.assign(normalised=normalised, group=groups.near))
    del normalised
    if task.conflicts == "set_aside":
        checked = set_aside_conflicts(checked, contested)
        checked.kept["group"] = first_of(checked.kept["group"].to_numpy())
        stop_if_too_many(table, task, checked)
    stop_if_class_is_gone(table, task, checked.kept)
    return checked, duplicates


def check_rows(table: Table, task: Task) -> Checked:
    """Set aside the rows that cannot be used. The first reason that fits counts, in the order of REASONS.

    Rows whose value is null in the task's `labels` are left out, whatever else they are. Raises UserError when no row
    has a known label.
    """
    frame = table.frame
    # Few distinct values, many rows: look each value up once.
    keys = {value: canonical_value(value) for value in frame["label"].unique()}
    key = frame["label"].map(keys)
    label = frame["label"].map({value: task.labels.get(key) for value, key in keys.items()})
    if label.isna().all():
        raise no_known_label(table, task)
    nulls = [value for value, word in task.labels.items() if word is None]
    out = key.isin(nulls).to_numpy(dtype=bool)
    visible = visible_lengths(frame["text"])
    reason = np.select(
        [
            out,
            frame["undecodable"].to_numpy(dtype=bool),
            visible == 0,
            (label.isna() & (key == "")).to_numpy(dtype=bool),
            label.isna().to_numpy(dtype=bool),
            visible < task.min_chars,
        ],
        ["left_out", *REASONS[:5]],
        default="",
    )
    bad = (reason != "") & ~out
    rejects = frame.loc[bad].assign(reason=reason[bad])[reject_columns(frame)]
    kept = frame.drop(columns="undecodable").assign(label=label)
    if (bad | out).any():  # without one the texts are not copied
        kept = kept[~(bad | out)].reset_index(drop=True)
    left_out = frame.loc[out, ["row"]].assign(label=key[out])
    return Checked(kept.astype({"label": "str"}), rejects.reset_index(drop=True), left_out.reset_index(drop=True))


def id_warnings(frame: pd.DataFrame) -> list[str]:
    """What is wrong with the ids in the user's own column, a sentence each; rows are told apart by their number."""
    if "id" not in frame:
        return []
    ids, warnings = frame["id"].str.strip(), []
    if (empty := ids == "").any():
        warnings.append(f"{int(empty.sum()):,} rows have no id, first in {place(frame.loc[empty.idxmax()])}")
    if (doubled := ids[~empty].duplicated(keep=False)).any():
        first = doubled.idxmax()
        warnings.append(
            f"{int(doubled.sum()):,} rows share their id with another, first {_quoted(ids[first])} in "
            f"{place(frame.loc[first])}: the row's number tells them apart"
        )
    return warnings


def visible_lengths(texts: pd.Series) -> np.ndarray:
    """The number of visible characters of each text: int64."""
    pieces = (texts.iloc[start : start + PIECE] for start in range(0, len(texts), PIECE))
    lengths = [piece.str.replace(INVISIBLE, "", regex=True).str.len().to_numpy(np.int64) for piece in pieces]
    return np.concatenate([np.empty(0, np.int64), *lengths])


def set_aside_conflicts(checked: Checked, conflicting: np.ndarray) -> Checked:
    """Move the kept rows where `conflicting` (bool, one a kept row) to the rejects. `checked.kept` is used up."""
    if not conflicting.any():
        return checked
    moved = checked.kept[conflicting].assign(reason="conflicting_label")[reject_columns(checked.kept)]
    rejects = pd.concat([checked.rejects, moved]).sort_values("row", kind="stable")
    left = {}
    for name in map(str, list(checked.kept)):
        left[name] = checked.kept.pop(name)[~conflicting].array
        # Columns of texts are large: what one took is given back before the next is copied.
        pa.default_memory_pool().release_unused()
    return checked._replace(kept=pd.DataFrame(left), rejects=rejects.reset_index(drop=True))


def stop_if_too_many(table: Table, task: Task, checked: Checked) -> None:
    """Raise UserError when more than the task's `max_reject_share` of the rows, but for those left out by their label,
    were set aside."""
    rejects, rows = checked.rejects, len(table.frame) - len(checked.left_out)
    if len(rejects) <= task.max_reject_share * rows:
        return
    counts = rejects["reason"].value_counts()
    reason = counts.index[0]
    first = rejects[rejects["reason"] == reason].iloc[0]
    share = f"{len(rejects):,} of {rows:,} rows ({len(rejects) / rows:.1%}) cannot be used"
    if reason == "unknown_label":
        raise unknown_labels(table, task, first["row"] - 1, f"{share}; ")
    what = {
        "empty": "the text is empty",
        "empty_label": "the label is empty",
        "too_short": f"the text is shorter than min_chars = {task.min_chars}",
        "undecodable": _undecodable(table),
        "conflicting_label": "the same text has another label too",
    }[reason]
    remedy = f"fix the rows, or raise max_reject_share in {shown(task.path)}"
    if reason == "empty_label":
        remedy = f"label the rows, or leave them out with {LEAVE_OUT} in {shown(task.path)}"
    raise UserError(
        f"{shown(table.path)}: {share}, more than max_reject_share = {task.max_reject_share:g}; most often ({reason}, "
        f"{counts.iloc[0]:,} rows) {what}, first in {place(first)}: {remedy}"
    )


def stop_if_class_is_gone(table: Table, task: Task, kept: pd.DataFrame) -> None:
    """Raise UserError when a class of the task has no usable row."""
    present = set(kept["label"].unique())
    for label in task.label_words:
        if label not in present:
            values = ", ".join(value for value, other in task.labels.items() if other == label)
            raise UserError(
                f"{shown(table.path)}: no usable row is left for {label} (label {values}): add some, or take the class "
                f"out of `labels` in {shown(task.path)}"
            )


def no_known_label(table: Table, task: Task) -> UserError:
    """The error for a table in which no row has a label of the task."""
    keys = table.frame["label"].map(canonical_value)
    unknown = ~keys.isin([*task.labels, ""])
    if unknown.any():
        return unknown_labels(table, task, int(unknown.idxmax()))
    return UserError(
        f"{shown(table.path)}: no row has a label of {shown(task.path)} (column {task.columns.label}; empty in "
        f"{int((keys == '').sum()):,} rows, left out {int((keys != '').sum()):,}): label the rows, or name the column "
        "that has the labels in `columns`"
    )


def unknown_labels(table: Table, task: Task, first: int, prefix: str = "") -> UserError:
    """The error for labels outside the task's set; `first` is the frame's index of the first such row."""
    values = table.frame["label"]
    unknown = [value for value in values.unique() if canonical_value(value) not in [*task.labels, ""]]
    listed, known = (shortened([*map(_quoted, several)], 20) for several in (unknown, task.labels))
    return UserError(
        f"{shown(table.path)}: {prefix}the label in {place(table.frame.loc[first])} is {_quoted(values[first])}; "
        f"unknown labels found: {listed}; expected: {known}: name them in "
        f"`labels` of {shown(task.path)}, with a label word, or with null to leave such rows out"
    )


def place(row: pd.Series | pd.DataFrame) -> str:
    """`line 7` of a text file, `row 6` of a table without lines."""
    return f"line {row['line']:,}" if row["line"] else f"row {row['row']:,}"


def _quoted(value: str) -> str:
    return repr(value if len(value) <= 40 else value[:40] + "...")


def _undecodable(table: Table) -> str:
    if table.encoding and table.encoding.fault:
        line, offset = table.encoding.fault
        return f"its bytes are not {table.encoding.name} (first at byte {offset:,}, line {line:,})"
    return "it holds half a character"
