"""What a GPU computes fastest: which packages are taken, when, and what they are never combined with."""

import sysconfig
from dataclasses import replace
from pathlib import Path

import pytest

from plan import gpu_kernels
from plan.gpu_kernels import flash_attention_works, fused_layers, gpu_attention, larger_evaluation, liger_works
from plan.hardware import Machine
from plan.memory import EVAL_BATCH
from plan.result_values import result_values
from tests.plan.faked_machines import model_folder

CPU = Machine("cpu", 2, 24.0, None, 0, 0.0, False)
GPU = Machine("cpu", 8, 64.0, "H200", 1, 141.0, True)
OLD_GPU = Machine("cpu", 8, 64.0, "V100", 1, 16.0, False)
PLAIN = {"torch_dtype": "bfloat16", "padding_side": "left", "tuner_type": "lora"}


def test_a_gpu_with_flash_attn_computes_no_padding() -> None:
    flash = {"attn_impl": "flash_attn", "padding_free": True}
    plain = {"torch_dtype": "bfloat16", "attn_impl_of_another": 1}
    assert gpu_attention(plain, GPU, lambda: True) == flash
    assert gpu_attention(plain, GPU, lambda: False) == {}
    for machine in (CPU, OLD_GPU):
        assert gpu_attention(plain, machine, lambda: True) == {}
    for named in (
        {"attn_impl": "sdpa"}, {"padding_free": "false"}, {"torch_dtype": "float32"}, {"task_type": "seq_cls"},
        {"loss_type": "balanced"}, {"deepspeed": "zero2"},
    ):  # fmt: skip
        assert gpu_attention(plain | named, GPU, lambda: True) == {}


@pytest.mark.parametrize(
    ("content", "works"), [("flash_attn_varlen_func = 1", True), ("raise ImportError('undefined symbol')", False)]
)
def test_flash_attn_that_was_built_for_another_torch_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, works: bool
) -> None:
    (tmp_path / "flash_attn.py").write_text(content, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert flash_attention_works() is works


def test_ligers_kernels_are_taken_where_they_are_installed_and_nothing_of_its_own_meets_them() -> None:
    assert fused_layers(PLAIN, GPU, lambda: True) == {"use_liger_kernel": True}
    assert fused_layers(PLAIN | {"padding_free": "false", "deepspeed": None}, GPU, lambda: True) != {}
    assert fused_layers(PLAIN, GPU, lambda: False) == {}
    for machine in (CPU, OLD_GPU):
        assert fused_layers(PLAIN, machine, lambda: True) == {}
    for named in (
        {"use_liger_kernel": "false"}, {"task_type": "seq_cls"}, {"loss_type": "balanced"}, {"deepspeed": "zero2"},
        {"fsdp": "fsdp2"}, {"padding_free": True}, {"quant_bits": 4}, {"torch_compile": "true"}, {"packing": True},
    ):  # fmt: skip
        assert fused_layers(PLAIN | named, GPU, lambda: True) == {}, named


@pytest.mark.parametrize("missing", ["", "liger_kernel", "triton", "compiler", "Python.h"])
def test_liger_needs_what_triton_compiles_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    (tmp_path / "Python.h").touch()
    monkeypatch.setattr(gpu_kernels.importlib.util, "find_spec", lambda name: None if name == missing else name)
    monkeypatch.setattr(gpu_kernels.shutil, "which", lambda name: None if missing == "compiler" else f"/bin/{name}")
    folder = tmp_path / "none" if missing == "Python.h" else tmp_path
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(folder))
    assert liger_works() is (missing == "")


def test_ligers_kernels_are_a_matter_of_speed() -> None:
    assert result_values(PLAIN | {"use_liger_kernel": True}) == result_values(PLAIN)


def test_validation_rows_come_in_the_largest_batch_that_would_train(tmp_path: Path) -> None:
    model = model_folder(tmp_path, "qwen1.5-0.5b-chat")
    values = PLAIN | {"max_length": 512, EVAL_BATCH: 8}
    assert larger_evaluation(values, GPU, 1, model) == {EVAL_BATCH: 64}
    sizes = {gib: larger_evaluation(values, replace(GPU, gpu_memory_gib=gib), 1, model) for gib in (15.0, 24.0, 79.2)}
    assert sizes == {15.0: {}, 24.0: {}, 79.2: {EVAL_BATCH: 32}}
    assert larger_evaluation(values | {EVAL_BATCH: 128}, GPU, 1, model) == {}
    for machine, more in ((CPU, {}), (GPU, {"quant_bits": 4}), (GPU, {"deepspeed": "zero3"})):
        assert larger_evaluation(values | more, machine, 1, model) == {}
