"""Test rows whose gold label the audit of labels disputes: the report shows the metrics with and without them.

`python -m data_prep.audit DATASET --split test` writes the list; no label is changed by it. The rows are chosen by a
model, so a reading that resembles that model (`judge`) gains most when they are left out.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

from eval.scoring.responses import Split
from workspace.paths import shown

FILE = "audit-test.csv"
PROBABLE = "probable"


@dataclass(frozen=True)
class Disputed:
    """Ids of the rows counted as label errors, and the model that judged: "linear" or "tuned"."""

    ids: frozenset[str]
    judge: str


def load_disputed(dataset: Path, test: Split) -> Disputed | None:
    """The disputed rows among `test`; None where no audit of the test split lies in `dataset`, or one of other rows,
    which is said in one line."""
    path = dataset / FILE
    if not path.is_file():
        return None
    gold = dict(zip(test.ids, test.gold, strict=True))
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream, strict=True))
        listed = {row["row"]: row["given"].removeprefix("'") for row in rows}
        ids = frozenset(row["row"] for row in rows if row["issue"] == PROBABLE)
        judges = {row["judge"] for row in rows}
    except (OSError, ValueError, KeyError, csv.Error):
        listed, ids, judges = {"": ""}, frozenset(), set()
    if any(gold.get(key) != given.removeprefix("'") for key, given in listed.items()) or len(judges) > 1:
        print(f"report: {shown(path)} is of other rows, and left aside: make it anew with `python -m data_prep.audit`")
        return None
    return Disputed(ids, next(iter(judges), "linear"))
