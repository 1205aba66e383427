"""What metrics.json holds, as its writer and its readers see it; metrics.schema.json says what each key means."""

from collections.abc import Mapping
from typing import Any, TypedDict

Record = dict[str, Any]  # a dataclass of eval.scoring as `asdict` gives it


class Metrics(TypedDict):
    """metrics.json. The names of the keys are of the first version and are kept for those who read the file."""

    schema_version: int
    run: Record  # what ran: recipe, model, machine, seconds by stage
    notice: dict[str, str] | None
    head: bool
    verdict: Record  # eval.scoring.verdict.Verdict
    labels: list[str]
    counts: Record  # rows by split and label, of the manifest
    test: Record  # eval.scoring.ledger.Looks and the rows' identity
    readings: dict[str, Record]  # eval.scoring.metrics.Classification and what goes with it
    gain: dict[str, Record] | None  # eval.scoring.metrics.Gain by metric
    comparisons: list[Record]  # eval.scoring.significance.Comparison of readings a and b
    slices: list[Record]  # eval.scoring.slices.Slice
    disputed: Record | None  # how many label issues, and who judged
    injection: Mapping[str, Any] | None
    curves: Record | None  # eval.scoring.curves.Curves
    selective: Record | None
    parity: list[Record]  # eval.scoring.consistency.Check
