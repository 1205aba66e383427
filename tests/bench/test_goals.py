"""The goals of speed: which figure is held against which, and that one that is not reached is told."""

import tempfile
from pathlib import Path
from unittest.mock import patch

import pytest
import yaml

from bench import goals, inference, stages, training
from bench.__main__ import main
from plan.hardware import Machine
from workspace.errors import UserError
from workspace.files import write_json

LIMITS = {"float32": 100.0, "onednn": 200.0, "bf16": 400.0, "bandwidth": 30.0}
# 2·N·T allows 40 rows/s by oneDNN, 4·N·T 20 and by bf16 40.
COMMON = {"parameters": 25_000_000, "tokens": 100.0, "limits": LIMITS, "machine": "two cores", "stolen": 0.01}
UNTUNED, TUNED, SCORE = inference.WAYS.values()
COST = {"cpu_seconds": 1.0, "peak_bytes": 2**20}


def answered(**changes):
    rates = {inference.DEFAULT: [5.0], inference.BEST: [19.0], UNTUNED: [20.0], TUNED: [30.0], SCORE: [34.0]}
    same = {"default": {"rows": 200, "same": 200}, "score, batch 1": {"rows": 200, "same": 200}}
    return COMMON | {"rates": rates | changes.get("rates", {}), "same": same | changes.get("same", {})}


def trained(ours: float, accuracy: dict):
    rates = {
        training.OURS: [ours],
        training.DEFAULT: [2.5],
        training.BEST: [8.95],
        training.FACTORY: [3.3],
        training.HEAD: [3.0],
    }
    return COMMON | {"rates": rates, "accuracy": accuracy}


def timed(demo: float):
    times = {stages.DEMO: demo, stages.PREP: 6.0, stages.REPORT: 8.0}
    return COMMON | {"stages": {name: [COST | {"seconds": one}] * 3 for name, one in times.items()}}


def kept(found: list[goals.Goal]) -> list[bool | None]:
    return [one.kept for one in found]


def test_answers_are_held_against_the_defaults_and_the_faster_rate_of_float32():
    assert kept(goals.inference_goals(answered())) == [True] * 5
    slower = {UNTUNED: [19.9], TUNED: [29.9], SCORE: [33.9]}
    found = goals.inference_goals(answered(rates=slower, same={"tuned, batch 8": {"rows": 200, "same": 199}}))
    assert kept(found) == [False, True, False, False, False]
    assert [one.reached for one in found] == ["4.0 x", "1.0 x", "75%", "85%", "599 of 600 the same"]
    assert found[2].against == "2·N·T, float32, 200 GFLOP/s"


def test_training_is_held_against_each_peer_and_the_rate_that_it_computes_at():
    good = {training.OURS: [0.8, 0.9], training.DEFAULT: [0.8, 0.9]}
    assert kept(goals.training_goals(trained(10.0, good))) == [True] * 6
    found = goals.training_goals(trained(8.9, {}))
    assert kept(found) == [False] * 5 and found[4].reached == "44%"
    assert {one.what for one in found} == {"training, this project"}
    low = trained(20.0, {})  # in bfloat16, twice as fast, half of the limit
    low["rates"][training.PLAIN] = [9.0]
    found = goals.training_goals(low)
    assert kept(found) == [True] * 5 + [None] * 2
    assert [one.reached for one in found[4:]] == ["50%", "100%", "45%"]


@pytest.mark.parametrize(("ours", "as_good"), [([0.71, 0.71], True), ([0.60, 0.60], False), ([0.95, 0.97], True)])
def test_accuracy_may_differ_by_what_the_seeds_do(ours, as_good):
    found = goals.training_goals(trained(10.0, {training.OURS: ours, training.DEFAULT: [0.7, 0.9]}))
    assert found[-1].kept is as_good


def test_on_no_machine_is_ours_slower_than_ms_swifts_own_flags():
    slow = answered(rates={inference.BEST: [20.5]})
    assert [one.kept for one in goals.inference_goals(slow) if one.against == inference.BEST] == [False]
    found = trained(10.0, {})
    found["rates"][training.BEST] = [10.1]
    flags = [one for one in goals.training_goals(found) if one.against == training.BEST]
    assert [(one.reached, one.goal, one.kept) for one in flags] == [("1.0 x", ">= 1 x", False)]


def test_ms_swifts_own_flags_are_the_plan_without_the_projects_plugins():
    class Planned:
        dataset = Path("dataset")

        @staticmethod
        def sft_values():
            return {"model_type": "qwen2", "template": "qwen", "learning_rate": 5e-4, "padding_side": "left",
                    "external_plugins": ["label_metric.py"], "callbacks": ["row_check"], "bf16": False,
                    "per_device_train_batch_size": 8}  # fmt: skip

    told = {}

    def swift(command, out, env):
        told[out.name] = yaml.safe_load((out / "sft.yaml").read_text(encoding="utf-8")), env
        return {}

    with patch.object(training, "_swift", swift), tempfile.TemporaryDirectory() as scratch:
        ways = training.ways_to_train(Planned(), Path("model"))
        for name in (training.OURS, training.BEST):
            ways[name](Path(scratch, name), 42)
    (ours, our_env), (best, env) = told.values()
    assert ours.keys() - best.keys() == {"external_plugins", "callbacks"}
    assert best["per_device_train_batch_size"] == 8
    assert {"MALLOC_TRIM_THRESHOLD_", "OMP_WAIT_POLICY"} <= our_env.keys() - env.keys()


def test_a_peer_that_was_not_measured_keeps_nothing():
    found = trained(10.0, {})
    del found["rates"][training.FACTORY]
    assert goals.training_goals(found)[2] == goals.Goal(
        f"training, {training.OURS}", training.FACTORY, "not measured", ">= 3 x", False
    )


@pytest.mark.parametrize(("demo", "status"), [(240.0, 0), (240.1, 1)])
def test_what_was_measured_is_read_and_told(tmp_path, capsys, demo, status):
    for name, found in (("inference", answered()), ("training", trained(10.0, {})), ("stages", timed(demo))):
        write_json(tmp_path / f"{name}.json", found)
    assert main(["goals", str(tmp_path)]) == status
    printed = capsys.readouterr().out
    assert f"| the demo | the clock | {demo:.1f} s | <= 240 s | {'NOT kept' if status else 'kept'} |" in printed
    assert f"| {TUNED} | 2·N·T, float32, 200 GFLOP/s | 75% | >= 75% | kept |" in printed


@pytest.mark.parametrize("words", [["training"], ["goals", "FOLDER"]])
def test_a_gpu_is_not_held_against_the_defaults_on_a_processor(words, tmp_path, monkeypatch):
    card = Machine("a CPU", 4, 16.0, "Tesla T4", 1, 14.6, False)
    monkeypatch.setattr("bench.subject.this_machine", lambda: card)
    with pytest.raises(UserError, match=r"the Tesla T4 would compute: run `python -m bench gpu`, or put CUDA_VIS"):
        main([str(tmp_path) if word == "FOLDER" else word for word in words])
