"""A run on every kind of machine: what it is given is what the golden files say, and ms-swift takes it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from plan.distributed import ACCUMULATION, BATCH, rows_a_step
from plan.memory import remember
from plan.recipes import MODELS
from plan.resolve_infer import answers_dtype
from plan.result_values import result_values
from tests.plan.faked_machines import (
    BEGIN,
    END,
    GOLDEN,
    MACHINES,
    PAGE,
    RTX_4090,
    SHAPES,
    Fake,
    Planned,
    doctors_lines,
    golden,
    machine_of,
    model_folder,
    plan_for,
)
from tests.scored_runs import make_plan as make_run_json
from workspace.files import write_json, write_text
from workspace.paths import ROOT

STEMS = sorted(path.stem for path in MODELS.glob("*.yaml"))
REFUSED = ["V100", *(name for name, fake in MACHINES.items() if fake.knows)]
GPUS = [name for name, fake in MACHINES.items() if fake.cards and name not in REFUSED]
CPUS = [name for name, fake in MACHINES.items() if not fake.cards]
OLD = ("T4", "2 x T4")  # without bfloat16


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {stem: model_folder(folder, stem) for stem in STEMS}


@pytest.fixture(scope="module")
def planned(models: dict[str, Path]) -> dict[str, dict[str, Planned]]:
    """By recipe and machine."""
    return {stem: {name: plan_for(name, stem, models[stem]) for name in MACHINES} for stem in STEMS}


def test_every_recipe_has_a_model_and_a_golden_file() -> None:
    assert sorted(SHAPES) == STEMS == sorted(path.stem for path in GOLDEN.glob("*.yaml"))


@pytest.mark.parametrize("stem", STEMS)
def test_a_machine_is_given_what_the_golden_file_says(planned, stem: str) -> None:
    """Where this is meant to change: python -m tests.plan.faked_machines, and read what git shows."""
    assert golden(stem, planned[stem]) == (GOLDEN / f"{stem}.yaml").read_text(encoding="utf-8")


def test_doctors_lines_are_in_the_docs(planned) -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text.partition(BEGIN)[2].partition(END)[0] == doctors_lines(planned[STEMS[-1]])


@pytest.mark.parametrize(
    ("stem", "name", "measured", "computed"),
    [
        ("qwen2.5-0.5b-instruct", "RTX 4090", "float32", "float32"),
        ("qwen2.5-0.5b-instruct", "RTX 4090", None, "float32"),  # of a bundle that does not say it
        ("qwen2.5-0.5b-instruct", "RTX 4090", "bfloat16", "bfloat16"),
        ("qwen2.5-0.5b-instruct", "T4", "bfloat16", "float32"),
        ("qwen2.5-0.5b-instruct", "T4", "float16", "float16"),
        ("qwen2.5-7b-qlora", "RTX 4090", None, "bfloat16"),
        ("qwen2.5-7b-qlora", "RTX 4090", "float32", "bfloat16"),  # of a machine that holds 28 GiB
        ("qwen2.5-7b-qlora", "T4", "bfloat16", "float16"),
        ("qwen2.5-7b-qlora", "T4", "anything", "float16"),
        ("qwen2.5-7b-qlora", "CPU, AVX2", "bfloat16", "float32"),
    ],
)
def test_answers_are_computed_in_what_was_measured_where_the_card_has_it(
    models, capsys, stem: str, name: str, measured: str | None, computed: str
) -> None:
    machine = machine_of(MACHINES[name])
    assert answers_dtype(measured, models[stem], machine) == computed
    differs = machine.gpu is not None and measured not in (None, computed)
    assert ("probabilities differ a little" in capsys.readouterr().err) is differs


def test_kernels_for_half_precision_alone_get_no_float32(models) -> None:
    """vLLM's for an adapter, on whose assertion it ended."""
    for name, half in (("RTX 4090", "bfloat16"), ("T4", "float16")):
        machine = machine_of(MACHINES[name])
        assert {answers_dtype(one, models["qwen3-0.6b"], machine, True) for one in (None, "float32")} == {half}


@pytest.mark.parametrize("stem", STEMS)
def test_a_gpu_that_torch_cannot_use_is_refused_with_what_helps_and_four_bits_without_one(planned, stem: str) -> None:
    refused = {name: one.refused for name, one in planned[stem].items() if one.refused}
    if stem.endswith("qlora"):
        assert all("quant_bits: 4 is for GPUs, and none is used here" in refused.pop(name) for name in CPUS)
    assert list(refused) == REFUSED and all(planned[stem][name].doctor[0].startswith("fault") for name in REFUSED)
    helps = {"V100": (False, True), "RTX 4090, driver 550": (True, True)}
    for name, said in refused.items():
        found = "renew the driver to 580 or newer" in said, "uv pip install --torch-backend cu126 torch" in said
        assert found == helps.get(name, (True, False)), name  # the others have no build but CUDA 13's


@pytest.mark.parametrize("stem", STEMS)
def test_dtype_and_batch_are_the_cards(planned, stem: str) -> None:
    for name in GPUS:
        sft, infer = planned[stem][name].sft, planned[stem][name].infer
        old, head, quantised = name in OLD, stem.endswith("seqcls"), stem.endswith("qlora")
        half = "float16" if old else "bfloat16"
        assert (sft["bf16"], sft["fp16"], "use_cpu" in sft) == (not old, old, False), name
        assert sft["torch_dtype"] == ("float32" if head else half), name
        assert infer["torch_dtype"] == (half if quantised else "float32"), name
        assert sft["per_device_train_batch_size"] * sft["gradient_accumulation_steps"] == 8, name
        if quantised:
            assert sft["bnb_4bit_compute_dtype"] == infer["bnb_4bit_compute_dtype"] == half, name
    for name in () if stem.endswith("qlora") else CPUS:
        sft, infer = planned[stem][name].sft, planned[stem][name].infer
        assert (sft["use_cpu"], sft["torch_dtype"], infer["torch_dtype"]) == (True, "float32", "float32"), name
        other = MACHINES[name].other_device
        assert (sft.get("device_map"), infer.get("device_map")) == (("cpu", "cpu") if other else (None, None)), name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("2 x T4", "2 x Tesla T4"),
        ("8 x A100", "8 x NVIDIA A100"),
        ("RTX 4090 + GT 1030", "1 x NVIDIA GeForce RTX 4090 (24 GiB)"),
        ("H100 slice (MIG)", "MIG 1g.10gb (10 GiB)"),
        ("ROCm", "MI300X"),
    ],
)
def test_doctor_names_the_cards_that_compute(planned, name: str, words: str) -> None:
    assert words in planned[STEMS[0]][name].doctor[0]


def test_eight_cards_share_the_batch_and_are_told_what_that_brings(models) -> None:
    stem = "qwen1.5-0.5b-chat"
    one = plan_for("8 x A100", stem, models[stem], ["--with", "multi-gpu"])
    assert (one.sft["ENV"], one.sft["per_device_train_batch_size"]) == ({"NPROC_PER_NODE": "8"}, 1)
    many = plan_for("8 x A100", stem, models[stem], ["--with", "multi-gpu", "large-batch"])
    assert (many.sft["per_device_train_batch_size"], many.sft["gradient_accumulation_steps"]) == (8, 1)


def test_who_wants_the_cpu_beside_a_gpu_gets_a_plan_for_it(models) -> None:
    stem, words = "qwen1.5-0.5b-chat", ["--use_cpu", "true"]
    sft, infer = plan_for("RTX 4090", stem, models[stem], words, liger=True)[:2]
    assert (sft["torch_dtype"], sft["bf16"], infer["torch_dtype"]) == ("float32", False, "float32")
    assert not {"use_liger_kernel", "attn_impl", "padding_free"} & sft.keys()
    assert infer["max_batch_size"] == plan_for("CPU, AVX2", stem, models[stem]).infer["max_batch_size"]


def test_ligers_layers_have_room_for_a_larger_batch(models) -> None:
    stem, words = "qwen1.5-0.5b-chat", ["--with", "large-batch"]
    sizes = [plan_for("A100", stem, models[stem], words, liger=liger).sft for liger in (False, True)]
    assert [one["per_device_train_batch_size"] for one in sizes] == [32, 64]


@pytest.mark.parametrize(
    ("name", "stem", "taken"),
    [
        ("A100", "qwen1.5-0.5b-chat", True),
        ("T4", "qwen1.5-0.5b-chat", False),
        ("A100", "qwen1.5-0.5b-seqcls", False),
        ("A100", "qwen2.5-7b-qlora", False),
        ("CPU, AVX2", "qwen1.5-0.5b-chat", False),
    ],
)
def test_ligers_layers_are_part_of_the_plan_where_it_is_installed(models, name: str, stem: str, taken: bool) -> None:
    with_it, without = (plan_for(name, stem, models[stem], liger=liger).sft for liger in (True, False))
    assert with_it == without | ({"use_liger_kernel": True} if taken else {})


def test_a_neighbour_on_the_card_makes_no_begun_work_stale(models, tmp_path: Path, monkeypatch) -> None:
    """The same command set checkpoints aside and asked "before" again, when `serve` had taken some of the memory."""
    stem, run = "qwen1.5-0.5b-chat", tmp_path / "run"

    def at(free: float, folder: Path = run, *words: str) -> Planned:
        name, memory, _, capability = RTX_4090
        monkeypatch.setitem(MACHINES, "shared", Fake(((name, memory, free, capability),)))
        return plan_for("shared", stem, models[stem], ["--run", str(folder), *words])

    def batch(planned: Planned) -> tuple[int, int]:
        return int(planned.sft[BATCH]), int(planned.sft[ACCUMULATION])

    alone = at(23.1)
    assert (batch(alone), alone.infer["torch_dtype"]) == ((8, 1), "float32")
    assert [batch(at(free)) for free in (10.7, 4.7)] == [(4, 2), (1, 8)]  # nothing is lost yet
    begin(run, alone, models[stem])
    (run / "train" / "checkpoint-5").mkdir(parents=True)
    (run / "before" / "journal").mkdir(parents=True)
    for free in (10.7, 4.7, 2.0):
        again = at(free)
        assert [result_values(one) for one in again[:2]] == [result_values(one) for one in alone[:2]], free
        other = at(free, tmp_path / "43", "--seed", "43", "--data_seed", "43")
        assert rows_a_step(other.sft) == 8 and (free < 4 or other.infer["torch_dtype"] == "float32")
    assert batch(at(4.7, run, "--fresh")) == batch(at(4.7, run, "--learning_rate", "1e-4")) == (1, 8)
    assert batch(at(4.7, run, f"--{BATCH}", "2", f"--{ACCUMULATION}", "4")) == (2, 4)
    remember(run, {BATCH: 4, ACCUMULATION: 2})
    assert batch(at(4.7, run, "--auto-batch")) == (4, 2)
    smaller = tmp_path / "smaller.yaml"
    smaller.write_text(f"sft: {{{BATCH}: 2, {ACCUMULATION}: 4}}", encoding="utf-8")
    assert batch(at(23.1, run, "--with", str(smaller))) == (2, 4)
    make_run_json(run, tmp_path / "data", recipe_batch=[2, 4])  # by such an override, which is gone
    assert batch(at(23.1)) == (8, 1)
    begin(run, alone, models[stem])
    # Another model in the same folder begins anew: what its predecessor had says nothing of it.
    for name in ("sft", "infer"):
        write_text(run / f"{name}.yaml", (run / f"{name}.yaml").read_text().replace(str(models[stem]), "/another"))
    other = at(10.7)
    assert batch(other) == (4, 2)
    # But that which has read texts without labels stands in its place in the YAMLs.
    begun = (run / "sft.yaml").read_text()
    make_run_json(run, tmp_path / "data", text_base=str(models[stem]), recipe_batch=[8, 1])
    write_text(run / "sft.yaml", begun)
    assert batch(at(10.7)) == (8, 1)


def begin(run: Path, planned: Planned, model: Path) -> None:
    """run.json and the YAMLs of a run as it was planned, where the machine chose the dtype of answers."""
    run.mkdir(exist_ok=True)
    make_run_json(run, run / "data", recipe_batch=[8, 1], chosen_dtype=planned.infer["torch_dtype"])
    for command in ("sft", "infer"):
        text = (
            json.dumps(getattr(planned, command)).replace("MODEL", str(model)).replace("DATASET", str(planned.dataset))
        )
        write_text(run / f"{command}.yaml", yaml.safe_dump(json.loads(text)))


def test_answers_that_a_neighbour_had_begun_in_half_precision_stay_so_when_it_leaves(
    models, tmp_path: Path, monkeypatch
) -> None:
    stem, run = "qwen1.5-0.5b-chat", tmp_path / "run"

    def dtype(free: float, *words: str) -> str:
        name, memory, _, capability = RTX_4090
        monkeypatch.setitem(MACHINES, "shared", Fake(((name, memory, free, capability),)))
        return plan_for("shared", stem, models[stem], ["--run", str(run), *words]).infer["torch_dtype"]

    assert [dtype(free) for free in (23.1, 1.0)] == ["float32", "bfloat16"]
    planned = plan_for("RTX 4090", stem, models[stem], ["--run", str(run)])
    begin(run, planned._replace(infer=planned.infer | {"torch_dtype": "bfloat16"}), models[stem])
    (run / "before" / "journal").mkdir(parents=True)
    assert [dtype(23.1), dtype(23.1, "--fresh")] == ["bfloat16", "float32"]
    assert dtype(23.1, "--limit", "300") == "float32"  # other rows
    make_run_json(run, run / "data")  # somebody named it then
    assert dtype(23.1) == "float32"


@pytest.mark.parametrize("count", [2, 3, 8])
def test_a_neighbour_on_one_of_several_cards_makes_no_finished_tuning_stale(
    models, tmp_path: Path, monkeypatch, count: int
) -> None:
    stem, run = "qwen1.5-0.5b-chat", tmp_path / "run"

    def at(free: float) -> Planned:
        cards = (*(count - 1) * (("Tesla T4", 14.6, 14.5, (7, 5)),), ("Tesla T4", 14.6, free, (7, 5)))
        monkeypatch.setitem(MACHINES, "shared", Fake(cards))
        return plan_for("shared", stem, models[stem], ["--run", str(run), "--with", "multi-gpu"])

    alone = at(14.5)
    assert alone.sft["ENV"]["NPROC_PER_NODE"] == str(count)
    assert at(6.0).sft["ENV"]["NPROC_PER_NODE"] == str(count - 1)
    begin(run, alone, models[stem])
    (run / "train" / "checkpoint-5").mkdir(parents=True)
    assert at(6.0).sft["ENV"]["NPROC_PER_NODE"] == str(count - 1)  # half of it cannot go on with a card that is taken
    done = {"stage": "train", "finished": "2026-11-27", "seconds": 1.0, "inputs": {}, "outputs": {}}
    write_json(run / "stages" / "train.json", done)
    assert result_values(at(6.0).sft) == result_values(alone.sft)


@pytest.mark.swift
def test_ms_swift_takes_what_every_machine_is_given(planned, models, tmp_path: Path) -> None:
    """By its own argument classes, in one process; what is the same on several machines is looked at once."""
    jobs: dict[str, list[tuple[str, str]]] = {}
    names: dict[str, str] = {}
    known = set()
    (tmp_path / "rows.jsonl").touch()
    for stem, machines in planned.items():
        for name, one in machines.items():
            kind = "none" if name in CPUS else "float16" if name in OLD else "bfloat16"
            for command in ("sft", "infer"):
                values = real(getattr(one, command), models[stem], tmp_path)
                text = yaml.safe_dump(values, allow_unicode=True)
                if one.refused or (kind, command, text) in known:
                    continue
                known.add((kind, command, text))
                path = tmp_path / f"{len(known)}.yaml"
                path.write_text(text, encoding="utf-8")
                names[str(path)] = f"{stem} on {name}: {command}"
                jobs.setdefault(kind, []).append((command, str(path)))
    # One that is wrong: a key that there is not.
    values = real(planned[STEMS[0]]["CPU, AVX2"].sft, models[STEMS[0]], tmp_path) | {"no_such_key": 1}
    wrong = str(tmp_path / "wrong.yaml")
    Path(wrong).write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    jobs["none"].append(("sft", wrong))
    (tmp_path / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
    words = [sys.executable, "-m", "tests.plan.accepted_by_swift", str(tmp_path / "jobs.json"), str(tmp_path / "out")]
    result = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    faults = json.loads((tmp_path / "out").read_text(encoding="utf-8"))
    assert "no_such_key" in faults.pop(wrong)
    assert faults.keys() == names.keys() and len(names) > 2 * len(STEMS)
    assert {names[path]: said for path, said in faults.items() if said} == {}


def real(values: dict, model: Path, folder: Path) -> dict:
    """The values with folders that are there in the place of names."""
    text = json.dumps(values, ensure_ascii=False)
    for name, place in (("MODEL", model), ("RUN", folder / "run")):
        text = text.replace(name, str(place))
    found = json.loads(text)
    rows = {key: [str(folder / "rows.jsonl")] for key in ("dataset", "val_dataset") if key in found}
    plugins = {"external_plugins": [str(ROOT / one) for one in found.get("external_plugins", [])]}
    return {**found, **rows, **(plugins if plugins["external_plugins"] else {})}
