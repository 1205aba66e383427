"""Override files, and the check of every option's name and value against ms-swift's own arguments."""

from pathlib import Path

import pytest

from data_prep.overrides import find_overrides, known_overrides, read_override
from plan.recipes import check_recipe, load_recipe, recipe_names
from plan.swift_schema import check_packages, check_values, known_options
from workspace.errors import UserError
from workspace.paths import CONFIGS

HOTEL = CONFIGS / "hotel_reviews"


def override(folder: Path, text: str, name: str = "mine") -> str:
    path = folder / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_that_ships_passes_the_check(name: str) -> None:
    check_recipe(load_recipe(name))


@pytest.mark.parametrize("name", known_overrides(HOTEL))
def test_every_override_that_ships_passes_the_check_and_changes_something(name: str) -> None:
    plain, changed = load_recipe("hotel_reviews"), load_recipe("hotel_reviews", [name])
    check_recipe(changed)
    assert changed.name == f"hotel_reviews/{plain.path.stem}+{name}"
    assert name == "rank8" or (plain.sft, plain.infer, plain.task) != (changed.sft, changed.infer, changed.task)


def test_an_override_changes_its_keys_and_no_others() -> None:
    plain, changed = load_recipe("hotel_reviews"), load_recipe("hotel_reviews", ["rank64", "clean"])
    assert changed.sft == plain.sft | {"lora_rank": 64, "lora_alpha": 128}
    assert (plain.task.prompt, changed.task.prompt) == ("original", "clean")
    assert changed.task.prompts == plain.task.prompts


def test_letters_are_the_label_words_of_task_and_parser() -> None:
    task = load_recipe("hotel_reviews", ["letters"]).task
    assert task.label_words == ("A", "B")
    assert task.render("好").endswith("只回答字母。")


def test_two_overrides_of_one_key_are_refused_unless_they_agree(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"rank64\.yaml, line 6: lora_alpha is 128, but .*rank8\.yaml says 16"):
        find_overrides(["rank8", "rank64"], HOTEL)
    same = override(tmp_path, "sft: {lora_rank: 8}\n")
    assert len(find_overrides(["rank8", same], HOTEL)) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sft:\n  learning_ra: 1e-3\n", r"mine\.yaml, line 2: learning_ra: `swift sft` has no option learning_ra; did"),
        ("sft:\n  max_batch_size: 4\n", "line 2: max_batch_size: .* it is one of `swift infer`"),
        ("infer:\n  lora_rank: 4\n", "line 2: lora_rank: .* it is one of `swift sft`"),
        ("\nsft:\n  eval_strategy: no\n", "line 3: eval_strategy is read by YAML as false .* put the value in quotes"),
        ("sft: {eval_strategy: epochs}\n", "line 1: eval_strategy is 'epochs', .* did you mean epoch"),
        ("sft: {lora_rank: null}\n", "lora_rank is null"),
        ("sft: {lora_rank: 4.0}\n", "lora_rank is 4.0, expected a whole number"),
        ("sft: {lora_rank: eight}\n", "lora_rank is 'eight', expected a whole number"),
        ("sft: {lora_rank: true}\n", "lora_rank is True, expected a whole number"),
        ("sft: {lora_rank: [8, 16]}\n", "lora_rank is the list .* expected one value"),
        ("sft: {learning_rate: fast}\n", "learning_rate is 'fast', expected a number"),
        ("sft: {gradient_checkpointing: maybe}\n", "gradient_checkpointing is 'maybe', expected true or false"),
        ("sft: {target_modules: []}\n", "target_modules is an empty list"),
        ("sft: {torch_dtype: bf16}\n", "torch_dtype is 'bf16', expected one of bfloat16"),
        ("sft: {dataset: x.jsonl}\n", "dataset is decided by the pipeline"),
        ("task:\n  prompt: cleen\n", r"mine\.yaml, line 2: prompt is 'cleen', .* did you mean clean"),
        ("task: {promt: clean}\n", r"mine\.yaml, line 1: promt is not a known key, did you mean prompt"),
        ("lora_rank: 8\n", "line 1: lora_rank is no section of an override"),
        ("sft: 8\n", "sft is 8, expected `key: value` lines below it"),
        ("sft:\n  lora_rank: 8\n  lora_rank: 9\n", "line 3: not valid YAML .the key lora_rank stands twice"),
        ("- a\n", "expected `key: value` lines"),
        ("a: [1\n", "line 2: not valid YAML"),
    ],
)
def test_a_slip_is_told_with_file_line_and_remedy(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        check_recipe(load_recipe("hotel_reviews", [override(tmp_path, text)]))
    assert "mine.yaml" in str(caught.value)


def test_what_ms_swift_takes_passes() -> None:
    values = {
        "learning_rate": "1e-3", "lora_rank": "8", "eval_strategy": "no", "gradient_checkpointing": "False",
        "target_modules": ["q_proj"], "report_to": "tensorboard", "save_steps": 0.5, "max_steps": "-1",
        "lr_scheduler_kwargs": {"a": 1}, "ENV": {"NPROC_PER_NODE": "1"}, "use_cpu": True, "weight_decay": 0,
    }  # fmt: skip
    check_values(values, "sft", str)


def test_options_are_those_of_the_installed_ms_swift() -> None:
    sft, infer = known_options("sft"), known_options("infer")
    assert sft["lora_rank"].kind == "int" and sft["learning_rate"].kind == "float"
    assert sft["target_modules"].many and "seq_cls" in sft["task_type"].choices
    assert "max_batch_size" in infer and "max_batch_size" not in sft
    assert len(sft) > 250


def test_an_unknown_override_is_told_with_those_known() -> None:
    with pytest.raises(UserError, match="no override rank46, did you mean rank64"):
        find_overrides(["rank46"], HOTEL)
    with pytest.raises(UserError, match="cannot be read"):
        read_override(HOTEL / "none.yaml")


def own_task(folder: Path) -> Path:
    folder.mkdir()
    text = (HOTEL / "task.yaml").read_text(encoding="utf-8").replace("name: hotel_reviews", "name: mine")
    (folder / "task.yaml").write_text(text.replace("max_length: 512", "max_length: 300"), encoding="utf-8")
    return folder


def test_a_task_of_ones_own_needs_a_task_yaml_and_fits_every_recipe(tmp_path: Path) -> None:
    folder = own_task(tmp_path / "mine")
    plain, other = load_recipe("mine", caller=tmp_path), load_recipe(f"{folder}/qwen3-0.6b")
    assert (plain.name, other.name) == ("mine/qwen1.5-0.5b-chat", "mine/qwen3-0.6b")
    assert other.sft["model"] == "Qwen/Qwen3-0.6B" and plain.infer == other.infer
    assert plain.sft["max_length"] == other.sft["max_length"] == 300  # to which its rows are cut
    for name in ("mine/none", "mine/task.yaml", "mine/task", "mine/infer", "none", "overrides", "overrides/rank8"):
        with pytest.raises(UserError, match="there is no recipe"):
            load_recipe(name, caller=tmp_path)


def test_a_task_that_brings_its_own_recipes_uses_those(tmp_path: Path) -> None:
    """As users copied them before recipes were shared."""
    folder = own_task(tmp_path / "mine")
    text = (CONFIGS / "models" / "qwen1.5-0.5b-chat.yaml").read_text(encoding="utf-8")
    (folder / "qwen1.5-0.5b-chat.yaml").write_text(text.replace("lora_rank: 8", "lora_rank: 4"), encoding="utf-8")
    infer = (CONFIGS / "infer.yaml").read_text(encoding="utf-8")
    (folder / "infer.yaml").write_text(infer.replace("max_new_tokens: 64", "max_new_tokens: 5"), encoding="utf-8")
    by_folder, by_file = load_recipe("mine", caller=tmp_path), load_recipe(str(folder / "qwen1.5-0.5b-chat.yaml"))
    assert by_folder.name == by_file.name == "mine/qwen1.5-0.5b-chat"
    assert by_folder.sft == by_file.sft
    assert (by_file.sft["lora_rank"], by_file.sft["max_length"], by_file.infer["max_new_tokens"]) == (4, 512, 5)


def test_a_tasks_sft_section_comes_between_recipe_and_overrides(tmp_path: Path) -> None:
    quick, plain = own_task(tmp_path / "quick"), load_recipe(str(own_task(tmp_path / "plain"))).sft
    with open(quick / "task.yaml", "a", encoding="utf-8") as stream:
        stream.write("sft: {num_train_epochs: 2}\n")
    assert (load_recipe(str(quick)).sft["num_train_epochs"], plain["num_train_epochs"]) == (2, 3)
    assert load_recipe(str(quick)).sft | {"num_train_epochs": 3} == plain
    changed = load_recipe(str(quick), [override(tmp_path, "sft: {num_train_epochs: 7}\n")])
    assert changed.sft["num_train_epochs"] == 7
    folder = own_task(tmp_path / "mine")
    with open(folder / "task.yaml", "a", encoding="utf-8") as stream:
        stream.write("sft: {learning_ra: 1e-3}\n")
    with pytest.raises(UserError, match=r"task\.yaml: sft\.learning_ra: .* did you mean learning_rate"):
        check_recipe(load_recipe(str(folder)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"report_to": ["wandb"]}, "needs the package wandb: pip install wandb"),
        ({"report_to": "swanlab"}, "pip install swanlab"),
        ({"quant_method": "bnb"}, "pip install bitsandbytes"),
        ({"deepspeed": "zero2"}, "pip install deepspeed"),
        ({"use_liger_kernel": True}, "pip install liger-kernel"),
    ],
)
def test_a_package_that_is_not_there_is_told(values, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=message):
        check_packages(values)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    check_packages(values)


def test_the_recipes_own_packages_are_pinned() -> None:
    check_packages(load_recipe("hotel_reviews").sft)
    check_packages({"use_liger_kernel": False, "report_to": "none"})
