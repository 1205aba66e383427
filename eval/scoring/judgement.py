"""What a run's readings are judged to show: which of them are compared, the verdict, and the decision between all."""

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from eval.scoring.baseline_records import ANSWERS
from eval.scoring.decision import Candidate, Decision, cost_of, decide
from eval.scoring.intervals import Interval, Metric, metric_intervals
from eval.scoring.metrics import Classification, classify, encode
from eval.scoring.predictions import BIAS_FREE, Predictions, RunPredictions
from eval.scoring.reading_names import primary, primary_pair
from eval.scoring.responses import Split
from eval.scoring.significance import MARGIN, Comparison, balanced_accuracy_interval, compare
from eval.scoring.verdict import NOTHING_TO_COMPARE, Contrast, Guessing, baseline_verdict, verdict
from workspace.bilingual import Text

Comparisons = dict[tuple[str, str], Comparison]  # by the names of the two readings, the second against the first


def compare_all(
    found: RunPredictions,
    test: Split,
    labels: Sequence[str],
    metric: Metric = "macro_f1",
    margin: float = MARGIN,
    off: Container[str] = (),
) -> Comparisons:
    """The comparisons of a run's readings, each pair on all test rows where both answered them, else on the part.

    A reading of the part that is shown to be better than the highest of all rows is one that all are weighed against.
    `off`: readings that are not advised, so that none is weighed against them.
    """
    weighed = {name: one for name, one in found.test.items() if name not in off}
    highest = _highest(weighed, test.gold, labels, metric)
    of_part = (found.asked, found.part.gold, labels, metric, margin)
    comparisons = compare_predictions(*of_part, highest)
    if found.test is not found.asked:
        comparisons |= compare_predictions(found.test, test.gold, labels, metric, margin, highest)
        if ahead := _ahead(found, comparisons, highest):
            best = _highest({name: found.asked[name] for name in ahead}, found.part.gold, labels, metric)
            comparisons = compare_predictions(*of_part, best) | comparisons
    return comparisons


def compare_predictions(
    predictions: Mapping[str, Predictions],
    gold: Sequence[str],
    labels: Sequence[str],
    metric: Metric = "macro_f1",
    margin: float = MARGIN,
    highest: str | None = None,
) -> Comparisons:
    """Before against after in each reading, what a user would take instead against the tuned model's readings, and
    every reading against the one with the highest primary metric, which the decision weighs: `highest`, where it is
    known from more rows."""
    tuned = primary(predictions)
    pairs = [(f"before_{kind}", f"after_{kind}") for kind in ("generate", "score", "score_threshold")]
    pairs += [("before_score_calibrated", "after_score"), ("after_score", "stack"), ("tfidf_linear", "stack")]
    pairs += [(other, tuned) for other in ("before_few_shot", "majority", *ANSWERS) if tuned]
    pairs += [("tfidf_linear", f"after_{kind}") for kind in ("score", "score_threshold")]
    highest = highest or _highest(predictions, gold, labels, metric)
    pairs += [(name, highest) for name in predictions if highest]
    return {
        (a, b): compare(predictions[a].predicted, predictions[b].predicted, gold, labels, metric=metric, margin=margin)
        for a, b in dict.fromkeys(pairs)
        if a in predictions and b in predictions and a != b
    }


def judge(
    found: RunPredictions, test: Split, comparisons: Comparisons, labels: Sequence[str], head: bool
) -> dict[str, Any]:
    """The verdict on a run as metrics.json has it: whether tuning helped, and under `baseline` the tuned model against
    the linear baseline, None without either; `head` says that what was tuned is a classification head."""

    def contrast(a: str, b: str) -> Contrast | None:
        if (comparison := comparisons.get((a, b))) is None:
            return None
        every = {a, b} <= found.test.keys()
        rows, predictions = (test, found.test) if every else (found.part, found.asked)
        both = (predictions[name] for name in (a, b))
        first, second = (classify(rows.gold, one.predicted, labels, one.strict) for one in both)
        return Contrast(first, second, comparison)

    pair, tuned = primary_pair(found.asked), primary(found.test)
    sentence = NOTHING_TO_COMPARE
    if pair and (main := contrast(*pair)):
        gold = found.part.gold
        interval = balanced_accuracy_interval(found.asked[pair[1]].predicted, gold, labels)
        guessing = Guessing(main.b.balanced_accuracy, interval, 1 / len(set(gold)))
        sentence = verdict(main, pair[1] == "after_score", guessing, contrast(*BIAS_FREE), head)
    baseline = contrast("tfidf_linear", tuned) if tuned and tuned.startswith("after") else None
    return asdict(sentence) | {"baseline": asdict(baseline_verdict(baseline)) if baseline else None}


def judge_all(
    found: RunPredictions,
    test: Split,
    scores: Mapping[str, Classification],
    comparisons: Comparisons,
    labels: Sequence[str],
    names: Mapping[str, Text],
    metric: Metric = "macro_f1",
    costs: Mapping[str, int] = MappingProxyType({}),
    off: Container[str] = (),
) -> tuple[Decision, dict[str, dict[Metric, Interval] | None]]:
    """The decision between all readings, and each one's intervals of every metric (None: too few rows).

    costs: of readings for which `cost_of` does not say it; off: readings that validation rows spoke against, which are
    not advised.
    """
    intervals, candidates = dict[str, dict[Metric, Interval] | None](), []
    for name, one in found.every.items():
        gold = found.rows(name, test).gold
        rows = np.stack([encode(gold, labels), encode(one.predicted, labels)], axis=1)
        intervals[name] = own = metric_intervals(rows, len(labels))
        guessing = 1 / len(set(gold))
        low, _ = own["balanced_accuracy"] if own else balanced_accuracy_interval(one.predicted, gold, labels)
        if name not in off:
            value, interval = getattr(scores[name], metric), own[metric] if own else None
            candidates.append(Candidate(name, costs.get(name, cost_of(name)), value, interval, low > guessing))
    top = max((one for one in candidates if one.name in found.test), key=lambda one: one.value, default=None)
    placed = [_placed(one, top, comparisons) for one in candidates if one.name not in found.test]
    candidates = [one for one in candidates if one.name in found.test] + [one for one in placed if one]
    codes, p = ({pair: getattr(one, key) for pair, one in comparisons.items()} for key in ("code", "p"))
    return decide(candidates, codes, p, names, metric), intervals


def _highest(predictions: Mapping[str, Predictions], gold: Sequence[str], labels: Sequence[str], metric: Metric) -> str:
    """The reading with the highest metric; none, "", without rows or readings."""
    reached = {name: getattr(classify(gold, one.predicted, labels), metric) for name, one in predictions.items()}
    return max(reached, key=reached.__getitem__) if len(gold) and reached else ""


def _ahead(found: RunPredictions, comparisons: Comparisons, highest: str) -> list[str]:
    """The readings of the part alone that are shown to be better there than the `highest` of all rows."""
    against = {name: comparisons.get((name, highest)) for name in found.asked.keys() - found.test.keys()}
    return [name for name, one in against.items() if one and one.code == "worse"]


def _placed(one: Candidate, top: Candidate | None, comparisons: Comparisons) -> Candidate | None:
    """A reading of the part among those of all rows, by its difference from the highest of them, `top`, on the rows
    that both answered: above it only where that is shown. None for one that is not shown to be better and costs as
    much: there is no reason to weigh it."""
    if top is None:
        return one
    against = comparisons.get((one.name, top.name))
    if against and against.code == "worse":
        return replace(one, value=top.value - against.difference, figure=one.value)
    if against and one.cost < top.cost:
        below = math.nextafter(top.value, -math.inf)
        return replace(one, value=min(top.value - against.difference, below), figure=one.value)
    return None
