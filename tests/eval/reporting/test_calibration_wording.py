"""The report says which temperature and biases made the probabilities, whether they change labels, and the gain."""

import pytest

from eval.reporting.calibration_wording import calibration_notes, no_stack_note, stack_note

BEFORE = {"ece": 0.0692, "log_loss": 0.5409}


def reading(biases: dict[str, float] | None) -> dict[str, object]:
    own = {"temperature": 1.165, "biases": biases, "before": BEFORE}
    return {"calibration": own, "probabilities": {"ece": 0.0, "log_loss": 0.4762}}


def test_biases_are_said_to_change_labels() -> None:
    plain, biased = (reading(one) for one in (None, {"正面": 0.32, "负面": -0.32}))
    readings = {"before_score": {"calibration": None}, "tfidf_linear": plain, "after_score": biased}
    first, second = calibration_notes(readings)
    assert "a temperature of 1.17, which changes no label" in first.en and "答案不变" in first.zh
    assert "biases (正面 +0.32, 负面 -0.32), which change some labels" in second.en and "有些答案变了" in second.zh
    for text in (*first, *second):
        assert "0.069 → 0.000" in text and "0.541 → 0.476" in text


@pytest.mark.parametrize(("helps", "en", "zh"), [(True, "it may be", "可以被推荐"), (False, "it is not", "不推荐")])
def test_the_stack_is_advised_or_not_by_figures_that_are_told(helps: bool, en: str, zh: str) -> None:
    validation = {"after_score": 0.842, "tfidf_linear": 0.793, "stack": 0.851}
    found = stack_note({"rows": 100, "validation": validation, "helps": helps}, "macro_f1")
    assert f"so {en} advised" in found.en and zh in found.zh
    assert all(f"{value:.3f}" in text for value in validation.values() for text in found)
    assert "100 validation rows" in found.en
    assert stack_note(None, "macro_f1") is None


def test_why_there_is_no_stack_is_told():
    """The ladder of the demo just lacked it."""
    found = no_stack_note(["tfidf_linear", "after_score"], {"total": 45, "正面": 26, "负面": 19})
    assert found is not None and found.en.endswith("each label needs 20 validation rows (负面 19).")
    assert no_stack_note(["tfidf_linear", "after_score"], {"total": 46, "正面": 26, "负面": 20}) is None
    assert no_stack_note(["after_score"], {"total": 45, "正面": 26, "负面": 19}) is None
