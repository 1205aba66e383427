"""Splits: each class in each, groups whole, a row's place its own; the original experiment's split; limits."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from data_prep.splits.split_frame import split_frame
from data_prep.splits.splitting import class_quotas, nearest_sum, row_draws, split_rows, take_limit, text_keys
from data_prep.task import SPLITS, SplitSettings
from tests.prep_tables import small_task
from workspace.errors import UserError

STRATIFIED = SplitSettings()
ORIGINAL = SplitSettings(scheme="original", test=0.2)
WORDS = ("a", "b", "c")
KNOWN_0, KNOWN_1 = 0.8530573416140609, 0.5165106841621727


def labelled(count, shares=(0.6, 0.3, 0.1)):
    return np.array(
        [WORDS[int(at)] for at in np.searchsorted(np.cumsum(shares), (np.arange(count) * 0.618) % 1)], object
    )


def split(texts, labels, groups=None, settings_=STRATIFIED, words=WORDS):
    groups = np.arange(len(texts)) if groups is None else groups
    return split_rows(labels, groups, row_draws(texts, settings_.seed)[:, 0], words, settings_)


def test_shares_of_a_large_table():
    texts, labels = [f"text {n}" for n in range(20_000)], labelled(20_000)
    splits = split(texts, labels)
    for word in WORDS:
        mine = splits[labels == word]
        for name, share in (("test", 0.1), ("val", 0.1), ("train", 0.8)):
            assert np.mean(mine == name) == pytest.approx(share, abs=4 * (share * (1 - share) / len(mine)) ** 0.5)


def test_draws_are_uniform_independent_and_known():
    draws = row_draws([f"text {n}" for n in range(20_000)], 42)
    assert draws.min() >= 0
    assert draws.max() < 1
    assert np.abs(draws.mean(axis=0) - 0.5).max() < 0.01
    assert abs(np.corrcoef(draws.T)[0, 1]) < 0.03
    # The same on every machine and in every version: a changed figure moves every dataset's rows.
    assert row_draws(["房间很好"], 42).tolist() == [[KNOWN_0, KNOWN_1]]
    assert row_draws(["房间很好"], 43)[0, 0] != KNOWN_0


@settings(max_examples=20, deadline=None)
@given(st.integers(3000, 3400), st.integers(0, 2**32 - 1), st.integers(1, 20))
def test_rows_added_at_the_end_or_taken_away_move_no_other(count, seed, added):
    texts, labels = [f"{seed}-{n}" for n in range(count + added)], labelled(count + added, (0.5, 0.5, 0))
    chosen = SplitSettings(seed=seed)
    before = split(texts[:count], labels[:count], settings_=chosen, words=WORDS[:2])
    after = split(texts, labels, settings_=chosen, words=WORDS[:2])
    draws = row_draws(texts[:count], seed)[:, 0]
    kept = np.arange(count) % 10 != 3
    for word in WORDS[:2]:  # the rule for classes that would leave a split empty is tested below
        mine = draws[(labels[:count] == word) & kept]
        assume((mine < 0.1).any() and ((mine >= 0.1) & (mine < 0.2)).any())
    assert after[:count].tolist() == before.tolist()
    fewer = [text for text, keep in zip(texts, kept, strict=False) if keep]
    less = split(fewer, labels[:count][kept], settings_=chosen, words=WORDS[:2])
    assert less.tolist() == before[kept].tolist()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(WORDS[:2]), st.integers(0, 30)), min_size=6, max_size=60), st.integers(0, 99))
def test_groups_stay_whole_and_every_class_reaches_every_split(rows, seed):
    labels = np.array([label for label, _ in rows], object)
    groups = np.array([[other for _, other in rows].index(group) for _, group in rows])
    chosen = SplitSettings(seed=seed)
    try:
        splits = split([f"t{n}" for n in range(len(rows))], labels, groups, chosen, WORDS[:2])
    except UserError as error:
        assert "the class" in str(error)
        return
    assert all(len(set(splits[groups == group])) == 1 for group in groups)
    for word in WORDS[:2]:
        assert set(splits[labels == word]) == set(SPLITS)


@pytest.mark.parametrize("count", [3, 4, 5, 10])
def test_tiny_classes_reach_every_split(count):
    labels = np.array(["a", "b"] * count, object)
    for seed in range(30):
        splits = split([f"t{n}" for n in range(2 * count)], labels, settings_=SplitSettings(seed=seed), words=WORDS[:2])
        assert {name for name in splits[labels == "a"]} == set(SPLITS)


def test_too_few_rows_name_the_class():
    labels = np.array(["a"] * 10 + ["b"] * 5, object)
    groups = np.array([*range(10), 10, 10, 10, 13, 13])
    with pytest.raises(UserError) as caught:
        split([f"t{n}" for n in range(15)], labels, groups, words=WORDS[:2])
    assert "all 5 usable rows of the class b are copies or near copies of one another (2 groups" in str(caught.value)
    assert "add texts of b that are worded otherwise" in str(caught.value)  # not: add rows
    with pytest.raises(UserError, match=r"the class c has 2 usable rows in 2 groups.*: add rows of c, or take"):
        split([f"t{n}" for n in range(15)], np.array(["a"] * 7 + ["b"] * 6 + ["c"] * 2, object))
    with pytest.raises(UserError, match="the class c has 0 usable rows"):
        split([f"t{n}" for n in range(15)], labels, settings_=ORIGINAL)
    with pytest.raises(UserError, match="too few to split"):
        split(["t"], labels[:1], settings_=ORIGINAL)


def test_the_original_scheme_is_two_plain_splits():
    from sklearn.model_selection import train_test_split

    texts, labels = [f"t{n}" for n in range(1000)], labelled(1000)
    splits = split(texts, labels, settings_=ORIGINAL)
    rest, test = train_test_split(np.arange(1000), test_size=0.2, random_state=42)
    train, val = train_test_split(rest, test_size=0.1, random_state=42)
    for name, rows in (("test", test), ("val", val), ("train", train)):
        assert np.flatnonzero(splits == name).tolist() == sorted(rows.tolist())


def test_a_limit_takes_shares_and_a_larger_one_the_same_rows_and_more():
    texts, labels = [f"t{n}" for n in range(3000)], labelled(3000)
    draws = row_draws(texts, 42)
    splits = split_rows(labels, np.arange(3000), draws[:, 0], WORDS, STRATIFIED)
    before = np.zeros(3000, bool)
    for limit in (3, 4, 7, 10, 50, 51, 100, 200, 777):
        used = take_limit(splits, labels, draws[:, 1], WORDS, limit, limit)
        assert (splits[used] == "train").sum() == limit
        assert (splits[used] == "test").sum() == max(min(limit * 4, (splits == "test").sum()), 3)
        assert (splits[used] == "val").sum() == max(min(limit // 4, (splits == "val").sum()), 3)
        assert not (before & ~used).any()
        before = used
        for word in WORDS:
            for name in SPLITS:
                share = (labels[splits == name] == word).mean()
                mine = (labels[used & (splits == name)] == word).sum()
                assert mine >= 1
                assert abs(mine - share * (used & (splits == name)).sum()) <= 2
        curve = take_limit(splits, labels, draws[:, 1], WORDS, limit, None)
        assert (curve == np.where(splits == "train", used, True)).all()
        part = take_limit(splits, labels, draws[:, 1], WORDS, 3, limit)
        assert (part & (splits != "train") == used & (splits != "train")).all() and part.sum() <= used.sum()
    assert take_limit(splits, labels, draws[:, 1], WORDS, 10**9, 10**9).all()
    with pytest.raises(UserError, match="--limit 2 leaves classes without a row: give at least 3"):
        take_limit(splits, labels, draws[:, 1], WORDS, 2, 2)


@pytest.mark.parametrize("count", [40, 60, 300, 1999])
def test_a_small_table_has_the_shares_of_its_classes(count):
    labels = labelled(count)
    for seed in range(5):
        splits = split([f"{seed} {n}" for n in range(count)], labels, settings_=SplitSettings(seed=seed))
        for name in ("test", "val"):
            assert abs((splits == name).sum() - 0.1 * count) <= 1.5
            for word in WORDS:
                wanted = 0.1 * (labels == word).sum()
                assert abs(((labels == word) & (splits == name)).sum() - wanted) <= 1


def test_groups_of_a_small_table_come_as_near_to_the_shares_as_they_can():
    # 100 rows of a in groups of 7 and single ones: tests of 10 rows are possible, and taken.
    groups = np.array([n - n % 7 if n < 84 else n for n in range(100)])
    labels = np.array(["a"] * 100 + ["b"] * 100, object)
    groups = np.concatenate([groups, np.arange(100, 200)])
    for seed in range(10):
        splits = split([f"{seed} {n}" for n in range(200)], labels, groups, SplitSettings(seed=seed), WORDS[:2])
        for word in WORDS[:2]:
            assert ((labels == word) & (splits == "test")).sum() == 10
            assert ((labels == word) & (splits == "val")).sum() == 10
        assert all(len(set(splits[groups == group])) == 1 for group in set(groups))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=9), st.integers(-3, 30), st.booleans(), st.integers(1, 9))
def test_the_nearest_sum_is_that_of_all_choices(sizes, wanted, needed, most):
    from itertools import combinations

    least = int(needed)
    every = [c for n in range(least, min(most, len(sizes)) + 1) for c in combinations(range(len(sizes)), n)]
    best = min(abs(sum(sizes[at] for at in choice) - max(wanted, 0)) for choice in every)
    taken = nearest_sum(sizes, wanted, least, most)
    assert least <= len(taken) <= most
    assert abs(sum(sizes[at] for at in taken) - max(wanted, 0)) == best


def test_quotas_add_up_to_the_share_of_all_and_leave_no_class_out():
    assert class_quotas([45, 45, 10], 0.1) == [5, 4, 1]
    assert class_quotas([96, 2, 2], 0.1) == [10, 1, 1]
    assert sum(class_quotas([33, 33, 34], 0.1)) == 10


def frame_of(texts, labels):
    numbers = np.arange(len(texts))
    return pd.DataFrame({"row": numbers + 1, "text": texts, "normalised": texts, "label": labels, "group": numbers})


def test_texts_with_a_place_keep_it_and_added_ones_are_placed(tmp_path):
    task = small_task(tmp_path, labels={"a": "a", "b": "b"})
    texts = [f"{n * 7919 % 10007} 号客人第 {n} 次来" for n in range(200)]
    labels = labelled(200, (0.5, 0.5, 0)).tolist()
    first, *_ = split_frame(frame_of(texts[:120], labels[:120]), task)
    places = dict(zip(text_keys(texts[:120]), first["split"], strict=True))
    anew, *_ = split_frame(frame_of(texts, labels), task)
    assert anew["split"][:120].tolist() != first["split"].tolist()  # without the file rows would move
    more, *_ = split_frame(frame_of(texts, labels), task, places)
    assert more["split"][:120].tolist() == first["split"].tolist()
    assert (more["split"] == "test").sum() == 20
    # In another order, and with rows taken away, too.
    order = np.random.default_rng(0).permutation(200)[:150]
    less, *_ = split_frame(frame_of([texts[n] for n in order], [labels[n] for n in order]), task, places)
    assert all(places.get(text_keys([texts[n]])[0], s) == s for n, s in zip(order, less["split"], strict=True))


def test_a_class_whose_test_rows_are_gone_gets_others(tmp_path):
    task = small_task(tmp_path, labels={"a": "a", "b": "b"})
    texts = [f"{n * 7919 % 10007} 号客人第 {n} 次来" for n in range(40)]
    labels = ["a", "b"] * 20
    places = dict.fromkeys(text_keys(texts), "train")
    found, *_ = split_frame(frame_of(texts, labels), task, places)
    for word in ("a", "b"):
        assert set(found["split"][found["label"] == word]) == set(SPLITS)
    assert (found["split"] == "train").sum() == 36
