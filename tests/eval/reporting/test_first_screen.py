"""The decision first, and short: what to use, how sure, what it costs, what would change it."""

import pytest

from eval.reporting.first_screen import first_screen
from eval.reporting.render import render_html, render_markdown
from tests.report_runs import make_run
from workspace.files import read_jsonl

SHORT = 420  # characters of an answer: the four fit on a telephone's screen


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    metrics = make_run(folder, n=200)
    metrics["decision"] |= {"advised": "tfidf_linear", "weighed": "after_generate", "code": "unproven"}
    return metrics, read_jsonl(folder / "rows.jsonl")


def told(metrics, **decision):
    return [one.answer for one in first_screen(metrics | {"decision": metrics["decision"] | decision})]


def compared(metrics, **fields):
    """The comparison of the linear model with the tuned one, changed."""
    changed = [
        c | fields if (c["a"], c["b"]) == ("tfidf_linear", "after_generate") else c for c in metrics["comparisons"]
    ]
    return metrics | {"comparisons": changed}


def test_how_sure_gives_the_primary_metric_and_the_difference_with_intervals(run):
    metrics, _ = run
    intervals = {key: [0.81, 0.92] for key in ("macro_f1", "accuracy", "balanced_accuracy", "mcc")}
    metrics = metrics | {
        "readings": metrics["readings"]
        | {"tfidf_linear": metrics["readings"]["tfidf_linear"] | {"intervals": intervals}}
    }
    sure = told(compared(metrics, difference=0.018, ci=[-0.009, 0.044], code="undecided"))[0]
    assert "95% interval 0.810–0.920, n = 200" in sure.en and "95% 区间 0.810–0.920" in sure.zh
    assert "“after · generate” minus “TF-IDF + linear model”: +1.8 points (95%: −0.9 … +4.4), not decided" in sure.en
    assert "too few" not in sure.en


def test_too_few_rows_have_no_interval_but_a_p(run):
    few = {name: one | {"intervals": None} for name, one in run[0]["readings"].items()}
    metrics = run[0] | {"readings": few}
    sure, _, change = told(compared(metrics, ci=None, randomisation_p=0.2, rows_needed=None, code="undecided"))
    assert "too few rows for an interval" in sure.en and "p = 0.200" in sure.en
    assert "each class needs 20" in change.en and "None" not in change.en and "–" not in change.en


def test_costs_are_time_and_where_they_are_set_money(run):
    metrics, _ = run
    cost = told(metrics)[1]
    assert "0.05 ms a row, 1.3 s of training (“after · generate”: 62 ms a row, 62.1 min of training)" in cost.en
    assert "1,000 rows of “TF-IDF + linear model” cost 121.4 (95%: 88.2–160.9)" in cost.en
    assert "have all answers checked" in cost.en  # nothing is promised of the linear model
    alone = told(metrics, advised="after_generate", weighed="tfidf_linear")[1]
    assert "“after · score” may answer 81.0% alone" in alone.en and "neither confirm nor refute" in alone.en
    plain = told(metrics | {"costs": None, "selective": None})[1]
    assert "cost" not in plain.en and "alone" not in plain.en


def test_what_would_change_it_names_rows_labels_and_seed(run):
    change = told(compared(run[0], code="undecided", rows_needed=1234))[2]
    assert "some 1,234 would decide that difference, here are 200" in change.en and "约 1,234 条" in change.zh
    assert "bash run_sft.sh curve hotel_reviews/qwen1.5-0.5b-chat" in change.en
    assert "this checkpoint (seed 0)" in change.en and "--seeds 42 43 44" in change.en
    assert "would decide" not in told(compared(run[0], code="better"))[2].en


def test_with_no_advice_no_cost_is_told(run):
    sure, change = told(run[0], advised=None, weighed=None, code="none")
    assert "no balanced accuracy is shown to be above guessing" in sure.en and "More test rows" in change.en


def test_it_is_short_and_comes_before_the_evidence(run):
    metrics, rows = run
    answers = told(metrics)
    assert all(len(one.en) <= SHORT and len(one.zh) < len(one.en) for one in answers)
    for page, verdict in (
        (render_html(metrics, rows), metrics["verdict"]["en"]),
        (render_markdown(metrics, rows, []), "Accuracy after tuning"),
    ):
        places = [
            page.index(words) for words in ("Use none of these", "How sure", "What it costs", "What would change")
        ]
        assert places == sorted(places) and places[-1] < page.index(verdict)
