"""`bash run_sft.sh verify`: what is as expected, what is not, and the line for docs/results.md."""

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eval.scoring.gain import READINGS
from eval.verify import EXPECTED, Expected, findings, main, peak_gib, results_line, verify
from plan.recipes import load_recipe
from plan.run import Run
from tests.report_runs import BINARY, make_run
from workspace.errors import UserError
from workspace.files import write_jsonl
from workspace.paths import ROOT

RANGES = {"before_score": (0.5, 0.8), "after_score": (0.86, 0.95)}


@pytest.fixture
def metrics(tmp_path: Path) -> dict[str, Any]:
    return make_run(tmp_path)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(
        tmp_path,
        "demo/minimind2-small",
        "demo",
        BINARY,
        tmp_path,
        model="/a/minimind2-small",
        versions={"torch": "2.13.0"},
        planned="today",
    )


def expected(metrics: dict[str, Any], **changes: Any) -> Expected:
    counts = metrics["counts"]
    return Expected("minimind2-small", counts["train"]["total"], counts["test"]["total"], RANGES, "a test")._replace(
        **changes
    )


def wrong(run: Run, metrics: dict[str, Any], **changes: Any) -> list[str]:
    return [one.name for one in findings(run, metrics, expected(metrics, **changes)) if not one.ok]


def test_a_run_as_expected_is_found_so(run: Run, metrics: dict[str, Any]) -> None:
    assert wrong(run, metrics) == []


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"train": 7}, ["rows train / test"]),
        ({"accuracy": {"after_score": (0.95, 0.96)}}, ["after_score"]),
        ({"accuracy": {"after_score": (0.1, 0.2), "no_such": (0, 1)}}, ["after_score", "no_such"]),
    ],
)
def test_what_is_not_as_expected_is_named(run: Run, metrics: dict[str, Any], changes, names: list[str]) -> None:
    assert wrong(run, metrics, **changes) == names


@pytest.mark.parametrize(
    ("command", "model", "names"),
    [
        ("bash run_sft.sh demo --run r --csv t.csv --fresh --model /a/minimind2-small", "/a/minimind2-small", []),
        ("bash run_sft.sh demo", "/h/hub/models--jingyaogong--minimind2-small/snapshots/0a1b2c", []),
        ("bash run_sft.sh demo --num_train_epochs 9 --learning_rate=1e-3", "minimind2-small", ["options"]),
        ("bash run_sft.sh demo --model Qwen2.5-0.5B-Instruct", "/b/Qwen2.5-0.5B-Instruct", ["model"]),
    ],
)
def test_another_model_and_options_that_change_the_result_are_named(
    run: Run, metrics: dict[str, Any], command: str, model: str, names: list[str]
) -> None:
    assert wrong(replace(run, command=command, model=model), metrics) == names


def test_a_consistency_check_that_fails_and_a_model_that_learned_nothing_are_named(
    run: Run, metrics: dict[str, Any]
) -> None:
    metrics["parity"][0]["ok"] = False
    metrics["readings"]["majority"]["accuracy"] = 1.0
    assert wrong(run, metrics) == [metrics["parity"][0]["name"], "tuning"]


def test_a_gpu_that_was_planned_for_must_have_been_used(run: Run, metrics: dict[str, Any], tmp_path: Path) -> None:
    """A run of a T4 went through on the CPU, and ended well."""
    planned = replace(run, machine={"gpu": "Tesla T4"})
    assert wrong(planned, metrics) == ["device"]
    write_jsonl(planned.train_folder / "logging.jsonl", [{"loss": 1.0, "memory(GiB)": 3.25}, {"memory(GiB)": 7.6}])
    assert wrong(planned, metrics) == [] and peak_gib(planned.train_folder) == 7.6
    assert "7.6 GiB of the GPU" in results_line(planned, metrics)


def test_the_line_has_the_columns_of_the_page(run: Run, metrics: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8").splitlines()
    header = next(line for line in page if line.startswith("| recipe | on |"))
    line = results_line(run, metrics)
    assert line.count("|") == header.count("|") and line.startswith("| `demo/minimind2-small` |")
    after = metrics["readings"]["after_generate"]
    assert f"{100 * after['accuracy']:.1f} % (" in line and f"/ {after['macro_f1']:.3f} |" in line


@pytest.mark.parametrize("name", EXPECTED)
def test_what_is_expected_is_of_recipes_that_are_there(name: str) -> None:
    recipe, *overrides = name.split("+")
    assert load_recipe(recipe, overrides).name == name
    assert set(EXPECTED[name].accuracy) <= {*READINGS}


def test_a_recipe_of_which_nothing_is_known_and_a_run_without_a_report_are_one_sentence(run: Run) -> None:
    run.write()
    with pytest.raises(UserError, match=r"has no metrics\.json yet: run `python -m eval\.report "):
        (run.folder / "metrics.json").unlink(missing_ok=True)
        verify(run.folder)
    replace(run, recipe="mine/qwen3-0.6b").write()
    with pytest.raises(UserError, match=r"nothing is known of what mine/qwen3-0\.6b should reach: run .verify. or"):
        verify(run.folder)
    with pytest.raises(UserError, match="nothing is known of what"):  # before the run, which may take hours
        main([str(run.folder), "--recipe"])
    replace(run, recipe="demo/minimind2-small").write()
    assert main([str(run.folder), "--recipe"]) == 0


@pytest.mark.parametrize("words", [("--seeds", "1", "2"), ("demo", "--cv", "5")])
def test_verify_is_for_one_run(words: tuple[str, ...]) -> None:
    command = ["bash", str(ROOT / "run_sft.sh"), "verify", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "error: verify is for one run: leave --seeds and --cv out\n")


def test_a_dot_that_a_cache_wrote_otherwise_is_a_dot(run: Run, metrics: dict[str, Any]) -> None:
    other = replace(run, model="/c/models/Qwen/Qwen1___5-0___5B-Chat")
    (finding,) = (one for one in findings(other, metrics, EXPECTED["demo/minimind2-small"]) if one.name == "model")
    assert finding.found.startswith("Qwen1.5-0.5B-Chat, ")
