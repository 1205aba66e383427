"""The values that task.yaml's `segments`, further columns of the table, have for test rows.

They are read from the table when a run is scored, by the rows' numbers, so that no dataset depends on them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from data_prep.manifest import TableSource
from data_prep.table.reading import read_tables
from data_prep.table.table_settings import Columns
from data_prep.task import Task
from eval.scoring.responses import Split
from workspace.files import sha256_file
from workspace.paths import ROOT, shown

VALUES = 12  # of a column, the most frequent; all others are one
OTHER = "…"


def load_segments(task: Task | None, source: TableSource, ids: Sequence[str]) -> dict[str, list[str]]:
    """By column the value of each row of `ids`, white space around it gone, rare values `OTHER`.

    Empty without `segments`, and where the table is not the one that the dataset was made of, which is said in one
    line. Raises `UserError` as `read_tables` does, such as for a column that is not there.
    """
    if task is None or not task.segments:
        return {}
    path = ROOT / source.path
    if not path.is_file() or sha256_file(path) != source.sha256:
        print(
            f"report: {shown(path)} is gone or has changed, so it is not looked at by segments: build the dataset again"
        )
        return {}
    frame = read_tables(path, task, Columns(text=task.segments, label=task.columns.label)).frame
    frame = frame.assign(row=frame["row"].astype(str)).set_index("row").loc[list(ids)]
    several = len(task.segments) > 1
    return {
        str(column): _few(frame[f"{{{column}}}" if several else "text"].str.strip().tolist())
        for column in task.segments
    }


def of_rows(segments: Mapping[str, Sequence[str]], test: Split, rows: Split) -> Mapping[str, Sequence[str]]:
    """The values of `rows`, which are a part of the rows of `test` or all of them, by column."""
    if rows is test:
        return segments
    places = test.places
    return {column: [values[places[key]] for key in rows.ids] for column, values in segments.items()}


def _few(values: Sequence[str]) -> list[str]:
    kept = {value for value, _ in Counter(values).most_common(VALUES)}
    return [value if value in kept else OTHER for value in values]
