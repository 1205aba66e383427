"""The line of a score file, and that ms-swift takes a row's key along."""

from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.score_lines import KEY, KeyedRow, ScoreFile, ScoreLine, chat_sha256, tokens_sha256
from workspace.files import read_jsonl, write_json, write_jsonl

LINE = ScoreLine("test/1", "ab", "cd", 5, 0.1, None, {"正面": -0.5, "负面": -1.0})
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def test_a_line_is_read_as_it_was_written(tmp_path) -> None:
    settings = {"labels": ["正面", "负面"], "modes": {"single": ["b"], "score": ["a"]}, "out": str(tmp_path / "out")}
    scores = ScoreFile(settings)
    assert scores.modes == {"a": "score", "b": "single"}
    rows = [KeyedRow("b", "12", [7, 9]), KeyedRow("a", "34", [7])]
    scores.append(rows, [[-0.5, -1.0], [-2.0, -0.1]], [0.1, 0.2], None)
    scores.append(rows[:1], [[-0.5, -1.0]], [0.1], 0.3)
    one, other, last = (ScoreLine.read(row) for row in read_jsonl(tmp_path / "out"))
    assert one == ScoreLine("b", "12", tokens_sha256([7, 9]), 2, 0.1, None, {"正面": -0.5, "负面": -1.0})
    assert (other.key, other.score_seconds, other.logprobs["负面"], last.generate_seconds) == ("a", 0.2, -0.1, 0.3)
    with pytest.raises(ValueError, match="zip"):
        scores.append(rows, [[-0.5, -1.0]], [0.1], None)


def test_the_settings_are_those_that_the_variable_names(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("LABEL_SCORES", raising=False)
    assert ScoreFile.named_by("LABEL_SCORES") is None
    write_json(tmp_path / "plugin.json", {"labels": ["a"], "modes": {}, "out": "x"})
    monkeypatch.setenv("LABEL_SCORES", str(tmp_path / "plugin.json"))
    assert ScoreFile.named_by("LABEL_SCORES").labels == ["a"]


@given(st.sampled_from(sorted(asdict(LINE))), JSON)
def test_a_damaged_line_is_no_line_or_one_with_a_text_key(name, value) -> None:
    read = ScoreLine.read({**asdict(LINE), name: value})
    assert read is None or (isinstance(read.key, str) and isinstance(read.chat_sha256, str) and read.logprobs)
    assert ScoreLine.read(value) is None or isinstance(value, dict)
    without = ScoreLine.read({key: one for key, one in asdict(LINE).items() if key != name})
    assert without == (LINE if name == "finish_reason" else None)  # lines of earlier versions have none


def test_the_hash_is_of_roles_and_texts_alone() -> None:
    chat = [{"role": "user", "content": "好？\ud800"}]
    assert chat_sha256(chat) == chat_sha256([{"content": "好？\ud800", "role": "user", "loss": None}])
    assert chat_sha256(chat) != chat_sha256([{"role": "system", "content": "好？\ud800"}])
    assert chat_sha256(chat) != chat_sha256([*chat, *chat])


@pytest.mark.swift
def test_ms_swift_takes_the_key_from_the_file_to_the_batch_and_to_the_result(tmp_path, demo_model) -> None:
    """`channel` is a column of ms-swift's own: it passes the loading of a dataset and the encoding of a row."""
    from swift.dataset import load_dataset
    from swift.model import get_model_processor
    from swift.template import get_template

    from plugins.score_lines import KeyedRows

    chats = [[{"role": "user", "content": text}] for text in ("房间好吗？", "早餐好吗？房间好吗？", "房间好吗？")]
    write_jsonl(tmp_path / "prompts.jsonl", [{KEY: f"test/{n}", "messages": chat} for n, chat in enumerate(chats)])
    _, dataset = load_dataset([str(tmp_path / "prompts.jsonl")], split_dataset_ratio=1.0, shuffle=False)
    rows = list(dataset)
    assert [row[KEY] for row in rows] == ["test/0", "test/1", "test/2"]
    _, tokenizer = get_model_processor(str(demo_model), load_model=False, model_type="qwen2")
    template = get_template(tokenizer, template_type="qwen")
    template.__class__ = type("Keyed", (KeyedRows, type(template)), {})
    template.set_mode("transformers")
    batch = [template.encode(row, return_template_inputs=True) for row in rows]
    for encoded in batch:
        encoded.pop("template_inputs")  # as the engine does
    inputs = template.data_collator(batch)
    assert [row.key for row in template.rows] == ["test/0", "test/1", "test/2"]
    assert [row.chat_sha256 for row in template.rows] == [chat_sha256(chat) for chat in chats]
    shown = [ids[kept.bool()].tolist() for ids, kept in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)]
    assert shown == [row.tokens for row in template.rows]
    assert {"input_ids", "attention_mask"} <= inputs.keys() and not {KEY, "chat_sha256"} & inputs.keys()
