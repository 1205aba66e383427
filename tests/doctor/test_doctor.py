"""`bash run_sft.sh doctor` in processes of its own, against faults that are really there."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from doctor import __main__ as doctor
from doctor import environment, inputs, resources, tables
from doctor.result import FAULT, OK, WARNING, Check, guarded
from plan.hardware import Machine
from tests.prep_tables import small_task
from workspace.errors import UserError
from workspace.paths import ROOT

NAMES = [
    "python",
    "packages",
    "machine",
    "tools",
    "font",
    "recipe",
    "model",
    "hub",
    "data",
    "folders",
    "disk",
    "memory",
]
CLOSED = "http://127.0.0.1:9"
SCHEMA = {
    "type": "object",
    "required": ["recipe", "machine", "checks", "ok"],
    "additionalProperties": False,
    "properties": {
        "recipe": {"type": "string"},
        "machine": {"type": "object", "required": ["cpu", "cores", "memory_gib", "gpu"]},
        "ok": {"type": "boolean"},
        "checks": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "state", "found", "remedy"],
                "additionalProperties": False,
                "properties": {
                    "name": {"type": "string"}, "state": {"enum": [OK, WARNING, FAULT]},
                    "found": {"type": "string", "minLength": 1}, "remedy": {"type": "string"},
                },
            },
        },
    },
}  # fmt: skip


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model whose files are whole: a small tokenizer that knows bytes, and weights of one tensor."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = tmp_path / "model"
    folder.mkdir()
    config = {"model_type": "qwen2", "hidden_size": 8, "num_hidden_layers": 1, "intermediate_size": 16,
              "num_attention_heads": 1}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={one: at for at, one in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.save(str(folder / "tokenizer.json"))
    header = json.dumps({"a.weight": {"dtype": "F32", "shape": [8, 8], "data_offsets": [0, 256]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(256))
    return folder


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "my.csv"
    path.write_text("label,review\n" + "1,房间很干净\n0,太吵了\n" * 20, encoding="utf-8")
    return path


def examine(
    tmp_path: Path, *words: str, command: tuple[str, ...] = ("bash", "run_sft.sh", "doctor"), **env: str
) -> tuple[subprocess.CompletedProcess[str], dict[str, dict[str, str]]]:
    """Doctor's process, without the forward pass, and its checks by name."""
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    around = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "MODELSCOPE_", "USE_HF"))}
    around |= {"HOME": str(home), "SWIFT_SFT_CACHE": str(tmp_path / "cache")}
    around |= {"MODELSCOPE_ENDPOINT": CLOSED, "HUB_HOSTS": CLOSED} | env
    line = [*command, *words, "--run", str(tmp_path / "run"), "--json", "--no-forward"]
    result = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, env=around)
    assert "Traceback" not in result.stderr
    checks = {one["name"]: one for one in json.loads(result.stdout)["checks"]} if result.stdout else {}
    return result, checks


def options(model: Path, table: Path) -> list[str]:
    return ["hotel_reviews", "--model", str(model), "--csv", str(table)]


def files(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if "__pycache__" not in path.parts}


def test_a_whole_setup_is_ok_and_nothing_is_written(model: Path, table: Path, tmp_path: Path) -> None:
    import jsonschema

    (tmp_path / "home").mkdir()
    before = files(tmp_path)
    result, checks = examine(tmp_path, *options(model, table))
    document = json.loads(result.stdout)
    jsonschema.validate(document, SCHEMA)
    assert list(checks) == NAMES
    assert [one for one in document["checks"] if one["state"] == FAULT] == [] and document["ok"]
    assert result.returncode == 0
    assert checks["hub"]["state"] == OK and "not needed" in checks["hub"]["found"]
    assert "40 rows" in checks["data"]["found"]
    assert files(tmp_path) == before


def cut_weights(model: Path, table: Path) -> None:
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])


def lose_a_part(model: Path, table: Path) -> None:
    index = {"weight_map": {"a.weight": "model.safetensors", "b.weight": "model-2.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("damage", "name", "found"),
    [
        (cut_weights, "model", "model.safetensors"),
        (lose_a_part, "model", "model-2.safetensors"),
        (lambda model, table: (model / "config.json").write_text("<html>"), "model", "config.json"),
        (lambda model, table: (model / "tokenizer.json").write_text("{}"), "model", "tokenizer.json"),
        (lambda model, table: (model / "tokenizer.json").unlink(), "model", "tokenizer"),
        (lambda model, table: shutil.rmtree(model), "model", "no such folder"),
        (lambda model, table: table.unlink(), "data", "there is no file"),
        (lambda model, table: table.write_text("a,b\n1,2\n"), "data", "has no column review"),
        (lambda model, table: table.write_text(""), "data", "is empty"),
        (lambda model, table: (table.unlink(), table.mkdir()), "data", "is a folder"),
        (lambda model, table: (model.parent / "run").write_text(""), "folders", "is a file"),
        (lambda model, table: ((model.parent / "run").mkdir(), (model.parent / "run" / "x").touch()), "folders",
         "holds something other than a run"),
    ],
)  # fmt: skip
def test_a_fault_on_disk_is_found_at_its_place(damage, name: str, found: str, model, table, tmp_path: Path) -> None:
    damage(model, table)
    result, checks = examine(tmp_path, *options(model, table), command=(sys.executable, "-m", "doctor"))
    assert result.returncode == 1
    assert checks[name]["state"] == FAULT and found in checks[name]["found"]
    others = {one for one in checks if checks[one]["state"] == FAULT} - {name}
    assert others <= {"disk"}  # a run folder that is a file has no disk


def test_no_hub_and_no_weights_is_a_fault_of_the_model_and_a_warning_of_the_hub(table: Path, tmp_path: Path) -> None:
    result, checks = examine(tmp_path, "hotel_reviews", "--csv", str(table))
    assert (result.returncode, checks["model"]["state"], checks["hub"]["state"]) == (1, FAULT, WARNING)
    assert CLOSED in checks["hub"]["found"] and "--model PATH" in checks["model"]["remedy"]
    result, checks = examine(tmp_path, "hotel_reviews", "--csv", str(table), HF_HUB_OFFLINE="1")
    assert "offline is set" in checks["hub"]["found"]


def test_without_options_the_demo_would_run_and_that_is_a_warning(tmp_path: Path) -> None:
    result, checks = examine(tmp_path)
    assert (result.returncode, checks["model"]["state"]) == (0, WARNING)
    assert "the demo instead" in checks["model"]["found"]


def test_python_alone_is_enough_to_be_told_what_is_missing(tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    result, checks = examine(tmp_path, "demo", command=(str(bare / "bin" / "python"), "-m", "doctor"))
    assert result.returncode == 1
    assert "ms-swift: missing" in checks["packages"]["found"]
    assert checks["recipe"]["state"] == FAULT and "yaml is missing" in checks["recipe"]["found"]


def test_a_missing_pin_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pins = tmp_path / "requirements.txt"
    pins.write_text("no-such-package==1.0\nnumpy==0.0.1\n")
    monkeypatch.setattr(environment, "PINS", pins)
    found = environment.packages()
    assert found.state == FAULT
    assert "no-such-package: missing, wanted 1.0; numpy: " in found.found and found.remedy


@pytest.mark.parametrize(
    "words", [("nope",), ("demo", "more"), ("demo", "--output_dir", "x"), ("demo", "--with", "nothing")]
)
def test_bad_options_are_one_sentence_and_status_2(words: tuple[str, ...], tmp_path: Path) -> None:
    result, _ = examine(tmp_path, *words, command=(sys.executable, "-m", "doctor"))
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_a_fault(model: Path, table: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    result, checks = examine(tmp_path, *options(model, table), SWIFT_SFT_CACHE=str(locked / "cache"))
    assert (result.returncode, checks["folders"]["state"]) == (1, FAULT)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a disk needs root")
def test_a_disk_that_may_only_be_read_is_a_fault(model: Path, table: Path, tmp_path: Path) -> None:
    readonly = tmp_path / "readonly"
    readonly.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", readonly], capture_output=True).returncode:
        pytest.skip("no mount is allowed here")
    try:
        result, checks = examine(tmp_path, *options(model, table), SWIFT_SFT_CACHE=str(readonly / "cache"))
    finally:
        subprocess.run(["umount", readonly], check=True)
    assert (result.returncode, checks["folders"]["state"]) == (1, FAULT)
    assert "cannot be written" in checks["folders"]["found"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_small_disk_is_a_fault(model: Path, table: Path, tmp_path: Path) -> None:
    small = tmp_path / "run"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], capture_output=True).returncode:
        pytest.skip("no mount is allowed here")
    try:
        result, checks = examine(tmp_path, *options(model, table), command=(sys.executable, "-m", "doctor"))
    finally:
        subprocess.run(["umount", small], check=True)
    assert (result.returncode, checks["disk"]["state"]) == (1, FAULT)
    assert "needs about" in checks["disk"]["found"] and "make room" in checks["disk"]["remedy"]


def test_a_folder_that_is_no_run_is_not_looked_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be a whole disk."""
    (tmp_path / "mine").touch()
    monkeypatch.setattr(Path, "rglob", lambda *_: pytest.fail("it was walked"))
    with pytest.raises(UserError, match="holds something other than a run"):
        resources.disk({}, tmp_path, tmp_path / "data", None, None, None)


@pytest.mark.parametrize(
    ("fields", "state", "found", "remedy"),
    [
        (
            {"gpu_fault": "torch 2.13.0 has no kernels for Tesla V100", "fault_kind": "old_card"},
            FAULT,
            "CPU only",
            "torch==2.13.0+cu126",
        ),
        (
            {"gpu_fault": "a GPU's driver is here and this torch is built for CPUs", "fault_kind": "other_build"},
            WARNING,
            "built for CPUs",
            "remove .venv",
        ),
        ({"other_device": "Apple's GPU (MPS)"}, WARNING, "(MPS) is not used", "--use_cpu false"),
        ({}, OK, "training in float32", ""),
    ],
)
def test_what_is_here_and_does_not_compute_is_told(fields, state: str, found: str, remedy: str) -> None:
    """The doctor found no fault with a card that the run refused."""
    check = environment.hardware(Machine("a CPU", 4, 16.0, None, 0, 0.0, False, **fields))
    assert (check.state, found in check.found, remedy in check.remedy) == (state, True, True)


def test_weights_in_4_bits_are_counted_so_and_not_loaded_whole(model: Path) -> None:
    """Doctor loaded the 15 GB of a model that the run takes in 4 bits, and counted them."""
    with open(model / "model.safetensors", "r+b") as weights:
        weights.truncate(15 * 2**30)
    card = Machine("a CPU", 4, 16.0, "RTX 4090", 1, 23.5, True)
    sft = {"torch_dtype": "bfloat16", "gradient_checkpointing": True, "per_device_train_batch_size": 4}
    assert resources.memory(card, {**sft, "quant_bits": 4}, model).state == OK
    whole = resources.memory(replace(card, gpu_memory_gib=14.6), sft, model)
    assert (whole.state, "the GPU has 15 GiB" in whole.found) == (WARNING, True)
    ready = SimpleNamespace(model=model, sft={"quant_bits": 4}, machine=card)
    assert inputs.forward(ready) == Check("forward", OK, "left out: the run loads these weights in 4 bits")


@pytest.mark.parametrize("way", ["zero3", "fsdp", ""])
def test_a_model_that_several_cards_hold_together_is_not_loaded_onto_one(model: Path, way: str) -> None:
    """Doctor loaded 70B parameters onto one card, and called it a fault."""
    (model / "config.json").write_text(json.dumps({"hidden_size": 64, "num_hidden_layers": 2, "dtype": "bfloat16"}))
    os.truncate(model / "model.safetensors", 140 * 2**30)  # takes no room
    cards = Machine("a CPU", 96, 1000.0, "A100", 8, 79.2, True)
    sft = {"torch_dtype": "bfloat16", "per_device_train_batch_size": 1, "ENV": {"NPROC_PER_NODE": "8"}}
    sft |= {"fsdp": {"fsdp": "full_shard"}} if way == "fsdp" else {"deepspeed": way} if way else {}
    forward = inputs.forward(SimpleNamespace(model=model, sft=sft, machine=cards))
    why = "the run spreads these weights over 8 GPUs" if way else "the weights are larger than A100"
    assert forward == Check("forward", OK, f"left out: {why}")
    found = resources.memory(cards, sft, model)
    assert found.state == (OK if way else FAULT)
    assert ("needs about 18.0 GiB" in found.found) if way else ("--with multi-gpu zero3" in found.remedy)


def test_a_card_for_the_screen_beside_the_one_that_computes_is_no_warning() -> None:
    """It was told to install another torch."""
    fault = "torch 2.13.0 has no kernels for GT 1030"
    check = environment.hardware(Machine("a CPU", 4, 16.0, "RTX 4090", 1, 23.5, True, gpu_fault=fault))
    assert (check.state, f"{fault}; that GPU is not used" in check.found) == (OK, True)


def test_a_card_that_somebody_else_uses_is_a_warning() -> None:
    """It was `ok`, with what was free of it as all that it had."""
    shared = Machine("a CPU", 4, 16.0, "A100", 1, 21.4, True, best_memory_gib=21.4, best_free=0.27, gpu_free=0.27)
    check = environment.hardware(shared)
    assert (check.state, "A100 (21 of 79 GiB free)" in check.found) == (WARNING, True)
    assert "end what else holds the card" in check.remedy


def test_a_package_that_an_option_needs_is_a_fault_before_the_run() -> None:
    recipe, card = SimpleNamespace(name="mine", infer={}), Machine("a CPU", 4, 16.0, "RTX 4090", 1, 23.5, True)
    ready = SimpleNamespace(recipe=recipe, sft={"quant_method": "bnb", "quant_bits": 4}, machine=card)
    found = inputs.recipe(ready)
    assert found.state == FAULT and found.found == "mine: quant_method: bnb needs the package bitsandbytes==0.50.2"
    assert found.remedy == "pip install bitsandbytes==0.50.2"
    ready.machine = Machine("a CPU", 4, 16.0, None, 0, 0.0, False)
    assert "mine: quant_bits: 4 is for GPUs, and none is used here" in inputs.recipe(ready).found


@pytest.mark.parametrize("key", ["added", "corrections", "known_public", "unlabelled"])
def test_a_file_that_the_task_names_beside_its_table_is_looked_for(key: str, table: Path, tmp_path: Path) -> None:
    """Doctor passed it, and the run ended at it."""
    file = tmp_path / "more.txt"
    named = {"path": str(file)} if key in ("known_public", "unlabelled") else str(file)
    task = small_task(tmp_path, csv=str(table), **{key: named})
    options = SimpleNamespace(csv=None, adapters=None)
    ready = SimpleNamespace(recipe=SimpleNamespace(task=task), csv=table, model=None, options=options)
    found = tables.data(ready)
    assert (found.state, found.found) == (FAULT, f"there is no file {file}") and f"remove `{key}`" in found.remedy
    file.write_text("很安静", encoding="utf-8")
    assert tables.data(ready).state == OK


def test_texts_that_the_run_could_not_learn_from_are_a_fault(model: Path, table: Path, tmp_path: Path) -> None:
    file = tmp_path / "more.txt"
    file.write_text("很安静", encoding="utf-8")
    ready = SimpleNamespace(
        recipe=SimpleNamespace(task=small_task(tmp_path, csv=str(table), unlabelled={"path": str(file)})),
        csv=table, model=model, sft={"quant_bits": 4}, options=SimpleNamespace(csv=None, adapters=None),
        machine=Machine("a CPU", 4, 16.0, None, 0, 0.0, False),
    )  # fmt: skip
    found = guarded("data", lambda: tables.data(ready))
    assert found.state == FAULT and "cannot be done in few bits: leave `unlabelled` out" in found.found


def test_a_recipes_value_that_fails_after_hours_is_a_fault() -> None:
    machine = Machine("a CPU", 4, 16.0, None, 0, 0.0, False)
    ready = SimpleNamespace(
        recipe=SimpleNamespace(name="mine", infer={}),
        sft={"lora_rank": 8, "learning_rate": float("nan")},
        machine=machine,
    )
    found = inputs.recipe(ready)
    assert found.state == FAULT and "mine: learning_rate is nan, expected a number above 0" in found.found
    assert inputs.recipe(SimpleNamespace(recipe=ready.recipe, sft={"lora_rank": "8"}, machine=machine)).state == OK


def test_a_check_that_fails_itself_is_a_fault_with_the_reason() -> None:
    def broken(error: Exception):
        def check() -> Check:
            raise error

        return check

    assert guarded("x", broken(UserError("a sentence"))) == Check("x", FAULT, "a sentence")
    assert "RuntimeError: two lines" in guarded("x", broken(RuntimeError("two\nlines"))).found
    assert "psutil is missing" in guarded("x", broken(ModuleNotFoundError(name="psutil"))).found


def test_lines_are_for_people_and_end_with_the_count(capsys: pytest.CaptureFixture[str]) -> None:
    assert Check("disk", FAULT, "full", "make room").line() == "fault   故障  disk: full -> make room"
    assert doctor.main(["--help"]) == 0
    assert "--no-forward" in capsys.readouterr().out


@pytest.mark.torch
def test_a_forward_pass_is_timed_and_damaged_weights_are_told(demo_model: Path, table: Path, tmp_path: Path) -> None:
    line = [sys.executable, "-m", "doctor", "hotel_reviews", "--csv", str(table), "--json"]
    line += ["--run", str(tmp_path / "run"), "--model"]
    result = subprocess.run([*line, str(demo_model)], cwd=ROOT, capture_output=True, text=True)
    last = json.loads(result.stdout)["checks"][-1]
    assert (last["name"], last["state"], result.returncode) == ("forward", OK, 0)
    damaged = tmp_path / "damaged"
    shutil.copytree(demo_model, damaged)
    weights = damaged / "model.safetensors"
    weights.chmod(0o600)
    data = bytearray(weights.read_bytes())
    data[-4_000_000:] = b"\xff" * 4_000_000  # not a number, in float16; the header fits
    weights.write_bytes(data)
    result = subprocess.run([*line, str(damaged)], cwd=ROOT, capture_output=True, text=True)
    last = json.loads(result.stdout)["checks"][-1]
    assert (last["name"], last["state"], result.returncode) == ("forward", FAULT, 1)
    assert "not finite" in last["found"]
