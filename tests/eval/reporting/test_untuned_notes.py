"""Readings that tell nothing are named, and how the untuned model's figures came about is said with them."""

from eval.reporting.untuned_notes import label_mass_note, only_answer_notes, variant_notes


def test_a_reading_that_gives_every_row_one_label_is_named_but_the_majority_is_not() -> None:
    """The audit's few-shot: one label for all 100, and nobody said so."""
    said = {"label": "正面", "n": 100}
    readings = {"majority": {"only_answer": said}, "before_few_shot": {"only_answer": said}, "after_score": {}}
    (note,) = only_answer_notes(readings)
    assert note.en == "before · few-shot: all 100 parsed answers are “正面”, so it tells no review from another."
    assert "100 条已解析的回答全是“正面”" in note.zh


def test_label_words_that_hold_little_of_the_probability_are_told() -> None:
    """The audit's 1.7 %: the score of words that the model would hardly say."""
    assert label_mass_note({}) is None and label_mass_note({"before_score": {"label_mass": None}}) is None
    little, much = (label_mass_note({"before_score": {"label_mass": mass}}) for mass in (0.017, 0.93))
    assert "hold 1.7% of the model's probability" in little.en and "only compares" in little.en
    assert "93.0%" in much.en and "only compares" not in much.en


def test_before_is_not_called_untuned_as_it_may_have_an_adapter() -> None:
    one = {"macro_f1": 0.6, "calibrated": {"macro_f1": 0.7}, "only_answer": None}
    notes = variant_notes({"n": 30, "of": 100, "prompts": [one] * 5, "few_shot": [one] * 3})
    assert all(note.en.startswith("Before tuning, by score") and note.zh.startswith("调优前") for note in notes)
    assert not [note for note in notes if "ntuned" in note.en or "未调优" in note.zh]
