"""The tokenizer as training will use it, where its cache cannot be kept."""

from pathlib import Path

import pytest

from data_prep.chat.tokenizer import ModelTokenizer


@pytest.mark.torch
def test_a_cache_that_cannot_be_written_is_not_blamed_on_the_model(
    demo_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = ModelTokenizer(demo_model).ids("房间很干净")
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("SWIFT_SFT_CACHE", str(tmp_path / "file" / "cache"))
    assert ModelTokenizer(demo_model).ids("房间很干净") == expected
