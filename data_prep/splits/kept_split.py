"""split.json of a dataset: which text of a small table is in which split, so that rows added later move none.

It is read before the rows are split and written with the dataset. A dataset in a new folder (another limit, another
tokenizer) starts from the file of the task's own dataset next to it.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, StringConstraints

from data_prep.splits.splitting import FEW_ROWS, text_keys
from data_prep.table.text_column import Texts
from data_prep.task import Task
from workspace import records
from workspace.files import write_json
from workspace.paths import shown

KEPT = "split.json"
DECIDING = ("scheme", "seed", "val", "test")  # with other values a table is split anew
TextKey = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Places = dict[TextKey, Literal["train", "val", "test"]]


class KeptSplit(BaseModel):
    """The file: the settings that the split was made with, and the split by `data_prep.splits.splitting.text_keys`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1]
    made_with: dict[str, str | int | float]
    places: Places


def kept_places(out: Path, task: Task) -> Places:
    """The split of each text in the file of the dataset `out`; empty where there is none, or for other settings.

    Raises UserError for a file that is damaged: without it rows would move.
    """
    path = next((path for folder in (out, out.with_name(task.name)) if (path := folder / KEPT).is_file()), None)
    if path is None or task.split.name != "stratified":
        return {}
    file = records.read(path, KeptSplit, "put it back as it was, or remove it: all rows are then split anew")
    if file.made_with != _deciding(task):
        print(f"prep: {shown(path)} was made with other settings of `split`: the rows are split anew", flush=True)
        return {}
    return file.places


def with_added(places: Places, kept: pd.DataFrame, task: Task) -> Places:
    """`places` and those of the rows `kept` (normalised, split); empty for a table that is so large that its rows keep
    their places by themselves."""
    if task.split.name != "stratified" or not (places or len(kept) < FEW_ROWS):
        return {}
    return places | dict(zip(text_keys(Texts(kept["normalised"])), kept["split"].tolist(), strict=True))


def write_places(folder: Path, task: Task, places: Places) -> list[str]:
    """Write the file into a dataset's folder where there are places to keep; the names of the files written."""
    if not places:
        return []
    file = KeptSplit(format=1, made_with=_deciding(task), places=dict(sorted(places.items())))
    write_json(folder / KEPT, file.model_dump(mode="json"))
    return [KEPT]


def _deciding(task: Task) -> dict[str, str | int | float]:
    settings = asdict(task.split)
    return {name: settings[name] for name in DECIDING}
