"""From a table of labelled texts to train, val and test as ms-swift chat JSONL, with a manifest and the rejects.

Run as: python -m data_prep.build TASK [--csv PATH] [--model DIR] [--limit N] [--out DIR] [--prompt NAME]
"""

import argparse
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data_prep.card.page import write_card
from data_prep.chat.injection import injected_reviews
from data_prep.chat.prompt import prompt_warnings
from data_prep.chat.tokenizer import ModelTokenizer
from data_prep.chat.truncation import fit_frame
from data_prep.dataset_folder import check_replaceable, replaced_folder, up_to_date
from data_prep.duplicates.contamination import flag_known
from data_prep.manifest import MANIFEST, Injected, MadeBy, Manifest, TableSource
from data_prep.rows import DatasetRow, write_rows
from data_prep.splitting import split_frame
from data_prep.statistics import characters, count_rows, cut_rows, rows_sha256
from data_prep.summary import summary
from data_prep.table.checking import REJECT_COLUMNS, usable_rows
from data_prep.table.corrections import correct_labels
from data_prep.table.fetching import find_table
from data_prep.table.reading import read_table
from data_prep.table.text_column import PIECE
from data_prep.task import SPLITS, Task, find_task
from workspace.errors import UserError, run_main
from workspace.files import sha256_file, sha256_json
from workspace.paths import CONFIGS, DATASETS, ROOT, shown
from workspace.progress import progress
from workspace.spreadsheet import write_csv

VERSION = 7  # raised when the same inputs come to give other files, so that datasets are made again


def build(
    task: Task | str,
    csv: Path | None = None,
    model: Path | None = None,
    limit: int | None = None,
    out: Path | None = None,
    prompt: str | None = None,
    max_length: int | None = None,
    override: Sequence[str] = (),
) -> Path:
    """Write the dataset of `task` into the folder `out` (default dataset_jsonl/<task>); return its manifest's path.

    `model` is a model's folder, whose tokenizer counts lengths; without one nothing is cut. `limit` is the number of
    train rows. Nothing is done when the folder was made from the same inputs. Raises UserError for what the user can
    correct; `out` is then as it was.
    """
    task = with_options(find_task(task, override) if isinstance(task, str) else task, prompt, max_length, limit)
    out = Path(out) if out else DATASETS / task.name
    check_replaceable(out)
    path = find_table(task, Path(csv) if csv else None)
    tokenizer = ModelTokenizer(Path(model)) if model else None
    inputs = _inputs(task, path, tokenizer)
    if inputs and up_to_date(out, inputs):
        print(f"prep: {shown(out)} is up to date", flush=True)
        return out / MANIFEST

    table = read_table(path, task.columns)
    (kept, rejects), duplicates = usable_rows(table, task)
    kept, leaks = split_frame(kept, task)
    kept, corrections = correct_labels(kept, rejects, task)
    kept, known = flag_known(kept, task)
    injected = injected_reviews(kept, task)
    kept, changed, tokens = fit_frame(kept.drop(columns="normalised"), task, tokenizer, injected)
    facts, label_words = kept.drop(columns="text"), task.label_words
    manifest = Manifest(
        schema_version=VERSION,
        task=task.name,
        source=TableSource(
            path=_from_root(table.path),
            sha256=inputs["source_sha256"],
            bytes=table.path.stat().st_size,
            encoding=table.encoding.name if table.encoding else None,
            nul_characters_removed=table.nul_characters,
        ),
        provenance=task.provenance,
        licence=task.licence,
        seed=task.split.seed,
        scheme=task.split.scheme,
        split=task.split,
        labels=list(label_words),
        system=task.system,
        prompt=task.prompt,
        template=task.template,
        limit=task.limit,
        counts=count_rows(len(table.frame), facts, rejects, label_words),
        duplicates=duplicates,
        leaks=leaks.counts,
        corrections=corrections,
        known_public=known,
        injected=Injected(share=task.injected_share, rows=len(injected)) if task.injected_share else None,
        max_length=task.max_length,
        keep_head=task.keep_head,
        tokenizer_sha256=tokenizer.sha256 if tokenizer else None,
        cut=cut_rows(facts, label_words) if tokenizer else None,
        tokens=tokens,
        characters=characters(kept, label_words),
        warnings=[*table.warnings, *prompt_warnings(task, tokenizer, kept["text"].head(1000).tolist())],
        rows_sha256={name: rows_sha256(pieces_of(kept, changed, name)) for name in SPLITS},
        made_by=MadeBy(
            task=task.name if task.path.parent.parent == CONFIGS else _from_root(task.path),
            override=[_from_root(Path(name)) if Path(name).is_file() else name for name in override],
        ),
        inputs=inputs,
        files={},
    )
    with replaced_folder(out) as folder:
        for name in SPLITS:
            with progress(manifest.counts.of(name)["total"], f"prep: writing {name}") as bar:
                rows = dataset_rows(pieces_of(kept, changed, name), task, bar.update)
                write_rows(folder / f"{name}.jsonl", rows)
        _write_rejects(folder / "rejects.csv", rejects)
        written = [*(f"{name}.jsonl" for name in SPLITS), "rejects.csv"]
        manifest.files.update({name: sha256_file(folder / name) for name in sorted(written)})
        manifest.files.update(write_card(folder, manifest))
        manifest.write(folder)
    print("\n".join(summary(manifest, table.path, out)), flush=True)
    return out / MANIFEST


def with_options(task: Task, prompt: str | None, max_length: int | None, limit: int | None) -> Task:
    """The task with what the command line said in place of its own. Raises UserError for an unknown prompt."""
    if prompt is not None and prompt not in task.prompts:
        known = ", ".join(task.prompts)
        raise UserError(f"{shown(task.path)} has no prompt {prompt}: give --prompt with one of {known}")
    for name, value in (("--limit", limit), ("--max-length", max_length)):
        if value is not None and value < 1:
            raise UserError(f"{name} {value} leaves nothing: give a whole number of at least 1")
    return dataclasses.replace(
        task,
        prompt=prompt if prompt is not None else task.prompt,
        max_length=max_length if max_length is not None else task.max_length,
        limit=limit if limit is not None else task.limit,
    )


def pieces_of(kept: pd.DataFrame, changed: Mapping[int, str], split: str) -> Iterator[pd.DataFrame]:
    """The used rows of a split, some thousand at a time, in the table's order; val shortest first.

    The column shown is the review as it is in the prompt: that of `changed` (by position), or the table's.

    ms-swift validates in the file's order, and a batch of equal lengths needs no padding: half the time.
    """
    rows = np.flatnonzero((kept["split"] == split).to_numpy() & kept["used"].to_numpy())
    if split == "val":
        lengths = kept["text"].str.len().to_numpy().copy()
        lengths[list(changed)] = [len(text) for text in changed.values()]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
    for start in range(0, len(rows), PIECE):
        part = rows[start : start + PIECE]
        piece = kept.iloc[part]
        shown_texts = [changed.get(at, text) for at, text in zip(part.tolist(), piece["text"].tolist(), strict=True)]
        yield piece.assign(shown=pd.Series(shown_texts, index=piece.index, dtype="str"))


def dataset_rows(
    pieces: Iterable[pd.DataFrame], task: Task, advance: Callable[[int], object] = lambda rows: None
) -> Iterator[DatasetRow]:
    """The rows of a split. Test rows say whether they are known, where the task has `known_public`.

    `advance` is called with the number of rows after each piece.
    """
    label_ids = {label: label_id for label_id, label in enumerate(task.label_words)}
    system = {"role": "system", "content": task.system}
    for rows in pieces:
        columns = [rows[name].tolist() for name in ("row", "text", "label", "shown", "cut")]
        with_known = "known" in rows and (rows["split"] == "test").all()
        known = rows["known"].tolist() if with_known else [None] * len(rows)
        for row, text, label, review, cut, is_known in zip(*columns, known, strict=True):
            turns = [
                system,
                {"role": "user", "content": task.render(review)},
                {"role": "assistant", "content": label},
            ]
            yield DatasetRow(turns, label_ids[label], str(row), text, cut, is_known)
        advance(len(rows))


def _inputs(task: Task, path: Path, tokenizer: ModelTokenizer | None) -> dict[str, Any]:
    """All that the dataset depends on; empty when the table cannot be read, which read_table reports."""
    if not path.is_file():
        return {}
    settings = dataclasses.asdict(task)
    # The task's file itself, and where tables may be, decide nothing once the table is there.
    for name in ("path", "csv", "source", "corrections", "corrections_test", "known_public", "sft"):
        settings.pop(name)
    settings["labels"] = list(task.labels.items())  # their order is that of the classes
    try:
        source = sha256_file(path)
        files = _files_of(task)
    except OSError:
        return {}
    return {
        "version": VERSION,
        "path": _from_root(path),
        "source_sha256": source,
        "task_sha256": sha256_json(settings),
        "tokenizer": tokenizer.identity if tokenizer else None,
    } | files


def _files_of(task: Task) -> dict[str, Any]:
    """The files that the task names besides the table, by content; None for one that is missing, an error later."""
    files: dict[str, Any] = {}
    if path := task.corrections:
        files["corrections"] = [sha256_file(path) if path.is_file() else None, task.corrections_test]
    if known := task.known_public:
        files["known_public"] = [sha256_file(known.path) if known.path.is_file() else None, known.column]
    return files


def _from_root(path: Path) -> str:
    """The path relative to the repository where it lies in it: the same on every machine."""
    path = path.absolute()
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)


def _write_rejects(path: Path, rejects: pd.DataFrame) -> None:
    lines = rejects["line"].astype(str).replace("0", "")
    write_csv(path, [REJECT_COLUMNS, *rejects.assign(line=lines).itertuples(index=False)])


def main(argv: Sequence[str] | None = None) -> None:
    """Build one task's dataset."""
    parser = argparse.ArgumentParser(prog="python -m data_prep.build", description=__doc__.splitlines()[0])
    parser.add_argument("task", metavar="TASK", help="a folder of swift_configs, or the path of a task.yaml")
    parser.add_argument("--csv", type=Path, metavar="PATH", help="the table: CSV, TSV, JSONL, Excel or Parquet")
    parser.add_argument("--model", type=Path, metavar="DIR", help="the model's folder; its tokenizer counts lengths")
    parser.add_argument("--limit", type=int, metavar="N", help="N train rows, N/4 test rows and N/8 val rows at most")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: dataset_jsonl/TASK")
    parser.add_argument("--prompt", metavar="NAME", help="one of the task's prompts")
    parser.add_argument("--max-length", type=int, metavar="N", help="tokens of system, prompt and answer")
    parser.add_argument(
        "--override", nargs="+", default=(), metavar="NAME", help="overrides of the task, see swift_configs"
    )
    options = parser.parse_args(argv)
    build(**vars(options))


if __name__ == "__main__":
    run_main(main)
