"""A recipe over several seeds: what seeds.json holds, what the page says; once for real, killed and gone on with."""

import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from eval.reporting.seeds_page import seeds_page
from eval.seeds import main, summary
from eval.soup import against_best
from tests.eval.test_cross_validation import TASK
from tests.eval.test_curve import LABELS, N, answered
from tests.prep_tables import reviews, write_csv
from train.trials import runs_of_list
from workspace.errors import UserError
from workspace.files import read_json
from workspace.paths import ROOT


def over_seeds(tuned: tuple[float, ...], linear: float = 0.7) -> dict:
    """What seeds.json holds for models that have these shares of the rows right; the first run has more readings."""
    generator = np.random.default_rng(0)
    runs = [answered({"after_generate": share}, generator) for share in tuned]
    runs[0] = answered({"tfidf_linear": linear, "before_generate": 0.5, "after_generate": tuned[0]}, generator)
    return summary(runs, range(len(tuned)), "accuracy", 0.01)


def test_what_a_model_has_read_first_is_said_on_the_page() -> None:
    notice = {"zh": "先读了 90 条无标签文本", "en": "The model has read 90 texts without labels"}
    assert set(notice.values()) <= set(seeds_page(over_seeds((0.9, 0.91)) | {"notice": notice}).splitlines())
    assert "None" not in seeds_page(over_seeds((0.9, 0.91)))


def test_the_verdict_is_on_the_recipe() -> None:
    found = over_seeds((0.90, 0.91, 0.92))
    assert [one["code"] for one in found["comparisons"]] == ["better", "better"]
    assert found["readings"]["after_generate"]["values"] == pytest.approx([0.90, 0.91, 0.92])
    text = seeds_page(found)
    assert "This recipe is better than “TF-IDF + linear model”: mean accuracy of 3 seeds 91.0% against 70.0%" in text
    assert "这个配方好于“TF-IDF + 线性模型”" in text
    assert "Seeds differ by 1.0 points (standard deviation); 3 of them fix the mean to ±2.5 points" in text


def test_there_is_a_verdict_on_the_stack_where_validation_rows_advise_it(monkeypatch) -> None:
    generator = np.random.default_rng(0)
    runs = [answered({"tfidf_linear": 0.7, "after_score": 0.72, "stack": share}, generator) for share in (0.9, 0.91)]
    assert [one["b"] for one in summary(runs, (42, 43), "accuracy", 0.01)["comparisons"]] == ["after_score"]
    found = summary(runs, (42, 43), "accuracy", 0.01, stack_helps=True)
    assert [(one["a"], one["b"]) for one in found["comparisons"]] == [
        ("tfidf_linear", "after_score"), ("tfidf_linear", "stack")
    ]  # fmt: skip
    assert "This recipe with the linear model is better than “TF-IDF + linear model”" in seeds_page(found)
    # Two chances to be better than the linear model are corrected for.
    monkeypatch.setattr("eval.seeds.p_value_of", lambda difference: 0.04)
    codes = [one["code"] for one in summary(runs, (42, 43), "accuracy", 0.01, stack_helps=True)["comparisons"]]
    assert codes == ["undecided", "undecided"]


def test_a_spread_over_seeds_keeps_a_recipe_undecided_that_rows_would_call_better() -> None:
    found = over_seeds((0.70, 0.80, 0.90))
    linear = found["comparisons"][1]
    assert linear["a"] == "tfidf_linear" and linear["rows_ci"][0] > 0 > linear["ci"][0]
    assert linear["code"] == "undecided"
    assert "Whether this recipe is better than “TF-IDF + linear model” is not decided" in seeds_page(found)


def test_a_recipe_that_guesses_is_not_better() -> None:
    found = over_seeds((0.50, 0.50, 0.50), linear=0.3)
    assert found["comparisons"][1]["ci"][0] > 0 and found["comparisons"][1]["code"] == "undecided"
    assert "that anything was learned is not shown" in seeds_page(found)


def test_two_seeds_are_said_to_be_few() -> None:
    assert "Two seeds say next to nothing" in seeds_page(over_seeds((0.9, 0.91)))
    assert len(answered({}, np.random.default_rng(0)).test) == N and len(LABELS) == 2


def test_a_soup_is_held_against_the_seed_that_is_best_on_validation_rows() -> None:
    generator = np.random.default_rng(0)
    runs = [answered({"after_generate": share}, generator) for share in (0.92, 0.80, 0.70)]
    soup = answered({"after_generate": 0.91, "stack": 0.9}, generator)
    found = against_best(runs, soup, (0.7, 0.9, 0.9), "accuracy", 0.01)
    [one] = found["comparisons"]  # the seeds have no stack
    assert found["best"] == 1 and (one["of_best"], one["of_soup"]) == (0.80, 0.91)
    assert one["value"] == pytest.approx(0.11) and one["code"] == "better" and one["rows_ci"][0] > 0
    page = over_seeds((0.92, 0.80, 0.70)) | {
        "soup": {"comparisons": [one], "seed": 43, "validation": [0.7, 0.9, 0.9], "own": 0.905}
    }
    text = seeds_page(page)
    assert "against seed 43, the best on the validation rows, by “after · generate”: accuracy 91.0%" in text
    assert "On the validation rows it is 90.5% against 90.0%." in text and "差 +11.0 个百分点" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seeds", "42"], "is one run, which says nothing about another"),
        (["--seeds", "42", "42", "43"], "names a seed twice"),
        (["--seeds", "42", "-1"], "--seeds"),
        (["--seeds", "42", "43.5"], "--seeds is '43.5'"),
        (["--seeds", "42", "43", "--seed", "1"], "--seed is given next to --seeds"),
    ],
)
def test_seeds_without_a_meaning_are_refused(words: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said) as caught:
        main(["demo", *words, "--run", str(tmp_path / "seeds")])
    assert "\n" not in str(caught.value) and not (tmp_path / "seeds").exists()


@pytest.mark.swift
@pytest.mark.all
def test_two_recipes_for_real_one_of_them_killed_between_its_seeds(tmp_path: Path, demo_model: Path) -> None:
    table = write_csv(tmp_path / "t.csv", reviews(60))
    (tmp_path / "task.yaml").write_text(TASK.format(csv=table), encoding="utf-8")
    words = ["bash", str(ROOT / "run_sft.sh"), str(tmp_path), "--model", str(demo_model), "--seeds", "1", "2"]
    words += ["--num_train_epochs", "1"]
    one, other = tmp_path / "one.seeds", tmp_path / "other.seeds"
    with (tmp_path / "log").open("w") as log:
        started = subprocess.Popen([*words, "--run", str(one)], stdout=log, stderr=log, start_new_session=True)
        while started.poll() is None and not runs_of_list(one):
            time.sleep(0.2)
        os.killpg(started.pid, signal.SIGKILL)
        started.wait()
    [first] = runs_of_list(one)
    weights = {path: path.stat().st_mtime_ns for path in first.rglob("adapter_model.safetensors")}
    for more in (["--run", str(one)], ["--run", str(other), "--with", "rank8"]):
        done = subprocess.run([*words, *more], cwd=tmp_path, capture_output=True, text=True, env=os.environ)
        assert done.returncode == 0, done.stderr[-3000:]
    assert weights == {path: path.stat().st_mtime_ns for path in first.rglob("adapter_model.safetensors")}
    found = read_json(one / "seeds.json")
    assert found["seeds"] == [1, 2] and found["readings"]["after_generate"]["seeds"] == 2
    assert (first / "report.html").is_file()
    words = ["python", "-m", "eval.report", str(one), str(other)]
    compared = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env=os.environ)
    assert "| A B → C D |" in compared.stdout, compared.stderr[-3000:]


@pytest.mark.swift
@pytest.mark.all
def test_a_soup_for_real_of_seeds_that_began_with_one_adapter(tmp_path: Path, demo_model: Path) -> None:
    from safetensors.numpy import load_file

    table = write_csv(tmp_path / "t.csv", reviews(60))
    (tmp_path / "task.yaml").write_text(TASK.format(csv=table), encoding="utf-8")
    words = ["bash", str(ROOT / "run_sft.sh"), str(tmp_path), "--model", str(demo_model), "--seeds", "1", "2", "--soup"]
    words += ["--num_train_epochs", "1", "--run", str(tmp_path / "list")]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr[-3000:]
    found = read_json(tmp_path / "list" / "seeds.json")["soup"]
    assert found["seed"] in (1, 2) and 0 <= found["own"] <= 1 and len(found["validation"]) == 2
    assert (tmp_path / "list" / "soup" / "metrics.json").is_file()  # `swift infer` has answered with it
    one, other = (load_file(next((run / "train").rglob("adapter_model.safetensors"))) for run in sorted(
        runs_of_list(tmp_path / "list")
    ))  # fmt: skip
    for name in one:
        a, b = one[name].ravel(), other[name].ravel()
        assert not np.array_equal(a, b)
        if "lora_A" in name:  # random ones are at right angles
            assert a @ b > 0.5 * np.linalg.norm(a) * np.linalg.norm(b)
