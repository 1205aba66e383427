"""Groups of copies and near copies against a comparison of all pairs, and leaks between splits."""

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.duplicates.deduplication import (
    Normaliser,
    conflicting,
    find_duplicates,
    find_leaks,
    first_of,
    group_counts,
    join,
)
from data_prep.duplicates.similarity import MISS, PERMUTATIONS, bands_and_rows, ngrams
from data_prep.manifest import LeakCounts
from data_prep.task import NearDuplicates

NEAR = NearDuplicates()


def normalise(*texts):
    return Normaliser().normalise(texts)


def variations(count, seed):
    """Normalised texts: some of their own, some with a few characters changed, some cut."""
    draw = random.Random(seed)
    chars = [chr(0x4E00 + n) for n in range(400)]
    texts = ["".join(draw.choices(chars, k=draw.randint(1, 120))) for _ in range(count // 4)]
    while len(texts) < count:
        text = list(draw.choice(texts))
        for _ in range(draw.randint(0, max(1, len(text) // 12))):
            text[draw.randrange(len(text))] = draw.choice(chars)
        texts.append("".join(text[: draw.choice([None, None, len(text) - 3])]) or "空")
    return texts


def all_pairs(texts, threshold, ngram=3):
    sets = [ngrams(text, ngram) for text in texts]
    return [
        (i, j)
        for i, j in itertools.combinations(range(len(texts)), 2)
        if len(sets[i] & sets[j]) >= threshold * len(sets[i] | sets[j])
    ]


def closure(count, pairs):
    parent = list(range(count))

    def root(at):
        while parent[at] != at:
            at = parent[at]
        return at

    for i, j in pairs:
        low, high = sorted((root(i), root(j)))
        parent[high] = low
    return [root(at) for at in range(count)]


def test_what_is_the_same_after_normalising():
    a, b, c = normalise("房间 很好！Ｗｉ－Ｆｉ　①", "房间很好 wi-fi 1", "房间\n\t很\u200b好~WiFi1。")
    assert a == b == c == "房间很好wifi1"


def test_emoji_and_bare_punctuation_stay_apart():
    assert normalise("好😀。", "好😡") == ["好😀", "好😡"]
    assert normalise("！！！", "？？？", "!!!", "\u200b", "") == ["!!!", "???", "!!!", "\u200b", " "]
    assert normalise("straße", "STRASSE", "e\u0301", "é")[0::2] == ["strasse", "é"]


@given(st.lists(st.text(max_size=20), max_size=8))
def test_each_text_is_normalised_by_itself(texts):
    together = Normaliser().normalise(texts)
    assert together == [Normaliser().normalise([text])[0] for text in texts]
    assert all(together)


@pytest.mark.parametrize("threshold", [0.6, 0.8, 0.9])
def test_groups_are_those_of_all_pairs(threshold):
    texts = variations(400, seed=3)
    repeats = find_duplicates(texts, NearDuplicates(threshold=threshold), seed=42)
    assert repeats.near.tolist() == closure(len(texts), all_pairs(texts, threshold))
    assert repeats.exact.tolist() == [texts.index(text) for text in texts]
    assert group_counts(repeats.near).groups > 20


def test_a_bucket_of_many_copies_is_one_group():
    texts = [f"{'这家酒店的房间很大早餐也很丰富下次还会再来入住推荐给大家' * 3}{n}" for n in range(300)]
    assert set(find_duplicates(texts, NEAR, seed=1).near.tolist()) == {0}


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.95, 1.0])
def test_bands_miss_few_pairs_at_the_threshold(threshold):
    bands, rows = bands_and_rows(threshold)
    assert bands * rows <= PERMUTATIONS
    assert (1 - threshold**rows) ** bands <= MISS


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.text(alphabet="好差房间大小", min_size=1, max_size=12), min_size=1, max_size=40),
    st.text("好差", min_size=1),
)
def test_a_text_at_the_end_only_joins_groups(texts, added):
    before = find_duplicates(texts, NEAR, seed=7).near
    after = find_duplicates([*texts, added], NEAR, seed=7).near[:-1]
    # Who shared a group still does; and where the new text is alone, nothing changed at all.
    assert all(after[i] == after[j] for i, j in itertools.combinations(range(len(texts)), 2) if before[i] == before[j])
    if find_duplicates([*texts, added], NEAR, seed=7).near[-1] == len(texts):
        assert before.tolist() == after.tolist()


def test_leaks_are_counted_by_split():
    base = "这家酒店的房间很大早餐也很丰富下次还会再来入住推荐给大家"
    texts = [base, base, base + "啊", base + "哦", "完全不同的一句话没有关系", base + "哦", "价格太贵了设施也旧"]
    splits = np.array(["train", "test", "test", "val", "train", "test", "val"])
    leaks = find_leaks(texts, splits, NEAR, seed=5)
    assert leaks.counts == {
        "test_in_train": LeakCounts(exact=1, near=2),
        "test_in_val": LeakCounts(exact=1, near=2),
        "val_in_train": LeakCounts(exact=0, near=1),
    }
    assert all(splits[i] != splits[j] for i, j in leaks.pairs)
    assert set(leaks.pairs[:, 0]) == {1, 2, 3, 5}


def test_leaks_are_those_of_all_pairs():
    texts = variations(300, seed=9)
    draw = random.Random(1)
    splits = np.array([draw.choice(["train", "train", "val", "test"]) for _ in texts])
    leaks = find_leaks(texts, splits, NEAR, seed=5)
    pairs = all_pairs(texts, NEAR.threshold)
    for inner, outer in (("test", "train"), ("test", "val"), ("val", "train")):
        rows = {a for i, j in pairs for a, b in ((i, j), (j, i)) if (splits[a], splits[b]) == (inner, outer)}
        exact = {row for row in rows if texts[row] in {texts[at] for at in np.flatnonzero(splits == outer)}}
        assert leaks.counts[f"{inner}_in_{outer}"] == LeakCounts(exact=len(exact), near=len(rows - exact))
        assert rows


def test_no_leaks_in_whole_groups():
    texts = variations(300, seed=11)
    groups = find_duplicates(texts, NEAR, seed=42).near
    splits = np.array(["train", "val", "test"])[groups % 3]
    leaks = find_leaks(texts, splits, NEAR, seed=43)
    assert leaks.pairs.shape == (0, 2)


def test_joining_pairs_joins_their_groups():
    groups = np.array([0, 0, 2, 3, 3, 5])
    assert join(groups, np.array([[1, 4], [2, 5]])).tolist() == [0, 0, 2, 0, 0, 2]
    assert first_of(np.array([7, 2, 7, 2, 0])).tolist() == [0, 1, 0, 1, 4]


def test_conflicting_groups():
    assert conflicting(np.array([0, 0, 2, 2, 4]), ["a", "b", "a", "a", "b"]).tolist() == [
        True,
        True,
        False,
        False,
        False,
    ]
