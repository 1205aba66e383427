"""No text has more tokens than its bound says, whatever the vocabulary."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from data_prep.build import build
from data_prep.chat import truncation
from data_prep.chat.frame import chat_frame
from data_prep.chat.token_bound import TokenBound, is_byte_level
from data_prep.chat.tokenizer import ModelTokenizer
from data_prep.task import SPLITS
from tests.prep_tables import REAL, REAL_TABLE, needs_real, reviews, small_task, write_csv, write_model
from workspace.files import read_json

SIGNS = sorted(pre_tokenizers.ByteLevel.alphabet())
PLAIN = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
CHARACTERS = "好店，的é߿a 1\n😀😁Ā\u0800\uffff"


def signs_of(text):
    return PLAIN.pre_tokenize_str(text)[0][0]


def tokenizer_of(merges):
    """A byte-level tokenizer that joins just these pairs, in this order."""
    words = dict.fromkeys([*SIGNS, *("".join(pair) for pair in merges)])
    tokenizer = Tokenizer(models.BPE({word: at for at, word in enumerate(words)}, list(dict.fromkeys(merges))))
    tokenizer.pre_tokenizer = PLAIN
    return tokenizer


@st.composite
def merge_lists(draw):
    """Merges that join bytes of CHARACTERS in any order, within characters and across them."""
    tokens = sorted(set("".join(map(signs_of, CHARACTERS))))
    merges = []
    for _ in range(draw(st.integers(0, 40))):
        pair = (draw(st.sampled_from(tokens)), draw(st.sampled_from(tokens)))
        if len("".join(pair)) <= 8:
            merges.append(pair)
            tokens.append("".join(pair))
    # And some that build whole characters up, as a trained vocabulary does.
    for char in draw(st.lists(st.sampled_from(CHARACTERS), max_size=8)):
        signs = signs_of(char)
        merges += [(signs[:at], signs[at]) for at in range(1, len(signs))]
    return draw(st.permutations(merges)) if draw(st.booleans()) else merges


@settings(max_examples=500, deadline=None)
@given(merge_lists(), st.lists(st.text(alphabet=CHARACTERS, max_size=30), max_size=5))
def test_no_text_has_more_tokens_than_its_bound(merges, texts):
    made = {*SIGNS}
    merges = [pair for pair in merges if made.issuperset(pair) and not made.add("".join(pair))]
    tokenizer = tokenizer_of(merges)
    bound = TokenBound(json.loads(tokenizer.to_str())).most_tokens(texts)
    assert bound.dtype == np.int64
    for text, most in zip(texts, bound, strict=True):
        assert len(tokenizer.encode(text).ids) <= most <= len(text.encode())


def test_a_character_that_always_becomes_one_token_counts_one():
    signs = signs_of("好")
    bound = TokenBound(json.loads(tokenizer_of([(signs[:1], signs[1]), (signs[:2], signs[2])]).to_str()))
    assert bound.most_tokens(["好好", "店", "a好", "", "\n"]).tolist() == [2, 3, 2, 0, 1]


def test_a_token_across_two_characters_is_taken_into_account():
    """好店: the last byte of 好 is joined to the first of 店 before either is whole: 4 tokens."""
    good, shop = signs_of("好"), signs_of("店")
    merges = [(good[2], shop[0]), (good[0], good[1]), (good[:2], good[2]), (shop[0], shop[1]), (shop[:2], shop[2])]
    tokenizer = tokenizer_of(merges)
    assert [len(tokenizer.encode(text).ids) for text in ("好", "店", "好店")] == [1, 1, 4]
    assert TokenBound(json.loads(tokenizer.to_str())).most_tokens(["好店"])[0] >= 4


def test_control_tokens_of_the_frame_count_one(tmp_path):
    tokenizer = ModelTokenizer(write_model(tmp_path))
    bound = tokenizer.bound()
    assert bound.room("<|im_start|>ab", 100) == 100 - 1 - 2 - 8
    assert bound.room("<|im_starts|>ab", 100) < 100 - 13
    assert bound.room("e\u0301", 100) == -1  # not in NFC: nothing is known to fit


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("normalizer", {"type": "NFC"}, True),
        ("normalizer", {"type": "Lowercase"}, False),
        ("pre_tokenizer", None, False),
        ("pre_tokenizer", {"type": "Metaspace"}, False),
        ("pre_tokenizer", {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}, False),
        ("pre_tokenizer", {"type": "Sequence", "pretokenizers": [{"type": "Split"}, {"type": "ByteLevel"}]}, True),
        ("pre_tokenizer", {"type": "Sequence", "pretokenizers": [{"type": "Split"}]}, False),
        ("model", {"type": "Unigram"}, False),
        ("model", {"type": "BPE", "dropout": 0.1}, False),
        ("model", {"type": "BPE", "end_of_word_suffix": "</w>"}, False),
        ("model", {"type": "BPE", "end_of_word_suffix": "", "continuing_subword_prefix": ""}, True),
    ],
)
def test_kinds_of_tokenizers(key, value, expected):
    assert is_byte_level(json.loads(tokenizer_of([]).to_str()) | {key: value}) is expected


@pytest.mark.parametrize("name", ["small", "minimind2-small", "qwen1.5-0.5b-chat-shape"])
def test_the_bound_holds_for_real_tokenizers_and_is_of_use(name, tmp_path):
    folder = write_model(tmp_path) if name == "small" else REAL / "models" / name
    if name != "small" and not (folder.is_dir() and REAL_TABLE.is_file()):
        pytest.skip("the real tokenizers and reviews are not beside the repository")
    tokenizer, task = ModelTokenizer(folder), small_task(tmp_path)
    lines = REAL_TABLE.read_text(encoding="utf-8-sig").splitlines() if name != "small" else []
    texts = [*[text for _, text in reviews(200)], *lines]
    bound = tokenizer.bound()
    most = bound.most_tokens(texts)
    assert (tokenizer.count(texts, len(texts)) <= most).all()
    assert most.sum() < (0.9 if name == "small" else 0.75) * sum(len(text.encode()) for text in texts)
    frame = chat_frame(None, task.system)
    room = bound.room(frame.text(task.render(""), "正面"), 400)
    chats = [frame.text(task.render(text), "正面") for text, tokens in zip(texts, most, strict=True) if tokens <= room]
    assert (tokenizer.count(chats, len(chats)) <= 400).all()


@pytest.mark.parametrize("max_length", [200, 250, 300])
def test_of_a_large_table_the_same_rows_are_cut_as_of_a_small_one(tmp_path, monkeypatch, max_length):
    """Lengths around the limit, texts that NFC makes longer, control tokens that neutralising makes longer."""
    made = [(label, text * (1 + at % 9)) for at, (label, text) in enumerate(reviews(150))]
    made += [("1", "\u0958" * size + "好") for size in range(1, 130, 4)]  # NFC: one character becomes two
    made += [("0", "<s>" * size + "差") for size in range(1, 120, 4)]
    made += [("0", "<|only_mine|>" * size + "差") for size in range(1, 40, 4)]
    table, model = write_csv(tmp_path / "t.csv", made), write_model(tmp_path / "model")
    task = small_task(tmp_path, near_duplicates={"threshold": 0.99})
    small = build(task, csv=table, model=model, max_length=max_length, out=tmp_path / "small")
    monkeypatch.setattr(truncation, "COUNT_ALL", 10)
    monkeypatch.setattr(truncation, "SAMPLE", 20)
    counted = []
    count = ModelTokenizer.count
    monkeypatch.setattr(ModelTokenizer, "count", lambda self, texts, n: counted.append(n) or count(self, texts, n))
    large = build(task, csv=table, model=model, max_length=max_length, out=tmp_path / "large")
    assert counted[0] < len(made)
    for name in SPLITS:
        assert (large.parent / f"{name}.jsonl").read_bytes() == (small.parent / f"{name}.jsonl").read_bytes()
    one, other = read_json(small), read_json(large)
    assert one["cut"] == other["cut"]
    assert one["cut"]["total"] > 10
    assert one["tokens"]["sample"] is None
    assert 20 <= other["tokens"]["sample"] <= 26  # and one of each split and class
    assert other["tokens"]["after"]["greatest"] <= max_length


@needs_real
def test_the_real_table_is_cut_the_same_when_it_counts_as_large(tmp_path, monkeypatch):
    monkeypatch.setenv("SWIFT_SFT_CACHE", str(tmp_path / "cache"))
    model = REAL / "models" / "qwen1.5-0.5b-chat-shape"
    small = build("hotel_reviews", csv=REAL_TABLE, model=model, out=tmp_path / "small")
    monkeypatch.setattr(truncation, "COUNT_ALL", 1000)
    monkeypatch.setattr(truncation, "SAMPLE", 500)
    large = build("hotel_reviews", csv=REAL_TABLE, model=model, out=tmp_path / "large")
    for name in SPLITS:
        assert (large.parent / f"{name}.jsonl").read_bytes() == (small.parent / f"{name}.jsonl").read_bytes()
    assert read_json(large)["cut"] == read_json(small)["cut"]
