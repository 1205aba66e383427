"""Fused layers against the model's own: the same logits, for prompts with and without padding, and token by token."""

import pytest
import torch

pytestmark = pytest.mark.torch

LAYERS, LONG = 2, 150  # more tokens than one block of queries
ALIKE = {"rtol": 1e-4, "atol": 1e-4}


def made(kind: str, **changes):
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        kind, vocab_size=50, hidden_size=64, intermediate_size=96, num_hidden_layers=LAYERS, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, initializer_range=0.2, pad_token_id=0, sliding_window=None,
    )  # fmt: skip
    config.update(changes)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=changes.get("attn", "eager")).eval()
    for name, weight in model.named_parameters():  # norms and biases begin as ones and zeros, which prove nothing
        if "norm" in name or "bias" in name:
            torch.nn.init.uniform_(weight, 0.5, 1.5)
    return model


def answers(model, tokens: int = LONG) -> torch.Tensor:
    """Logits of a padded batch, of two steps after it and of a batch without padding."""
    torch.manual_seed(1)
    ids = torch.randint(1, 50, (3, tokens))
    mask = torch.ones_like(ids)
    mask[1, :4] = mask[2, : tokens // 2] = 0
    with torch.inference_mode():
        found = [model(input_ids=ids, attention_mask=mask, use_cache=True)]
        seen = mask
        for step in (3, 4):
            seen = torch.cat([seen, seen.new_ones(3, 1)], 1)
            cache, token = found[-1].past_key_values, torch.full((3, 1), step)
            found.append(model(input_ids=token, attention_mask=seen, past_key_values=cache, use_cache=True))
        whole = model(input_ids=ids).logits
    return torch.cat([found[0].logits[mask.bool()], *(one.logits[:, -1] for one in found[1:]), *whole])


@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "llama", "mistral"])
@pytest.mark.parametrize("tokens", [12, LONG], ids=["one-block", "blocks"])
def test_logits_are_those_of_the_models_own_layers(kind, tokens):
    from cpu.fused_answers import fuse_layers

    model = made(kind, attention_bias=True, mlp_bias=True) if kind == "llama" else made(kind)
    own = answers(model, tokens)
    assert fuse_layers(model) == LAYERS
    assert fuse_layers(model) == 0  # they are already
    assert torch.allclose(answers(model, tokens), own, **ALIKE)
    assert own.std() > 0.1


def test_an_adapter_that_is_merged_is_in_the_fused_layers():
    from cpu.fused_answers import fuse_layers
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(made("qwen2"), LoraConfig(r=4, lora_alpha=64, target_modules="all-linear"))
    plain = answers(model)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    tuned = answers(model)
    assert not torch.allclose(plain, tuned, **ALIKE)
    assert fuse_layers(model) == 0  # not merged yet
    model.merge_adapter()
    assert fuse_layers(model) == LAYERS
    assert torch.allclose(answers(model), tuned, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("gemma2", {"sliding_window": 4096}),  # norms after attention, other activations
        ("qwen2", {"attn": "sdpa"}),
        ("llama", {"hidden_act": "gelu"}),
        ("mistral", {"sliding_window": 8}),
    ],
)
def test_what_is_not_computed_just_so_stays_as_it_is(kind, changes):
    from cpu.fused_answers import fuse_layers

    model = made(kind, **changes)
    own = answers(model, 20)
    assert fuse_layers(model) == 0
    assert torch.equal(answers(model, 20), own)


def test_other_dtypes_stay_as_they_are():
    from cpu.fused_answers import fuse_layers

    assert fuse_layers(made("qwen2").bfloat16()) == 0


def test_a_layer_that_answers_otherwise_stays_as_it_is():
    from cpu.fused_answers import fuse_layers

    model = made("llama")
    second = model.model.layers[1]
    second.forward = lambda hidden, **kwargs: type(second).forward(second, hidden, **kwargs) + hidden
    own = answers(model)
    assert fuse_layers(model) == 1
    assert torch.allclose(answers(model), own, **ALIKE)
