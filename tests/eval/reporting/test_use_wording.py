"""What the report says to whoever uses the model."""

import pytest

from eval.reporting.render import render_html, render_markdown
from eval.reporting.use_wording import ceiling_sentence, cost_sentences, selective_sentences, shifted_classes
from tests.report_runs import make_run


@pytest.fixture(scope="module")
def metrics(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"), n=200)


def promise(metrics, **test):
    """The record with the tuned model's outcome on test replaced."""
    readings = metrics["selective"]["readings"]
    tuned = readings["after_score"]
    return metrics["selective"] | {"readings": readings | {"after_score": tuned | {"test": tuned["test"] | test}}}


@pytest.mark.parametrize(
    ("test", "zh", "en"),
    [
        ({"outcome": "met"}, "证实达到了目标", "confirm that the target is met"),
        ({"outcome": "not_met"}, "表明没有达到目标", "show that the target is not met"),
        ({"outcome": "undecided"}, "既不能证实也不能否定", "neither confirm nor refute"),
        ({"accuracy": None, "n_answered": 0}, "没有一条达到阈值", "leave all to a person"),
    ],
)
def test_what_test_says_of_the_promise_has_three_outcomes(metrics, test, zh, en):
    """Audited: "the target was met" was a point estimate, false in 30 to 39 % of draws."""
    tuned, linear = selective_sentences(promise(metrics, **test))
    assert zh in tuned.zh and en in tuned.en and "95%" in tuned.en
    assert "which also chose the checkpoint" in tuned.en and "cannot be promised" in linear.en
    assert "was met" not in tuned.en


def test_which_rows_chose_is_said(metrics):
    apart = selective_sentences(metrics["selective"] | {"kept_apart": True})[0]
    assert "没有参与选择检查点" in apart.zh and "did not choose the checkpoint" in apart.en
    few = selective_sentences(metrics["selective"] | {"rows": 40})[1]
    assert "至少需要 59 条" in few.zh and "from 40 validation rows: at least 59 are needed" in few.en


def test_costs_are_told_with_their_intervals(metrics):
    tuned, linear, everything = cost_sentences(metrics["costs"])
    assert "cheapest on validation" in tuned.en and "cheapest" not in linear.en
    assert "1,000 rows cost 121.4 (95%: 88.2–160.9)" in tuned.en and "asked about 9" in tuned.en
    assert "200.0" in everything.zh and "200.0" in everything.en


def test_precision_elsewhere_is_that_of_the_rarest_classes(metrics):
    classes = [{"label": str(k), "share": share, "precision": 0.9} for k, share in enumerate((0.5, 0.1, 0.3, 0.1))]
    assert [one["label"] for one in shifted_classes({"classes": classes})] == ["1", "3", "2"]
    assert [one["label"] for one in shifted_classes({"classes": classes[:2]})] == ["1"]
    never = [classes[1] | {"precision": None}, classes[0]]
    assert shifted_classes({"classes": never}) == []


def test_the_page_and_the_report_show_precision_elsewhere(metrics):
    page, text = render_html(metrics, []), render_markdown(metrics, [], [])
    assert '<table class="prevalence">' in page and "60.0% (40.0–80.0)" in text
    assert '<b>60.0%</b> <span class="ci">[40.0–80.0]' in page
    without = metrics | {"prevalence": metrics["prevalence"] | {"classes": []}}
    assert '<table class="prevalence">' not in render_html(without, [])


def test_the_ceiling_says_who_is_near_it(metrics):
    assert "up to it" in ceiling_sentence(metrics).en
    low = metrics | {"ceiling": metrics["ceiling"] | {"accuracy": 0.5}}
    assert "not below it" in ceiling_sentence(low).en
    assert ceiling_sentence(metrics | {"ceiling": None}) is None


def test_without_figures_nothing_is_said():
    assert selective_sentences(None) == cost_sentences(None) == []
