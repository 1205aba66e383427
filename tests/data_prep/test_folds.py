"""Folds: groups whole, classes even, each row tested once; datasets of folds, and the override that makes them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.build import build
from data_prep.card import page as card
from data_prep.splits.folds import fold_of_rows
from data_prep.task import SPLITS
from tests.prep_tables import reviews, small_task, write_csv
from workspace.errors import UserError
from workspace.files import read_json, read_jsonl


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 40)), min_size=12, max_size=80), st.integers(2, 6))
def test_groups_stay_whole_and_classes_are_even(rows, folds):
    labels = np.array([label for label, _ in rows], object)
    groups = np.array([rows.index(row) for row in rows])  # groups of one class
    draws = np.random.default_rng(len(rows)).random(len(rows))
    try:
        fold = fold_of_rows(labels, groups, draws, "ab", folds)
    except UserError as error:
        assert "near copies of one another" in str(error)
        return
    assert set(fold) <= set(range(1, folds + 1))
    assert all(len(set(fold[groups == group])) == 1 for group in groups)
    for label in "ab":
        counts = [int(((labels == label) & (fold == one)).sum()) for one in range(1, folds + 1)]
        assert max(counts) - min(counts) <= max(np.bincount(groups[labels == label]))


def test_each_row_is_tested_in_one_fold_and_near_copies_in_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(card, "draw_card", lambda *_: {})
    rows = reviews(60) + [(label, text * 2 + "啊") for label, text in reviews(20, 100)]
    rows += [(label, text * 2) for label, text in reviews(20, 100)]
    table, tested = write_csv(tmp_path / "t.csv", rows), []
    for fold in range(1, 6):
        task = small_task(tmp_path, split={"folds": 5, "fold": fold})
        manifest = read_json(build(task, csv=table, out=tmp_path / f"fold{fold}"))
        parts = {name: {row["id"] for row in read_jsonl(tmp_path / f"fold{fold}" / f"{name}.jsonl")} for name in SPLITS}
        assert set.union(*parts.values()) == {str(at + 1) for at in range(100)}
        assert all(leak == {"exact": 0, "near": 0} for leak in manifest["leaks"].values())
        assert (manifest["scheme"], len(parts["test"]), len(parts["val"])) == ("folds", 20, 8)
        assert 9 <= manifest["counts"]["test"]["正面"] <= 11
        assert not [told for told in manifest["warnings"] if "test rows" in told]
        tested += parts["test"]
    assert len(tested) == len(set(tested)) == 100


@pytest.mark.parametrize("split", [{"folds": 5}, {"fold": 1}, {"folds": 5, "fold": 6}])
def test_a_fold_is_one_of_the_folds(split, tmp_path):
    with pytest.raises(UserError, match=r"`bash run_sft\.sh TASK --cv 5` sets both"):
        small_task(tmp_path, split=split)
