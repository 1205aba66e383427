"""How a CPU computes: measured once, taken only where it is faster, and never at the cost of an answer."""

import subprocess
import sys
from pathlib import Path

import pytest

from plan import cpu_kernels as precision
from plan.cpu_kernels import KERNELS, ONEDNN, Precision, cpu_precision, infer_values, sft_values
from plan.cpu_rates import measure
from plan.hardware import Machine

CPU = Machine("cpu", 2, 24.0, None, 0, 0.0, False)
GPU = Machine("cpu", 8, 64.0, "H200", 1, 141.0, True)
SLOW = Precision(150.0, 150.0, 90.0, 8e-7, 1.0, 1.0)  # Intel with AVX-512: MKL is as fast, and bf16 is emulated
AMD = Precision(150.0, 330.0, 90.0, 8e-7, 1.0, 1.0)
ALL = Precision(150.0, 330.0, 650.0, 8e-7, 1.0, 1.0)
AMX = Precision(150.0, 900.0, 950.0, 3e-3, 1.1, 1.0)  # oneDNN would round to bf16
EAGER = AMD._replace(attention=2.5)
ANSWERS = AMD._replace(answers=5.0)
FLOAT32 = {"torch_dtype": "float32", "bf16": False, "external_plugins": ["a.py"]}


@pytest.mark.parametrize(
    ("measured", "by_onednn", "bf16"), [(SLOW, False, False), (AMD, True, False), (ALL, True, True), (AMX, False, True)]
)
def test_what_is_faster_is_taken_and_answers_stay_float32(measured, by_onednn, bf16):
    changed = sft_values(measured, FLOAT32, {})
    plugins = ["a.py", str(KERNELS), *([str(ONEDNN)] if by_onednn else [])]
    assert changed["external_plugins"] == plugins
    assert changed["callbacks"] == ["fused_training"]
    assert changed.get("bf16") is (True if bf16 else None)
    of_a_checkpoint = FLOAT32 | changed
    assert infer_values(measured, {"torch_dtype": "float32"}, of_a_checkpoint) == {"external_plugins": plugins}
    assert ("taken" in measured.describe()) == (by_onednn or bf16)


def test_what_the_user_asks_for_stands():
    assert "bf16" not in sft_values(ALL, FLOAT32, {"bf16": "false"})
    assert "bf16" not in sft_values(ALL, FLOAT32 | {"deepspeed": "zero2"}, {})
    assert sft_values(ALL, FLOAT32 | {"torch_dtype": "bfloat16"}, {"torch_dtype": "bfloat16"}) == {}
    assert infer_values(ALL, {"torch_dtype": "bfloat16"}, FLOAT32) == {}
    assert infer_values(ALL, {"torch_dtype": "float32", "infer_backend": "vllm"}, FLOAT32) == {}
    assert sft_values(None, FLOAT32, {}) == infer_values(None, FLOAT32, FLOAT32) == {}


def test_layers_are_fused_for_training_unless_an_attention_is_named_or_the_weights_lie_in_pieces():
    named = FLOAT32 | {"callbacks": ["safe_checkpoints"]}
    assert sft_values(ALL, named, {})["callbacks"] == ["safe_checkpoints", "fused_training"]
    assert sft_values(ALL, FLOAT32 | {"callbacks": "one"}, {})["callbacks"] == ["one", "fused_training"]
    for other in ({"attn_impl": "sdpa"}, {"deepspeed": "zero2"}, {"fsdp": "fsdp2"}):
        changed = sft_values(ALL, named | other, other)
        assert not {"callbacks", "padding_side"} & changed.keys()
    assert sft_values(ALL, named, {})["padding_side"] == "left"
    assert "padding_side" not in sft_values(ALL, named | {"padding_side": "right"}, {"padding_side": "right"})


def test_attention_is_left_to_plain_products_where_they_are_faster_and_nobody_named_another():
    float32, named = {"torch_dtype": "float32"}, {"attn_impl": "sdpa"}
    assert sft_values(EAGER, FLOAT32, {})["attn_impl"] == "eager" and "for training" in EAGER.describe()
    assert "attn_impl" not in sft_values(ANSWERS, FLOAT32, {}) | infer_values(EAGER, float32, FLOAT32)
    assert "attn_impl" not in sft_values(EAGER, FLOAT32 | named, named)
    assert sft_values(EAGER, {"torch_dtype": "bfloat16"}, {}) == {}

    answered = infer_values(ANSWERS, float32, FLOAT32)
    assert answered == {"attn_impl": "eager", "external_plugins": ["a.py", str(KERNELS), str(ONEDNN)]}
    assert infer_values(ANSWERS, float32 | {"attn_impl": "eager"}, FLOAT32) == answered
    assert "attn_impl" not in infer_values(ANSWERS, float32 | named, FLOAT32)
    assert "for answers" in ANSWERS.describe() and "attention" not in AMD.describe()


def test_it_is_measured_once_a_machine(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("SWIFT_SFT_CACHE", str(tmp_path))
    assert cpu_precision(GPU) is None and not list(tmp_path.rglob("*"))
    first = cpu_precision(CPU)
    assert min(first[:3]) > 0
    monkeypatch.setattr(precision.subprocess, "run", None)  # a second measuring would fail
    assert cpu_precision(CPU) == first
    (kept,) = (tmp_path / "precision").iterdir()
    kept.write_text('{"float32": 1.0}', encoding="utf-8")  # of another version
    with pytest.raises(TypeError):
        cpu_precision(CPU)
    assert not kept.exists()


def test_the_plugin_computes_as_accurately_as_float32_where_it_is_taken():
    """The error is measured again here, in this process: what is taken must be float32's own accuracy."""
    import torch

    try:
        found = Precision(**measure())
        assert found.error < 1e-5 or not found.by_onednn
        assert min(found.attention, found.answers) > 0.05
        assert found.error < 2e-2  # whatever is taken or not, the product is right
    finally:
        torch.set_float32_matmul_precision("highest")


WHOLE_BATCH = """
import sys
import torch

layer = torch.nn.Linear(8, 64, bias=False).requires_grad_(False)
rows = torch.randn(4, 10, 8)[:, -2:]  # the last tokens of each row: a view with gaps
expected = torch.stack([row @ layer.weight.T for row in rows])
if sys.argv[1:]:
    sys.path.append(sys.argv[1])
    from cpu.whole_batches import multiply_whole_batches

    multiply_whole_batches()
with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
    found = layer(rows)
assert torch.allclose(found, expected, atol=1e-6), (found - expected).abs().max()
print(sorted({event.name for event in profile.events()} & {"aten::bmm", "aten::mm"}))
"""


@pytest.mark.parametrize(("plugin", "product"), [([], "['aten::bmm']"), ([str(KERNELS.parent)], "['aten::mm']")])
def test_a_frozen_layer_multiplies_a_batch_at_once(plugin, product):
    """Without the plugin torch copies the weight for each row: the day this changes, the plugin can go."""
    done = subprocess.run([sys.executable, "-c", WHOLE_BATCH, *plugin], capture_output=True, text=True)
    assert done.stdout.strip() == product, done.stderr
