"""What came of labelling a table: how many rows got what, how often labels that are there agree, and drift."""

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from data_prep.chat.parts import as_read
from eval.scoring.significance import wilson
from serve.classifier import Classifier
from serve.drift import SAMPLE, Drift, Tally, domain_auc, sampled
from serve.labelling import BELOW
from serve.shards import Shards
from serve.source_table import SourceTable
from workspace.bilingual import interval, number, percent
from workspace.errors import UserError


@dataclass
class Outcome:
    """Counts of rows: labels, reasons, texts cut. Of those with a right label, one number a row: the places of `gold`
    and `predicted` label in `names`, and whether it was `answered`, not left to a person."""

    names: tuple[str, ...]
    labels: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    cut: int = 0
    gold: "array[int]" = field(default_factory=lambda: array("h"))
    predicted: "array[int]" = field(default_factory=lambda: array("h"))
    answered: "array[int]" = field(default_factory=lambda: array("b"))
    drift: Drift | None = None
    has_labels: bool = False  # a column of the table is said to hold right labels

    @property
    def agreement(self) -> dict[str, Any] | None:
        """Rows with a right label that got it: their share with a 95 % Wilson interval, of all and of those that are
        not left to a person. None where no row has one."""
        if not self.gold:
            return None
        right = np.array(self.gold) == np.array(self.predicted)
        kept = right[np.array(self.answered) > 0]
        return {name: _agreement(int(one.sum()), len(one)) for name, one in (("all", right), ("not_abstained", kept))}

    def as_json(self) -> dict[str, Any]:
        """For the manifest beside the labelled table."""
        return {
            "rows": self.rows,
            "labels": dict(self.labels),
            "reasons": dict(self.reasons),
            "cut": self.cut,
            "agreement": self.agreement,
            "drift": self.drift.as_json() if self.drift else None,
        }

    def lines(self) -> list[str]:
        """For the terminal."""
        total = sum(self.labels.values())
        shares = ", ".join(f"{label} {percent(count / total)}" for label, count in self.labels.most_common(20))
        told = [
            f"{number(self.rows)} rows: {number(total)} labelled ({shares})" if total else "no row could be labelled"
        ]
        told += [f"{number(count)} rows {reason.replace('_', ' ')}" for reason, count in sorted(self.reasons.items())]
        told += [f"{number(self.cut)} texts were cut to fit"] if self.cut else []
        if (found := self.agreement) is None and self.has_labels:
            told.append(f"no agreement: no cell of the label column is {' or '.join(self.names[:20])}, or a synonym")
        elif found is not None:
            every, kept = found["all"], found["not_abstained"]
            told.append(f"agreement with the table's labels {_share(every)}")
            if kept["n"] not in (0, every["n"]):
                told.append(f"agreement of the rows that are not left to a person {_share(kept)}")
        return told + ([self.drift.describe()] if self.drift else [])


def outcome_of(classifier: Classifier, source: SourceTable, shards: Shards) -> Outcome:
    """Read the parts once. Raises `UserError` where they are not as many rows as the table has."""
    found, expected = Outcome(classifier.file.labels), classifier.file.expected
    found.has_labels = source.label_at is not None
    tally = Tally(expected) if expected else None
    texts: list[str] = []
    step = max(1, source.rows // SAMPLE)
    for table in shards.tables():
        _count(found, table, tally)
        if classifier.finished:
            rows = np.arange(-found.rows % step, len(table), step)
            texts += source.texts(table.take(pa.array(rows, pa.int64())))
        found.rows += len(table)
    if found.rows != source.rows:
        raise UserError(f"{found.rows:,} rows were labelled of {source.rows:,}: run the same command again")
    if tally:
        found.drift = tally.drift(_domain(classifier, texts))
    return found


def _count(found: Outcome, table: pa.Table, tally: Tally | None) -> None:
    answers = table.select(["label", "confidence", "abstained", "reason", "characters", "cut", "gold"]).to_pylist()
    found.reasons.update(row["reason"] for row in answers if row["reason"])
    labelled = [row for row in answers if row["label"] is not None]
    found.labels.update(row["label"] for row in labelled)
    found.cut += sum(row["cut"] for row in labelled)
    judged = [row for row in labelled if row["gold"] is not None]
    found.gold.extend(found.names.index(row["gold"]) for row in judged)
    found.predicted.extend(found.names.index(row["label"]) for row in judged)
    found.answered.extend(row["reason"] != BELOW for row in judged)
    if tally:
        tally.add(*([row[name] for row in labelled] for name in ("label", "confidence", "characters")))


def _domain(classifier: Classifier, texts: Sequence[str]) -> float | None:
    """How well the table's texts are told from those that the run was tuned and chosen on."""
    finished, columns = classifier.finished, len(classifier.file.prompt.columns)
    if finished is None:
        return None
    known = [*(finished.train.columns or finished.train.reviews), *(finished.val.columns or finished.val.reviews)]
    pair = ([as_read(text, columns) for text in sampled(side)] for side in (known, texts))
    return domain_auc(*pair)


def _agreement(right: int, n: int) -> dict[str, Any]:
    return {"n": n, "share": right / n if n else None, "interval": wilson(right, n)}


def _share(found: dict[str, Any]) -> str:
    return f"{percent(found['share'])} (95% interval {interval(found['interval'])}, n = {number(found['n'])})"
