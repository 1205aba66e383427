"""A classifier against an earlier one on the same labelled rows: the paired verdict, as a report gives it."""

from dataclasses import asdict
from typing import Any, cast

from eval.scoring.intervals import Metric
from eval.scoring.metrics import classify
from eval.scoring.significance import Code, compare
from eval.scoring.verdict import evidence
from serve.outcome import Outcome
from workspace.bilingual import number, percent
from workspace.errors import UserError

OUTCOMES: dict[Code, str] = {
    "better": "this classifier beats the earlier one",
    "worse": "this classifier is worse than the earlier one",
    "equivalent": "this classifier and the earlier one differ by less than the margin",
    "undecided": "it is not decided which of the two classifiers is better",
}


def against_earlier(now: Outcome, earlier: Outcome, metric: str) -> tuple[str, dict[str, Any]]:
    """One sentence, and the figures of it. Raises `UserError` where no row has a right label."""
    labels = now.names
    gold, before, after = (
        [one.names[code] for code in codes]
        for one, codes in ((now, now.gold), (earlier, earlier.predicted), (now, now.predicted))
    )
    if not gold:
        raise UserError("--compare needs a table with right labels: name their column with --label COLUMN")
    found = compare(before, after, gold, labels, metric=cast(Metric, metric))
    was, became = (percent(classify(gold, one, labels).accuracy) for one in (before, after))
    told = f"{OUTCOMES[found.code]}: on {number(found.n)} rows accuracy is {became} against {was}"
    return f"{told}, {evidence(found).en}", asdict(found)
