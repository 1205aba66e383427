"""Look at a table and write its task.yaml: how it is read, columns, label words and prompt, to be changed at will.

Run as: bash run_sft.sh init TABLE [--text COLUMN ...] [--label COLUMN] [--table KEY=VALUE ...] [--out DIR]
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import yaml

from data_prep.proposal.columns import Chosen, choose_columns
from data_prep.proposal.labels import LISTED, ProposedLabels, propose_labels
from data_prep.proposal.task_file import language_of, prompts_of, slug, task_text
from data_prep.settings import replaced
from data_prep.table.checking import visible_lengths
from data_prep.table.delimited import Noticed
from data_prep.table.layout import NAMES
from data_prep.table.look import Look, look_at
from data_prep.table.reading import read_table
from data_prep.table.table_settings import Columns, TableSettings
from data_prep.task import load_task, word_for
from workspace.command_line import Parser, given_path
from workspace.errors import UserError, nearest, run_main
from workspace.files import write_text
from workspace.paths import CONFIGS, ROOT, shown

SAMPLE = 2000  # rows whose language is looked at
FEW = 500  # rows, below which a test split says little


class Proposal(NamedTuple):
    """What was taken from a table; `frame` has all its columns, as text."""

    look: Look
    frame: pd.DataFrame
    chosen: Chosen
    labels: ProposedLabels
    language: str
    odd: tuple[str, ...]


def propose(table: Path, text: Sequence[str] = (), label: str | None = None, keys: Sequence[str] = ()) -> Proposal:
    """What each column of the table is and what its labels are called; `keys` say how it is read, as `header=false`.

    Raises UserError, with the choices, for what the table does not tell, and for one that cannot be read.
    """
    try:
        look = look_at(table, given_settings(keys))
    except UserError as error:
        # The sentence names the key in a task, which is not written yet.
        here = "; for init: `--table KEY=VALUE`" if "`table: {" in str(error) else ""
        raise UserError(f"{error}{here}") from None
    frame, odd = _every_column(look)
    chosen = choose_columns(frame, text, label)
    # Once more as prep will read it: what prep would refuse is told before the task is written.
    columns = Columns(text=chosen.text, label=chosen.label, id=chosen.id)
    odd += read_table(table, columns, TableSettings(**look.keys)).warnings
    language = language_of([value for name in chosen.text for value in frame[name].head(SAMPLE)])
    labels = propose_labels(frame[chosen.label], chosen.label, language)
    return Proposal(look, frame, chosen, labels, language, tuple(dict.fromkeys((*odd, *labels.odd))))


def given_settings(keys: Sequence[str]) -> TableSettings:
    """The keys of `table:` as they are given on the command line."""
    values = {}
    for word in keys:
        key, equals, value = word.partition("=")
        known = [field.name for field in dataclasses.fields(TableSettings)]
        if not equals or key not in known:
            raise UserError(
                f"--table is {word!r}, expected KEY=VALUE with one of {', '.join(known)}{nearest(key, known)}"
            )
        values[key] = yaml.safe_load(value) if value in ("true", "false") or value.isdigit() else value
    return replaced(TableSettings(), values, lambda key: f"--table {key}")


def _every_column(look: Look) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """All columns that have a name of their own, or a number, and what was noticed."""
    names: list[str | int] = [name if look.header else int(name) for name in look.names]
    once = [name for name in names if name != "" and names.count(name) == 1]
    noticed = Noticed()
    places = [f"column {at}" for at in range(len(once))]
    frame = look.frame(once, places, noticed)[places]
    frame.columns = pd.Index(once)
    twice = sorted({str(name) for name in names if name != "" and names.count(name) > 1})
    odd = [f"the column {name} is in the header twice and is left out: rename one of them" for name in twice]
    return frame, (*odd, *look.oddities, *noticed.warnings)


def init(
    table: Path,
    name: str | None = None,
    text: Sequence[str] = (),
    label: str | None = None,
    keys: Sequence[str] = (),
    out: Path | None = None,
) -> Path:
    """Write the task's file, print what was taken, and return the file's path.

    Raises UserError as `propose` does, and where the task's folder has a task.yaml already.
    """
    table = Path(table).absolute()
    name = name or (slug(out) if out else slug(table))
    path = (out or CONFIGS / name) / "task.yaml"
    if path.exists():
        raise UserError(
            f"{shown(path)} is there already: run it with `bash run_sft.sh {word_for(path)}`, change it by hand, or "
            "give this one another --name"
        )
    found = propose(table, text, label, keys)
    csv = table.relative_to(ROOT).as_posix() if table.is_relative_to(ROOT) else str(table)
    written = task_text(name, word_for(path), csv, found.look.keys, found.chosen, found.labels, found.language)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, written)
    try:
        load_task(path)
    except UserError:
        path.unlink()
        raise
    print("\n".join(f"init: {line}" for line in (*summary(found), f"written to {shown(path)}")), flush=True)
    return path


def summary(found: Proposal) -> list[str]:
    """What was taken, and why: a line each."""
    look, frame, chosen, labels = found.look, found.frame, found.chosen, found.labels
    how = [look.format, f"{len(frame):,} rows", f"{len(look.names)} columns"]
    if look.encoding:
        how.append(look.encoding.name)
    if look.layout:
        how.append(f"between fields {NAMES.get(look.layout.delimiter, repr(look.layout.delimiter))}")
    how.append("with a header" if look.header else "without a header: columns have numbers")
    classes = [
        f"{value} -> {word} {labels.rows[value]:,}" if value != word else f"{word} {labels.rows[value]:,}"
        for value, word in labels.labels.items()
        if word is not None
    ]
    more = f", and {len(classes) - LISTED} more" if len(classes) > LISTED else ""
    lengths = np.sum([visible_lengths(frame[name]) for name in chosen.text], axis=0)
    language = "Chinese" if found.language == "zh" else "English"
    names = {"text": " + ".join(map(str, chosen.text)), "label": chosen.label, "id": chosen.id, "split": chosen.split}
    lines = {role: f"{name} ({chosen.reasons[role]})" for role, name in names.items() if name is not None}
    lines["classes"] = f"{len(labels.words)}: {', '.join(classes[:LISTED])}{more} ({labels.reason})"
    several = len(prompts_of(chosen, labels.words, found.language)) > 1
    named = "`plain` without the labels or `named` with them" if several else "which names the labels"
    lines["language"] = f"{language}, and so is the prompt, {named}"
    lines["lengths"] = f"{int(np.median(lengths)):,} characters a text (median), the longest {int(lengths.max()):,}"
    odd = list(found.odd)
    if len(frame) < FEW:
        odd.append(f"{len(frame):,} rows are few: `--cv 5` trains five times, and each row is tested once")
    told = [f"{name:<9}{line}" for name, line in lines.items()] + [f"{'odd':<9}{line}" for line in odd]
    return [f"{shown(look.path)}: {', '.join(how)}", *told]


def main(argv: Sequence[str] | None = None) -> None:
    """Write one table's task."""
    parser = Parser("bash run_sft.sh init", __doc__)
    parser.add_argument("table", type=given_path, metavar="TABLE", help="CSV, TSV, JSON, JSON lines, Excel or Parquet")
    parser.add_argument("--name", metavar="NAME", help="the task's name; default: the table's, without its ending")
    parser.add_argument("--text", nargs="+", default=(), metavar="COLUMN", help="the column of texts, or several")
    parser.add_argument("--label", metavar="COLUMN", help="the column of labels")
    parser.add_argument(
        "--table",
        dest="keys",
        nargs="+",
        default=(),
        metavar="KEY=VALUE",
        help="how it is read, as `table:` in a task: encoding=gb18030, delimiter=tab, header=false, sheet=all, ...",
    )
    parser.add_argument("--out", type=given_path, metavar="DIR", help="the task's folder; default: swift_configs/NAME")
    options = parser.parse_args(argv)
    init(**vars(options))


if __name__ == "__main__":
    run_main(main)
