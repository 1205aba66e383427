"""A table of labelled texts, read from CSV, TSV, JSONL, Excel or Parquet into one frame.

Every value is text as it is in the file: `01`, `NA` and an empty cell stay what they are. Only NUL characters,
which no text has on purpose, are taken out, and counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from data_prep.table.delimited import Noticed
from data_prep.table.encoding import REPLACEMENT, Encoding
from data_prep.table.look import look_at
from data_prep.table.table_settings import SPLITS, Columns, OwnSplits, TableSettings, split_value
from data_prep.table.text_column import PIECE, text_column
from data_prep.task import Task
from workspace.errors import UserError
from workspace.paths import shown


@dataclass(frozen=True)
class Table:
    """A table as read. `frame` has one line per data row, in the file's order, with the columns

    row (int, from 1, counted on through the files of own splits), line (int, where the row starts in its file, header =
    1; 0 where the format has no lines), text, label (str), undecodable (bool: the row holds bytes that the encoding
    does not know); id where `columns` has one; split (train, val, test) where there are own splits. Of several text
    columns `text` is those that hold something, one a line, and each has a column more, named by its place in a prompt
    such as `{title}`.
    """

    path: Path
    frame: pd.DataFrame
    encoding: Encoding | None  # None for the formats that bring their own
    nul_characters: int
    warnings: tuple[str, ...]
    files: Mapping[str, Path] = field(default_factory=dict)  # split -> its file, where there are own splits in files


def read_tables(path: Path | None, task: Task, columns: Columns | None = None) -> Table:
    """The rows of the task: those of the table `path`, or of the files of its own splits, one after the other.

    columns: others than the task's.

    Raises UserError as `read_table` does, and for a value of the split column that names no split.
    """
    own, columns = task.split, columns or task.columns
    if not own.files:
        if path is None:
            raise UserError(f"the task {task.name} names no csv: give the table with --csv PATH")
        return read_table(path, columns, task.table, own)
    parts = {name: read_table(own.files[name], columns, task.table) for name in SPLITS if name in own.files}
    frame = pd.concat([part.frame.assign(split=name) for name, part in parts.items()], ignore_index=True)
    return Table(
        parts["train"].path,
        frame.assign(row=range(1, len(frame) + 1)).astype({"split": "str"}),
        parts["train"].encoding,
        sum(part.nul_characters for part in parts.values()),
        tuple(warning for part in parts.values() for warning in part.warnings),
        {name: part.path for name, part in parts.items()},
    )


def read_table(
    path: Path, columns: Columns, settings: TableSettings | None = None, own: OwnSplits | None = None
) -> Table:
    """The rows of the table `path`, whose format follows from its name.

    Raises UserError, naming file and line, for a file that is missing, empty, a folder, of an unknown kind or broken,
    for a missing column, for a row with too few or too many fields, and for a split that `own` does not know.
    """
    path = Path(path)
    several = len(columns.text) > 1
    names = [*(columns.places if several else ["text"]), "label"]
    names += ["id"] * (columns.id is not None)
    wanted = list(columns.all)
    if own and own.column is not None:
        names, wanted = [*names, "split"], [*wanted, own.column]
    noticed = Noticed()
    look = look_at(path, settings, wanted)
    noticed.warnings.extend(look.oddities)
    try:
        frame = look.frame(wanted, names, noticed, columns.label)
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{shown(path)} cannot be read ({reason}): give a table with --csv") from error
    if frame.empty:
        raise UserError(f"{shown(path)} has a header but no rows: expected one labelled text a row")
    broken = pd.Series(False, index=frame.index)
    encoding = look.encoding
    if look.format != "csv" or (encoding and encoding.fault):
        for name in names:
            broken |= frame[name].str.contains(REPLACEMENT, regex=False)
    if several:
        frame.insert(2, "text", _joined(frame, columns.places))
    if "split" in frame:
        frame["split"] = _splits(path, frame, own)
    return Table(path, frame.assign(undecodable=broken), encoding, noticed.nul_characters, tuple(noticed.warnings))


def _joined(frame: pd.DataFrame, places: Sequence[str]) -> pd.Series:
    """The non-empty values of several columns, one a line."""
    pieces = (frame.iloc[start : start + PIECE] for start in range(0, len(frame), PIECE))
    return text_column(
        ["\n".join(filter(str.strip, fields)) for fields in zip(*(piece[place] for place in places), strict=True)]
        for piece in pieces
    )


def _splits(path: Path, frame: pd.DataFrame, own: OwnSplits | None) -> pd.Series:
    """The split of each row. Raises UserError for a value that names none."""
    known = own.split_of if own else {}
    split_of = {value: known.get(split_value(value)) for value in frame["split"].unique()}
    if unknown := [value for value, split in split_of.items() if split is None]:
        first = frame.loc[frame["split"] == unknown[0]].iloc[0]
        where = f"line {first['line']:,}" if first["line"] else f"row {first['row']:,}"
        listed = ", ".join(map(repr, unknown[:8])) + (", ..." if len(unknown) > 8 else "")
        raise UserError(
            f"{shown(path)}, {where}: the split column {own.column if own else ''} has values that name no split: "
            f"{listed}; known are {', '.join(known)}: say which split each is in the task's `split: {{values: "
            "{train: [...], test: [...]}}`"
        )
    return frame["split"].map(split_of).astype("str")
