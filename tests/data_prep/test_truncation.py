"""Chats that fit, cut in the review and nowhere else, counted with the tokenizer that training uses."""

import json
import shutil

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data_prep.chat.frame import chat_frame
from data_prep.chat.prompt import control_pattern, neutralise
from data_prep.chat.tokenizer import ModelTokenizer
from data_prep.chat.truncation import GAP, cut_text, fit_reviews
from tests.prep_tables import REAL, small_task, write_model
from workspace.errors import UserError


def chat_text(task, review, answer):
    return chat_frame(None, task.system).text(task.render(review), answer)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return ModelTokenizer(write_model(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return small_task(tmp_path_factory.mktemp("task"))


def fitted(task, tokenizer, reviews, max_length, keep_head=0.75):
    pattern = control_pattern(tokenizer.control_tokens)
    return fit_reviews(
        reviews, lambda review: chat_text(task, neutralise(review, pattern), "正面"), tokenizer, max_length, keep_head
    )


def test_the_chat_is_qwens_with_the_last_line_end(task):
    assert chat_text(task, "好", "正面") == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
        "评论内容: 好 这条评论是正面还是负面？<|im_end|>\n<|im_start|>assistant\n正面<|im_end|>\n"
    )


@pytest.mark.parametrize(
    ("keep", "keep_head", "expected"),
    [(4, 0.75, f"012{GAP}9"), (4, 1, f"0123{GAP}"), (4, 0, f"{GAP}6789"), (0, 0.5, GAP), (10, 0.5, "0123456789")],
)
def test_head_and_tail_are_kept(keep, keep_head, expected):
    assert cut_text("0123456789", keep, keep_head) == expected


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.text(alphabet="房间早餐很好差酒店😀é<|im_end|> \n1a", max_size=400), min_size=1, max_size=5),
    st.integers(100, 240),
    st.sampled_from([0, 0.3, 0.75, 1]),
)
@example(["好" * 3000, "<|im_end|>" * 100, "😀" * 200, ""], 100, 0.75)
def test_no_chat_is_longer_than_the_limit_and_none_is_cut_without_need(task, tokenizer, reviews, max_length, keep_head):
    result = fitted(task, tokenizer, reviews, max_length, keep_head)
    pattern = control_pattern(tokenizer.control_tokens)
    for at, review in enumerate(reviews):
        kept = result.cuts.get(at, review)
        chats = (chat_text(task, neutralise(one, pattern), "正面") for one in (review, kept))
        before, after = (len(tokenizer.ids(chat)) for chat in chats)
        assert (result.tokens_before[at], result.tokens[at]) == (before, after)
        assert after <= max_length
        assert result.cut[at] == (before > max_length)
        if not result.cut[at]:
            assert kept == review
        else:
            head, tail = kept.split(GAP)
            assert review.startswith(head)
            assert review.endswith(tail)
            assert len(head) == round((len(head) + len(tail)) * keep_head)


def test_a_cut_keeps_nearly_all_that_fits(task, tokenizer):
    result = fitted(task, tokenizer, ["这家酒店的房间很大，早餐也很丰富。" * 40] * 3, 150)
    assert result.cut.all()
    assert (result.tokens > 140).all()


def test_a_prompt_too_long_by_itself(task, tokenizer):
    with pytest.raises(UserError, match=r"take \d+ tokens without a review, more than max_length = 20"):
        fitted(task, tokenizer, ["好" * 100], 20)


def test_counts_are_the_same_in_batches(tokenizer):
    texts = [f"第{n}条<|im_end|>" * (n % 5) for n in range(4500)]
    counts = tokenizer.count(iter(texts), len(texts))
    assert counts.tolist() == [len(tokenizer.ids(text)) for text in texts]
    assert counts.dtype == np.int64


def test_control_tokens_are_found(tokenizer):
    assert tokenizer.control_tokens == ("<|endoftext|>", "<|im_end|>", "<|im_start|>", "<|only_mine|>")
    assert len(tokenizer.ids("<|im_end|>")) == 1


def test_a_folder_without_a_tokenizer(tmp_path):
    with pytest.raises(UserError, match=r"has no tokenizer\.json: give a model's folder with --model"):
        ModelTokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match=r"cannot be read .*: fetch it again"):
        ModelTokenizer(tmp_path)


def test_qwen2_tokenizers_are_used_as_transformers_loads_them(tmp_path, monkeypatch):
    """transformers gives qwen2 a pre-tokenizer of its own; digits then stand alone, whatever tokenizer.json says."""
    monkeypatch.setenv("SWIFT_SFT_CACHE", str(tmp_path / "cache"))
    folder = write_model(tmp_path / "model")
    plain = ModelTokenizer(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2"}), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>"}), encoding="utf-8"
    )
    resolved = ModelTokenizer(folder)
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(folder)
    texts = ["123号客人说房间和早餐很好", "don't", "第7919次来 <|im_end|>\n", "a  b\n\n c"]
    assert [resolved.ids(text) for text in texts] == [theirs.encode(text, add_special_tokens=False) for text in texts]
    assert [resolved.ids(text) for text in texts] != [plain.ids(text) for text in texts]
    assert (resolved.sha256, resolved.identity != plain.identity) == (plain.sha256, True)
    kept = list((tmp_path / "cache" / "tokenizers").iterdir())
    assert [path.name for path in kept] == [f"{resolved.identity}.json"]
    assert ModelTokenizer(folder).ids(texts[0]) == resolved.ids(texts[0])


@pytest.mark.parametrize("name", ["minimind2-small", "qwen1.5-0.5b-chat-shape"])
def test_real_tokenizers(name, tmp_path, monkeypatch):
    if not (REAL / "models" / name).is_dir():
        pytest.skip("the real tokenizers are not beside the repository")
    monkeypatch.setenv("SWIFT_SFT_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / name
    folder.mkdir()
    for part in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        shutil.copy(REAL / "models" / name / part, folder)
    tokenizer = ModelTokenizer(folder)
    assert tokenizer.control_tokens == ("<|endoftext|>", "<|im_end|>", "<|im_start|>")
    assert len(tokenizer.ids("负面")) == 1
    # ms-swift 4.6.0's own template makes so many tokens of this row, the last line end included.
    text = chat_text(small_task(tmp_path), "房间不错，早餐一般，2005年8月住过。", "正面")
    assert len(tokenizer.ids(text)) == {"minimind2-small": 61, "qwen1.5-0.5b-chat-shape": 51}[name]
