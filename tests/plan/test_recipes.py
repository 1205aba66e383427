"""Every recipe and override that a CPU can run is tuned for two steps by real ms-swift, a small model in its place."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from data_prep import build
from data_prep.overrides import known_overrides
from plan.hardware import child_environment, this_machine
from plan.recipes import load_recipe, recipe_names
from plan.resolve import resolve_sft
from tests.prep_tables import write_csv
from workspace.files import read_json, write_json
from workspace.paths import CONFIGS, ROOT

pytestmark = pytest.mark.swift

ELSEWHERE = {
    "hotel_reviews/qwen2.5-7b-qlora": "4-bit kernels need CUDA",
    "multi-gpu": "several processes: see tests/pipeline/test_multiprocess.py",
    "multi-node": "several machines",
    "zero2": "needs the package deepspeed",
    "zero3": "needs the package deepspeed",
    "vllm": "changes the answers only: see tests/pipeline/test_vllm.py",
    "fsdp2": "several processes",
}
CASES = [
    *(name for name in recipe_names() if name.startswith("hotel_reviews/")),
    *known_overrides(CONFIGS / "hotel_reviews"),
]
# All in one process: ms-swift takes seconds to start.
RUN_ALL = """
import json, os, sys, traceback
from swift import sft_main
from swift.cli.main import parse_yaml_args
report = {}
for path in sys.argv[2:]:
    argv = [path]
    parse_yaml_args(argv)
    try:
        sft_main(argv)
        report[path] = "ok"
    except BaseException:
        report[path] = traceback.format_exc()[-1500:]
json.dump(report, open(sys.argv[1], "w"))
"""


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, small_model: Path) -> dict[str, tuple[str, Path]]:
    """By case: what came out ("ok" or an error's text) and the folder of its checkpoints."""
    folder = tmp_path_factory.mktemp("recipes")
    rows = [(str(at % 2), f"第{at}间房，{'干净安静，很满意' if at % 2 else '又脏又吵，很失望'}。") for at in range(40)]
    table, folders, datasets = write_csv(folder / "t.csv", rows), {}, {}
    for case in CASES:
        if case in ELSEWHERE:
            continue
        recipe = load_recipe(case) if "/" in case else load_recipe("hotel_reviews", [case])
        key = repr(sorted(change.values["task"].items() for change in recipe.overrides))
        if key not in datasets:
            datasets[key] = build.build(
                recipe.task, csv=table, model=small_model, out=folder / f"data{len(datasets)}"
            ).parent
        run = folder / case.replace("/", "-")
        family = {"model_type": "qwen2", "max_steps": 2, "num_train_epochs": 1, "logging_steps": 1}
        values = resolve_sft(recipe, family, this_machine(), small_model, datasets[key], run)
        path = run / "sft.yaml"
        path.parent.mkdir()
        path.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
        folders[case] = path
    report = folder / "report.json"
    write_json(report, {})
    result = subprocess.run(
        [sys.executable, "-c", RUN_ALL, str(report), *map(str, folders.values())],
        cwd=ROOT, capture_output=True, text=True, env=child_environment(this_machine()),
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    found = read_json(report)
    return {case: (found[str(path)], path.parent / "train") for case, path in folders.items()}


@pytest.mark.parametrize("case", CASES)
def test_it_trains_evaluates_and_saves(tuned, case: str) -> None:
    if case in ELSEWHERE:
        pytest.skip(ELSEWHERE[case])
    outcome, train = tuned[case]
    assert outcome == "ok", outcome
    state = json.loads((train / "checkpoint-2" / "trainer_state.json").read_text(encoding="utf-8"))
    losses = [line["loss"] for line in state["log_history"] if "loss" in line]
    assert len(losses) == 2 and all(0 < loss < 20 for loss in losses)
    marks = [line["eval_label_macro_f1"] for line in state["log_history"] if "eval_label_macro_f1" in line]
    assert marks and 0 <= marks[0] <= 1
    assert list((train / "checkpoint-2").glob("*.safetensors"))
