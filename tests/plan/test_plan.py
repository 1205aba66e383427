"""Options, recipes and what is resolved from them."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
import yaml

from data_prep.chat.family import recognise
from data_prep.chat.tokenizer import ModelTokenizer
from hub.find import find_model, missing_parts
from plan.hardware import Machine, child_environment, dtype_flags
from plan.option_values import is_true
from plan.options import Options, parse_options
from plan.planning import make_plan
from plan.recipes import MODELS, load_recipe, recipe_names
from plan.resolve import in_its_chat, resolve_sft
from plan.resolve_infer import MODEL_KEYS, cards_needed, resolve_infer, room_for_labels
from plan.training_memory import check_room, step_gib, training_gib
from tests.plan.faked_machines import model_folder
from tests.prep_tables import write_model
from workspace.errors import UserError
from workspace.paths import CONFIGS, ROOT

CPU = Machine("cpu", 2, 24.0, None, 0, 0.0, False)
GPU = Machine("cpu", 8, 64.0, "H200", 1, 141.0, True)
OLD_GPU = Machine("cpu", 8, 64.0, "V100", 1, 16.0, False)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    config = {"hidden_size": 1024, "num_hidden_layers": 24, "intermediate_size": 2816, "torch_dtype": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    (folder / "tokenizer.json").write_text("{}")
    return folder


def options(*words: str) -> Options:
    return parse_options(list(words))


def test_the_value_of_an_option_for_ms_swift_is_not_taken_for_the_recipe() -> None:
    parsed = options("--learning_rate", "5e-5", "--limit", "8", "--target_modules", "q_proj", "v_proj")
    assert parsed.recipe is None
    assert parsed.limit == 8
    assert parsed.swift == {"learning_rate": "5e-5", "target_modules": ["q_proj", "v_proj"]}


def test_values_stay_text_and_negative_numbers_are_values() -> None:
    parsed = options("demo", "--eval_strategy", "no", "--max_steps", "-1", "--lora-rank=16")
    assert parsed.recipe == "demo"
    assert parsed.swift == {"eval_strategy": "no", "max_steps": "-1", "lora_rank": "16"}


def test_relative_paths_are_the_callers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUN_SFT_CALLER", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "weights").mkdir()
    parsed = options("demo", "--csv", "my.csv", "--run=~/out", "--model", "weights")
    assert (parsed.csv, parsed.run) == (tmp_path / "my.csv", tmp_path / "home" / "out")
    assert parsed.model == str(tmp_path / "weights")
    assert options("demo", "--model", "Qwen/Qwen1.5-0.5B-Chat").model == "Qwen/Qwen1.5-0.5B-Chat"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("demo", "--learning_rate"), "option --learning_rate has no value"),
        (("demo", "--soup"), "option --soup .*average of several seeds' adapters: name them with --seeds"),
        (("demo", "more"), "unexpected argument 'more'"),
        (("demo", "--limit", "many"), "--limit is 'many', expected a whole number from 2 to"),
        (("demo", "--limit", "0"), "--limit is '0', expected a whole number from 2"),
        (("demo", "--model"), "expected one argument"),
        (("demo", "--output_dir", "x"), "decided by the pipeline: use --run DIR"),
        (("demo", "--dataset", "x.jsonl"), "use --csv PATH"),
        (("demo", "--hub_token", "hf_secret"), "set HF_TOKEN or MODELSCOPE_API_TOKEN in the environment"),
        (("demo", "--push_to_hub", "true"), "upload RUN/train/checkpoint-N"),
        (("demo", "--tuner_type", "ia3"), "leaves no checkpoint to answer with"),
        (("--learning_rate", "1e-4", "demo"), "the recipe comes first"),
    ],
)
def test_bad_options_are_one_sentence(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        options(*words)


@pytest.mark.parametrize(
    "name", ["nope", "demo/nope", "hotel_reviews/task", "hotel_reviews/infer", "../demo", "", "demo/.."]
)
def test_an_unknown_recipe_is_told_with_those_known(name: str) -> None:
    with pytest.raises(UserError, match="known are demo/minimind2-small"):
        load_recipe(name)


def test_a_task_alone_is_its_default_recipe() -> None:
    assert load_recipe("demo").name == "demo/minimind2-small"
    assert load_recipe("hotel_reviews").name == "hotel_reviews/qwen1.5-0.5b-chat"


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_keeps_the_house_rules(name: str) -> None:
    recipe = load_recipe(name)
    text = recipe.path.read_text(encoding="utf-8")
    for part in ("# Hardware:", "# Prerequisite:", "# Run as:", "# Override:"):
        assert part in text
    for values in (recipe.sft, recipe.infer):
        flat = [item for value in values.values() for item in (value if isinstance(value, list) else [value])]
        assert None not in flat
        assert not any(str(value).startswith("/") for value in flat)
        assert not any(
            isinstance(item, bool | int) for value in values.values() if isinstance(value, list) for item in value
        )
    assert recipe.sft["max_length"] == recipe.task.max_length
    header = text.partition("\n\n")[0]
    assert f"swift sft swift_configs/models/{recipe.path.name}" in header and "# Licence:" in header
    # One infer.yaml for all: how the model is loaded and its chat is written is the recipe's to say.
    assert not set(MODEL_KEYS) & recipe.infer.keys()


@pytest.mark.parametrize("name", recipe_names())
def test_answers_are_asked_of_the_recipes_model_in_its_template(name: str, model: Path, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    sft = resolve_sft(recipe, {}, CPU, model, tmp_path, tmp_path)
    infer = resolve_infer(recipe, sft, CPU, tmp_path)
    assert {key: infer.get(key) for key in MODEL_KEYS} == {key: sft.get(key) for key in MODEL_KEYS}
    assert infer["template"] == recipe.sft["template"]


def test_the_default_recipe_has_the_numbers_of_the_original_experiment() -> None:
    sft = load_recipe("hotel_reviews").sft
    wanted = {
        "model": "Qwen/Qwen1.5-0.5B-Chat", "tuner_type": "lora", "lora_rank": 8, "lora_alpha": 16,
        "target_modules": "all-linear", "max_length": 512, "num_train_epochs": 3, "per_device_train_batch_size": 8,
        "eval_strategy": "epoch",
    }  # fmt: skip
    assert {key: sft[key] for key in wanted} == wanted


def test_a_cpu_gets_float32_and_a_gpu_its_own_dtype() -> None:
    assert dtype_flags(CPU) == {"torch_dtype": "float32", "use_cpu": True, "bf16": False, "fp16": False}
    assert dtype_flags(GPU) == {"torch_dtype": "bfloat16", "bf16": True, "fp16": False}
    assert dtype_flags(OLD_GPU) == {"torch_dtype": "float16", "bf16": False, "fp16": True}


def test_one_file_resolves_for_cpu_and_gpu(model: Path, tmp_path: Path) -> None:
    recipe = load_recipe("hotel_reviews")
    cpu = resolve_sft(recipe, {}, CPU, model, tmp_path / "data", tmp_path / "run")
    gpu = resolve_sft(recipe, {}, GPU, model, tmp_path / "data", tmp_path / "run")
    assert cpu["use_cpu"] is True and "use_cpu" not in gpu
    assert cpu["dataset"] == [str(tmp_path / "data" / "train.jsonl")]
    assert cpu["per_device_train_batch_size"] * cpu["gradient_accumulation_steps"] == 8
    assert gpu["per_device_train_batch_size"] == 8
    assert all(Path(plugin).is_file() for plugin in gpu["external_plugins"])
    infer = resolve_infer(recipe, gpu, GPU, tmp_path / "data")
    # Answers are float32 where the weights are small against the GPU: half precision rounds by the batch.
    assert (infer["torch_dtype"], infer["system"], infer["model"]) == ("float32", recipe.task.system, str(model))
    assert gpu["padding_side"] == "left"


@pytest.mark.parametrize(("words", "dtype"), [((), "bfloat16"), (("full",), "float32")])
def test_weights_that_are_tuned_themselves_are_float32(
    words: tuple[str, ...], dtype: str, model: Path, tmp_path: Path
) -> None:
    for machine, half in ((GPU, "bf16"), (OLD_GPU, "fp16")):
        values = resolve_sft(load_recipe("hotel_reviews", list(words)), {}, machine, model, tmp_path, tmp_path)
        assert values["torch_dtype"] == (dtype if words else {"bf16": "bfloat16", "fp16": "float16"}[half])
        assert values[half] is True
    head = resolve_sft(load_recipe("hotel_reviews/qwen1.5-0.5b-seqcls"), {}, GPU, model, tmp_path, tmp_path)
    assert (head["torch_dtype"], head["bf16"]) == ("float32", True)


def test_a_model_that_is_large_for_the_gpu_answers_in_half_precision(model: Path, tmp_path: Path) -> None:
    small = Machine("cpu", 8, 64.0, "a GPU", 1, 1e-9, True)
    recipe = load_recipe("hotel_reviews")
    sft = resolve_sft(recipe, {}, GPU, model, tmp_path, tmp_path)
    assert resolve_infer(recipe, sft, small, tmp_path)["torch_dtype"] == "bfloat16"
    flash = {**sft, "attn_impl": "flash_attn"}
    assert resolve_infer(recipe, flash, GPU, tmp_path)["attn_impl"] == "sdpa"


@pytest.mark.parametrize(
    ("shape", "written", "rows"),
    [
        ({"num_key_value_heads": 2, "head_dim": 64}, "", (100, 100)),
        ({}, "", (32, 64)),  # a cache of four times the size
        ({"num_key_value_heads": 2, "head_dim": 64}, "infer: {max_batch_size: 16}", (16, 64)),
    ],
    ids=["small-cache", "large-cache", "named"],
)
def test_a_cpu_writes_the_text_of_more_rows_at_a_time_where_their_cache_is_small(
    shape: dict[str, int], written: str, rows: tuple[int, int], model: Path, tmp_path: Path
) -> None:
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    config |= {"hidden_size": 512, "num_attention_heads": 8, "num_hidden_layers": 8}
    (model / "config.json").write_text(json.dumps({**config, **shape}), encoding="utf-8")
    override = tmp_path / "mine.yaml"
    override.write_text(written or "infer: {temperature: 0}", encoding="utf-8")
    recipe = load_recipe("demo", [str(override)])
    sft = resolve_sft(recipe, {}, CPU, model, tmp_path, tmp_path)
    infer = resolve_infer(recipe, sft, CPU, tmp_path)
    assert (infer["max_batch_size"], infer["write_batch_size"]) == rows
    gpu = resolve_infer(recipe, resolve_sft(recipe, {}, GPU, model, tmp_path, tmp_path), GPU, tmp_path)
    assert gpu["max_batch_size"] == (16 if "16" in written else 64)


def test_a_dtype_that_is_named_stands(model: Path, tmp_path: Path) -> None:
    """Else answers are float32 on a card where the weights are small against it."""
    override = tmp_path / "half.yaml"
    override.write_text("infer: {torch_dtype: bfloat16}", encoding="utf-8")
    for named, own, dtype in (([], False, "float32"), ([str(override)], False, "bfloat16"), ([], True, "bfloat16")):
        recipe = load_recipe("demo", named)
        sft = resolve_sft(recipe, {"torch_dtype": "bfloat16"} if own else {}, GPU, model, tmp_path, tmp_path)
        assert resolve_infer(recipe, sft, GPU, tmp_path, own)["torch_dtype"] == dtype


@pytest.mark.parametrize(("memory", "rows"), [(141.0, 64), (12.0, 32), (4.0, 16), (0.2, 1)])
def test_answers_come_in_batches_that_the_card_has_room_for(
    memory: float, rows: int, model: Path, tmp_path: Path
) -> None:
    """Keys and values of Qwen1.5-0.5B take 192 KiB a token in float32: 64 rows of 576 tokens 6.8 GiB."""
    path = model / "config.json"
    shape = {"hidden_size": 1024, "num_attention_heads": 16, "num_key_value_heads": 16, "num_hidden_layers": 24}
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | shape), encoding="utf-8")
    recipe = load_recipe("hotel_reviews")
    card = dataclasses.replace(GPU, gpu_memory_gib=memory)
    sft = resolve_sft(recipe, {}, card, model, tmp_path, tmp_path)
    infer = resolve_infer(recipe, sft, card, tmp_path)
    assert (infer["max_batch_size"], infer["torch_dtype"]) == (rows, "float32")


def test_the_batch_of_a_tasks_own_infer_yaml_stands(model: Path, tmp_path: Path) -> None:
    task = tmp_path / "mine"
    task.mkdir()
    text = (CONFIGS / "demo" / "task.yaml").read_text(encoding="utf-8")
    (task / "task.yaml").write_text(text.replace("name: demo", "name: mine"), encoding="utf-8")
    own = (CONFIGS / "infer.yaml").read_text(encoding="utf-8").replace("max_batch_size: 32", "max_batch_size: 8")
    (task / "infer.yaml").write_text(own, encoding="utf-8")
    recipe = load_recipe(str(task))
    for machine in (CPU, GPU):
        sft = resolve_sft(recipe, {}, machine, model, tmp_path, tmp_path)
        assert resolve_infer(recipe, sft, machine, tmp_path)["max_batch_size"] == 8


def test_vllm_takes_the_rank_of_the_recipe(model: Path, tmp_path: Path) -> None:
    for words, rank in ((["vllm"], None), (["vllm", "rank64"], 64)):
        recipe = load_recipe("hotel_reviews", words)
        sft = resolve_sft(recipe, {}, GPU, model, tmp_path, tmp_path)
        assert resolve_infer(recipe, sft, GPU, tmp_path).get("vllm_max_lora_rank") == rank


def test_vllm_takes_no_more_of_a_shared_card_than_is_free(model: Path, tmp_path: Path) -> None:
    recipe = load_recipe("hotel_reviews", ["vllm"])
    for free, share in ((1.0, 0.8), (0.95, 0.8), (0.5, 0.47)):
        machine = replace(GPU, gpus=2, best_free=free, gpu_free=0.3)
        sft = resolve_sft(recipe, {}, machine, model, tmp_path, tmp_path)
        infer = resolve_infer(recipe, sft, machine, tmp_path)
        assert infer["vllm_gpu_memory_utilization"] == share
        two = recipe._replace(infer={**recipe.infer, "vllm_tensor_parallel_size": 2})
        assert resolve_infer(two, sft, machine, tmp_path)["vllm_gpu_memory_utilization"] == 0.28
        with pytest.raises(UserError, match=r"ask for 2 GPUs and 1 are seen: lower them"):
            resolve_infer(two, sft, replace(machine, gpus=1), tmp_path)


def test_vllm_does_not_answer_by_other_weights_than_were_tuned(model: Path, tmp_path: Path) -> None:
    recipe = load_recipe("hotel_reviews/qwen2.5-7b-qlora", ["vllm"])
    sft = resolve_sft(recipe, {}, GPU, model, tmp_path, tmp_path)
    with pytest.raises(UserError, match="infer_backend vllm answers by whole weights: with quant_bits leave it out"):
        resolve_infer(recipe, sft, GPU, tmp_path)


def test_weights_that_are_tuned_in_float32_are_asked_in_half_where_float32_does_not_fit(model, tmp_path) -> None:
    os.truncate(model / "model.safetensors", 2**30)  # takes no room
    recipe = load_recipe("hotel_reviews", ["full"])
    for card, dtype in ((GPU, "float32"), (replace(GPU, gpu_memory_gib=1.0), "bfloat16"),
                        (replace(OLD_GPU, gpu_memory_gib=1.0), "float16")):  # fmt: skip
        sft = resolve_sft(recipe, {}, card, model, tmp_path, tmp_path)
        assert (sft["torch_dtype"], resolve_infer(recipe, sft, card, tmp_path)["torch_dtype"]) == ("float32", dtype)


def test_a_dtype_that_the_recipe_names_stands_in_its_answers(model: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("sft: {torch_dtype: float32}", encoding="utf-8")
    named = load_recipe("hotel_reviews", [str(own)])
    os.truncate(model / "model.safetensors", 2**30)
    small = replace(GPU, gpu_memory_gib=1.0)
    sft = resolve_sft(named, {}, small, model, tmp_path, tmp_path)
    assert resolve_infer(named, sft, small, tmp_path)["torch_dtype"] == "float32"


def test_a_dtype_of_half_precision_that_the_recipe_or_its_infer_yaml_names_is_answered_in(model, tmp_path) -> None:
    """Answers were float32 all the same, where the weights are small against the card."""
    recipe = load_recipe("hotel_reviews")
    (tmp_path / "half.yaml").write_text("sft: {torch_dtype: bfloat16}", encoding="utf-8")
    both = load_recipe("hotel_reviews", [str(tmp_path / "half.yaml")])
    own = recipe._replace(infer={**recipe.infer, "torch_dtype": "float16"})
    for named, dtypes in ((recipe, ("bfloat16", "float32")), (both, ("bfloat16",) * 2), (own, ("bfloat16", "float16"))):
        sft = resolve_sft(named, {}, GPU, model, tmp_path, tmp_path)
        assert (sft["torch_dtype"], resolve_infer(named, sft, GPU, tmp_path)["torch_dtype"]) == dtypes


def test_of_bf16_in_the_recipe_and_fp16_in_an_override_the_later_counts(model: Path, tmp_path: Path) -> None:
    """They were one layer, in which both were true."""
    for name, key in (("first", "bf16"), ("later", "fp16")):
        (tmp_path / f"{name}.yaml").write_text(f"sft: {{{key}: true}}", encoding="utf-8")
    recipe = load_recipe("hotel_reviews", [str(tmp_path / "first.yaml"), str(tmp_path / "later.yaml")])
    sft = resolve_sft(recipe, {}, GPU, model, tmp_path, tmp_path)
    assert (sft["bf16"], sft["fp16"], sft["torch_dtype"]) == (False, True, "float16")


@pytest.mark.parametrize(
    ("words", "batches"),
    [(("multi-gpu",), (1, 8)), (("multi-gpu", "zero2"), (1, 8)), (("multi-gpu", "zero3"), (4, 2)),
     (("multi-gpu", "fsdp2"), (4, 2))],
)  # fmt: skip
def test_weights_that_are_spread_leave_room_for_a_larger_batch(words, batches, tmp_path: Path) -> None:
    """Each card was taken to hold all of a 7B model's weights, gradients and moments."""
    big = model_folder(tmp_path, "qwen2.5-7b-qlora")
    recipe = load_recipe("hotel_reviews", ["full", *words])
    recipe = recipe._replace(sft={**recipe.sft, "per_device_train_batch_size": 64})
    eight = replace(GPU, gpus=8, gpu_memory_gib=79.2)
    sft = resolve_sft(recipe, {}, eight, big, tmp_path, tmp_path, {})
    assert (sft["per_device_train_batch_size"], sft["gradient_accumulation_steps"]) == batches
    whole = step_gib({**sft, "deepspeed": "zero2", "fsdp": ""}, big, 0)
    assert step_gib(sft, big, 0) == pytest.approx(whole if batches == (1, 8) else 0.5 + (whole - 0.5) / 8)


@pytest.mark.parametrize(
    ("size", "values", "card", "said"),
    [
        (60, {}, {"gpus": 4}, "--with multi-gpu zero3` or `--with multi-gpu fsdp2`, which spread it over 4 GPUs, or"),
        (60, {}, {}, "24.0 GiB: take a smaller model, or its weights in 4 bits, as the qlora recipe does"),
        (200, {}, {"gpus": 4}, "24.0 GiB: take a smaller model, or"),  # four do not hold it either
        (60, {}, {"best_free": 0.5, "gpu_memory_gib": 12.0}, "H200 has 24.0 GiB"),
        (10, {"tuner_type": "full", "torch_dtype": "float32"}, {}, "or tune adapters alone"),
        (10, {"tuner_type": "full", "torch_dtype": "float32", "optim": "adafactor"}, {}, ""),
        (10, {"tuner_type": "full", "torch_dtype": "float32", "freeze_parameters_ratio": 0.9}, {}, ""),
        (23, {}, {"best_free": 0.1, "gpu_memory_gib": 2.4}, ""),
        (60, {"quant_bits": 4}, {}, ""),
        (60, {"deepspeed": "zero3"}, {"gpus": 4}, ""),
        (60, {"fsdp": {"fsdp": "full_shard"}}, {"gpus": 4}, ""),
        (60, {"device_map": "auto"}, {"gpus": 4}, ""),
        (60, {}, {"gpu": None}, ""),
    ],
)
def test_a_model_that_a_card_cannot_hold_is_refused_with_what_can(
    size: int, values: dict, card: dict, said: str, model: Path
) -> None:
    """It answered before tuning, spread over several cards, and then failed at the smallest batch."""
    os.truncate(model / "model.safetensors", size * 2**30)  # takes no room
    os.truncate(shutil.copy(model / "tokenizer.json", model / "consolidated.safetensors"), size * 2**30)
    machine = replace(GPU, gpu_memory_gib=24.0) if "gpu_memory_gib" not in card else GPU
    sft = {"torch_dtype": "bfloat16", **values}
    with pytest.raises(UserError, match=re.escape(said)) if said else nullcontext():
        check_room(sft, replace(machine, **card), model)


def test_weights_whose_dtype_on_disk_is_not_known_are_not_refused_for_it(model: Path) -> None:
    os.truncate(model / "model.safetensors", 40 * 2**30)  # takes no room; in float32 it is 20 GiB when it is loaded
    (model / "config.json").write_text("{}")
    check_room({"torch_dtype": "bfloat16"}, replace(GPU, gpu_memory_gib=24.0), model)


def test_ligers_share_of_memory_is_counted_where_it_is_on(model: Path) -> None:
    off = {"gradient_checkpointing": False, "torch_dtype": "bfloat16"}
    on, said_off = ({**off, "use_liger_kernel": word} for word in ("true", "false"))
    assert step_gib(said_off, model, 64) == step_gib(off, model, 64) > 1.9 * step_gib(on, model, 64)


def test_a_model_is_spread_over_the_cards_that_its_weights_take(model: Path) -> None:
    os.truncate(model / "model.safetensors", 14 * 2**30)  # takes no room
    infer = {"model": str(model), "torch_dtype": "float16"}
    for memory, cards, needed in ((24, 4, 1), (15, 4, 2), (6, 4, 4), (2, 4, 4), (15, 1, 1)):
        assert cards_needed(infer, Machine("cpu", 8, 64.0, "x", cards, float(memory), True)) == needed
    assert cards_needed(infer, CPU) == 1
    assert cards_needed(infer | {"quant_bits": 4}, Machine("cpu", 8, 64.0, "x", 4, 6.0, True)) == 1


@pytest.mark.parametrize(("template", "scale"), [("qwen3", "ignore_empty_think"), ("glm4_5", "ignore_empty_think"),
                                                ("qwen2_5", None), ("qwen3_nothinking", None)])  # fmt: skip
def test_an_empty_thought_before_the_answer_is_not_learned(template: str, scale: str | None) -> None:
    """It is in the prompt when the model answers; ms-swift would train on it."""
    values = {"template": template, "system": "", "max_length": 512}
    found = in_its_chat(values, "")
    assert (found.get("loss_scale"), found.get("enable_thinking")) == (scale, None if scale is None else False)
    assert in_its_chat({**values, "loss_scale": "all"}, "")["loss_scale"] == "all"
    assert "loss_scale" not in in_its_chat({**values, "enable_thinking": "true"}, "")
    assert "loss_scale" not in in_its_chat({**values, "task_type": "seq_cls"}, "")


def test_weights_in_4_bits_are_multiplied_in_what_the_card_has(model: Path, tmp_path: Path) -> None:
    recipe = load_recipe("hotel_reviews/qwen2.5-7b-qlora")
    old, new = (resolve_sft(recipe, {}, machine, model, tmp_path, tmp_path) for machine in (OLD_GPU, GPU))
    assert (old["bnb_4bit_compute_dtype"], new["bnb_4bit_compute_dtype"]) == ("float16", "bfloat16")
    assert resolve_infer(recipe, old, OLD_GPU, tmp_path)["bnb_4bit_compute_dtype"] == "float16"
    named = {"bnb_4bit_compute_dtype": "bfloat16"}
    assert resolve_sft(recipe, named, OLD_GPU, model, tmp_path, tmp_path)["bnb_4bit_compute_dtype"] == "bfloat16"


@pytest.mark.parametrize("device", ["Apple's GPU (MPS)", "the Ascend NPU"])
def test_training_and_answers_are_computed_on_one_device(device: str, model: Path, tmp_path: Path) -> None:
    """ms-swift trained on the CPU, as told, and answered on the device that it found."""
    recipe, machine = load_recipe("hotel_reviews"), replace(CPU, other_device=device)
    sft = resolve_sft(recipe, {}, machine, model, tmp_path, tmp_path)
    infer = resolve_infer(recipe, sft, machine, tmp_path)
    assert (sft["use_cpu"], sft["device_map"], infer["device_map"]) == (True, "cpu", "cpu")
    assert "is not used: training and answers are computed on the CPU" in machine.unused
    own = {"use_cpu": "false", "torch_dtype": "bfloat16", "bf16": "true"}
    sft = resolve_sft(recipe, own, machine, model, tmp_path, tmp_path)
    infer = resolve_infer(recipe, sft, machine, tmp_path)
    assert not {"device_map"} & {*sft, *infer} and infer["torch_dtype"] == "bfloat16"
    assert "device_map" not in resolve_sft(recipe, {}, CPU, model, tmp_path, tmp_path)


def test_the_untuned_model_answers_with_the_kernel_of_the_tuned_one(model: Path, tmp_path: Path) -> None:
    recipe = load_recipe("hotel_reviews")
    sft = resolve_sft(recipe, {"attn_impl": "eager"}, GPU, model, tmp_path / "data", tmp_path / "run")
    assert resolve_infer(recipe, sft, GPU, tmp_path / "data")["attn_impl"] == "eager"
    assert "attn_impl" not in resolve_infer(load_recipe("hotel_reviews", ["vllm"]), sft, GPU, tmp_path / "data")


def test_a_dtype_that_a_recipe_or_an_override_names_stands(model: Path, tmp_path: Path) -> None:
    """The machine's own comes first: what a user has written into a file is not dropped without a word."""
    override = tmp_path / "half.yaml"
    override.write_text("sft: {torch_dtype: float16, fp16: true, bf16: false}\n", encoding="utf-8")
    values = resolve_sft(load_recipe("hotel_reviews", [str(override)]), {}, GPU, model, tmp_path, tmp_path)
    assert (values["torch_dtype"], values["fp16"], values["bf16"]) == ("float16", True, False)
    cpu = resolve_sft(load_recipe("hotel_reviews", [str(override)]), {}, CPU, model, tmp_path, tmp_path)
    assert (cpu["torch_dtype"], cpu["use_cpu"]) == ("float16", True)


@pytest.mark.parametrize(
    ("written", "words", "machine", "dtype", "mixed"),
    [
        ("", {"fp16": "true"}, GPU, "float16", "fp16"),
        ("", {"torch_dtype": "float16"}, GPU, "float16", "fp16"),
        ("", {"bf16": "false"}, GPU, "bfloat16", ""),
        ("", {"torch_dtype": "bfloat16", "bf16": "false"}, GPU, "bfloat16", ""),
        ("", {"torch_dtype": "float32"}, GPU, "float32", "bf16"),
        ("fp16: true", {}, GPU, "float16", "fp16"),
        ("fp16: true", {"bf16": "yes"}, GPU, "bfloat16", "bf16"),
        ("torch_dtype: float16", {}, GPU, "float16", "fp16"),
        ("torch_dtype: float16", {"torch_dtype": "bfloat16"}, GPU, "bfloat16", "bf16"),
        ("tuner_type: full", {"fp16": "true"}, GPU, "float32", "fp16"),
        ("", {"fp16": "true"}, OLD_GPU, "float16", "fp16"),
        ("bf16: true", {"fp16": "true"}, CPU, "float32", "fp16"),
        ("", {"torch_dtype": "bfloat16"}, CPU, "bfloat16", ""),
    ],
)
def test_of_bf16_and_fp16_the_one_that_is_named_turns_the_other_off(
    written: str, words: dict[str, str], machine: Machine, dtype: str, mixed: str, model: Path, tmp_path: Path
) -> None:
    """ms-swift was given both, and refused them when the untuned model had answered."""
    override = tmp_path / "own.yaml"
    override.write_text(f"sft: {{{written or 'seed: 42'}}}", encoding="utf-8")
    recipe = load_recipe("hotel_reviews", [str(override)])
    values = resolve_sft(recipe, words, machine, model, tmp_path, tmp_path)
    assert values["torch_dtype"] == dtype
    assert [key for key in ("bf16", "fp16") if is_true(values, key)] == ([mixed] if mixed else [])


@pytest.mark.parametrize(
    ("written", "words", "message"),
    [
        ("", {"bf16": "true"}, "V100 does not multiply in bf16"),
        ("", {"torch_dtype": "bfloat16"}, "V100 does not multiply in bf16"),
        ("bf16: true", {}, "leave bf16 and torch_dtype: bfloat16 out, and it is float16"),
        ("bf16: true, fp16: true", {}, "bf16 and fp16 are both true"),
    ],
)
def test_bf16_is_refused_where_the_card_has_none_before_the_model_is_fetched(
    written: str, words: dict[str, str], message: str, tmp_path: Path
) -> None:
    override = tmp_path / "own.yaml"
    override.write_text(f"sft: {{{written or 'seed: 42'}}}", encoding="utf-8")
    asked = Options("hotel_reviews", None, tmp_path / "my.csv", None, None, (str(override),), tmp_path / "run", False,
                    False, words)  # fmt: skip
    with (
        patch.multiple("plan.planning", this_machine=lambda: OLD_GPU, check_packages=lambda _: None,
                       _model_folder=lambda *_: pytest.fail("the model was fetched")),
        pytest.raises(UserError, match=message),
    ):  # fmt: skip
        make_plan(asked, [])


def test_a_small_memory_gets_a_smaller_batch_of_the_same_effect(model: Path, tmp_path: Path) -> None:
    small = Machine("cpu", 2, 8.0, None, 0, 0.0, False)
    values = resolve_sft(load_recipe("hotel_reviews"), {}, small, model, tmp_path, tmp_path)
    batch, accumulation = values["per_device_train_batch_size"], values["gradient_accumulation_steps"]
    assert batch < 8 and batch * accumulation == 8
    assert training_gib(model, batch, 512) < 8
    kept = resolve_sft(
        load_recipe("hotel_reviews"), {"gradient_checkpointing": "true"}, small, model, tmp_path, tmp_path
    )
    assert kept["per_device_train_batch_size"] == 8


def test_a_small_gpu_gets_a_smaller_batch_unless_the_user_names_one(model: Path, tmp_path: Path) -> None:
    def batch(gib: float, **overrides: str) -> tuple[int, int]:
        gpu = Machine("cpu", 8, 64.0, "a GPU", 1, gib, True)
        values = resolve_sft(load_recipe("hotel_reviews"), overrides, gpu, model, tmp_path, tmp_path)
        return int(values["per_device_train_batch_size"]), int(values["gradient_accumulation_steps"])

    assert batch(24.0) == (8, 1)
    small, accumulation = batch(6.0)
    assert small < 8 and small * accumulation == 8
    assert batch(6.0, per_device_train_batch_size="8") == (8, 1)


def test_the_longest_label_word_can_be_answered_whole(tmp_path: Path) -> None:
    """A charge's full name is longer than the sentence that an untuned model is given room for."""
    write_model(tmp_path)
    words = ("盗窃罪", "掩饰、隐瞒犯罪所得、犯罪所得收益罪及非法吸收公众存款罪")
    longest = len(ModelTokenizer(tmp_path).ids(words[1]))
    assert longest > 16
    assert room_for_labels({"max_new_tokens": 16}, {}, words, tmp_path) == {"max_new_tokens": longest + 2}
    assert room_for_labels({"max_new_tokens": longest + 2}, {}, words, tmp_path) == {}
    assert room_for_labels({"max_new_tokens": 16}, {"task_type": "seq_cls"}, words, tmp_path) == {}


def test_evaluation_and_saving_stay_in_step(model: Path, tmp_path: Path) -> None:
    def resolved(**overrides: str) -> dict:
        return resolve_sft(load_recipe("demo"), overrides, CPU, model, tmp_path, tmp_path)

    assert resolved(eval_strategy="no")["load_best_model_at_end"] is False
    by_steps = resolved(eval_strategy="steps", eval_steps="20")
    assert (by_steps["save_strategy"], by_steps["save_steps"]) == ("steps", "20")
    assert resolved()["save_strategy"] == "epoch"


def test_a_value_that_is_no_number_is_one_sentence(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="option --max_length is 'abc', expected a whole number"):
        options("demo", "--max_length", "abc").number("max_length", 512)
    with pytest.raises(UserError, match="is not a whole number"):
        resolve_sft(load_recipe("demo"), {"per_device_train_batch_size": "abc"}, CPU, model, tmp_path, tmp_path)


@pytest.mark.parametrize("value", ["true", "True", True])
def test_the_check_that_unpickles_a_hidden_file_stays_off(model: Path, tmp_path: Path, value: object) -> None:
    def resolved(**overrides: object) -> dict:
        return resolve_sft(load_recipe("demo"), overrides, CPU, model, tmp_path, tmp_path)

    assert resolved()["check_model"] is False and resolved(check_model="false")["check_model"] == "false"
    with pytest.raises(UserError, match="CVE-2025-50472"):
        resolved(check_model=value)


def test_ms_swift_is_given_no_token_of_a_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "MODELSCOPE_API_TOKEN", "WANDB_API_KEY"):
        monkeypatch.setenv(name, "secret")
    assert [name for name, value in child_environment(CPU).items() if value == "secret"] == ["WANDB_API_KEY"]


def test_a_model_of_another_family_is_recognised_or_asked_for(model: Path) -> None:
    recipe = {"model_type": "qwen2", "template": "qwen"}
    (model / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(UserError, match=r"is a llama model, and several of .* add --template with one of .*llama, "):
        recognise(model, recipe)
    assert recognise(model, recipe, {"template": "llama3_2"}) == ("llama", "llama3_2")
    (model / "config.json").write_text('{"architectures": ["Gemma3ForCausalLM"]}')
    assert recognise(model, recipe) == ("gemma3_text", "gemma3_text")
    (model / "config.json").write_text('{"architectures": ["NobodysForCausalLM"]}')
    with pytest.raises(UserError, match="NobodysForCausalLM model, which ms-swift has no name for: add --model_type"):
        recognise(model, recipe)


def test_a_torn_weights_index_is_told(model: Path) -> None:
    (model / "model.safetensors.index.json").write_text('{"weight_map": {')
    assert missing_parts(model) == "a readable model.safetensors.index.json"


def test_the_users_overrides_win(model: Path, tmp_path: Path) -> None:
    values = resolve_sft(
        load_recipe("demo"), {"learning_rate": "1e-5", "torch_dtype": "bfloat16"}, CPU, model, tmp_path, tmp_path
    )
    assert (values["learning_rate"], values["torch_dtype"]) == ("1e-5", "bfloat16")


@pytest.mark.parametrize(
    ("name", "what"),
    [("config.json", "config.json"), ("model.safetensors", "its weights"), ("tokenizer.json", "its tokenizer")],
)
def test_an_incomplete_model_folder_is_told(model: Path, name: str, what: str) -> None:
    assert missing_parts(model) is None
    (model / name).unlink()
    with pytest.raises(UserError, match=what):
        find_model(str(model))


def test_a_lost_shard_is_told(model: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    assert missing_parts(model) == "a part of its weights (model-2.safetensors)"


@pytest.mark.parametrize("name", ["no/such/folder", "./nothing", "nothing", "a b/c/d"])
def test_a_path_that_is_not_there_is_no_hub_id(name: str) -> None:
    with pytest.raises(UserError, match="there is no such folder"):
        find_model(name)


def command(*words: str, cache: Path, **env: str) -> subprocess.CompletedProcess[str]:
    import os

    return subprocess.run(
        [sys.executable, "-m", "plan", *words],
        cwd=ROOT, capture_output=True, text=True, env={**os.environ, "MODELSCOPE_CACHE": str(cache), **env},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nope",), "there is no recipe nope"),
        (("demo", "--learning_ra", "1"), "has no option learning_ra; did you mean learning_rate?"),
        (("hotel_reviews",), "cannot be reached: give a folder with --model PATH"),
        (("hotel_reviews", "--model", "tests"), "lacks config.json"),
    ],
)
def test_the_command_ends_with_one_sentence_and_status_2(words, message, tmp_path: Path) -> None:
    """The hub's address is a closed port: a machine without a network."""
    closed = "http://127.0.0.1:9"
    result = command(*words, cache=tmp_path, MODELSCOPE_ENDPOINT=closed, HUB_HOSTS=closed, USE_HF="0")
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stdout == ""


@pytest.mark.swift
def test_every_yaml_is_read_by_ms_swifts_own_parser(tmp_path: Path) -> None:
    """Each key, and each value's type, against the argument classes of the installed ms-swift."""
    code = """
import json, sys
from dataclasses import fields
from swift.arguments import InferArguments, SftArguments
from transformers import HfArgumentParser
from swift.cli.main import parse_yaml_args
for path in sys.argv[1:]:
    argv = [path]
    parse_yaml_args(argv)
    known = {f.name for f in fields(InferArguments if path.endswith("infer.yaml") else SftArguments)}
    parser = HfArgumentParser([InferArguments if path.endswith("infer.yaml") else SftArguments])
    options = {word[2:] for word in argv if word.startswith("--")}
    assert options <= known, (path, options - known)
    namespace, rest = parser.parse_known_args(argv)
    assert not rest, (path, rest)
"""
    paths = [str(path) for path in [*MODELS.glob("*.yaml"), CONFIGS / "infer.yaml"]]
    for number, path in enumerate([*CONFIGS.glob("overrides/*.yaml"), *CONFIGS.glob("*/overrides/*.yaml")]):
        task = path.parent.parent.name if path.parent.parent != CONFIGS else "hotel_reviews"
        recipe = load_recipe(task, [path.stem])
        for command, values in (("sft", recipe.sft), ("infer", recipe.infer)):
            paths.append(str(tmp_path / f"{number}-{path.stem}-{command}.yaml"))
            Path(paths[-1]).write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    assert len(paths) >= 4 + 2 * 10
    result = subprocess.run([sys.executable, "-c", code, *paths], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]


def test_fused_layers_need_less_memory_and_are_counted_only_where_they_are_taken(model: Path, tmp_path: Path) -> None:
    assert training_gib(model, 8, 512, fused=True) < 0.7 * training_gib(model, 8, 512)
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    (model / "config.json").write_text(json.dumps({**config, "model_type": "qwen2"}), encoding="utf-8")

    def batch(**overrides: str) -> int:
        machine = Machine("cpu", 2, 23.0, None, 0, 0.0, False)
        values = resolve_sft(load_recipe("hotel_reviews"), overrides, machine, model, tmp_path, tmp_path)
        return int(values["per_device_train_batch_size"])

    assert batch() == 8  # of the recipe: it fits
    assert batch(attn_impl="sdpa") < 8
    assert batch(lora_dropout="0.1") < 8
    assert batch(use_dora="true") < 8
