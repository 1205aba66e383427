"""The learning curve: which points are measured, what they say, and how the page says it; and once for real."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from data_prep.task import find_task
from eval.curve import all_numbers, check_rows, main, point, summary
from eval.reporting.curve_page import chart, draw_curve, render_curve
from eval.reporting.curve_wording import more_sentence
from eval.reporting.first_screen import first_screen
from eval.reporting.render import render_html, render_markdown
from eval.scoring.learning_curve import measured_on, near_curve
from eval.scoring.predictions import Predictions, RunPredictions
from eval.scoring.responses import Split
from eval.trial_answers import Answered
from plan.run import Run
from tests.eval.test_cross_validation import TASK
from tests.manifests import made_up_manifest
from tests.prep_tables import reviews, write_csv
from tests.report_runs import make_run
from tests.scored_runs import make_plan
from train.trials import TrialList
from workspace.errors import UserError
from workspace.files import read_json, read_jsonl, write_json
from workspace.paths import ROOT

LABELS, N, SEEDS = ("正面", "负面"), 400, (42, 43, 44)
NUMBERS = (100, 300, 1000, 3000)


def test_rows_that_every_point_would_learn_from_are_refused(tmp_path: Path) -> None:
    task = yaml.safe_load((ROOT / "swift_configs/demo/task.yaml").read_text(encoding="utf-8"))
    added = write_csv(tmp_path / "added.csv", reviews(3))
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(task | {"added": [str(added)]}, allow_unicode=True))
    with pytest.raises(UserError, match="`added` rows, which every point would learn from"):
        main([str(tmp_path), "--run", str(tmp_path / "curve")])
    assert not (tmp_path / "curve").exists()


def answered(reached: dict[str, float], generator: np.random.Generator) -> Answered:
    """A run whose readings have about this share of the rows right."""
    gold = tuple(LABELS[at % 2] for at in range(N))
    test = Split(Path(), tuple(map(str, range(N))), gold, gold, (False,) * N)
    readings = {}
    for name, share in reached.items():
        right = generator.permutation(N) < round(N * share)
        readings[name] = Predictions(name, tuple(LABELS[(at + (not ok)) % 2] for at, ok in enumerate(right)))
    return Answered(
        Run(Path(), "mine/model+rows-drawn-by-42", "mine", LABELS, Path()),
        test,
        RunPredictions(readings, readings, test, {}),
    )


def measured(tuned: dict[int, float], linear: dict[int, float], seeds=SEEDS, spread: float = 0.004, stack=None):
    """What curve.json holds for these accuracies by number of rows."""
    generator = np.random.default_rng(0)
    points = {}
    for number in tuned:
        for place, seed in enumerate(seeds):
            off = spread * (place - 1)
            reached = {"tfidf_linear": linear[number], "after_generate": tuned[number] + off}
            points[number, seed] = answered(reached | ({"stack": stack} if stack else {}), generator)
    return summary(points, list(tuned), seeds, "accuracy", 0.01)


LINEAR = {100: 0.70, 300: 0.75, 1000: 0.79, 3000: 0.81}
TUNED = {100: 0.55, 300: 0.74, 1000: 0.90, 3000: 0.94}


def test_what_a_model_has_read_first_is_said_on_both_pages() -> None:
    notice = {"zh": "先读了 90 条无标签文本", "en": "The model has read 90 texts without labels"}
    for page in render_curve(measured(TUNED, LINEAR) | {"notice": notice}):
        assert all(text in page for text in notice.values())
    assert all("None" not in page for page in render_curve(measured(TUNED, LINEAR)))


def test_worth_is_said_from_the_rows_on_where_it_is_shown() -> None:
    found = measured(TUNED, LINEAR)
    assert found["against_linear"]["after_generate"]["from_rows"] == 1000
    assert [one["code"] for one in found["against_linear"]["after_generate"]["by_rows"]][2:] == ["better", "better"]
    page, text = render_curve(found)
    for sentence in (
        "The tuned model is worth it here from 1,000 rows on: from there to 3,000 it is better than the linear model "
        "each time; with 300 that is not shown.",
        "调优后的模型在这里从 1,000 行起值得用",
    ):
        assert sentence in page and sentence in text
    assert "1,000 more labels: accuracy" in text and "mine/model\n" in text


def test_the_report_of_a_run_beside_the_curve_tells_it(tmp_path) -> None:
    metrics, found = make_run(tmp_path / "model", n=40), measured(TUNED, LINEAR)
    run, manifest = Run.read(make_plan(tmp_path / "model", tmp_path / "data")), made_up_manifest()
    found["measured_on"] = measured_on(run, manifest)
    write_json(tmp_path / "model.curve" / "curve.json", found)
    metrics["learning_curve"] = near_curve(run, manifest)
    assert metrics["learning_curve"]["found"]["rows"] == found["rows"]
    page, text = render_html(metrics, []), render_markdown(metrics, [], [])
    for written in (page, text):
        assert "worth it here from 1,000 rows on" in written and "../model.curve/curve.html" in written
    change = first_screen(metrics)[-1].answer.en
    assert more_sentence(found, "after_generate").en in change and "run_sft.sh curve" not in change


def test_a_curve_of_another_table_model_or_prompt_is_not_told(tmp_path, capsys) -> None:
    run, manifest = Run.read(make_plan(tmp_path / "model", tmp_path / "data")), made_up_manifest()
    assert near_curve(run, manifest) is None and not capsys.readouterr().out
    found = measured(TUNED, LINEAR) | {"measured_on": measured_on(run, manifest)}
    path = tmp_path / "model.curve" / "curve.json"
    write_json(path, found)
    assert near_curve(run, manifest) is not None
    counts = manifest.counts.model_copy(update={"train": manifest.counts.train | {"total": 9999}})
    split = replace(manifest.split, seed=7)
    for change in ({"counts": counts}, {"template": "?"}, {"split": split}):
        assert near_curve(run, manifest.model_copy(update=change)) is None
    # Under a limit the curve has all test rows of the table, and the run some of them.
    fewer = manifest.model_copy(update={"rows_sha256": manifest.rows_sha256 | {"test": "0"}})
    assert near_curve(run, fewer) is not None
    assert near_curve(replace(run, model_fingerprint="another"), manifest) is None
    assert "is a curve of another recipe, model, prompt or table" in capsys.readouterr().out
    del found["measured_on"]  # of an earlier version, which does not say what it is of
    write_json(path, found)
    assert near_curve(run, manifest) is None


def test_worth_that_is_not_shown_names_the_linear_model() -> None:
    _, text = render_curve(measured(LINEAR, TUNED))
    assert "not shown to be worth it here with up to 3,000 rows: with all rows the linear model is better" in text
    _, text = render_curve(measured(TUNED, TUNED))
    assert "not shown to be worth it here" in text and "Start with the linear model." in text
    assert "(100 is the fewest measured)" in render_curve(measured(dict.fromkeys(NUMBERS, 0.95), LINEAR))[1]


def test_the_stack_is_a_line_of_its_own_where_it_is_there() -> None:
    found = measured(TUNED, LINEAR, stack=0.95)
    assert list(found["readings"]) == ["after_generate", "tfidf_linear", "stack"]
    assert "The stack of both is worth it here from 100 rows on" in render_curve(found)[1]


def test_one_seed_is_said_to_be_one() -> None:
    found = measured(TUNED, LINEAR, seeds=(42,))
    assert found["readings"]["after_generate"]["points"][0]["ci"] is None
    assert "One seed alone: intervals hold the chance of test rows alone." in render_curve(found)[1]


def test_the_picture_has_whiskers_and_looks_ahead() -> None:
    found = measured(TUNED, {number: 1 - 2 * number**-0.5 for number in NUMBERS})
    drawn = chart(found)
    assert [text for _, text in drawn.x.ticks] == ["100", "300", "1,000", "3,000"]
    whiskers = [span for line in drawn.lines for span in line.spans]
    assert len(whiskers) == 2 * len(NUMBERS)
    assert any(line.stroke == "dashed" for line in drawn.lines)
    assert draw_curve(found).startswith(b"\x89PNG")


def test_numbers_of_rows_rise_to_all_there_are() -> None:
    assert all_numbers(None, 6_218) == [100, 300, 1000, 3000, 6218]
    assert all_numbers(None, 3_200) == [100, 300, 1000, 3200]  # 3,000 would be as good as all
    assert all_numbers(None, 800) == [100, 200, 400, 800]
    assert all_numbers([500, 50], 800) == [50, 500, 800]
    with pytest.raises(UserError, match="--rows 900 is more than the 800 training rows there are"):
        all_numbers([50, 900], 800)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rows", "100", "100"], "--rows 100 100 names a number twice"),
        (["--rows", "1"], "--rows is '1', expected a whole number from 2"),
        (["--rows", "many"], "--rows is 'many'"),
        (["--seeds", "42", "42"], "names a seed twice"),
        (["--seeds", "-1"], "--seeds"),
        (["--hours", "0"], "--hours is '0'"),
        (["--seed", "7"], "--seed is given next to --seeds"),
    ],
)
def test_words_without_a_meaning_are_refused(words: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said) as caught:
        main(["demo", *words, "--run", str(tmp_path / "curve")])
    assert "\n" not in str(caught.value) and not (tmp_path / "curve").exists()


def test_fewer_rows_than_classes_are_refused() -> None:
    check_rows([3], 3)
    with pytest.raises(UserError, match="--rows 2 leaves classes without a row: give at least 3"):
        check_rows([2], 3)


def test_a_point_draws_its_training_rows_by_its_seed_alone(tmp_path: Path) -> None:
    trial = point(TrialList(tmp_path / "curve"), 100, 7)
    assert trial.folder_name == "curve-rows100-seed7"
    assert yaml.safe_load(Path(trial.overrides[0]).read_text())["task"] == {"limit_of": "train", "limit_seed": 7}
    task = find_task("demo", trial.overrides)
    assert (task.limit_of, task.limit_seed) == ("train", 7)


@pytest.mark.swift
@pytest.mark.all
def test_two_seeds_for_real(tmp_path: Path, demo_model: Path) -> None:
    table = write_csv(tmp_path / "t.csv", reviews(60))
    (tmp_path / "task.yaml").write_text(TASK.format(csv=table), encoding="utf-8")
    words = ["bash", str(ROOT / "run_sft.sh"), "curve", str(tmp_path), "--model", str(demo_model), "--rows", "16"]
    words += ["--seeds", "1", "2", "--num_train_epochs", "1", "--run", str(tmp_path / "curve")]
    for _ in range(2):  # the second time nothing is tuned or asked again
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, env=os.environ)
        assert done.returncode == 0, done.stderr[-3000:]
    assert "swift sft" not in done.stdout
    found = read_json(tmp_path / "curve" / "curve.json")
    assert found["rows"][0] == 16 and found["seeds"] == [1, 2] and found["recipe"] == "tiny/minimind2-small"
    rows = {}
    for seed in (1, 2):
        few, every = (
            {row["id"] for row in read_jsonl(Run.read(tmp_path / "curve" / name).dataset / "train.jsonl")}
            for name in (f"curve-rows16-seed{seed}", f"curve-seed{seed}")
        )
        assert len(few) == 16 and few < every
        rows[seed] = few
    assert rows[1] != rows[2]
    assert {"curve.md", "curve.html", "curve.png"} <= {path.name for path in (tmp_path / "curve").iterdir()}
