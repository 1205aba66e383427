"""Whatever goes wrong in a fused layer, the model's own layers compute, and the log says so in one line."""

import logging

import pytest
import torch

from tests.plugins.cpu import test_fused_training as training

pytestmark = pytest.mark.torch


@pytest.fixture
def log(caplog):
    """What ms-swift's logger, which hands nothing on to others, is given as warnings."""
    logger = logging.getLogger("swift")
    logger.addHandler(caplog.handler)
    yield lambda: list(dict.fromkeys(one.getMessage() for one in caplog.records if one.levelno == logging.WARNING))
    logger.removeHandler(caplog.handler)


def rename_attributes(monkeypatch, model) -> None:
    """As a transformers would have it that calls the epsilon of a norm otherwise."""
    norm = type(model.get_base_model().model.norm)

    def forward(self, x):
        return self.weight * torch.nn.functional.rms_norm(x, x.shape[-1:], eps=self.eps)

    monkeypatch.setattr(norm, "forward", forward)
    for module in model.modules():
        if isinstance(module, norm):
            module.eps = module.__dict__.pop("variance_epsilon")


def raising(*args, **kwargs):
    raise RuntimeError("no such\nblock")


def test_training_where_an_attribute_was_renamed(monkeypatch, log):
    model, inputs = training.made(), training.batch(20, "left")
    rename_attributes(monkeypatch, model)
    _, own = training.step(model, inputs)
    assert training.fused(model) == 0
    assert training.step(model, inputs)[1].equal(own)
    (line,) = log()
    assert line.startswith("fused_training: the model's own layers") and "variance_epsilon" in line


@pytest.mark.parametrize("layer", [0, 1], ids=["first-layer", "between-layers"])
def test_training_where_packing_raises(monkeypatch, log, layer):
    from cpu.varlen_attention import VarlenAttention
    from cpu.varlen_batch import VarlenBatch

    model, inputs = training.made(), training.few(training.batch(training.LONG, "left", 20), 5)
    _, own = training.step(model, inputs)
    assert training.fused(model) == training.LAYERS
    where, name = ((VarlenBatch, "pack"), (VarlenAttention, "forward"))[layer]
    computed, calls = getattr(where, name), []

    def sometimes(*args, **kwargs):
        calls.append(1)
        return raising() if len(calls) > layer else computed(*args, **kwargs)

    monkeypatch.setattr(where, name, sometimes)
    for _ in range(2):
        assert training.away(training.step(model, inputs)[1], own) < 1e-5
    assert log() == ["fused_training: the model's own layers compute instead, slower: RuntimeError: no such block"]


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("at", [0, 1], ids=["last-layer", "between-layers"])
def test_training_where_the_backward_pass_raises(monkeypatch, log, at, bf16):
    from cpu.low_rank_product import LowRankProduct

    model, inputs = training.made(), training.few(training.batch(training.LONG, "left", 20), 5)

    def gradients():
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return training.step(model, inputs)[1]

    own = gradients()
    assert training.fused(model) == training.LAYERS
    computed, calls = LowRankProduct.backward, []

    def sometimes(*args, **kwargs):
        calls.append(1)
        return raising() if len(calls) > 5 * at else computed(*args, **kwargs)

    monkeypatch.setattr(LowRankProduct, "backward", sometimes)
    first, second = (training.away(gradients(), own) for _ in range(2))
    assert first < (0.05 if bf16 else 1e-5) and second < 1e-5  # the second time by the own layers from the beginning
    assert log() == ["fused_training: the model's own layers compute instead, slower: RuntimeError: no such block"]


def test_training_where_packing_raises_in_one_of_few_fused_layers(monkeypatch, log):
    from cpu.varlen_batch import VarlenBatch

    model, inputs = training.made(), training.batch(20, "right")
    model.get_base_model().model.layers[1].input_layernorm.weight.requires_grad_(True)
    _, own = training.step(model, inputs)
    assert training.fused(model) == 1
    monkeypatch.setattr(VarlenBatch, "pack", raising)
    assert training.away(training.step(model, inputs)[1], own) < 1e-5
    assert len(log()) == 1


def test_training_that_is_fused_raises_what_the_model_itself_raises(log):
    model, inputs = training.made(), training.batch(20, "left")
    assert training.fused(model) == training.LAYERS
    with pytest.raises(IndexError):
        model(input_ids=inputs["input_ids"] + 50)


def test_training_with_an_unknown_argument(log):
    model, inputs = training.made(), training.batch(20, "left")
    _, own = training.step(model, inputs)
    assert training.fused(model) == training.LAYERS
    assert training.away(training.step(model, inputs | {"temperature_of_attention": 2.0})[1], own) < 1e-5
    (line,) = log()
    assert "UnknownArgument" in line and "temperature_of_attention" in line


def test_transformers_itself_hands_layers_nothing_unknown(log):
    """A step, text from a prompt, and hidden states: no warning, and what is asked for."""
    model, inputs = training.made(), training.batch(20, "left")
    assert training.fused(model) == training.LAYERS
    training.step(model, inputs)
    ids = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    assert model.generate(**ids, max_new_tokens=4, min_new_tokens=4, do_sample=False).shape == (4, 24)
    with torch.no_grad():
        assert len(model(**ids, output_hidden_states=True, use_cache=False).hidden_states) == training.LAYERS + 1
    assert not log()
