"""Label a table: its own columns in their order, then the label, its probability, and what is left to a person.

Run as: bash run_sft.sh predict RUN_OR_BUNDLE TABLE [--out FILE]

The table may be of any kind that prep reads, of any size, with labels or without. Interrupted, the same command goes on
after the last part that was written; what the labels were made from is in FILE.manifest.json.
"""

import os
import time
from argparse import ArgumentTypeError, Namespace
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import get_args

from pydantic import ConfigDict

from data_prep.table.table_settings import Column
from serve.bundle import is_bundle
from serve.classifier import Classifier
from serve.classifier_file import Engine, Reading, path_in
from serve.comparison import against_earlier
from serve.labelled_table import WRITERS, Columns, ending, write_labelled
from serve.labelling import HIDDEN, label_rows, labels_of
from serve.outcome import Outcome, outcome_of
from serve.shards import Made, Shards, as_options, check_same
from serve.source_table import SourceTable, open_table
from workspace.command_line import Parser, given_model, given_path
from workspace.errors import UserError, run_main
from workspace.files import sha256_file, sha256_json, write_json
from workspace.paths import shown
from workspace.progress import progress
from workspace.records import Json, read

EXIT_DRIFT = 3
ENGINES = get_args(Engine)
FEW = 200  # rows below which no progress is shown


@dataclass(frozen=True)
class Manifest:
    """FILE.manifest.json: what the labelled table was made from, its hash, and what came of it."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    made: Made
    sha256: str
    outcome: dict[str, Json]
    seconds: float


def main(argv: Sequence[str] | None = None) -> int:
    """Label a table. Returns 3 where --fail-on-drift was given and the table is of another population."""
    options = _parser().parse_args(argv)
    out = options.out or _beside(options.table)
    ending(out)
    if out == options.table:
        raise UserError(f"--out {shown(out)} is the table itself: name another file")
    classifier = Classifier.load(options.classifier, options.reading, options.base, options.engine)
    source = _source(classifier, options)
    for warning in source.warnings:
        print(f"predict: {warning}", flush=True)
    made = _made(classifier, source, options)
    manifest = out.with_name(f"{out.name}.manifest.json")
    if _is_done(out, manifest, made):
        print(f"predict: {shown(out)} is up to date", flush=True)
        return _status(options, read(manifest, Manifest, f"remove {shown(manifest)}").outcome)
    parts = out.with_name(f"{out.name}.parts")
    with Shards.opened(parts, made) as shards:
        begin, done = time.monotonic(), shards.done
        if done:
            print(f"predict: going on after {done:,} of {source.rows:,} rows", flush=True)
        with progress(source.rows, "predict", done=done, few=FEW) as bar:
            label_rows(classifier, source, shards, options.accept, bar.update)
        seconds = time.monotonic() - begin
        outcome = outcome_of(classifier, source, shards)
        told = outcome.as_json()
        lines = [*outcome.lines(), *_unpromised(classifier, options)]
        if options.compare:
            sentence, told["comparison"] = _compared(classifier, source, options, parts, outcome, made)
            lines.append(sentence)
        columns = Columns(source.names, classifier.file.labels, source.is_json)
        whole = parts / f"whole{ending(out)}"
        write_labelled(whole, columns, (table.drop_columns(list(HIDDEN)) for table in shards.tables()))
        # The manifest first: whoever is cut off here finds no table, and not one that passes for another's.
        write_json(manifest, asdict(Manifest(made, sha256_file(whole), told, round(seconds, 3))))
        os.replace(whole, out)
        shards.remove()
    rate = (source.rows - done) / max(seconds, 1e-9)
    print("\n".join(f"predict: {line}" for line in lines), flush=True)
    print(f"predict: {shown(out)}, {rate:,.0f} rows a second", flush=True)
    return _status(options, told)


def _source(classifier: Classifier, options: Namespace) -> SourceTable:
    """The table, its texts found under the classifier's names for them or those that were given."""
    wanted = classifier.file.prompt.columns
    texts: Sequence[Column] = options.columns or wanted
    if len(texts) != len(wanted):
        raise UserError(f"--columns names {len(texts)} columns, and the classifier reads {', '.join(wanted)}")
    task = classifier.finished.task if classifier.finished else None
    if task and not options.columns:
        texts = task.columns.text
    settings = None
    if options.keys:
        from data_prep.init import given_settings  # seldom needed

        settings = given_settings(options.keys)
    return open_table(options.table, texts, task, options.label, settings)


def _made(classifier: Classifier, source: SourceTable, options: Namespace) -> Made:
    return Made(
        classifier=classifier.identity,
        prompt=_prompt_sha256(classifier),
        table=sha256_file(source.look.path),
        options=as_options(
            accept=options.accept,
            texts=source.text_at,
            label=source.label_at,
            compare=_state_of(options.compare) if options.compare else None,
            table=options.keys or None,
            engine=None if options.engine == ENGINES[0] else options.engine,
        ),
        rows=source.rows,
    )


def _unpromised(classifier: Classifier, options: Namespace) -> list[str]:
    """What the report says, too, where no row is left to a person because no threshold was found."""
    chosen = classifier.file.thresholds
    if options.accept is not None or classifier.file.costs or chosen.selective is not None or chosen.target is None:
        return []
    return [
        f"no confidence was found from which on {chosen.target:.0%} of the labels are right: have all of them checked, "
        "or set --accept"
    ]


def _state_of(classifier: Path) -> list[str]:
    """A run or bundle as it is now: its folder, and the hash of the file that changes with what it answers."""
    file = path_in(classifier) if is_bundle(classifier) else classifier / "metrics.json"
    return [str(classifier), sha256_file(file) if file.is_file() else ""]


def _prompt_sha256(classifier: Classifier) -> str:
    return sha256_json(asdict(classifier.file.prompt))


def _is_done(out: Path, manifest: Path, made: Made) -> bool:
    """Whether the file is there as it would be made. Raises `UserError` where it is another's, or was edited."""
    if not out.exists():
        return False
    if not manifest.is_file():
        raise UserError(f"{shown(out)} is there already, and was not made here: name another --out")
    kept = read(manifest, Manifest, f"remove {shown(manifest)}")
    check_same(kept.made, made, out)
    if sha256_file(out) != kept.sha256:
        raise UserError(f"{shown(out)} was changed since it was made: name another --out, or remove it to have it anew")
    return True


def _compared(
    classifier: Classifier, source: SourceTable, options: Namespace, parts: Path, outcome: Outcome, made: Made
) -> tuple[str, dict[str, Json]]:
    """The same rows by the earlier classifier, in parts of their own, and the verdict."""
    earlier = Classifier.load(options.compare, base=options.base)  # vLLM would want the memory that it has taken
    if set(earlier.file.labels) != set(classifier.file.labels):
        raise UserError(f"{shown(options.compare)} has other labels: {', '.join(earlier.file.labels)}")
    columns, others = classifier.file.prompt.columns, earlier.file.prompt.columns
    if len(others) != len(columns) or (others != columns and set(others) == set(columns)):
        raise UserError(f"{shown(options.compare)} reads other columns, or in another order: {', '.join(others)}")
    by_earlier = replace(made, classifier=earlier.identity, prompt=_prompt_sha256(earlier))
    with Shards.opened(parts.with_name(f"{parts.name}.earlier"), by_earlier) as shards:
        with progress(source.rows, "predict: the earlier classifier", done=shards.done, few=FEW) as bar:
            label_rows(earlier, source, shards, options.accept, bar.update, labels_of(classifier))
        found = outcome_of(earlier, source, shards)
        verdict = against_earlier(outcome, found, classifier.file.measured.metric)
        shards.remove()
    return verdict


def _status(options: Namespace, outcome: dict[str, Json]) -> int:
    drift = outcome.get("drift") or {}
    return EXIT_DRIFT if options.fail_on_drift and drift.get("drifted") else 0


def _beside(table: Path) -> Path:
    """The default name, beside the table."""
    suffix = table.suffix.lower() if table.suffix.lower() in WRITERS else ".csv"
    return table.with_name(f"{table.name.split('.')[0]}.labelled{suffix}")


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ArgumentTypeError(f"is {text}, expected a probability from 0 to 1, such as 0.95")
    return value


def _parser() -> Parser:
    parser = Parser("bash run_sft.sh predict", __doc__)
    parser.add_argument("classifier", type=given_path, metavar="RUN_OR_BUNDLE", help="a finished run, or a bundle")
    parser.add_argument("table", type=given_path, metavar="TABLE", help="CSV, TSV, JSONL, Excel or Parquet")
    parser.add_argument(
        "--out",
        type=given_path,
        metavar="FILE",
        help=".csv, .parquet, .jsonl or .xlsx; default: TABLE.labelled.* beside TABLE",
    )
    parser.add_argument(
        "--columns", nargs="+", metavar="NAME", help="the table's columns of texts, where they are called otherwise"
    )
    parser.add_argument(
        "--table", dest="keys", nargs="+", metavar="KEY=VALUE",
        help="how it is read, as `table:` in a task: header=false, sheet=all, encoding=gb18030, ...",
    )  # fmt: skip
    parser.add_argument("--label", metavar="NAME", help="the column with right labels, to compare with")
    parser.add_argument(
        "--accept", type=_share, metavar="P", help="leave rows below this probability to a person; default: as measured"
    )
    parser.add_argument("--reading", choices=get_args(Reading), help="of a run; default: as advised")
    parser.add_argument(
        "--base", type=given_model, metavar="MODEL", help="the base model, where a bundle holds an adapter alone"
    )
    parser.add_argument(
        "--engine", choices=ENGINES, default=ENGINES[0], help="what runs a tuned model, vllm on a GPU; %(default)s"
    )
    parser.add_argument("--compare", type=given_path, metavar="OLD", help="an earlier run or bundle with these labels")
    parser.add_argument("--fail-on-drift", action="store_true", help="exit with 3 where the texts are of another kind")
    return parser


if __name__ == "__main__":
    run_main(main)
