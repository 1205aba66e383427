"""What the report says of random records: nothing is advised that another reading on the screen dominates, and nothing
is called equal, better or worse that its interval does not show."""

import random
from dataclasses import asdict
from itertools import permutations

import pytest

from eval.reporting.first_screen import first_screen
from eval.reporting.gain_wording import gain_finding
from eval.scoring.decision import Candidate, cost_of, decide
from eval.scoring.metrics import classify
from eval.scoring.predictions import BIAS_FREE, LADDER
from eval.scoring.reading_names import READINGS
from eval.scoring.significance import ALPHA, Comparison, verdict_code
from eval.scoring.verdict import Contrast, Guessing, baseline_verdict, verdict

RECORDS = 5000
METRICS = ("macro_f1", "accuracy", "balanced_accuracy", "mcc")
EQUAL = ("less than the margin", "equivalent", "相当", "容许范围")
GOLD = ["x", "y"] * 10
CLASSIFIED = [classify(GOLD, [*GOLD[:right], *["x"] * (20 - right)], ("x", "y")) for right in range(0, 21, 4)]


def comparison(draw, metric, difference, margin):
    """One with any interval around its difference, or too few rows for one; its code by the report's own rule."""
    ci, p = None, draw.choice((0.0001, 0.02, 0.049, 0.05, 0.3, 1.0))
    if draw.random() < 0.8:
        below, above = (10 ** draw.uniform(-3.5, -0.5) for _ in range(2))
        ci = difference - below, difference + above
    return Comparison(
        n=draw.randint(40, 5000),
        fixed=draw.randint(0, 40),
        broken=draw.randint(0, 40),
        mcnemar_p=p,
        accuracy_difference=difference,
        accuracy_ci=ci or (difference - 0.1, difference + 0.1),
        macro_f1_difference=difference,
        macro_f1_ci=ci,
        metric=metric,
        difference=difference,
        ci=ci,
        randomisation_p=None if metric == "accuracy" else p,
        detectable=ci and (ci[1] - ci[0]) * 0.7,
        rows_needed=draw.randint(50, 10**6) if ci else None,
        code=verdict_code(ci, difference, margin, p if metric == "accuracy" or ci is None else None),
    )


def record(draw):
    """(readings, comparisons by pair, metric, margin)."""
    metric, margin = draw.choice(METRICS), draw.choice((0.005, 0.01, 0.03, 0.1))
    names, able, readings = [name for name in LADDER if draw.random() < 0.35], draw.random(), []
    middle, spread = draw.uniform(0.3, 0.9), draw.choice((0.002, 0.02, 0.1))
    for name in dict.fromkeys([*names, "tfidf_linear", *BIAS_FREE]):
        value, half = min(0.999, max(0.0, draw.gauss(middle, spread))), draw.uniform(0.001, 0.2)
        interval = (value - half, value + half) if draw.random() < 0.8 else None
        readings.append(Candidate(name, cost_of(name), value, interval, draw.random() < able))
    pairs = {(a.name, b.name): b.value - a.value for a, b in permutations(readings, 2)}
    return readings, {pair: comparison(draw, metric, by, margin) for pair, by in pairs.items()}, metric, margin


def claims_only_what_is_shown(texts, found, margin):
    """Equality rests on an interval within the margin."""
    if any(word in text for text in texts for word in EQUAL):
        assert found.ci and -margin < found.ci[0] and found.ci[1] < margin, (texts, found)


def shows(found, sign):
    """Whether the difference is shown to have that sign: by interval, with too few rows by the test."""
    low, high = found.ci or (found.difference, found.difference)
    return (low > 0 if sign > 0 else high < 0) and (found.ci is not None or found.p < ALPHA)


def check_decision(readings, comparisons, metric, margin):
    codes, p = ({pair: getattr(one, key) for pair, one in comparisons.items()} for key in ("code", "p"))
    told, by_name = decide(readings, codes, p, READINGS, metric), {one.name: one for one in readings}
    able = [one for one in readings if one.above_guessing]
    if told.advised is None:
        assert not able
    else:
        advised, best = by_name[told.advised], max(able, key=lambda one: one.value)
        assert advised.above_guessing
        assert not [one for one in able if one.cost <= advised.cost and one.value > advised.value]
        dearer = [one for one in able if one.cost > advised.cost]
        if best in dearer and best.value > advised.value:
            rest = comparisons[advised.name, best.name]
            assert not (shows(rest, 1) and rest.code == "better" and rest.p * len(dearer) < ALPHA)
        if "shown to be better" in told.en:
            assert shows(comparisons[told.weighed, told.advised], 1)
    weighed = comparisons.get((told.advised, told.weighed))
    if weighed or any(word in told.en + told.zh for word in EQUAL):
        claims_only_what_is_shown((told.en, told.zh), weighed, margin)
    shown = {
        one.name: {"n": 200, metric: one.value, "ms_per_review": 1.0, "train_seconds": None}
        | {"intervals": one.interval and {metric: one.interval}}
        for one in readings
    }
    metrics = {"decision": asdict(told), "readings": shown, "primary_metric": metric, "test": {"n": 200}}
    metrics |= {"costs": None, "selective": None, "learning_curve": None, "run": {"recipe": None}}
    # Each pair one way round, as metrics.json mostly has them; the sentence must say it the way it was compared.
    metrics["comparisons"] = [
        {"a": a, "b": b, **asdict(one)} for (a, b), one in comparisons.items() if told.weighed in (a, b)
    ]
    for answer in first_screen(metrics):
        for one in metrics["comparisons"]:
            if {one["a"], one["b"]} == {told.advised, told.weighed}:
                claims_only_what_is_shown(answer.answer, comparisons[one["a"], one["b"]], margin)
                break
        else:
            assert not any(word in text for text in answer.answer for word in EQUAL)
    return told.code


def check_verdict(draw, comparisons, margin):
    main, task = (comparisons[pair] for pair in (draw.choice(list(comparisons)), BIAS_FREE))
    sides = [draw.choice(CLASSIFIED) for _ in range(4)]
    guessing = Guessing(0.6, (draw.uniform(0.3, 0.7), 0.8), 0.5)
    told = verdict(Contrast(*sides[:2], main), draw.random() < 0.5, guessing, Contrast(*sides[2:], task))
    first, rest = told.en.split(": on ", 1)
    claims_only_what_is_shown((first, told.zh.split("：")[0]), main, margin)
    assert ("Tuning helped" in first) <= (shows(main, 1) and guessing.interval[0] > 0.5)
    assert ("made it worse" in first) <= shows(main, -1)
    claims_only_what_is_shown((rest,), task, margin)
    assert ("it got worse" in rest) <= shows(task, -1)
    assert ("form" in rest or "preference" in rest) <= (told.code == "better")
    beside = baseline_verdict(Contrast(*sides[:2], main))
    claims_only_what_is_shown((beside.en, beside.zh), main, margin)
    assert ("tuned model beats" in beside.en) <= shows(main, 1)
    assert ("baseline beats" in beside.en) <= shows(main, -1)
    form = sorted(draw.uniform(-0.1, 0.3) for _ in range(2)) if draw.random() < 0.8 else None
    gain = {"metrics": {"macro_f1": {"form": {"ci": form}}}, "untuned_scores": asdict(guessing)}
    finding = gain_finding(gain | {"judgement": task.code}, "macro_f1")
    claims_only_what_is_shown(finding, task, margin)
    assert ("judgement improved" in finding.en and "not shown that" not in finding.en) <= shows(task, 1)
    knew = guessing.interval[0] > guessing.expected and form is not None and form[0] > 0
    assert ("knew some of it" in finding.en) == knew == ("就会一部分" in finding.zh)
    return told.code


@pytest.mark.slow
def test_no_advice_is_dominated_and_no_wide_interval_is_called_equal_in_5000_random_records():
    draw, decisions, verdicts = random.Random(26), set(), set()
    for _ in range(RECORDS):
        readings, comparisons, metric, margin = record(draw)
        decisions.add(check_decision(readings, comparisons, metric, margin))
        verdicts.add(check_verdict(draw, comparisons, margin))
    assert decisions == {"better", "equal", "unproven", "alone", "none"}
    assert verdicts == {"better", "worse", "equivalent", "undecided"}
