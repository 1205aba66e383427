"""How a CPU computes: measured once, taken only where it is faster, and never at the cost of an answer."""

import subprocess
import sys
from pathlib import Path

import pytest

from plan import cpu_kernels
from plan.cpu_kernels import BUSY, KERNELS, ONEDNN, Precision, cpu_precision, infer_values, measured_now, sft_values
from plan.cpu_rates import REPEATS, ROUNDS, interleaved, measure, others_share, times_faster
from plan.hardware import Machine

CPU = Machine("cpu", 2, 24.0, None, 0, 0.0, False)
GPU = Machine("cpu", 8, 64.0, "H200", 1, 141.0, True)


def measured(float32: float, onednn: float, bf16: float, error: float, attention: float = 1.0) -> Precision:
    """Rates that every repeat agrees on."""
    rates = ([one] * REPEATS for one in (float32, onednn, bf16))
    return Precision(*rates, error, [attention] * REPEATS)


SLOW = measured(150.0, 150.0, 90.0, 8e-7)  # Intel with AVX-512: MKL is as fast, and bf16 is emulated
AMD = measured(150.0, 330.0, 90.0, 8e-7)
ALL = measured(150.0, 330.0, 650.0, 8e-7)
AMX = measured(150.0, 900.0, 950.0, 3e-3, attention=1.1)  # oneDNN would round to bf16
EAGER = measured(150.0, 330.0, 90.0, 8e-7, attention=2.5)
FLOAT32 = {"torch_dtype": "float32", "bf16": False, "external_plugins": ["a.py"]}


@pytest.mark.parametrize(
    ("found", "by_onednn", "bf16"), [(SLOW, False, False), (AMD, True, False), (ALL, True, True), (AMX, False, True)]
)
def test_what_is_faster_is_taken_and_answers_stay_float32(found, by_onednn, bf16):
    changed = sft_values(found, FLOAT32, {})
    plugins = ["a.py", str(KERNELS), *([str(ONEDNN)] if by_onednn else [])]
    assert changed["external_plugins"] == plugins
    assert changed["callbacks"] == ["fused_training"]
    assert changed.get("bf16") is (True if bf16 else None)
    of_a_checkpoint = FLOAT32 | changed
    assert infer_values(found, {"torch_dtype": "float32"}, of_a_checkpoint) == {"external_plugins": plugins}
    assert ("taken" in found.describe()) == (by_onednn or bf16)


def test_what_the_user_asks_for_stands():
    assert "bf16" not in sft_values(ALL, FLOAT32, {"bf16"})  # by the recipe, an override or the command line
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
    assert "attn_impl" not in sft_values(AMD, FLOAT32, {}) | infer_values(EAGER, float32, FLOAT32)
    assert "attn_impl" not in sft_values(EAGER, FLOAT32 | named, named)
    assert sft_values(EAGER, {"torch_dtype": "bfloat16"}, {}) == {}

    # Training's attention, which a checkpoint names, is not that of answers, unless the user named it for both.
    trained = FLOAT32 | sft_values(EAGER, FLOAT32, {})
    assert infer_values(EAGER, float32, trained)["attn_impl"] == "sdpa"
    assert "attn_impl" not in infer_values(EAGER, float32 | {"attn_impl": "eager"}, trained)
    assert "attention" not in AMD.describe()


def test_what_the_repeats_do_not_agree_on_is_not_taken():
    contradicted = ALL._replace(onednn=[330.0, 140.0, 330.0], bf16=[650.0, 650.0, 150.0])
    assert not contradicted.by_onednn and not contradicted.trains_in_bf16
    assert not EAGER._replace(attention=[2.5, 0.9, 2.5]).by_eager
    # As fast as a busy processor lets float32 be in one repeat, and faster in each: that is no contradiction.
    assert AMD._replace(float32=[150.0, 20.0, 80.0], onednn=[330.0, 45.0, 170.0]).by_onednn


class Clock:
    """A clock that goes on only when something runs."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def takes(self, *seconds: float):
        """A way whose runs take these seconds, over and over."""
        left = list(seconds)

        def run() -> None:
            left.append(left.pop(0))
            self.now += left[-1]

        return run


def test_the_best_of_several_runs_counts_and_ways_take_turns():
    clock, order = Clock(), []
    calm, disturbed = clock.takes(1.0), clock.takes(9.0, 0.5, 7.0)
    ways = {"plain": lambda: (order.append("plain"), calm()), "fused": lambda: (order.append("fused"), disturbed())}
    spent = interleaved(ways, clock)
    assert spent == {"plain": [1.0] * REPEATS, "fused": [0.5] * REPEATS}
    assert order == ["plain", "fused"] * (2 + REPEATS * ROUNDS)
    assert times_faster(spent) == [0.5] * REPEATS


def test_a_way_that_is_hopeless_is_not_run_again_and_again():
    clock, runs = Clock(), []
    slow, fast = clock.takes(7.0), clock.takes(1.0)
    ways = {"float32": fast, "bf16": lambda: (runs.append(1), slow())}
    assert interleaved(ways, clock) == {"float32": [1.0] * REPEATS, "bf16": [7.0] * REPEATS}
    assert len(runs) == 2


def test_the_share_of_other_work_is_what_is_neither_idle_nor_ours():
    from psutil import cpu_times

    now = cpu_times()
    later = now._replace(user=now.user + 3.0, system=now.system + 1.0, idle=now.idle + 4.0)
    assert others_share(now, later, 4.0) == 0.0
    assert others_share(now, later, 2.0) == 0.25
    assert others_share(now, now, 1.0) == 0.0


def times(*found: Precision | None):
    """A measuring that finds these, one after the other, and no more."""
    left = list(found)
    return lambda: left.pop(0)


def test_it_is_measured_once_a_machine(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("SWIFT_SFT_CACHE", str(tmp_path))
    assert cpu_precision(GPU) is None and not list(tmp_path.rglob("*"))
    assert cpu_precision(CPU, times(None)) is None  # without torch
    assert cpu_precision(CPU, times(AMD)) == AMD
    assert cpu_precision(CPU, times()) == AMD
    (kept,) = (tmp_path / "precision").iterdir()
    for other in ('{"float32": 1.0}', "no JSON"):  # of another version, or torn
        kept.write_text(other, encoding="utf-8")
        assert cpu_precision(CPU, times(ALL)) == ALL


def test_what_was_measured_beside_other_work_is_measured_again_until_it_is_quiet(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("SWIFT_SFT_CACHE", str(tmp_path))
    busy, busier, quiet = (SLOW._replace(others=share) for share in (0.6, 0.9, BUSY))

    def over() -> float:
        return 0.0

    assert cpu_precision(CPU, times(busy), over) == busy and "measured again next time" in busy.describe()
    assert cpu_precision(CPU, times(), lambda: 0.7) == busy  # not while the other work goes on
    assert cpu_precision(CPU, times(busier), over) == busy  # the quieter of the two
    assert cpu_precision(CPU, times(None), over) == busy
    assert cpu_precision(CPU, times(quiet), over) == quiet and "again" not in quiet.describe()
    assert cpu_precision(CPU, times()) == quiet


@pytest.mark.torch
def test_the_plan_and_the_plugin_fuse_the_same_families():
    from cpu import families

    assert cpu_kernels.FAMILIES == families.FAMILIES


@pytest.mark.torch
def test_this_machine_is_measured():
    found = measured_now()
    rates = (found.float32, found.onednn, found.bf16, found.attention)
    assert all(len(one) == REPEATS and min(one) > 0 for one in rates)
    assert 0 <= found.others <= 1 and found.describe().startswith("float32 ")


@pytest.mark.torch
def test_the_plugin_computes_as_accurately_as_float32_where_it_is_taken():
    """The error is measured again here, in this process: what is taken must be float32's own accuracy."""
    import torch

    try:
        found = Precision(**measure())
        assert found.error < 1e-5 or not found.by_onednn
        assert min(found.attention) > 0.05
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


@pytest.mark.torch
@pytest.mark.parametrize(("plugin", "product"), [([], "['aten::bmm']"), ([str(KERNELS.parent)], "['aten::mm']")])
def test_a_frozen_layer_multiplies_a_batch_at_once(plugin, product):
    """Without the plugin torch copies the weight for each row: the day this changes, the plugin can go."""
    done = subprocess.run([sys.executable, "-c", WHOLE_BATCH, *plugin], capture_output=True, text=True)
    assert done.stdout.strip() == product, done.stderr


@pytest.mark.torch
def test_a_layer_that_is_called_otherwise_keeps_its_inputs() -> None:
    """The hook is on every layer of the process: what it does not know passes by, and never raises."""
    code = (
        f"import sys, torch; sys.path.append({str(KERNELS.parent)!r})\n"
        "from cpu.whole_batches import without_gaps\n"
        "layer = torch.nn.Linear(2, 2)\n"
        "assert without_gaps(layer, ()) is None and without_gaps(layer, (None,)) is None\n"
        "assert without_gaps(layer, ([1.0],)) is None\n"
        "assert without_gaps(layer, (torch.eye(2).to_sparse(),)) is None\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
