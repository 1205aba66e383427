from dataclasses import replace

import pytest

from eval import report
from eval.reporting.compare_runs import letter
from eval.scoring.significance import compare
from plan.provenance import recipe_sha256
from plan.run import Run
from tests.manifests import made_up_manifest
from tests.report_runs import BINARY, make_run
from tests.scored_runs import make_plan
from train.trials import METRIC, Trial, TrialList, TrialResult
from workspace.errors import UserError
from workspace.files import read_json, read_jsonl, write_json, write_jsonl


@pytest.fixture
def runs(tmp_path):
    for name, seed in (("a", 0), ("b", 1), ("c|d", 2)):
        make_run(tmp_path / name, n=150, seed=seed)
    return [tmp_path / name for name in ("a", "b", "c|d")]


def test_the_same_statistics_as_within_a_run(runs, capsys):
    before = {path: path.read_bytes() for run in runs for path in run.iterdir()}
    assert report.main([str(run) for run in runs[:2]]) == 0
    text = capsys.readouterr().out
    first, second = (read_jsonl(run / "rows.jsonl") for run in runs[:2])
    predicted = [[row["readings"]["after_generate"]["label"] for row in rows] for rows in (first, second)]
    found = compare(*predicted, [row["gold"] for row in first], BINARY)
    assert found.fixed and found.broken
    [line] = [line for line in text.split("\n") if line.startswith("| A → B") and "after · generate" in line]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[2:5] == ["150", str(found.fixed), str(found.broken)]
    assert cells[6].startswith(f"{found.accuracy_difference * 100:+.1f}".replace("-", "−"))
    assert {path: path.read_bytes() for run in runs for path in run.iterdir()} == before


def test_runs_are_compared_by_the_tasks_metric_and_margin(runs, capsys):
    for run in runs[:2]:
        metrics = read_json(run / "metrics.json")
        write_json(run / "metrics.json", metrics | {"primary_metric": "accuracy", "margin": 0.49})
    assert report.main([str(run) for run in runs[:2]]) == 0
    text = capsys.readouterr().out
    lines = [line for line in text.split("\n") if line.startswith("| A → B")]
    assert lines and all(line.endswith("相当 equivalent |") for line in lines)
    assert "the outcome goes by accuracy" in text


def test_the_tables_outcomes_are_corrected_for_their_number(runs, capsys, monkeypatch):
    """Audit, Medium: the smallest p of several was told as if it were the only one. Two runs by one reading stay as
    they are; the same comparison among the nine of three runs by three readings is not decided any more."""
    seen = []

    def noted(*args, **kwargs):
        seen.append(replace(compare(*args, **kwargs), randomisation_p=0.01, code="better"))
        return seen[-1]

    monkeypatch.setattr("eval.reporting.compare_runs.compare", noted)
    for run in runs:
        make_run(run, n=150, readings=("majority", "after_generate"))
    for folders, p, outcome in ((runs[:2], "0.010", "更好 better"), (runs, "0.030", "更好 better")):
        report.main([str(run) for run in folders])
        text = capsys.readouterr().out
        lines = [line for line in text.split("\n") if " → " in line and "after · generate" in line]
        assert lines and all(line.endswith(f"| {p} | {outcome} |") for line in lines)
    for run in runs:
        make_run(run, n=150)
    report.main([str(run) for run in runs])
    text = capsys.readouterr().out
    lines = [line for line in text.split("\n") if " → " in line]
    assert len(lines) == 12 and all(line.endswith("| 0.120 | 未定 not decided |") for line in lines)
    assert "corrected for 12 comparisons" in text and "12 次比较作 Holm 校正" in text


def test_every_pair_is_compared_and_names_are_escaped(runs, tmp_path, capsys):
    assert report.main([*map(str, runs), "--out", str(tmp_path / "made")]) == 0
    text = capsys.readouterr().out
    assert (tmp_path / "made" / "compare.md").read_text(encoding="utf-8") == text
    assert [text.count(f"| {pair} |") for pair in ("A → B", "A → C", "B → C")] == [4, 4, 4]  # the stack among them
    assert "c&#124;d" in text


def test_other_test_rows_are_refused_in_one_sentence(runs):
    make_run(runs[1], n=150, rows_sha256="cd" * 32)
    with pytest.raises(UserError, match="different rows") as caught:
        report.main([str(run) for run in runs[:2]])
    assert "\n" not in str(caught.value) and str(runs[1]) in str(caught.value)


def test_rows_that_do_not_fit_the_metrics_are_refused(runs):
    write_jsonl(runs[1] / "rows.jsonl", read_jsonl(runs[1] / "rows.jsonl")[1:])
    with pytest.raises(UserError, match=r"rows\.jsonl is not of its metrics\.json"):
        report.main([str(run) for run in runs[:2]])


@pytest.mark.parametrize("change", [{"label": "x"}, {"label": ""}])
def test_an_answer_that_is_none_of_the_labels_is_refused(runs, change):
    rows = read_jsonl(runs[1] / "rows.jsonl")
    rows[3]["readings"]["after_score"] |= change
    write_jsonl(runs[1] / "rows.jsonl", rows)
    with pytest.raises(UserError, match=r"rows\.jsonl is not of its metrics\.json: run python -m eval\.report"):
        report.main([str(run) for run in runs[:2]])


def test_other_labels_are_refused(runs):
    make_run(runs[1], ("好", "坏"), n=150)
    with pytest.raises(UserError, match="different labels"):
        report.main([str(run) for run in runs[:2]])


def test_a_run_that_was_not_scored_says_what_to_do(runs, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"has no metrics\.json: run python -m eval\.report"):
        report.main([str(runs[0]), str(tmp_path / "empty")])


def test_readings_that_only_one_has_are_shown_and_not_compared(runs, capsys):
    make_run(runs[1], n=150, readings=("majority", "before_generate"))
    assert report.main([str(run) for run in runs[:2]]) == 0
    text = capsys.readouterr().out
    assert text.count("| A → B |") == 1
    assert [line[-5:] for line in text.split("\n") if line.startswith("| 调优后 · 生成")] == ["| – |"]
    make_run(runs[1], n=150, readings=("majority",))
    report.main([str(run) for run in runs[:2]])
    assert "No reading of a model" in capsys.readouterr().out


def test_letters():
    assert [letter(k) for k in (0, 25, 26, 27, 52)] == ["A", "Z", "AA", "AB", "BA"]


def test_what_a_recipe_is_known_by_is_the_same_for_all_seeds_and_another_with_other_labels(tmp_path):
    folder = make_plan(tmp_path / "run", tmp_path / "data")
    run, inputs = Run.read(folder), {"source_sha256": "a", "corrections": ["b", False], "tokenizer": "t"}
    one = recipe_sha256(run, made_up_manifest(inputs=inputs))
    (folder / "sft.yaml").write_text("seed: 7\ndata_seed: 7\nlearning_rate: 1.0e-4\n", encoding="utf-8")
    assert recipe_sha256(run, made_up_manifest(inputs=inputs)) == one
    for more in ({"corrections": ["c", False]}, {"source_sha256": "c"}, {"added": ["c"]}):
        assert recipe_sha256(run, made_up_manifest(inputs=inputs | more)) != one
    (folder / "sft.yaml").write_text("seed: 7\nlearning_rate: 2.0e-4\n", encoding="utf-8")
    assert recipe_sha256(run, made_up_manifest(inputs=inputs)) != one


@pytest.fixture
def two_recipes(tmp_path):
    """Two recipes of three seeds each, of which the second answers more rows right."""
    folders = []
    for recipe, improved in (("12", False), ("34", True)):
        for seed in range(3):
            folder = tmp_path / f"{recipe}-{seed}"
            make_run(folder, n=150, seed=10 * improved + seed, improved=improved, recipe_sha256=recipe * 32)
            folders.append(folder)
    return folders


def test_runs_that_begin_with_one_adapter_are_as_many_seeds(tmp_path, capsys):
    folders = [tmp_path / str(place) for place in range(4)]
    for place, folder in enumerate(folders):
        make_run(folder, n=150, seed=place, recipe_sha256=("12", "34")[place // 2] * 32, soup_of=42)
    report.main(list(map(str, folders)))
    assert "| A B → C D |" in capsys.readouterr().out


def test_recipes_are_compared_only_over_several_seeds_each(two_recipes, capsys):
    assert report.main([str(run) for run in two_recipes]) == 0
    text = capsys.readouterr().out
    lines = [line for line in text.split("\n") if line.startswith("| A B C → D E F |")]
    assert len(lines) == 4 and "recipes are compared" in text and "These are checkpoints" not in text
    assert all(line.rstrip("| ").endswith("better") for line in lines)
    assert "corrected for 4 comparisons (Holm)" in text
    for fewer in (two_recipes[2:], [two_recipes[0], two_recipes[3]]):
        report.main([str(run) for run in fewer])
        text = capsys.readouterr().out
        assert ("recipes are compared" in text) is (len(fewer) > 3) or "These are checkpoints, not recipes" in text
    report.main([str(run) for run in two_recipes[:3]])
    assert "These runs are of one recipe" in capsys.readouterr().out


def test_a_folder_of_seeds_stands_for_its_runs(two_recipes, tmp_path, capsys):
    for name, folders in (("a.seeds", two_recipes[:3]), ("b.seeds", two_recipes[3:])):
        trials, seeds = TrialList(tmp_path / name), [Trial("run", seed) for seed in range(len(folders))]
        for trial, folder in zip(seeds, folders, strict=True):
            folder.rename(trials.folder / trial.folder_name)
            trials.keep([TrialResult(trial, trials.folder / trial.folder_name, {METRIC: 0.9})], seeds)
    assert report.main([str(tmp_path / "a.seeds"), str(tmp_path / "b.seeds")]) == 0
    assert "| A B C → D E F |" in capsys.readouterr().out
