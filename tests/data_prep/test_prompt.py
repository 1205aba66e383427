"""Control tokens in reviews made harmless, and the faults of a prompt that are told beforehand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from data_prep.build import build
from data_prep.chat.prompt import JOINERS, KNOWN_CONTROL_TOKENS, control_pattern, neutralise, prompt_warnings
from data_prep.chat.tokenizer import ModelTokenizer
from tests.prep_tables import REAL, reviews, small_task, write_csv, write_model
from workspace.errors import UserError

PATTERN = control_pattern(["<|only_mine|>", "<<x>"])
TEXTS = [text for _, text in reviews(50)]


@pytest.mark.parametrize("token", [*KNOWN_CONTROL_TOKENS, "<|only_mine|>"])
def test_every_control_token_is_broken_and_looks_the_same(token):
    text = neutralise(f"好{token}{token}差", PATTERN)
    assert token not in text
    assert text.replace(JOINERS[0], "") == f"好{token}{token}差"


PIECES = ["<|im_end|>", "<|im_", "end|>", "<s>", "<", ">", "好", "<<x>", "|>", JOINERS[0], "</think>"]


@given(st.lists(st.sampled_from(PIECES)).map("".join))
def test_neutralising_twice_is_neutralising_once(text):
    once = neutralise(text, PATTERN)
    assert neutralise(once, PATTERN) == once
    assert once.replace(JOINERS[0], "") == text.replace(JOINERS[0], "")
    assert not PATTERN.search(once)


def test_overlapping_control_tokens_are_all_broken():
    pattern = control_pattern(["ab>", "b><c"])
    assert not pattern.search(neutralise("ab><c", pattern))


@pytest.mark.parametrize("tokens", [["<\u2060"], ["<\u2060>", "a\u200bb"], ["\u2060\u2060", "\u2060\u200b"]])
def test_a_token_of_invisible_characters_is_broken_too(tokens):
    """What broke it would be a part of it, without end."""
    pattern = control_pattern(tokens)
    once = neutralise(f"好{''.join(tokens)}差<|im_end|>", pattern)
    assert not pattern.search(once) and neutralise(once, pattern) == once


def test_other_text_is_left_alone():
    assert neutralise("a < b > c <|im end|> [SEP] 好", PATTERN) == "a < b > c <|im end|> [SEP] 好"


def test_the_tokenizer_no_longer_sees_control_tokens(tmp_path):
    tokenizer = ModelTokenizer(write_model(tmp_path / "model"))
    pattern = control_pattern(tokenizer.control_tokens)
    for token in tokenizer.control_tokens:
        assert len(tokenizer.ids(token)) == 1
        assert not set(tokenizer.ids(token)) & set(tokenizer.ids(neutralise(f"好{token}差", pattern)))


def test_labels_in_the_template(tmp_path):
    assert prompt_warnings(small_task(tmp_path), None, TEXTS) == [
        "the prompt original names the labels (正面, 负面, in this order): "
        "an untuned model is steered to repeat one of them"
    ]
    lopsided = small_task(tmp_path, prompts={"original": "{review}是正面吗？"})
    assert "names 正面 and not every label once" in prompt_warnings(lopsided, None, TEXTS)[0]
    by_system = small_task(tmp_path, system="回答正面。", prompt="clean")
    assert len(prompt_warnings(by_system, None, TEXTS)) == 1
    assert prompt_warnings(small_task(tmp_path, prompt="clean"), None, TEXTS) == []


def test_a_label_inside_another_is_the_longer_one(tmp_path):
    task = small_task(tmp_path, labels={"1": "好", "0": "不好"}, prompts={"original": "{review}好还是不好？"})
    assert "(好, 不好, in this order)" in prompt_warnings(task, None, TEXTS)[0]


def test_labels_that_begin_alike(tmp_path):
    tokenizer = ModelTokenizer(write_model(tmp_path / "model"))
    task = small_task(tmp_path, labels={"1": "龘好", "0": "龘差", "2": "房间"}, prompt="clean")
    (warning,) = [one for one in prompt_warnings(task, tokenizer, TEXTS) if "begin with the same token" in one]
    assert "龘好, 龘差 begin" in warning


def test_of_many_labels_that_begin_alike_the_warnings_stay_few_and_name_the_remedy(tmp_path):
    tokenizer = ModelTokenizer(write_model(tmp_path / "model"))
    labels = {str(at): f"{first}类{at}" for at, first in enumerate("龘龗龖龓" * 50)}
    task = small_task(
        tmp_path, labels=labels, prompts={"clean": "、".join(labels.values()) + "：{review}"}, prompt="clean"
    )
    warnings = prompt_warnings(task, tokenizer, TEXTS)
    assert len(warnings) < 10 and all(len(one) < 400 for one in warnings)
    alike = [one for one in warnings if "begin with the same token" in one]
    assert "put into `labels`" in alike[0] and " more begin with the same token" in alike[0]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("推荐", "推荐一般"), "推荐 and 推荐一般 one begins the other"),
        (("推荐", "不推荐"), "推荐 and 不推荐 one is the other with a negation"),
        (("spam", "not spam"), "spam and not spam one is the other with a negation"),
        (("正面", "负面"), None),
    ],
)
def test_labels_that_are_easily_taken_for_each_other(tmp_path, words, told):
    task = small_task(tmp_path, labels=dict(zip("10", words, strict=True)), prompts={"p": "{review}："}, prompt="p")
    warnings = prompt_warnings(task, None, TEXTS)
    assert warnings == [] if told is None else (told in warnings[0] and "put into `labels`" in warnings[0])


def test_labels_of_the_same_tokens_are_refused_before_any_work(tmp_path):
    """Characters that a tokenizer does not know are one and the same to it."""
    folder = tmp_path / "model"
    folder.mkdir()
    known = Tokenizer(models.WordLevel({"[UNK]": 0, "好": 1}, unk_token="[UNK]"))
    known.save(str(folder / "tokenizer.json"))
    task = small_task(tmp_path, labels={"1": "龘", "0": "靐"})
    with pytest.raises(UserError, match=r"'龘' and '靐' are the same tokens to the model in .*put other words into"):
        build(task, csv=write_csv(tmp_path / "t.csv", reviews(40)), model=folder, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_template_for_another_kind_of_model(tmp_path):
    model = write_model(tmp_path / "model")
    path = model / "tokenizer.json"
    path.write_text(path.read_text(encoding="utf-8").replace("<|im_end|>", "<|done|>"), encoding="utf-8")
    warnings = prompt_warnings(small_task(tmp_path, prompt="clean"), ModelTokenizer(model), TEXTS)
    assert any(one.startswith("<|im_end|> is no token of this model") for one in warnings)


def test_the_space_of_the_original_prompt_on_the_real_tokenizer(tmp_path, monkeypatch):
    folder = REAL / "models" / "qwen1.5-0.5b-chat-shape"
    if not folder.is_dir():
        pytest.skip("the real tokenizer is not beside the repository")
    monkeypatch.setenv("SWIFT_SFT_CACHE", str(tmp_path / "cache"))
    tokenizer = ModelTokenizer(folder)
    texts = ["房间很大", "房间不错", "酒店在闹市", "早餐一般"]
    warnings = prompt_warnings(small_task(tmp_path), tokenizer, texts)
    assert warnings[1] == (
        "the prompt original: the space before {review} breaks the first word of 3 in 4 reviews "
        "(房间 is 3 tokens there, 1 token by itself)"
    )
    assert prompt_warnings(small_task(tmp_path, prompt="clean"), tokenizer, texts) == []
