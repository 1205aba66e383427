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
class LabelIssues:
    """Ids of the rows counted as label errors, and the model that judged: "linear" or "tuned"."""

    ids: frozenset[str]
    judge: str


def load_label_issues(dataset: Path, test: Split) -> LabelIssues | None:
    """The label issues among `test`; None where `dataset` holds no audit of the test split, or one of other rows, which
    is said in one line."""
    path = dataset / FILE
    if not path.is_file():
        return None
    gold = dict(zip(test.ids, test.gold, strict=True))
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream, strict=True))
        fits = all(gold.get(row["row"]) == row["given"].removeprefix("'") for row in rows)
        issues = {row["row"] for row in rows if row["issue"] == PROBABLE}
        judges = {row["judge"] for row in rows}
    except (OSError, ValueError, KeyError, csv.Error):
        fits, issues, judges = False, set(), set()
    if not fits or len(judges) > 1:
        print(f"report: {shown(path)} is of other rows and was not used: run `python -m data_prep.audit` again")
        return None
    return LabelIssues(frozenset(issues), next(iter(judges), "linear"))
