"""The bench on a GPU: its ways, what it does with those that fail or come too late, and a whole one at a tiny shape."""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import yaml

from bench import gpu, gpu_ways
from bench.cost import cost_of, limited
from plan.swift_schema import check_values
from workspace.errors import UserError
from workspace.files import write_jsonl


def test_every_way_has_its_turn_and_names_keys_of_ms_swift():
    assert sorted(gpu.ORDER) == sorted([*gpu.WAYS, *gpu.SCORINGS, gpu.DEFAULT_INFER])
    assert gpu.ORDER[0] == gpu.PLANNED and gpu.DEFAULT in gpu.ORDER[:5]
    for name, way in gpu.WAYS.items():
        check_values(dict(way.changes or {}), "sft", lambda key, name=name: f"{name}: {key}")


def test_what_fails_or_comes_too_late_is_named_and_the_others_are_measured(tmp_path: Path, capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(gpu, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def fails(out: Path) -> float:
        raise UserError("`swift sft` ended with status 1:\n  no kernel")

    def takes_all(out: Path) -> gpu.Trained:
        now[0] += 30.0
        return gpu.Trained(10.0, 1000.0, 0.8, 7.5)

    ways = {"one": fails, "two": takes_all, "three": lambda out: 5.0}
    found, missing = gpu._measured(ways, tmp_path, now[0] + gpu.LEAST + 20.0)
    assert found == {"two": gpu.Trained(10.0, 1000.0, 0.8, 7.5)}
    assert missing["one"] == "`swift sft` ended with status 1: no kernel"
    assert "did not come within --minutes" in missing["three"]
    said = capsys.readouterr().err
    assert (
        "gpu: 2 of 3, two: 10.0 rows/s, 7.5 GiB (30 s; 5 s left)" in said
        and "gpu: 1 of 3, one: `swift sft` ended" in said
    )


def test_a_command_that_takes_too_long_ends_with_what_it_started(tmp_path: Path):
    code = "import subprocess, sys; print('begun', flush=True); subprocess.run([sys.executable, '-c', sys.argv[1]])"
    child = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(99)"
    pid_file = tmp_path / "pid"

    def ring() -> None:
        while not (pid_file.is_file() and pid_file.read_text()):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGALRM)

    with pytest.raises(UserError, match="had not ended after 3600 s"), limited(3600):
        threading.Thread(target=ring, daemon=True).start()
        cost_of([sys.executable, "-c", code, child], tmp_path / "log.txt")
    pid = int(pid_file.read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_the_second_pass_over_the_rows_is_timed(tmp_path: Path):
    at = [9.0, 10.0, 11.0, 13.0, 15.0, 17.0]  # seconds since the start; the first step warms up
    lines = [
        {"loss": 1.0, "global_step/max_steps": f"{step}/6", "train_speed(s/it)": seconds / step,
         "memory(GiB)": 0.5 * step}
        for step, seconds in enumerate(at, 1)
    ]  # fmt: skip
    write_jsonl(tmp_path / "train" / "logging.jsonl", lines)
    one = gpu_ways._trained(tmp_path, 8, 100.0)
    assert one == gpu.Trained(pytest.approx(4.0), pytest.approx(400.0), pytest.approx(2.0), 3.0)


def test_a_failed_log_is_told_by_its_error(tmp_path: Path):
    (tmp_path / "log").write_text(
        "a\ntorch.OutOfMemoryError: CUDA out of memory. Tried\n  at x\nbye\n", encoding="utf-8"
    )
    assert gpu_ways._last_line(tmp_path / "log").startswith("torch.OutOfMemoryError: CUDA out of memory")
    assert gpu_ways._last_line(tmp_path / "none") == "no output"


def test_shares_are_of_the_dtype_that_a_way_multiplies_in():
    trained = {"seconds_a_step": 0.25, "rows_a_second": 32.0, "tokens_a_second": 4000.0, "memory_gib": 7.6}
    found = {
        "bench": "gpu", "rows": 100, "asked": 300, "tokens": 125.0, "asked_tokens": 120.0, "parameters": 500_000_000,
        "machine": "a machine", "tflops": {"float32": 50.0, "bfloat16": 800.0, "float16": 800.0},
        "training": {gpu.PLANNED: trained, "batch 8, float32": trained, gpu.DEFAULT: {**trained, "rows_a_second": 4.0}},
        "scoring": {gpu.SCORES: 600.0, "label scores, batch 256, bfloat16": 1200.0, gpu.DEFAULT_INFER: 6.0},
        "dtype": {"training": "bfloat16", "scoring": "float32"}, "not_measured": {"batch 64": "no memory"},
        "plan": {"per_device_train_batch_size": 8}, "versions": {},
    }  # fmt: skip
    text = "\n".join(gpu.report(found))
    assert "| as planned | 250 | 32.0 | 4,000 | 8.0 | 1.00% of bfloat16 | 7.6 |" in text
    assert "| batch 8, float32 | 250 | 32.0 | 4,000 | 8.0 | 16.00% of float32 | 7.6 |" in text
    assert "| label scores, as planned |  | 600.0 | 72,000 | 100.0 | 144.00% of float32 |  |" in text
    assert "| label scores, batch 256, bfloat16 |  | 1200.0 | 144,000 | 200.0 | 18.00% of bfloat16 |  |" in text
    assert "not measured: batch 64: no memory" in text
    json.dumps(found)


@pytest.mark.swift
@pytest.mark.all
def test_a_whole_one_at_a_tiny_shape():
    found, kept = gpu.run(rows=40, minutes=60, only="planned")
    assert kept and found["not_measured"] == {}
    assert set(found["training"]) == {gpu.PLANNED} and set(found["scoring"]) == {gpu.SCORES}
    assert found["asked"] == 3 * found["rows"] and min(found["scoring"].values()) > 0
    assert found["training"][gpu.PLANNED]["rows_a_second"] > 0
    assert "as planned" in "\n".join(gpu.report(found))


def test_the_plan_and_the_changes_are_what_a_way_is_told(tmp_path: Path):
    values = {"model": "m", "model_type": "qwen2", "template": "qwen", "per_device_train_batch_size": 8,
              "gradient_accumulation_steps": 1, "learning_rate": 5e-4,
              "group_by_length": True}  # fmt: skip
    machine = gpu.this_machine()
    told = {}
    for name in (gpu.PLANNED, "batch 64, liger, no length buckets", gpu.DEFAULT):
        out = tmp_path / name
        out.mkdir()
        gpu_ways._command(gpu.WAYS[name], values, tmp_path, out, 20, machine)
        told[name] = yaml.safe_load((out / "sft.yaml").read_text(encoding="utf-8"))
    planned, large, default = told.values()
    assert planned["per_device_train_batch_size"] == 8 and planned["group_by_length"] and planned["max_steps"] == 40
    assert large["per_device_train_batch_size"] == 64 and large["group_by_length"] is False
    assert large["use_liger_kernel"] is True
    assert [name for name, way in gpu.WAYS.items() if gpu_ways.is_planned(way, values)] == ["batch 8"]
    fused = values | {"use_liger_kernel": True, "per_device_train_batch_size": 64}
    assert [name for name, way in gpu.WAYS.items() if gpu_ways.is_planned(way, fused)] == ["batch 64, liger"]
    assert "learning_rate" not in default and default["template"] == "qwen"
