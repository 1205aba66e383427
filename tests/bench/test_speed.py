"""The benches of inference and training: limits, counts, tables; the runs themselves take minutes and are not here."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from safetensors.numpy import save_file

from bench import inference, scaling, stages, training
from bench.limits import Stolen, draw_shares, measured_limits, medians, parameters, rows_a_second
from bench.subject import asked_tokens, publish, trained_tokens
from eval.inference.prompts import Prompt
from workspace.files import read_json, write_jsonl

LIMITS = {"float32": 150.0, "onednn": 300.0, "bf16": 600.0, "bandwidth": 30.0}
COMMON = {
    "rows": 200,
    "model": "m",
    "parameters": 25_000_000,
    "tokens": 150.0,
    "machine": "a machine",
    "limits": LIMITS,
    "stolen": 0.01,
}


def test_the_limit_is_the_rate_over_the_operations():
    assert rows_a_second(150.0, 25_000_000, 150.0, 2) == pytest.approx(20.0)
    assert rows_a_second(150.0, 25_000_000, 150.0, 4) == pytest.approx(10.0)


def test_parameters_are_counted_in_every_file(tmp_path: Path):
    save_file({"a": np.ones((3, 4), np.float32), "b": np.ones(5, np.float16)}, tmp_path / "model-1.safetensors")
    save_file({"c": np.ones((2, 2, 2), np.float32)}, tmp_path / "model-2.safetensors")
    assert parameters(tmp_path) == 12 + 5 + 8


@pytest.mark.torch
def test_the_machine_is_measured():
    with Stolen() as stolen:
        found = measured_limits()
    assert found.keys() == LIMITS.keys() and min(found.values()) > 0.1
    assert 0 <= stolen.share < 1
    assert medians([found, found, found]) == {name: round(value, 1) for name, value in found.items()}


def test_the_last_count_of_swift_infer_is_read(tmp_path: Path):
    line = "{{'num_prompt_tokens': 9, 'num_generated_tokens': 3, 'num_samples': {}, 'runtime': {}, 'samples/s': 1}}\n"
    (tmp_path / "log.txt").write_text(line.format(7, 1.0) + "100%|██|\n" + line.format(200, 12.5), encoding="utf-8")
    assert inference.rate_in(tmp_path / "log.txt") == 16.0


def test_answers_are_compared_row_by_row():
    assert inference.same_texts({"a": "正面", "b": "负面"}, {"b": "正面", "a": "正面"}) == {"rows": 2, "same": 1}


def test_tokens_are_those_of_prompt_and_answer(tmp_path: Path, demo_model: Path):
    row = {"messages": [{"role": "user", "content": "房间很干净"}, {"role": "assistant", "content": "正面"}]}
    write_jsonl(tmp_path / "train.jsonl", [row, row])
    asked = [Prompt("test", "1", "正面", False, tuple(row["messages"][:-1]))]
    prompt, whole = asked_tokens(asked, demo_model), trained_tokens(tmp_path, demo_model)
    assert 8 < prompt < 40 and prompt + 2 <= whole <= prompt + 4


class Planned(NamedTuple):
    """What the benches read of a run."""

    folder: Path
    dataset: Path
    versions: dict[str, str]


@pytest.fixture
def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Planned:
    """A run of 30 rows in each split that the benches of inference and training are given; nothing is measured."""
    rows = [
        {"id": str(at), "messages": [{"role": "user", "content": "房间"}, {"role": "assistant", "content": "正面"}]}
        for at in range(30)
    ]
    for split in ("train", "test"):
        write_jsonl(tmp_path / f"{split}.jsonl", rows)
    monkeypatch.setattr(training, "check_cpu", lambda: None)
    for bench in (inference, training):
        monkeypatch.setattr(bench, "subject", lambda *_: Planned(tmp_path, tmp_path, {}))
        monkeypatch.setattr(bench, "measured_limits", lambda: LIMITS)
        monkeypatch.setattr(bench, "parameters", lambda model: 25_000_000)
    return Planned(tmp_path, tmp_path, {})


def test_the_figures_of_training_are_written(planned: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def way(out: Path, seed: int) -> dict[str, Any]:
        return {"train_runtime": 10.0 + seed, "wall": 20.0, "peak_bytes": 2**30, "adapter": out / "checkpoint-1"}

    ways = dict.fromkeys((training.OURS, training.BEST, training.DEFAULT, training.HEAD), way)
    monkeypatch.setattr(training, "ways_to_train", lambda *_: ways)
    monkeypatch.setattr(training, "label_accuracy", lambda model, adapter, rows: 0.5)
    monkeypatch.setattr(training, "trained_tokens", lambda *_: 50.0)
    assert not publish(training, json=tmp_path / "training.json", repeat=2, model=tmp_path)
    found = read_json(tmp_path / "training.json")
    assert found["runs"].keys() == ways.keys() and found["accuracy"].keys() == {training.OURS, training.DEFAULT}


@pytest.mark.parametrize("rows", [7, 30, 100])
def test_no_more_rows_are_asked_than_were_named(rows, planned, tmp_path, monkeypatch: pytest.MonkeyPatch):
    asked: list[int] = []

    def answer(made: Planned, model_or_kind: object, prompts: list[Prompt], *_: object, **__: object):
        asked.append(len(prompts))
        return 2.0, {one.id: "正面" for one in prompts}

    prompts = [Prompt("test", str(at), "正面", False, ({"role": "user", "content": "房间"},)) for at in range(30)]
    monkeypatch.setattr(inference, "make_prompts", lambda *_: prompts)
    monkeypatch.setattr(inference, "tune", lambda *_, **__: None)
    monkeypatch.setattr(inference, "asked_tokens", lambda *_: 50.0)
    monkeypatch.setattr(inference, "by_us", answer)
    monkeypatch.setattr(inference, "by_default", answer)
    found, same = inference.run(rows, 1, None, tmp_path)
    assert same and {found["rows"]} == set(asked) and min(rows, 30) // 2 < found["rows"] <= rows


def test_the_tables_say_what_was_measured(tmp_path: Path):
    found = COMMON | {
        "bench": "inference",
        "rates": {inference.DEFAULT: [4.0, 5.0, 6.0], **{name: [9.0, 10.0, 30.0] for name in inference.WAYS.values()}},
        "same": {"default": {"rows": 200, "same": 199}},
        "once": {},
    }
    text = "\n".join(inference.report(found))
    assert "| label scores | 10.0 | 9.0–30.0 | 2.0 | 50% | 25% |" in text and "199 of 200" in text
    trained = {"train_runtime": 20.0, "wall": 30.0, "peak_bytes": 2**30}
    runs = {training.OURS: [trained] * 3, training.DEFAULT: [trained | {"train_runtime": 80.0}] * 3, training.HEAD: []}
    found = COMMON | {
        "bench": "training",
        "epochs": 1,
        "runs": runs,
        "rates": {name: [200 / one["train_runtime"] for one in every] for name, every in runs.items() if every},
        "accuracy": {training.OURS: [0.8, 0.9, 0.85]},
        "tested": 60,
        "not_measured": {training.HEAD: "it failed"},
    }
    text = "\n".join(training.report(found))
    assert "| this project | 10.00 | 10.00–10.00 | 1.0 | 100% | 50% | 25% | 1.0 | 80.0% 90.0% 85.0% |" in text
    assert "| 4.0 | 25% |" in text and f"not measured: {training.HEAD}: it failed" in text
    draw_shares(tmp_path / "a.png", found, 4, training.RATES)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_the_time_of_one_row_more_is_told():
    sizes = [
        {"rows": 100, "tokens": 150.0, "score_seconds": 5.0, "train_seconds": 12.0, "train_peak_bytes": 2**30},
        {"rows": 1100, "tokens": 150.0, "score_seconds": 45.0, "train_seconds": 112.0, "train_peak_bytes": 2**31},
    ]
    text = "\n".join(scaling.report({"model": "m", "machine": "a machine", "stolen": 0.0, "sizes": sizes}))
    assert "| 100 | 150 | 5.0 | 50 |  | 12.0 | 120 |  | 1.00 |" in text
    assert "| 1,100 | 150 | 45.0 | 41 | 40 | 112.0 | 102 | 100 | 2.00 |" in text


@pytest.mark.parametrize(("slowest", "kept"), [(239.0, "kept"), (300.0, "NOT kept")])
def test_the_limits_of_the_stages_are_told(slowest: float, kept: str):
    one = {"cpu_seconds": 1.0, "peak_bytes": 2**29}
    every = {name: [one | {"seconds": 2.0}] * 3 for name in (stages.PREP, stages.REPORT, "tune")}
    every[stages.DEMO] = [one | {"seconds": seconds} for seconds in (200.0, slowest, 400.0)]
    found = {"machine": "a machine", "reviews": "r.csv", "stolen": 0.0, "stages": every}
    text = "\n".join(stages.report(found))
    assert f"| the demo | {slowest:.1f} | 200.0–400.0 | 0.50 | 240 s {kept} |" in text
    assert "| tune | 2.0 | 2.0–2.0 | 0.50 |  |" in text and "| report | 2.0 | 2.0–2.0 | 0.50 | 8 s kept |" in text
