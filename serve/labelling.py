"""A table's rows through a classifier, part by part: what each gets, and why some get no label."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from data_prep.chat.parts import SEPARATOR, as_read
from data_prep.label_words import labels_by_word, normal, strip_marks
from data_prep.table.checking import visible_lengths
from data_prep.task import canonical_value
from serve.classifier import Classifier
from serve.classifier_file import DIGITS
from serve.shards import BATCH, Shards
from serve.source_table import Piece, SourceTable

SHARD, CPU_SHARD = 50_000, 2_000  # rows of a part; of a language model on a CPU some minutes' work
HIDDEN = ("characters", "cut", "gold")  # columns of a part that are in no labelled table
BELOW = "below_threshold"  # the reason of a row that has a label and is left to a person


def label_rows(
    classifier: Classifier,
    source: SourceTable,
    shards: Shards,
    accept: float | None,
    advance: Callable[[int], object],
    gold_of: Callable[[str], str | None] | None = None,
) -> None:
    """Label the rows that `shards` has not yet; beside the part that grows, BATCH rows are held at a time.

    `gold_of`: from a cell of the label column to the label word, by default as the classifier's task has it.
    """
    start, gold_of = shards.done, gold_of or labels_of(classifier)
    size = CPU_SHARD if classifier.on_cpu else SHARD
    part: list[pa.Table] = []
    for piece in source.pieces(start, min(size, BATCH)):
        part.append(labelled(classifier, piece, accept, gold_of, advance))
        if sum(map(len, part)) >= size:
            start, part = _added(shards, start, part), []
    if part:
        _added(shards, start, part)


def _added(shards: Shards, start: int, part: list[pa.Table]) -> int:
    """Write a part; returns the row after its last."""
    whole = pa.concat_tables(part)
    shards.add(start, whole)
    return start + len(whole)


def labelled(
    classifier: Classifier,
    piece: Piece,
    accept: float | None,
    gold_of: Callable[[str], str | None],
    advance: Callable[[int], object],
) -> pa.Table:
    """The columns of the table, then label, confidence, a probability a label, abstained and reason, then HIDDEN.

    A row that cannot be used has its reason and nothing else; one that is left to a person has its label, too.
    """
    file = classifier.file
    reasons = _reasons(piece, len(file.prompt.columns))
    usable = [at for at, reason in enumerate(reasons) if reason is None]
    advance(len(reasons) - len(usable))
    texts = [piece.texts[at] for at in usable]
    scored = classifier.score_texts(texts, advance)
    decided = classifier.decide(scored.probabilities, accept)
    for at, abstained in zip(usable, decided.abstained.tolist(), strict=True):
        reasons[at] = BELOW if abstained else None
    lengths = [len(text.replace(SEPARATOR, "")) for text in texts]
    gold = [gold_of(value) for value in piece.gold] if piece.gold is not None else [None] * len(reasons)
    probabilities = scored.probabilities.round(DIGITS)
    columns: list[tuple[str, Any, pa.DataType]] = [
        ("label", _spread(decided.labels.tolist(), usable, len(reasons)), pa.string()),
        ("confidence", _spread(decided.confidence.round(DIGITS).tolist(), usable, len(reasons)), pa.float64()),
        *(
            (f"p_{label}", _spread(probabilities[:, at].tolist(), usable, len(reasons)), pa.float64())
            for at, label in enumerate(file.labels)
        ),
        ("abstained", [bool(reason) for reason in reasons], pa.bool_()),
        ("reason", [reason or "" for reason in reasons], pa.string()),
        ("characters", _spread(lengths, usable, len(reasons)), pa.int64()),
        ("cut", _spread(scored.cut.tolist(), usable, len(reasons)), pa.bool_()),
        ("gold", gold, pa.string()),
    ]
    table = piece.columns
    for name, values, kind in columns:
        table = table.append_column(name, pa.array(values, kind))
    return table


def labels_of(classifier: Classifier) -> Callable[[str], str | None]:
    """From a cell of a label column to the label word: by the run's task, else by label words and their synonyms."""
    file = classifier.file
    words = labels_by_word(file.labels, file.synonyms)
    values = classifier.finished.task.labels if classifier.finished else {}
    known: dict[str, str | None] = {}

    def label_of(cell: str) -> str | None:
        if cell not in known and len(known) < SHARD:
            known[cell] = values.get(canonical_value(cell)) or words.get(strip_marks(normal(cell)))
        return known.get(cell)

    return label_of


def _reasons(piece: Piece, columns: int) -> list[str | None]:
    """Why each row cannot be used, as prep calls it; None where it can."""
    visible = visible_lengths(pd.Series([as_read(text, columns) for text in piece.texts], dtype="str"))
    found = np.select([np.array(piece.undecodable, bool), visible == 0], ["undecodable", "empty"], default="")
    return [reason or None for reason in found.tolist()]


def _spread(values: Sequence[Any], places: Sequence[int], rows: int) -> list[Any]:
    """`values` at their `places` among so many rows, None elsewhere."""
    found: list[Any] = [None] * rows
    for at, value in zip(places, values, strict=True):
        found[at] = value
    return found
