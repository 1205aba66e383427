"""GPUs as torch reports them: which are used, which are refused, and what follows for a run."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from plan import gpus, hardware
from plan.distributed import batch_line, check_planned_for, launch_environment, smaller_batch, throughput_line
from plan.gpus import Gpu, Gpus, find_gpus, has_kernels, hidden, judge
from plan.hardware import Machine, check_usable, child_environment, dtype_flags, one_gpu, this_machine, used_by
from workspace.errors import UserError
from workspace.paths import ROOT

# What torch 2.11.0+cu130 said on an H100 on 2026-11-26; 2.13's build for CUDA 13.0 has the same list.
CUDA_13 = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]
FAKE = """
import json, os, warnings
from types import SimpleNamespace as Names
said = json.loads(os.environ["CARDS"])
version, __version__ = Names(cuda=said["cuda"], hip=said.get("hip")), said.get("version", "2.13.0")
if said.get("warning"):
    warnings.warn(said["warning"])
cards = said["cards"]
begun = []
def properties(i):
    if i >= count():
        raise AssertionError("Invalid device id")
    return Names(name=cards[i][0], total_memory=cards[i][1] * 2**30)
def count():
    return min(len(cards), said.get("slices", 99)) if begun else len(cards)
cuda = Names(
    is_available=lambda: bool(cards), init=lambda: begun.append(1), device_count=count,
    get_arch_list=lambda: said["built_for"], get_device_properties=properties,
    get_device_capability=lambda i: tuple(cards[i][3]),
    mem_get_info=lambda i: (opened(cards[i][2]) * 2**30, cards[i][1] * 2**30),
)
def opened(free):
    if isinstance(free, str):
        raise RuntimeError(free)
    return free
if said.get("noted"):
    open(said["noted"], "a").write("asked;")
if said.get("hangs"):
    import time
    time.sleep(30)
if said.get("fails"):
    raise RuntimeError(said["fails"])
print("a line that a sitecustomize prints")
"""


@pytest.fixture
def torch_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A torch of which only `cuda` is there, in the process that is asked, and a driver."""

    def say(*cards: tuple[str, float, float, tuple[int, int]], cuda: str | None = "13.0", **more: Any) -> None:
        said = {"cards": cards, "cuda": cuda, "built_for": CUDA_13, **more}
        monkeypatch.setenv("CARDS", json.dumps(said))

    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(FAKE, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv(gpus.KEPT, raising=False)
    monkeypatch.setattr(gpus, "has_driver", lambda: True)
    return say


H100 = ("NVIDIA H100 80GB HBM3", 79.2, 78.7, (9, 0))
T4 = ("Tesla T4", 14.6, 14.5, (7, 5))


def test_torch_is_asked_for_the_cards(torch_says: Any) -> None:
    torch_says(H100)
    machine = this_machine()
    assert (machine.gpu, machine.gpus, machine.gpu_bf16, machine.gpu_fault) == (H100[0], 1, True, "")
    assert machine.gpu_memory_gib == pytest.approx(79.2, abs=0.1)
    assert one_gpu(machine) == {}


def test_a_card_without_bf16_trains_in_fp16(torch_says: Any) -> None:
    torch_says(T4)
    assert dtype_flags(this_machine())["torch_dtype"] == "float16"


@pytest.mark.parametrize("card", [("Tesla V100-SXM2-16GB", 16, 16, (7, 0)), ("Tesla P100-PCIE-16GB", 16, 16, (6, 0))])
@pytest.mark.parametrize("version", ["2.13.0", "2.13.0+cu129"])  # of those for CUDA 12 only the first has them
def test_a_card_that_torch_has_no_kernels_for_is_refused_with_the_build_that_has(
    torch_says: Any, card: Any, version: str
) -> None:
    torch_says(card, version=version)
    machine = this_machine()
    assert machine.gpu is None
    with pytest.raises(UserError, match=r"no kernels for Tesla .*: install .*--torch-backend cu126 torch==.*\+cu126"):
        check_usable(machine)


@pytest.mark.parametrize(
    ("card", "more"),
    [(("Tesla K80", 11, 11, (3, 7)), {}), (("Tesla K80", 11, 11, (3, 7)), {"version": "2.13.0+cu126"})],
)
def test_a_card_that_no_build_has_is_offered_none(torch_says: Any, card: Any, more: dict[str, str]) -> None:
    torch_says(card, **more)
    with pytest.raises(UserError, match=r"3\.7\): take another card, for no build of this torch has them"):
        check_usable(this_machine())


@pytest.mark.parametrize(
    ("knows", "cards", "version", "helps"),
    [
        (12020, "8.9", "2.13.0", "renew the driver to 580 or newer, or install the build for CUDA 12.6: "),
        (12080, "12.0", "2.13.0", "renew the driver to 580 or newer, or put CUDA_VISIBLE_DEVICES= "),
        (11040, "7.5", "2.13.0", "renew the driver to 580 or newer, or put CUDA_VISIBLE_DEVICES= "),
        (11040, "7.5", "2.13.0+cu126", "renew the driver to 580 or newer, or put CUDA_VISIBLE_DEVICES= "),
    ],
)
def test_a_driver_that_is_too_old_is_refused_with_torchs_own_reason_and_a_build_only_where_one_fits(
    torch_says: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, knows: int, cards: str, version: str, helps: str
) -> None:
    """A laptop with driver 470, and an RTX 5090 with 570, were sent for 3 GB that told them the same again."""
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\necho {cards}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    said = f"The NVIDIA driver on your system is too old (found version {knows})"
    torch_says(warning=f"CUDA initialization: {said}.", version=version)
    with pytest.raises(UserError) as refused:
        check_usable(this_machine())
    assert f"{said}: {helps}" in str(refused.value)


@pytest.mark.parametrize(
    ("card", "version", "helps"),
    [
        (("RTX 7090", 48, 48, (13, 0)), "2.13.0+cu130", "install a newer PyTorch"),
        (
            ("RTX 5090", 31, 31, (12, 0)),
            "2.13.0+cu126",
            "renew the driver to 580 or newer where it is older, and",
        ),
    ],
)
def test_a_card_that_is_newer_than_the_build_is_told_so(torch_says: Any, card: Any, version: str, helps: str) -> None:
    older = ["sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"]
    torch_says(card, version=version, built_for=older if "cu126" in version else CUDA_13)
    with pytest.raises(UserError, match=rf"{card[3][0]}\.0, newer than the build\): {helps}"):
        check_usable(this_machine())


@pytest.mark.parametrize(("free", "told"), [(78.0, "(79 GiB)"), (21.4, "(21 of 79 GiB free)"), (0.0, "(0 GiB free)")])
def test_a_card_that_others_use_is_called_so(torch_says: Any, free: float, told: str) -> None:
    torch_says(("A100", 79.2, free, (8, 0)))
    assert f"1 x A100 {told}, " in this_machine().describe()
    torch_says(("A100", 79.2, 45, (8, 0)), ("A100", 79.2, 50, (8, 0)))
    assert "A100 (50 of 79 GiB free) of 2 GPUs" in this_machine().describe()
    torch_says(("A100", 79.2, 45, (8, 0)), ("A100", 79.2, 45, (8, 0)))
    assert "2 x A100 (45 GiB free)" in this_machine().describe()


def test_a_card_that_cannot_be_opened_leaves_the_others(torch_says: Any) -> None:
    sick = ("A100", 80, "CUDA error: uncorrectable ECC error encountered\nCompile with TORCH_USE_CUDA_DSA", (8, 0))
    torch_says(sick, ("A100", 80, 79, (8, 0)))
    machine = this_machine()
    assert (machine.gpus, machine.best, machine.gpu_numbers) == (1, 1, (1,))
    assert "cannot use A100 (number 0): CUDA error: uncorrectable ECC" in machine.unused
    assert "DSA" not in machine.unused
    check_usable(machine)
    assert one_gpu(machine) == {"CUDA_VISIBLE_DEVICES": "1"}
    torch_says(sick)
    with pytest.raises(UserError, match=r"uncorrectable ECC error encountered: end what holds the card, or mend"):
        check_usable(this_machine())


def test_a_probe_that_fails_or_hangs_does_not_make_it_a_cpus_run(
    torch_says: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch_says(H100, fails="CUDA error: out of memory\nCompile with `TORCH_USE_CUDA_DSA` to enable assertions.")
    with pytest.raises(UserError, match=r"torch fails at the GPU .*CUDA error: out of memory\): end what"):
        check_usable(this_machine())
    torch_says(H100, hangs=True)
    monkeypatch.setattr(gpus, "PATIENCE", 1)
    with pytest.raises(UserError, match="torch has not said within 1 s"):
        check_usable(this_machine())


@pytest.mark.parametrize(
    ("named", "is_hidden"),
    [("", True), (" ", True), ("-1", True), ("-1,0", True), ("NoDevFiles", True), ("none", True), ("0,0", False),
     ("0", False), ("1,0", False), ("0,-1", False), ("GPU-5a", False), ("MIG-3f", False), (" 2", False),
     ("cuda:0", False), ("gpu0", False), ("0-3", False), ("all", False)],
)  # fmt: skip
def test_what_hides_all_cards(named: str, is_hidden: bool) -> None:
    assert hidden(named) is is_hidden


@pytest.mark.parametrize("named", ["cuda:0", "0,0", "7"])
def test_a_mistyped_choice_of_cards_does_not_make_it_a_cpus_run(
    torch_says: Any, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    torch_says(warning="CUDA initialization: No CUDA GPUs are available (Triggered internally at x.cpp)")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    with pytest.raises(UserError, match=rf"CUDA_VISIBLE_DEVICES={named} names none that is here: name cards by number"):
        check_usable(this_machine())


def test_a_driver_that_fails_is_to_be_mended_whatever_torch_says_of_variables(torch_says: Any) -> None:
    torch_says(warning="CUDA unknown error - this may be due to an incorrectly set up environment, e.g. changing env "
               "variable CUDA_VISIBLE_DEVICES after program start.")  # fmt: skip
    with pytest.raises(UserError, match=r"after program start: end what holds the card, or mend its driver"):
        check_usable(this_machine())


def test_a_driver_of_another_makers_card_is_told_and_refuses_nothing(
    torch_says: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """/dev/kfd is there with AMD's processors, nvidia-smi on a cluster's login node."""
    torch_says()
    monkeypatch.setattr(gpus, "NVIDIA", ())
    check_usable(machine := this_machine())
    assert machine.unused == "a GPU's driver is here and torch 2.13.0 sees no card of it; that GPU is not used"
    assert hardware.computing_device() == "cpu" and f"{machine.unused}: computing on the CPU" in capsys.readouterr().err
    monkeypatch.setattr(gpus, "NVIDIA", ("/",))
    with pytest.raises(UserError, match="torch sees no card: end what holds"):
        check_usable(this_machine())


def test_amds_driver_without_a_card_that_its_build_sees_is_refused(
    torch_says: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """For want of the group `render`, most often: hours on the CPU are not meant."""
    torch_says(cuda=None, hip="7.1")
    monkeypatch.setattr(gpus, "AMD", str(tmp_path))
    with pytest.raises(UserError, match=r"torch 2\.13\.0 cannot use the GPU: torch sees no card: end what holds"):
        check_usable(this_machine())


def test_all_cards_that_cannot_be_used_are_named(torch_says: Any) -> None:
    torch_says(("GT 1030", 2, 2, (6, 1)), ("RTX 4090", 24, "CUDA error: busy or unavailable", (8, 9)))
    with pytest.raises(UserError, match=r"for GT 1030 .* 6\.1\), and cannot use RTX 4090 .number 1.: .* mend its"):
        check_usable(this_machine())


def test_of_slices_of_cards_those_count_that_cuda_shows(torch_says: Any) -> None:
    torch_says(("A100 MIG 1g", 10, 10, (8, 0)), ("A100 MIG 1g", 10, 10, (8, 0)), slices=1)
    machine = this_machine()
    assert (machine.gpus, machine.gpu_fault) == (1, "")


def test_stages_that_begin_side_by_side_ask_once(torch_says: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv(gpus.KEPT, str(tmp_path / "gpus.json"))
    torch_says(H100, noted=str(tmp_path / "asked"))
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: find_gpus().best.name, range(3)))
    assert find_gpus().best.name == H100[0] and found == [H100[0]] * 3 and (tmp_path / "asked").read_text() == "asked;"


def test_a_run_that_was_planned_for_the_cpu_stays_there(torch_says: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its sft.yaml says use_cpu, and its infer.yaml names no device: ms-swift would answer on the GPU."""
    torch_says(H100)
    machine = this_machine()
    monkeypatch.setattr(hardware, "has_driver", lambda: True)
    by_cpu = used_by({"use_cpu": True}, machine)
    assert (by_cpu.gpu, child_environment(by_cpu)["CUDA_VISIBLE_DEVICES"]) == (None, "-1")
    assert used_by({"use_cpu": False}, machine) == machine
    torch_says(("V100", 16, 16, (7, 0)))
    check_usable(used_by({"use_cpu": "true"}, this_machine()))  # who says so has no fault to be told of
    assert "CUDA_VISIBLE_DEVICES" not in child_environment(machine)


def test_amds_own_choice_is_narrowed_by_its_own_variable(torch_says: Any, monkeypatch: Any, tmp_path: Path) -> None:
    torch_says(("MI300X", 191, 20, (9, 4)), ("MI300X", 191, 190, (9, 4)), built_for=["gfx942"])
    monkeypatch.setattr(gpus, "AMD", str(tmp_path))
    assert one_gpu(this_machine()) == {"CUDA_VISIBLE_DEVICES": "1"}
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "4,6")
    assert one_gpu(this_machine()) == {"HIP_VISIBLE_DEVICES": "6"}


def test_amds_variable_hides_amds_cards_alone(torch_says: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch_says(H100)
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "-1")
    monkeypatch.setattr(gpus, "AMD", str(tmp_path / "kfd"))
    assert this_machine().gpu == H100[0]
    (tmp_path / "kfd").touch()
    assert this_machine().gpu is None


def test_the_tuned_model_is_used_on_the_cpu_where_torch_cannot_use_the_gpu(
    torch_says: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    torch_says(T4, ("V100", 16, 16, (7, 0)))
    assert (hardware.computing_device(), capsys.readouterr().err) == ("cuda:0", "")
    torch_says(("V100", 16, 16, (7, 0)))
    assert hardware.computing_device() == "cpu"
    assert "no kernels for V100 (compute capability 7.0); that GPU is not used: computing" in capsys.readouterr().err


def test_a_card_beside_a_torch_for_cpus_is_told_before_the_tuned_model_is_used(
    torch_says: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """It refuses no run, since that torch was chosen; serve and predict were silent, minutes for each text."""
    torch_says(H100, cuda=None)
    assert hardware.computing_device() == "cpu"
    assert "this torch is built for CPUs; that GPU is not used: computing on the CPU" in capsys.readouterr().err


def test_a_card_that_others_have_filled_is_not_taken_for_its_bf16(torch_says: Any) -> None:
    torch_says(("A100", 80, 0.6, (8, 0)), T4)
    machine = this_machine()
    assert (machine.gpu, machine.gpu_bf16, machine.best) == (T4[0], False, 1)


def test_one_process_that_is_launched_takes_the_card_it_was_sized_for(torch_says: Any) -> None:
    torch_says(("A100", 80, 45, (8, 0)), ("A100", 80, 80, (8, 0)))
    machine = this_machine()
    assert (machine.free_share_of(1), machine.free_share_of(2)) == (1, pytest.approx(45 / 80))
    launched = launch_environment({"ENV": {"NPROC_PER_NODE": "1"}}, machine, os.environ)
    assert (launched["CUDA_VISIBLE_DEVICES"], machine.memory_of(1)) == ("1", 80)


def test_a_plan_for_a_gpu_does_not_go_on_without_one(torch_says: Any) -> None:
    torch_says(H100)
    planned = this_machine()
    check_planned_for(planned.as_dict(), planned)
    torch_says(cuda=None)
    with pytest.raises(UserError, match=r"planned for NVIDIA H100.* and no GPU is seen here \(.*built for CPUs"):
        check_planned_for(planned.as_dict(), this_machine())
    check_planned_for(this_machine().as_dict(), planned)


@pytest.mark.parametrize(
    ("batch", "accumulation", "smaller"),
    [(8, 1, (4, 2)), (21, 1, (7, 3)), (7, 3, (3, 7)), (3, 7, (1, 21)), (6, 1, (3, 2)), (12, 2, (6, 4)), (1, 8, None)],
)
def test_a_smaller_batch_keeps_the_rows_a_step(batch: int, accumulation: int, smaller: tuple[int, int] | None) -> None:
    keys = ("per_device_train_batch_size", "gradient_accumulation_steps")
    found = smaller_batch(dict(zip(keys, (batch, accumulation), strict=True)))
    assert found == (dict(zip(keys, smaller, strict=True)) if smaller else {})


@pytest.mark.parametrize(
    ("files", "memory", "cores"),
    [
        ({"memory.max": "1073741824", "cpu.max": "150000 100000"}, 1.0, 2),
        ({"memory.max": "max", "cpu.max": "max 100000"}, None, None),
        ({"memory/memory.limit_in_bytes": "2147483648", "cpu/cpu.cfs_quota_us": "100000",
          "cpu/cpu.cfs_period_us": "100000"}, 2.0, 1),
        ({"memory/memory.limit_in_bytes": "9223372036854771712", "cpu/cpu.cfs_quota_us": "-1",
          "cpu/cpu.cfs_period_us": "100000"}, None, None),
        ({}, None, None),
    ],
)  # fmt: skip
def test_a_containers_limits_are_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], memory: float | None, cores: int | None
) -> None:
    whole = this_machine()
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    monkeypatch.setattr(hardware, "CGROUPS", tmp_path)
    machine = this_machine()
    assert machine.memory_gib == (memory or pytest.approx(whole.memory_gib))
    assert machine.cores == min(cores or whole.cores, whole.cores)


def test_a_torch_that_is_built_for_cpus_was_chosen_and_is_told(torch_says: Any) -> None:
    torch_says(cuda=None)
    machine = this_machine()
    check_usable(machine)
    assert machine.gpu is None and "built for CPUs" in machine.gpu_fault


def test_hidden_cards_are_not_asked_for(torch_says: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    torch_says(("Tesla V100", 16, 16, (7, 0)))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    check_usable(this_machine())


def test_one_process_takes_the_card_that_is_free(torch_says: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    torch_says(("A100", 80, 3, (8, 0)), ("A100", 80, 79, (8, 0)))
    machine = this_machine()
    assert launch_environment({}, machine, os.environ) == {"CUDA_VISIBLE_DEVICES": "1"}
    assert (machine.gpus, machine.free_share_of(1)) == (1, 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "6,GPU-5a")
    assert one_gpu(machine) == {"CUDA_VISIBLE_DEVICES": "GPU-5a"}


def test_a_card_for_the_screen_does_not_count(torch_says: Any) -> None:
    torch_says(("GT 1030", 2, 2, (6, 1)), ("RTX 4090", 24, 23, (8, 9)))
    machine = this_machine()
    assert (machine.gpu, machine.gpus, machine.gpu_memory_gib, machine.gpu_bf16) == ("RTX 4090", 1, 24, True)
    assert one_gpu(machine) == {"CUDA_VISIBLE_DEVICES": "1"}
    check_usable(machine)


def test_two_alike_are_two_processes(torch_says: Any) -> None:
    torch_says(T4, T4)
    machine = this_machine()
    assert machine.gpus == 2
    launched = launch_environment({"ENV": {"NPROC_PER_NODE": "2"}}, machine, os.environ)
    assert launched["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_several_gpus_with_few_rows_each_are_told_what_brings_speed() -> None:
    wanted = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1}
    shared = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 1, "ENV": {"NPROC_PER_NODE": "8"}}
    line = batch_line(wanted, shared)
    assert "8 rows a step, as with one process; so few rows a GPU" in line and "--with large-batch" in line
    assert "large-batch" not in batch_line(wanted, {**shared, "use_cpu": True})
    assert "large-batch" not in batch_line(wanted, {**shared, "per_device_train_batch_size": 8})


def test_one_gpu_with_few_rows_a_step_is_told_what_brings_speed() -> None:
    values = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1}
    gpu, cpu = (Machine("cpu", 8, 64.0, name, int(bool(name)), 24.0, True) for name in ("x", None))
    line = throughput_line(values, gpu)
    assert line and "8 rows a step" in line and "--with large-batch" in line and "sweep --vary none large-batch" in line
    assert throughput_line(values, cpu) is None
    assert throughput_line({**values, "gradient_accumulation_steps": 8}, gpu) is None
    for other in ({"tuner_type": "full"}, {"quant_bits": 4}, {"gradient_checkpointing": True}):
        assert throughput_line({**values, **other}, gpu) is None
    assert throughput_line({**values, "ENV": {"NPROC_PER_NODE": "2"}}, gpu) is None


def test_torch_is_asked_once_a_run(torch_says: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(gpus.KEPT, str(tmp_path / "gpus.json"))
    torch_says(H100)
    first = find_gpus()
    torch_says(T4)
    assert find_gpus() == first


@pytest.mark.parametrize(
    ("capability", "fits"), [((7, 5), True), ((7, 0), False), ((8, 9), True), ((12, 1), True), ((11, 0), False)]
)
def test_machine_code_runs_on_its_own_major_version(capability: tuple[int, int], fits: bool) -> None:
    assert has_kernels(capability, CUDA_13) is fits
    assert has_kernels(capability, [*CUDA_13, "compute_70"])


def test_names_of_another_maker_are_believed() -> None:
    assert has_kernels((9, 4), ["gfx942"])


def test_several_processes_take_cards_that_are_alike() -> None:
    big, small, old = (
        Gpu(i, "x", gib, gib, (8, 0), bf16) for i, (gib, bf16) in enumerate([(80, True), (24, True), (80, False)])
    )
    found = Gpus((big, small, old), "", 3)
    assert (found.best, found.alike) == (big, (big,))


def test_weights_that_are_tuned_themselves_are_float32() -> None:
    new, old = (Machine("cpu", 8, 64.0, "x", 1, 24.0, bf16) for bf16 in (True, False))
    assert dtype_flags(new, True) == {"torch_dtype": "float32", "bf16": True, "fp16": False}
    assert dtype_flags(old, True) == {"torch_dtype": "float32", "bf16": False, "fp16": True}


def test_the_command_prints_one_line_of_json_last(torch_says: Any) -> None:
    torch_says(H100)
    result = subprocess.run([sys.executable, "-m", "plan.gpus"], cwd=ROOT, capture_output=True, text=True)
    assert judge(json.loads(result.stdout.splitlines()[-1])).best.name == H100[0]
