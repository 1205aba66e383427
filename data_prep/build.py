"""From a table of labelled texts to train, val and test as ms-swift chat JSONL, with a manifest and the rejects.

Run as: python -m data_prep.build TASK [--csv PATH] [--model DIR] [--limit N] [--out DIR] [--prompt NAME]
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_prep.card.page import write_card
from data_prep.chat.columns import prompt_texts
from data_prep.chat.family import recognise
from data_prep.chat.frame import ChatFrame, chat_frame
from data_prep.chat.injection import injected_reviews
from data_prep.chat.prompt import check_label_tokens, prompt_warnings
from data_prep.chat.tokenizer import ModelTokenizer
from data_prep.chat.truncation import fit_frame
from data_prep.dataset_folder import check_replaceable, replaced_folder, up_to_date
from data_prep.duplicates.contamination import flag_known
from data_prep.manifest import MANIFEST, Injected, MadeBy, Manifest, TableSource
from data_prep.rows import dataset_rows, pieces_of, write_rows
from data_prep.settings import replaced
from data_prep.splits.deciding_rows import TEST_OF, VAL_OF, deciding_rows
from data_prep.splits.kept_split import kept_places, with_added, write_places
from data_prep.splits.split_frame import split_frame
from data_prep.splits.sufficiency import few_rows
from data_prep.statistics import characters, count_rows, cut_rows, rows_sha256
from data_prep.summary import summary
from data_prep.table.added_rows import join_added, labelled
from data_prep.table.checking import id_warnings, usable_rows
from data_prep.table.corrections import correct_labels
from data_prep.table.fetching import find_table
from data_prep.table.reading import read_tables
from data_prep.table.table_settings import TableSettings
from data_prep.task import SPLITS, Task, find_task
from workspace.command_line import Parser, given_number, given_path
from workspace.errors import UserError, run_main
from workspace.files import sha256_file, sha256_json
from workspace.paths import CONFIGS, DATASETS, ROOT, shown
from workspace.progress import progress
from workspace.ranges import ROWS, TOKENS
from workspace.spreadsheet import write_csv

VERSION = 8  # raised when the same inputs come to give other files, so that datasets are made again
# What the manifest has from the task as it is.
FROM_TASK = ("provenance", "licence", "system", "prompt", "template", "limit", "max_length", "keep_head")


def build(
    task: Task | str,
    csv: Path | None = None,
    model: Path | None = None,
    limit: int | None = None,
    out: Path | None = None,
    prompt: str | None = None,
    max_length: int | None = None,
    override: Sequence[str] = (),
    template: str | None = None,
) -> Path:
    """Write the dataset of `task` into the folder `out` (default dataset_jsonl/<task>); return its manifest's path.

    `model` is a model's folder, whose tokenizer counts lengths, in ms-swift's chat `template` (by default the one that
    the folder says); without one nothing is cut. `limit` is the number of train rows. Nothing is done when the folder
    was made from the same inputs. Raises UserError for what the user can correct; `out` is then as it was.
    """
    task = with_options(find_task(task, override) if isinstance(task, str) else task, prompt, max_length, limit)
    out = Path(out) if out else DATASETS / task.name
    check_replaceable(out)
    path = find_table(task, Path(csv) if csv else None)
    tokenizer = ModelTokenizer(Path(model)) if model else None
    if tokenizer:
        check_label_tokens(task, tokenizer)
        if template is None and (tokenizer.folder / "config.json").is_file():
            template = recognise(tokenizer.folder).template
    frame = chat_frame(template, task.system)
    inputs = _inputs(task, path, tokenizer, frame)
    if inputs and up_to_date(out, inputs):
        print(f"prep: {shown(out)} is up to date", flush=True)
        return out / MANIFEST

    table = read_tables(path, task)
    checked, duplicates = usable_rows(table, task)
    ids_told = id_warnings(table.frame)
    places = kept_places(out, task)
    kept, leaks, leaking, split_warnings = split_frame(checked.kept, task, places)
    places = with_added(places, kept, task)
    kept, checked, added = join_added(kept, checked, task, len(table.frame))
    kept, corrections = correct_labels(kept, rejects := checked.rejects, task)
    kept, known = flag_known(kept, task)
    injected = injected_reviews(kept, task)
    kept, changed, tokens = fit_frame(kept.drop(columns="normalised"), task, tokenizer, injected, frame)
    facts, label_words = kept.drop(columns="text"), task.label_words
    counts = count_rows(len(table.frame) + labelled(added), facts, checked, label_words)
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
        **{name: getattr(task, name) for name in FROM_TASK},
        split=dataclasses.replace(task.split, files=None),  # their places on this machine
        seed=task.split.seed,
        scheme=task.split.name,
        labels=list(label_words),
        counts=counts,
        duplicates=duplicates,
        leaks=leaks.counts,
        leaking=leaking,
        corrections=corrections,
        added=added,
        known_public=known,
        injected=Injected(share=task.injected_share, rows=len(injected)) if task.injected_share else None,
        tokenizer_sha256=tokenizer.sha256 if tokenizer else None,
        cut=cut_rows(facts, label_words) if tokenizer else None,
        tokens=tokens,
        characters=characters(kept, label_words),
        warnings=[
            *table.warnings,
            *ids_told,
            *split_warnings,
            *few_rows(counts, task, duplicates),
            *prompt_warnings(task, tokenizer, prompt_texts(kept.head(1000)).tolist(), frame),
        ],
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
        lines = rejects["line"].astype(str).replace("0", "")
        header = ["source_id" if name == "id" else name for name in rejects]
        write_csv(folder / "rejects.csv", [header, *rejects.assign(line=lines).itertuples(index=False)])
        written = [*(f"{name}.jsonl" for name in SPLITS), "rejects.csv", *write_places(folder, task, places)]
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
    given: dict[str, Any] = {"prompt": prompt, "max_length": max_length, "limit": limit}
    changed = {name: value for name, value in given.items() if value is not None}
    return replaced(task, changed, lambda key: f"--{key.replace('_', '-')}")


def _inputs(task: Task, path: Path, tokenizer: ModelTokenizer | None, frame: ChatFrame) -> dict[str, Any]:
    """All that the dataset depends on; empty when the table cannot be read, which read_table reports."""
    if not path.is_file():
        return {}
    # The task's file itself, and where tables may be, decide nothing once the table is there; nor does what is made of
    # a run's answers.
    unused = {"path", "csv", "source", "corrections", "corrections_test", "added", "known_public", "sft", "unlabelled"}
    unused |= {"selective", "costs", "primary_metric", "margin", "segments"}
    settings = {name: value for name, value in dataclasses.asdict(task).items() if name not in unused}
    for later in ("limit_seed", "held_out_limit"):
        if settings[later] is None:
            del settings[later]  # datasets of earlier versions are still those of their tasks
    settings["labels"] = list(task.labels.items())  # their order is that of the classes
    settings["split"] = {name: value for name, value in settings["split"].items() if name != "files"}
    files: dict[str, Any] = {"held_out": [TEST_OF, VAL_OF, deciding_rows()]} if task.limit else {}
    try:
        source = sha256_file(path)
        # Files that the task names besides the table, by content; None for one that is missing, an error later.
        if task.corrections:
            files["corrections"] = [_sha256(task.corrections), task.corrections_test]
        if task.added:
            files["added"] = [_sha256(file) for file in task.added]
        if task.split.files:
            files["split_files"] = {
                split: [_from_root(file), _sha256(file)] for split, file in task.split.files.items()
            }
        if known := task.known_public:
            how = [] if known.table == TableSettings() else [sha256_json(dataclasses.asdict(known.table))]
            files["known_public"] = [_sha256(known.path), known.column, *how]
    except OSError:
        return {}
    return {
        "version": VERSION,
        "path": _from_root(path),
        "source_sha256": source,
        "task_sha256": sha256_json(settings),
        "tokenizer": tokenizer.identity if tokenizer else None,
        "chat": sha256_json(frame.parts),
    } | files


def _sha256(path: Path) -> str | None:
    return sha256_file(path) if path.is_file() else None


def _from_root(path: Path) -> str:
    """The path relative to the repository where it lies in it: the same on every machine."""
    path = path.absolute()
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)


def main(argv: Sequence[str] | None = None) -> None:
    """Build one task's dataset."""
    parser = Parser("python -m data_prep.build", __doc__)
    parser.add_argument("task", metavar="TASK", help="a folder of swift_configs, or the path of a task.yaml")
    parser.add_argument("--csv", type=given_path, metavar="PATH", help="the table: CSV, TSV, JSONL, Excel or Parquet")
    parser.add_argument(
        "--model", type=given_path, metavar="DIR", help="a model's folder; its tokenizer counts lengths"
    )
    parser.add_argument(
        "--limit", type=given_number(ROWS), metavar="N", help="at most N train, 4N test and N//4 val rows"
    )
    parser.add_argument("--out", type=given_path, metavar="DIR", help="default: dataset_jsonl/TASK")
    parser.add_argument("--prompt", metavar="NAME", help="one of the task's prompts")
    parser.add_argument(
        "--max-length", type=given_number(TOKENS), metavar="N", help="tokens of a prompt and its answer"
    )
    parser.add_argument(
        "--override", nargs="+", default=(), metavar="NAME", help="overrides of the task, see swift_configs"
    )
    parser.add_argument(
        "--template", metavar="NAME", help="ms-swift's name for the model's chat template; default: as its folder says"
    )
    options = parser.parse_args(argv)
    build(**vars(options))


if __name__ == "__main__":
    run_main(main)
