"""Layers that are fused for training against the model's own: the same loss and the same gradients, padded or not."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from plan.cpu_kernels import CALLBACK, KERNELS
from plan.hardware import child_environment, this_machine
from workspace.files import read_json, read_jsonl, write_json, write_jsonl
from workspace.paths import ROOT

pytestmark = pytest.mark.torch

LAYERS, LONG = 2, 150  # more tokens than one block of queries
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def made(kind: str = "qwen2", targets: list[str] | None = None, **changes):
    """A small random model under an adapter whose factors are not zero; `changes` are those of the adapter."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    biases = {"attention_bias": True, "mlp_bias": True} if kind == "llama" else {}
    config = AutoConfig.for_model(
        kind, vocab_size=50, hidden_size=64, intermediate_size=96, num_hidden_layers=LAYERS, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, initializer_range=0.2, pad_token_id=0, sliding_window=None, **biases,
    )  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=changes.pop("attn", "sdpa"))
    for name, weight in model.named_parameters():  # norms and biases begin as ones and zeros, which prove nothing
        if "norm" in name or "bias" in name:
            torch.nn.init.uniform_(weight, 0.5, 1.5)
    model = get_peft_model(model, LoraConfig(r=4, lora_alpha=12, target_modules=targets or TARGETS, **changes))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    return model.train()


def fused(model) -> int:
    from cpu.fused_training import fuse_for_training

    return fuse_for_training(model)


def batch(tokens: int, padding: str, prompt: int = 0) -> dict[str, torch.Tensor]:
    """Four rows of which three are shorter, all beginning with the same `prompt` tokens."""
    torch.manual_seed(1)
    ids = torch.randint(1, 50, (4, tokens))
    mask = torch.ones_like(ids)
    shorts = (1, tokens // 2, tokens - 1 - prompt) if padding != "none" else ()
    for row, short in enumerate((*shorts, *[0] * (4 - len(shorts)))):
        if short:
            mask[row, slice(tokens - short, None) if padding == "right" else slice(short)] = 0
        begin = short if padding == "left" else 0
        ids[row, begin : begin + prompt] = torch.arange(prompt) % 49 + 1
    judged = (mask == 1) & (mask.roll(1, -1) == 1)  # not by what stands at padding
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(~judged, -100)}


def step(model, inputs, low: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss and the gradients of all that is trained, in one row."""
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=low):
        loss = model(**inputs, use_cache=False).loss
    loss.backward()
    trained = [weight.grad.flatten() for weight in model.parameters() if weight.requires_grad]
    assert all(bool(one.abs().sum() > 0) for one in trained)
    return loss.detach(), torch.cat(trained)


def away(found: torch.Tensor, own: torch.Tensor) -> float:
    return float((found - own).norm() / own.norm())


@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "llama", "mistral"])
@pytest.mark.parametrize("tokens", [12, LONG], ids=["one-block", "blocks"])
@pytest.mark.parametrize("padding", ["none", "right", "left"])
def test_loss_and_gradients_are_those_of_the_models_own_layers(kind, tokens, padding):
    model, inputs = made(kind), batch(tokens, padding)
    loss, gradients = step(model, inputs)
    assert fused(model) == LAYERS
    assert fused(model) == 0  # they are already
    found_loss, found = step(model, inputs)
    assert abs(found_loss - loss) < 1e-5 * loss and away(found, gradients) < 1e-5


@pytest.mark.parametrize("padding", ["none", "right", "left"])
def test_a_loss_of_few_tokens_has_the_same_gradients(padding):
    model, inputs = made(), batch(LONG, padding)
    ends = inputs["attention_mask"].cumsum(-1).argmax(-1)
    others = torch.arange(LONG) != ends.unsqueeze(1)
    inputs["labels"] = inputs["input_ids"].masked_fill(others, -100)
    inputs["labels"][2] = -100  # and none in a row
    loss, own = step(model, inputs)
    assert fused(model) == LAYERS
    found_loss, found = step(model, inputs)
    assert abs(found_loss - loss) < 1e-5 * loss and away(found, own) < 1e-5


def few(inputs: dict[str, torch.Tensor], tokens: int, as_mask: bool = False) -> dict[str, torch.Tensor]:
    """The batch with a loss at its last `tokens` places alone, as ms-swift asks for it: by a count or by a mask."""
    kept = torch.arange(inputs["labels"].shape[1]) >= inputs["labels"].shape[1] - tokens
    return inputs | {"labels": inputs["labels"][:, kept], "logits_to_keep": kept if as_mask else tokens}


@pytest.mark.parametrize("kind", ["qwen2", "qwen3"])
@pytest.mark.parametrize("prompt", [0, 6, 40], ids=lambda prompt: f"prompt-{prompt}")
@pytest.mark.parametrize("padding", ["none", "right", "left"])
@pytest.mark.parametrize("kept", [0, 5, 140], ids=lambda kept: f"kept-{kept}")
def test_a_prompt_that_rows_share_and_logits_of_few_tokens_change_no_gradient(kind, prompt, padding, kept):
    model, inputs = made(kind), batch(LONG, padding, prompt)
    inputs = few(inputs, kept) if kept else inputs
    loss, own = step(model, inputs)
    assert fused(model) == LAYERS
    found_loss, found = step(model, inputs)
    assert abs(found_loss - loss) < 1e-5 * loss and away(found, own) < 1e-5


@pytest.mark.parametrize("rows", [1, 4])
def test_logits_to_keep_may_be_a_mask_and_rows_have_positions_of_their_own(rows):
    model, inputs = made(), few(batch(LONG, "left", 20), 3, as_mask=True)
    inputs |= {"position_ids": (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)}
    inputs = {name: value if name == "logits_to_keep" else value[-rows:] for name, value in inputs.items()}
    _, own = step(model, inputs)
    assert fused(model) == LAYERS
    assert away(step(model, inputs)[1], own) < 1e-5


def test_a_layer_of_its_own_between_fused_ones_gets_padded_rows():
    model, inputs = made(), few(batch(LONG, "left", 20), 5)
    layer = model.get_base_model().model.layers[1]
    layer.input_layernorm.weight.requires_grad_(True)
    _, own = step(model, inputs)
    assert fused(model) == 1
    assert away(step(model, inputs)[1], own) < 1e-5


def test_hidden_states_and_logits_are_whole_when_they_are_asked_for():
    model, inputs = made().eval(), batch(LONG, "left", 20)
    inputs.pop("labels")
    found = []
    for _ in range(2):
        with torch.no_grad():
            result = model(**inputs, use_cache=False, output_hidden_states=True, logits_to_keep=3)
            whole = model(**inputs, use_cache=False).logits
        found.append((*result.hidden_states, whole))
        fused(model)
    seen = inputs["attention_mask"].bool()
    for own, other in zip(*found, strict=True):
        assert other[seen].allclose(own[seen], atol=1e-4)


@pytest.mark.parametrize("attn", ["eager", "sdpa"])
def test_in_bfloat16_they_are_as_near_to_float32_as_the_models_own(attn):
    model, inputs = made(attn=attn), batch(LONG, "right")
    _, exact = step(model, inputs)
    _, own = step(model, inputs, low=True)
    assert fused(model) == LAYERS
    _, found = step(model, inputs, low=True)
    assert 0 < away(found, exact) < 1.5 * away(own, exact)
    assert away(step(model, inputs)[1], exact) < 1e-5  # float32 again, where autocast is off


@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], ["down_proj"]])
def test_what_no_adapter_is_on_is_multiplied_all_the_same(targets):
    model, inputs = made(targets=targets), batch(LONG, "right")
    _, own = step(model, inputs)
    assert fused(model) == LAYERS and away(step(model, inputs)[1], own) < 1e-5


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradients_are_the_same_with_activations_computed_again(reentrant):
    model, inputs = made(), batch(LONG, "right")
    _, own = step(model, inputs)
    assert fused(model) == LAYERS
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    assert away(step(model, inputs)[1], own) < 1e-5


@pytest.mark.parametrize(
    "changes",
    [{"lora_dropout": 0.1}, {"use_dora": True}, {"lora_bias": True}, {"modules_to_save": ["input_layernorm"]}],
    ids=str,
)
def test_other_adapters_keep_the_models_own_layers(changes):
    assert fused(made(**changes)) == 0


def test_full_tuning_and_other_models_keep_their_own_layers():
    assert fused(made().merge_and_unload().requires_grad_(True)) == 0
    assert fused(made().bfloat16()) == 0
    assert fused(torch.nn.Linear(2, 2)) == 0


def test_a_layer_that_is_not_just_this_keeps_its_own_function():
    model = made()
    attention = model.get_base_model().model.layers[0].self_attn
    attention.scaling *= 2  # told the fused layer too: no difference
    assert fused(model) == LAYERS
    model = made()
    layer = model.get_base_model().model.layers[1]
    own = layer.forward
    layer.forward = lambda *args, **kwargs: own(*args, **kwargs) * 1.01
    assert fused(model) == 1


def test_what_a_fused_layer_does_not_do_is_left_to_the_models_own():
    inputs = batch(20, "left")
    prompt = {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"]}
    seen = torch.eye(20, dtype=torch.bool).expand(4, 1, -1, -1)  # each token sees itself alone
    model, found = made().eval(), []
    for _ in range(2):
        with torch.no_grad():
            written = model.generate(**prompt, max_new_tokens=4, do_sample=False)
            odd = model(input_ids=prompt["input_ids"], attention_mask=seen, use_cache=False).logits
            with model.disable_adapter():
                plain = model(**prompt, use_cache=False).logits
            two = torch.arange(10).repeat(2).unsqueeze(0)  # two reviews in one row
            flat = model(input_ids=prompt["input_ids"][:1], position_ids=two, use_cache=False).logits
        found.append((written, odd, plain, flat))
        fused(model)
    for own, other in zip(*found, strict=True):
        assert own.equal(other)


@pytest.mark.parametrize(("same", "shared"), [(0, 0), (5, 0), (6, 6), (14, 14), (15, 14)], ids=lambda count: str(count))
def test_what_rows_begin_with_is_packed_once(same, shared):
    """At least a block's rounding must be saved, and one token of each row is its own."""
    from cpu.varlen_batch import varlen_batch

    torch.manual_seed(0)
    x, angles = torch.randn(4, 15, 5), torch.rand(1, 15, 8)
    x[:, :same] = x[0, :same]
    needed = torch.arange(15) > 12
    packed = varlen_batch(x, None, angles.cos(), angles.sin(), passed_on=True, needed=needed)
    assert (packed.shared, packed.blocks[0].tokens) == (shared, shared or 16)
    assert len(packed.source) == shared + 4 * 16
    whole = varlen_batch(x, None, angles.cos(), angles.sin(), passed_on=True)
    assert whole.unpack(whole.pack(x)).equal(x)
    upstream = torch.randn_like(x)
    assert whole.unpack_gradient(upstream)[:shared].allclose(upstream[:, :shared].sum(0))
    if shared < 14:  # among what is shared nothing is left out
        assert packed.unpack(packed.pack(x)[packed.kept]).equal(x * needed.unsqueeze(-1))


def test_rows_are_packed_without_their_padding_and_unpacked_again():
    from cpu.varlen_batch import varlen_batch

    tokens = 40
    seen = torch.zeros(3, tokens, dtype=torch.bool)
    seen[0, :40] = seen[1, :3] = seen[2, 10:40] = True
    mask = (seen.unsqueeze(1) & torch.ones(tokens, tokens, dtype=torch.bool).tril()).unsqueeze(1)
    angles = torch.rand(1, tokens, 8)
    x = torch.randn(3, tokens, 5)
    packed = varlen_batch(x, mask, angles.cos(), angles.sin())
    assert [tuple(block)[:3] for block in packed.blocks] == [(0, 1, 16), (16, 1, 32), (48, 1, 48)]
    assert packed.unpack(packed.pack(x)).equal(x * seen.unsqueeze(-1))
    assert packed.pack(x)[:3].equal(x[1, :3]) and packed.pack(x)[16:46].equal(x[2, 10:])
    assert packed.unpack_gradient(x).square().sum() == pytest.approx(float((x * seen.unsqueeze(-1)).square().sum()))
    mask[0, 0, 5, 2] = False
    assert varlen_batch(x, mask, angles.cos(), angles.sin()) is None


@pytest.mark.swift
def test_swift_sft_trains_through_them(tmp_path: Path, demo_model: Path):
    """Two runs of ms-swift in one process: the losses of float32 agree, and the log says how many layers are fused."""
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"第{at}间房" * (at % 5 + 1)},
                {"role": "assistant", "content": "正面"},
            ]
        }
        for at in range(12)
    ]
    write_jsonl(tmp_path / "train.jsonl", rows)
    shared = {
        "model": str(demo_model), "model_type": "qwen2", "template": "qwen", "tuner_type": "lora", "lora_dropout": 0,
        "target_modules": "all-linear", "dataset": [str(tmp_path / "train.jsonl")], "split_dataset_ratio": 0,
        "use_cpu": True, "torch_dtype": "float32", "bf16": False, "fp16": False, "max_steps": 3,
        "per_device_train_batch_size": 4, "gradient_checkpointing": False, "logging_steps": 1, "learning_rate": 1e-3,
        "add_version": False, "check_model": False, "report_to": "none", "save_strategy": "no",
    }  # fmt: skip
    ways = {"own": {}, "fused": {"external_plugins": [str(KERNELS)], "callbacks": [CALLBACK]}}
    for name, changes in ways.items():
        values = shared | changes | {"output_dir": str(tmp_path / name)}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    write_json(tmp_path / "paths.json", [str(tmp_path / f"{name}.yaml") for name in ways])
    script = (
        "import json, sys\nfrom swift import sft_main\nfrom swift.cli.main import parse_yaml_args\n"
        "for path in json.load(open(sys.argv[1])):\n    argv = [path]\n    parse_yaml_args(argv)\n    sft_main(argv)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "paths.json")],
        cwd=ROOT, capture_output=True, text=True, env=child_environment(this_machine()),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    layers = read_json(demo_model / "config.json")["num_hidden_layers"]
    assert (done.stdout + done.stderr).count(f"fused_training: {layers} decoder layers") == 1
    assert "own layers compute instead" not in done.stdout + done.stderr  # ms-swift hands on nothing unknown
    own, found = (
        [float(line["loss"]) for line in read_jsonl(tmp_path / name / "logging.jsonl") if "loss" in line]
        for name in ways
    )
    assert len(own) == 3 and found == pytest.approx(own, rel=1e-3)
