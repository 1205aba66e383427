"""What an option of ms-swift may be: refused by one code at the command line, in recipe, task, override and --vary."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from plan.option_values import LISTS, NOWHERE, OTHERS, RANGES, RESERVED
from plan.options import parse_options
from plan.planning import make_plan
from plan.recipes import MODELS, check_recipe, load_recipe
from plan.run import check_no_pattern, check_run_folder
from plan.swift_schema import known_options
from tests.prep_tables import write_task
from train.sweep import main as sweep
from workspace.errors import UserError

# (option, value, what is told): attack 15 and 16 of the second round.
REFUSED = [
    ("per_device_train_batch_size", "0", "is '?0'?, expected a whole number from 1 to 65,536"),
    ("gradient_accumulation_steps", "0", "is '?0'?, expected a whole number from 1"),
    ("gradient_accumulation_steps", "9" * 5000, "expected a whole number from 1"),
    ("learning_rate", "nan", "is '?nan'?, expected a number above 0 to 10"),
    ("learning_rate", "inf", "is '?inf'?, expected a number above 0"),
    ("learning_rate", "-1e-4", "expected a number above 0"),
    ("num_train_epochs", "0", "expected a number above 0 to 10,000"),
    ("lora_rank", "-8", "is '?-8'?, expected a whole number from 1"),
    ("lora_dropout", "1", "expected a number from 0 and below 1"),
    ("max_length", "3", "expected a whole number from 16 to 1,000,000"),
    ("save_steps", "2.5", "whole above 1"),
    ("seed", "-1", "expected a whole number from 0 to 4,294,967,295"),
    ("hub_token", "hf_x", "set HF_TOKEN or MODELSCOPE_API_TOKEN in the environment"),
    ("push_to_hub", "true", "upload RUN/train/checkpoint-N"),
    ("swanlab_webhook_url", "https://x.example", "it would be written into the run"),
    ("custom_register_path", "x.py", "put the plugin into plugins/"),
    ("resume_from_checkpoint", "x", "the same command goes on by itself"),
    ("adapters", "x", "use --adapters DIR on the command line"),
]  # fmt: skip


def by_command_line(folder: Path, key: str, value: str) -> None:
    make_plan(parse_options(["hotel_reviews", f"--{key}={value}"]), [])


def by_recipe(folder: Path, key: str, value: str) -> None:
    task = write_task(folder)
    recipe = yaml.safe_load((MODELS / "minimind2-small.yaml").read_text(encoding="utf-8"))
    (folder / "mine.yaml").write_text(yaml.safe_dump({**recipe, key: _as_yaml(value)}), encoding="utf-8")
    check_recipe(load_recipe(str(task.parent / "mine.yaml")))


def by_task(folder: Path, key: str, value: str) -> None:
    task = write_task(folder, sft={key: _as_yaml(value)}, default_recipe="minimind2-small")
    check_recipe(load_recipe(str(task.parent)))


def by_override(folder: Path, key: str, value: str) -> None:
    (folder / "mine.yaml").write_text(yaml.safe_dump({"sft": {key: _as_yaml(value)}}), encoding="utf-8")
    make_plan(parse_options(["hotel_reviews", "--with", str(folder / "mine.yaml")]), [])


def by_sweep(folder: Path, key: str, value: str) -> None:
    folder = folder / "sweep"
    sweep(["hotel_reviews", "--vary", "none", f"{key}={value}", "--run", str(folder)])


def _as_yaml(value: str) -> object:
    try:
        return float(value) if value in ("nan", "inf") else json.loads(value)
    except ValueError:
        return value


@pytest.mark.parametrize("way", [by_command_line, by_recipe, by_task, by_override, by_sweep])
@pytest.mark.parametrize(("key", "value", "told"), REFUSED, ids=[f"{key}={value[:9]}" for key, value, _ in REFUSED])
def test_a_value_that_fails_after_hours_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Callable, key: str, value: str, told: str
) -> None:
    monkeypatch.setattr("plan.planning.find_model", lambda name: pytest.fail("a model was looked for first"))
    if key == "adapters" and way in (by_command_line, by_sweep):
        told = "has no adapter_config.json|only options of `swift sft`"
    if key == "seed" and way is by_sweep:
        told = "give --seeds instead|expected a whole number from 0"
    with pytest.raises(UserError, match=told) as caught:
        way(tmp_path, key, value)
    assert key in str(caught.value)
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize("key", sorted(RESERVED))
def test_what_the_pipeline_decides_is_set_neither_by_a_task_nor_an_override_nor_a_sweep(tmp_path, key: str) -> None:
    for way in (by_command_line, by_task, by_override, by_sweep):
        with pytest.raises(UserError, match="is decided by the pipeline"):
            way(tmp_path, key, "x")


@pytest.mark.parametrize("key", ["adapters", "result_path", "hub_token", "val_dataset"])
def test_nor_for_the_answers(tmp_path: Path, key: str) -> None:
    (tmp_path / "mine.yaml").write_text(f"infer: {{{key}: x}}\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"mine\.yaml, line 1: .* is decided by the pipeline"):
        check_recipe(load_recipe("hotel_reviews", [str(tmp_path / "mine.yaml")]))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("8", "ENV is 8, expected `NAME: value` lines"),
        ("{1: x}", "expected a name, and text or a number"),
        ("{NNODES: [1]}", "expected a name, and text or a number"),
    ],
)
def test_variables_of_a_recipe_are_looked_at(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "mine.yaml").write_text(f"sft:\n  ENV: {text}\n", encoding="utf-8")
    with pytest.raises(UserError, match=told):
        check_recipe(load_recipe("hotel_reviews", [str(tmp_path / "mine.yaml")]))


def test_ranges_and_reserved_words_are_options_of_the_installed_ms_swift() -> None:
    known = known_options("infer") | known_options("sft")
    assert not (RANGES.keys() | RESERVED.keys() | NOWHERE.keys() | set(LISTS)) - known.keys()
    for key, limits in RANGES.items():
        assert known[key].kind in OTHERS, key
        assert limits.is_whole == (known[key].kind == "int"), key


@pytest.mark.parametrize("name", ["a*b", "a?b", "a[b]", "a::b"])
def test_a_run_is_not_in_a_folder_whose_name_is_a_pattern(tmp_path: Path, name: str) -> None:
    """Before, `datasets` read the rows of a/b, too, for those of a?b."""
    with pytest.raises(UserError, match="by which ms-swift would read other files: rename it"):
        check_run_folder(tmp_path / name)
    with pytest.raises(UserError, match="would read other files"):
        check_no_pattern(tmp_path / name / "dataset")


@pytest.mark.parametrize("name", ["a{b}", "{0}", "%s", "a b", "中文", "it's"])
def test_a_recipe_may_have_any_name_that_is_no_pattern(tmp_path: Path, name: str) -> None:
    write_task(tmp_path)
    text = (MODELS / "minimind2-small.yaml").read_text(encoding="utf-8")
    (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    recipe = load_recipe(str(tmp_path / f"{name}.yaml"))
    check_recipe(recipe)
    assert recipe.name.endswith(f"/{name}")
