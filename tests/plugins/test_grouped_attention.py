"""Grouped attention on a CPU against transformers' own, on models with and without groups, masks and caches."""

import pytest

torch = pytest.importorskip("torch")

from transformers import AttentionInterface  # noqa: E402
from transformers.integrations.sdpa_attention import sdpa_attention_forward  # noqa: E402

from plugins.grouped_attention import grouped_attention, install  # noqa: E402
from tests.tiny_models import random_model  # noqa: E402

pytestmark = pytest.mark.torch

HEADS, SIZE, ROWS = 8, 16, 3


@pytest.fixture
def installed():
    install()
    yield
    AttentionInterface.register("sdpa", sdpa_attention_forward)


@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize(("tokens", "seen"), [(1, 40), (7, 40), (40, 40)])
@pytest.mark.parametrize("kind", ["none", "bool", "float"])
def test_it_is_transformers_own_to_the_bit(groups: int, tokens: int, seen: int, kind: str) -> None:
    generator = torch.Generator().manual_seed(groups * tokens)
    query = torch.randn(ROWS, HEADS, tokens, SIZE, generator=generator)
    key, value = (torch.randn(ROWS, groups, seen, SIZE, generator=generator) for _ in range(2))
    mask = torch.ones(tokens, seen, dtype=torch.bool).tril(seen - tokens).repeat(ROWS, 1, 1, 1)
    mask[0, :, :, : seen - tokens] = False  # padding on the left of the first row
    masks = {"none": None, "bool": mask, "float": torch.zeros(mask.shape).masked_fill(~mask, -1e30)}
    module = torch.nn.Module()
    module.num_key_value_groups = HEADS // groups
    given = (module, query, key, value, masks[kind])
    own, found = sdpa_attention_forward(*given, scaling=0.3)[0], grouped_attention(*given, scaling=0.3)[0]
    assert found.shape == (ROWS, tokens, HEADS, SIZE) and torch.equal(found, own)


def test_what_changes_more_than_the_mask_is_left_to_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict] = []
    monkeypatch.setattr(
        "plugins.grouped_attention.sdpa_attention_forward", lambda *given, **more: asked.append(more) or (None, None)
    )
    query, key = torch.zeros(1, 4, 1, 2), torch.zeros(1, 2, 5, 2)
    mask = torch.ones(1, 1, 1, 5, dtype=torch.bool)
    grouped_attention(None, query, key, key, mask, position_bias=torch.zeros(1))
    grouped_attention(None, query, key, key, mask, dropout=0.1)
    grouped_attention(None, query.to("meta"), key.to("meta"), key.to("meta"), mask)
    assert len(asked) == 3


def test_a_model_answers_the_same_once_it_is_installed(installed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """And really attends by it: a padded batch, then one more token from the cache."""
    model = random_model("qwen2", 50)
    assert model.config.num_key_value_heads < model.config.num_attention_heads
    ids = torch.arange(12, 32).reshape(2, 10)
    mask = torch.ones(2, 10, dtype=torch.long)
    mask[0, :4] = 0

    def logits() -> list[torch.Tensor]:
        first = model(input_ids=ids, attention_mask=mask, use_cache=True)
        longer = torch.cat([mask, mask.new_ones(2, 1)], 1)
        second = model(input_ids=ids[:, :1], attention_mask=longer, past_key_values=first.past_key_values)
        return [first.logits, second.logits]

    grouped = logits()
    calls: list[bool] = []
    monkeypatch.setattr(
        "torch.nn.functional.scaled_dot_product_attention",
        lambda *given, _own=torch.nn.functional.scaled_dot_product_attention, **more: (
            calls.append(bool(more.get("enable_gqa"))) or _own(*given, **more)
        ),
    )
    logits()
    assert calls and all(calls)
    AttentionInterface.register("sdpa", sdpa_attention_forward)
    assert all(torch.equal(one, other) for one, other in zip(grouped, logits(), strict=True))
