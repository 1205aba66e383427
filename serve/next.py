"""The rows of an unlabelled table whose labels would teach most, to be labelled in a spreadsheet or in Label Studio.

Run as: python -m serve.next RUN TABLE [--rows N] [--out FOLDER] [--columns NAME ...] [--reading READING] [--pool N]

Rows whose text stands in the run's train, validation or test rows, word for word or nearly, are never among them. What
is filled in, rows.csv or Label Studio's export, is named in the task's `added` (data_prep.table.added_rows).
"""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from data_prep.chat.parts import parts_of
from data_prep.table.checking import check_rows
from data_prep.table.header import places
from data_prep.table.label_studio import import_task, interface
from data_prep.table.reading import read_tables
from data_prep.table.table_settings import Column
from data_prep.task import Task
from eval.baselines import SPLITS
from eval.evaluate import load_run_task
from eval.scoring.responses import load_split
from plan.provenance import read_source
from plan.run import Run
from serve.bundle import is_bundle
from serve.classifier_file import Reading
from serve.informative import most_informative, surest
from serve.unlabelled import SEED, Unlabelled, read_unlabelled
from workspace.command_line import Parser, given_number, given_path
from workspace.errors import UserError, run_main
from workspace.files import write_json, write_text
from workspace.paths import ROOT, shown
from workspace.progress import FEW, progress
from workspace.ranges import ROWS
from workspace.spreadsheet import write_csv

ROWS_FILE, TASKS_FILE, INTERFACE_FILE = "rows.csv", "label_studio.json", "label_studio.xml"
OURS = ("next_row", "next_label", "next_confidence")  # columns of rows.csv behind the table's own
POOL = 20_000
FEW_ON_CPU = 200  # rows from which on a bar is shown where a language model answers on a CPU

Probabilities = NDArray[np.float64]


def suggest(
    run: Run,
    table: Path,
    score: Callable[[Sequence[str]], Probabilities],
    out: Path,
    rows: int = 200,
    columns: Sequence[str] | None = None,
    pool: int = POOL,
    model: str = "",
    sure: bool = False,
) -> Unlabelled:
    """Write into `out` the rows of `table` whose labels would teach most, at most `rows`; return what was read.

    With `sure` those whose answers are surest, as many of each label, with the answers as their labels.

    `score` gives the label probabilities (n, labels) of texts, several columns joined by data_prep.chat.parts; it is
    asked for `pool` of the rows, drawn by chance, where there are more. `model` names it in Label Studio. Raises
    `UserError` for what the user can correct, and where `out` holds labels that were filled in.
    """
    task = load_run_task(run)
    if task is None:
        raise UserError(f"the task of {shown(run.folder)} is gone ({run.task_file}): put it back where it was")
    stop_if_filled_in(out / ROWS_FILE, task.columns.label)
    known = [text for name in SPLITS for text in load_split(run.dataset, name, run.labels).reviews]
    known += _left_out_by_limit(run, task)
    found = read_unlabelled(table, task, known, columns)
    at = found.at
    if len(at) > pool:
        at = np.sort(np.random.default_rng(SEED).choice(at, pool, replace=False))
        print(f"next: {pool:,} of the {len(found.at):,} rows are looked at, drawn by chance: --pool N for more")
    texts = [found.texts[row] for row in at]
    probabilities = score(texts)
    chosen = surest(probabilities, rows) if sure else most_informative(texts, probabilities, rows)
    if not len(chosen):
        raise UserError(
            f"--surest: of {len(at):,} rows of {shown(table)} the model gives one of the {len(run.labels)} labels to "
            "none, and takes as many of each: name a larger table, or more --rows than labels"
        )
    best = probabilities[chosen].argmax(axis=1)
    labels, confidence = [run.labels[code] for code in best], probabilities[chosen, best]
    write_suggestions(out, found, task, at[chosen], labels, confidence.tolist(), model, sure)
    others = "".join(f", {count:,} {why}" for why, count in found.others.items() if count)
    print(f"next: {shown(table)}: {found.table.rows:,} rows{others}")
    print(f"next: {len(chosen):,} of {len(at):,} chosen, the model's mean confidence {confidence.mean():.2f} on them")
    return found


def _left_out_by_limit(run: Run, task: Task) -> list[str]:
    """The texts of the run's table where a limit used a part: prep would set a row aside that stands there too."""
    if not run.limit:
        return []
    try:
        return check_rows(read_tables(ROOT / read_source(run.folder).path, task), task).kept["text"].tolist()
    except UserError as error:
        print(f"next: rows that the run's limit left out are offered too, and prep may set them aside ({error})")
        return []


def write_suggestions(
    out: Path,
    found: Unlabelled,
    task: Task,
    at: NDArray[np.int64],
    labels: Sequence[str],
    confidence: Sequence[float],
    model: str,
    filled: bool = False,
) -> None:
    """Write the rows `at` (from 0) of the table into `out`: rows.csv with the table's own columns and an empty label,
    or the model's (`filled`), and Label Studio's tasks and labelling interface."""
    names: list[Any] = list(found.table.names)
    for place, column in zip(found.table.text_at, task.columns.text, strict=True):
        names[place] = column if isinstance(column, str) else names[place]  # so that they are found again
    missing = [column for column in (task.columns.label, task.columns.id) if column and not places([column], names)]
    if numbers := [column for column in missing if isinstance(column, int)]:
        raise UserError(
            f"{shown(found.table.look.path)} has no column {numbers[0]}, where the task has labels or ids: add "
            "an empty one there, as rows of the task's table have it"
        )
    own = [list(map(_text, row)) for row in zip(*found.cells(at), strict=True)]
    header = [*names, *missing, *OURS] if found.table.look.header else None
    lines = [
        [*cells, *[""] * len(missing), row + 1, label, round(chance, 4)]
        for cells, row, label, chance in zip(own, at.tolist(), labels, confidence, strict=True)
    ]
    for line, label in zip(lines, labels, strict=True) if filled else ():
        line[(places([task.columns.label], [*names, *map(str, missing)]) or [-1])[0]] = label
    count, columns = len(task.columns.text), list(map(str, task.columns.text))
    id_at = places([task.columns.id], names) if task.columns.id else None
    ids = [cells[id_at[0]] if id_at else None for cells in own]
    tasks = [
        import_task(parts_of(found.texts[row], count), row + 1, source_id, label, chance, model)
        for row, source_id, label, chance in zip(at.tolist(), ids, labels, confidence, strict=True)
    ]
    write_csv(out / ROWS_FILE, [header, *lines] if header else lines)
    write_json(out / TASKS_FILE, tasks)
    write_text(out / INTERFACE_FILE, interface(columns, task.label_words))


def stop_if_filled_in(path: Path, label: Column) -> None:
    """Raise `UserError` where a person has filled in labels in the file `path`."""
    if not path.is_file():
        return
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as stream:
        lines = list(csv.reader(stream))
    at = places([label], lines[0] if lines else [])
    if at and any(len(line) > at[0] and line[at[0]].strip() for line in lines[isinstance(label, str) :]):
        raise UserError(f"{shown(path)} holds labels that were filled in: move it away, or choose another --out")


def _text(cell: Any) -> str:
    if isinstance(cell, list | dict):
        return json.dumps(cell, ensure_ascii=False)
    return "" if cell is None else str(cell)


def main(argv: Sequence[str] | None = None) -> None:
    """Choose rows of a table, by the classifier of a run."""
    parser = Parser("python -m serve.next", __doc__)
    parser.add_argument("run", type=given_path, metavar="RUN", help="the folder of a finished run")
    parser.add_argument("table", type=given_path, metavar="TABLE", help="any table that prep reads, labelled or not")
    parser.add_argument("--rows", type=given_number(ROWS), default=200, metavar="N", help="default: %(default)s")
    parser.add_argument("--out", type=given_path, metavar="FOLDER", help="default: next-TABLE beside TABLE")
    parser.add_argument(
        "--columns", nargs="+", metavar="NAME", help="the table's columns of texts, as the task has them"
    )
    parser.add_argument("--reading", choices=get_args(Reading), help="default: what the report advises")
    parser.add_argument(
        "--pool",
        type=given_number(ROWS),
        default=POOL,
        metavar="N",
        help="rows that the model is asked; default: %(default)s",
    )
    parser.add_argument(
        "--surest",
        action="store_true",
        help="self-training: the rows that the model is surest of, as many of each label, with its answers as labels",
    )
    options = parser.parse_args(argv)
    if is_bundle(options.run):
        raise UserError(f"{shown(options.run)} is a bundle, which has no rows to compare with: give the run's folder")
    from serve.classifier import Classifier  # here, because it takes seconds to load

    run, out = Run.read(options.run), options.out or options.table.with_name(f"next-{options.table.stem}")
    classifier = Classifier.load(options.run, options.reading)

    def score(texts: Sequence[str]) -> Probabilities:
        with progress(len(texts), "next: asking the model", few=FEW_ON_CPU if classifier.on_cpu else FEW) as bar:
            return classifier.score_texts(texts, bar.update).probabilities

    model = f"{run.recipe} {classifier.file.reading}"
    suggest(run, options.table, score, out, options.rows, options.columns, options.pool, model, options.surest)
    file = shown(out / ROWS_FILE)
    by_hand = f"label them in {file}, or import {TASKS_FILE} with {INTERFACE_FILE} into Label Studio"
    print(f"next: {f'the model has labelled them; look at some in {file}' if options.surest else by_hand}")
    print(f"next: then name the file, or the export, in {shown(run.task_file or run.folder)} and run again:")
    print(f"next:     added: {json.dumps(str((out / ROWS_FILE).absolute()), ensure_ascii=False)}")


if __name__ == "__main__":
    run_main(main)
