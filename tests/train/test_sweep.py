"""The grid of a sweep, its table and its choice; and what is compared when a run is made again."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from data_prep.build import build
from data_prep.task import find_task
from eval.seeds import main as seeds_main
from plan.options import parse_options
from tests.prep_tables import reviews, write_csv, write_model
from train import trials as trying
from train.rerun import compare, differences, plan_again
from train.sweep import check_same_validation, chosen, grid, main, sweep
from train.sweep_table import sweep_table
from train.trials import METRIC, Trial, TrialList, TrialResult, run_trial, runs_of_list, too_late
from workspace import stages
from workspace.child_process import OutOfMemory
from workspace.errors import MachineFault, UserError
from workspace.files import sha256_file, write_json
from workspace.marker import MARKER, mark
from workspace.paths import ROOT


def test_every_combination_is_a_point() -> None:
    points = grid([["rank8", "none"], ["learning_rate=1e-3", "learning_rate=5e-4", "lr-2e-4"]], None, 42)
    assert [point.name for point in points] == [
        "rank8+learning_rate=1e-3", "rank8+learning_rate=5e-4", "rank8+lr-2e-4",
        "learning_rate=1e-3", "learning_rate=5e-4", "lr-2e-4",
    ]  # fmt: skip
    assert points[0] == Trial("rank8+learning_rate=1e-3", 42, ("rank8",), (("learning_rate", "1e-3"),))
    assert grid([["none"]], None, 1)[0].name == "none"
    with pytest.raises(UserError, match="names a choice twice"):
        grid([["rank8", "rank8"]], None, 42)


def test_a_draw_is_part_of_the_grid_and_the_same_each_time() -> None:
    dimensions = [[f"a{n}" for n in range(5)], [f"b{n}" for n in range(5)]]
    drawn = {point.name for point in grid(dimensions, 7, 42)}
    assert len(drawn) == 7 and drawn == {point.name for point in grid(dimensions, 7, 42)}
    assert drawn != {point.name for point in grid(dimensions, 7, 43)}
    every = {point.name for point in grid(dimensions, None, 42)}
    assert drawn <= every == {point.name for point in grid(dimensions, 99, 42)}


def test_a_trials_command_makes_a_run_with_its_overrides_values_seed_and_rows(tmp_path: Path) -> None:
    words = ["demo", "--limit", "40", "--with", "neftune", "--num_train_epochs", "1", "--run", "elsewhere"]
    trial = Trial("a", 7, ("rank8",), (("learning_rate", "1e-3"),))
    made = parse_options(trial.words(words, tmp_path))
    assert (made.recipe, made.overrides, made.limit, made.run) == ("demo", ("neftune", "rank8"), 40, tmp_path)
    assert made.swift == {"num_train_epochs": "1", "learning_rate": "1e-3", "seed": "7", "data_seed": "7"}
    plain = parse_options(Trial("b", 7, rows=20).words(words, tmp_path))
    assert (plain.overrides, plain.limit) == (("neftune",), 20)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("num_train_epochs", "num_train_epochs is given and varied"),
        ("hub_token", "hub_token is decided by the pipeline"),
        ("output_dir", "output_dir is decided by the pipeline"),
        ("seed", "give --seeds instead"),
        ("run", "only options of `swift sft`"),
        ("model", "only options of `swift sft`"),
        ("fresh", "see `bash run_sft.sh --help`"),
    ],
)
def test_what_may_not_vary_is_refused(key: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        Trial("a", 7, (), ((key, "1"),)).words(["demo", "--num_train_epochs", "1"], tmp_path)


def test_a_trials_folder_is_one_folder_with_a_name_that_disks_take() -> None:
    assert Trial("rank8+a=b/c", 7).folder_name == "rank8+a=b-c-seed7"
    assert Trial("none", 7, rows=100).folder_name == "none-rows100-seed7"
    long, other = Trial("参" * 200, 7).folder_name, Trial("参" * 201, 7).folder_name
    assert len(long.encode()) < 255 and long != other


@pytest.mark.parametrize(
    "words", [("--seeds", "42", "42"), ("--trials", "-1"), ("--trials", "0"), ("--hours", "nan"), ("--hours", "0")]
)
def test_numbers_without_a_meaning_are_refused(words: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words[0]):
        main(["demo", "--vary", "none", *words, "--run", str(tmp_path / "sweep")])
    assert not (tmp_path / "sweep").exists()


def result(point: str, seed: int, macro_f1: float | None, fault: str | None = None) -> TrialResult:
    scores = {} if macro_f1 is None else {METRIC: macro_f1, "label_accuracy": macro_f1}
    return TrialResult(Trial(point, seed), Path(f"runs/{point}-{seed}"), scores, 90.0, fault)


def test_the_best_mean_wins_and_its_first_seed_is_taken() -> None:
    best_single = [result("a", 1, 0.80), result("b", 1, 0.92), result("a", 2, 0.86), result("b", 2, 0.70)]
    assert chosen(best_single) == best_single[0]  # b has the best single trial, a the best mean
    alike = [result("a", 1, 0.80), result("b", 1, 0.84), result("a", 2, 0.90), result("b", 2, 0.84)]
    assert chosen(alike) == alike[0]
    assert chosen([result("a", 1, None, "out of memory"), result("b", 1, 0.5)]).trial.name == "b"
    assert chosen([result("a", 1, None, "out of memory")]) is None


def test_the_table_has_mean_and_deviation_and_says_what_is_as_good() -> None:
    results = [result("a|x", 1, 0.80), result("b", 1, 0.795), result("c", 1, 0.5), result("d", 1, None, "killed")]
    results += [result("a|x", 2, 0.90), result("b", 2, 0.885), result("c", 2, 0.5)]
    table = sweep_table(results, 8)
    assert "7 of 8 trials" in table
    assert "| a\\|x | 2 | 0.8500 ± 0.0707 | 85.0 ± 7.1 % | 1.5 |" in table
    assert table.index("| a\\|x |") < table.index("| b |") < table.index("| c |")
    assert "within one standard deviation of the best: b\n" in table
    assert "- failed: d, seed 1: killed" in table
    assert "One seed a point" in sweep_table(results[:3], 3)


def test_points_are_ranked_on_the_seeds_that_all_of_them_have() -> None:
    """A point's lucky first seed is no reason to prefer it to one whose second came out lower than its first."""
    results = [result("a", 1, 0.80), result("b", 1, 0.79), result("c", 1, None, "killed"), result("a", 2, 0.70)]
    found = chosen(results)
    assert found is not None and found.trial.name == "a"
    table = sweep_table(results, 6)
    assert "| a | 1 | 0.8000 |" in table and "Seed 2 not counted: not every point has it." in table
    assert "not counted" not in sweep_table([*results, result("b", 2, 0.9)], 6)


def test_a_point_that_failed_with_a_seed_does_not_take_the_others_seeds_along() -> None:
    results = [result("a", 1, 0.80), result("b", 1, 0.90), result("c", 1, None, "killed")]
    results += [result("a", 2, 0.80), result("b", 2, 0.60), result("c", 2, 0.99)]
    found = chosen(results)
    assert found is not None and found.trial.name == "a"
    table = sweep_table(results, 6)
    assert "| a | 2 | 0.8000" in table and "not counted" not in table
    assert table.index("| b | 2 |") < table.index("| c（未排名 / not ranked） | 1 | 0.9900 |")
    assert "for a seed of theirs failed: c\n" in table


def test_points_without_a_seed_in_common_are_told() -> None:
    results = [result("a", 1, 0.8), result("a", 2, None, "killed"), result("b", 1, None, "killed"), result("b", 2, 0.9)]
    assert "no seed in common" in sweep_table(results, 4)
    assert "no seed in common" not in sweep_table([results[0], result("b", 1, 0.9)], 4)


def test_the_budget_counts_the_trial_to_come() -> None:
    assert not too_late([result("a", 1, 0.5)], 100, 190)  # a trial took 90 s
    assert too_late([result("a", 1, 0.5)], 101, 190)


class Planned:
    """Stands in for a plan, which is not carried out."""


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> dict[str, float | None]:
    """What each point reaches; planning and tuning are stood in for: how trials are put together is looked at."""
    reached: dict[str, float | None] = {"rank8": 0.7, "rank16": None, "rank64": 0.9}

    def run_trial(trial: Trial, plan: Planned) -> TrialResult:
        if trial.name not in reached:
            raise KeyboardInterrupt
        value = reached[trial.name]
        scores = {} if value is None else {METRIC: value}
        return TrialResult(trial, plan.folder, scores, 90.0, None if value else "killed")

    def make_plan(options, words) -> Planned:
        plan = Planned()
        plan.folder = options.run
        return plan

    monkeypatch.setattr(trying, "make_plan", make_plan)
    monkeypatch.setattr(trying, "run_trial", run_trial)
    return reached


def test_a_sweep_tries_all_goes_on_after_a_failure_and_keeps_its_budget(tmp_path: Path, tried) -> None:
    points, trials = grid([list(tried)], None, 42), TrialList(tmp_path / "sweep")
    assert sweep(trials, ["demo"], points, [1, 2], None) == trials.folder / "rank64-seed1"
    assert [(one.trial.name, one.trial.seed) for one in trials.results()] == [(p, s) for s in (1, 2) for p in tried]
    assert "6 of 6 trials" in (trials.folder / "sweep.md").read_text(encoding="utf-8")
    assert sweep(trials, ["demo"], points, [1, 2], 1e-9) == trials.folder / "rank8-seed1"  # the first always runs
    assert "1 of 6 trials" in (trials.folder / "sweep.md").read_text(encoding="utf-8")
    tried.update(rank8=None, rank64=None)
    with pytest.raises(UserError, match="none of the 3 trials came to an end"):
        sweep(trials, ["demo"], points, [1], None)


def test_results_are_kept_as_they_come_and_belong_to_their_trials(tmp_path: Path, tried) -> None:
    folder, every = tmp_path / "list", [Trial("rank8", 1, ("rank8",), (("a", "b"),), 20), Trial("killed", 1)]
    with pytest.raises(KeyboardInterrupt):
        TrialList(folder).run(every, ["demo"])
    folder = folder.rename(tmp_path / "moved")
    [kept] = TrialList(folder).results()
    assert kept == TrialResult(every[0], folder / "rank8-rows20-seed1", {METRIC: 0.7}, 90.0)
    tried.update(killed=0.6, rank8=0.8)
    assert TrialList(folder).run(every, ["demo"]) == TrialList(folder).results()  # in place of the earlier ones
    assert [one.scores[METRIC] for one in TrialList(folder).results()] == [0.8, 0.6]
    (folder / "trials.json").write_text("[")
    assert TrialList(folder).results() == []


def test_a_list_stands_for_the_trials_that_were_asked_for_last(tmp_path: Path, tried) -> None:
    """A seed of an earlier command was tuned by another recipe, it may be."""
    for seeds in ((1, 2, 3), (1, 2)):
        TrialList(tmp_path / "list").run([Trial("rank8", seed) for seed in seeds], ["demo"])
    assert len(TrialList(tmp_path / "list").results()) == 3
    assert runs_of_list(tmp_path / "list") == [tmp_path / "list" / f"rank8-seed{seed}" for seed in (1, 2)]


def test_a_full_disk_ends_the_list_and_too_little_memory_only_a_trial(tmp_path: Path, monkeypatch) -> None:
    def fail(error: Exception):
        def write_run(plan: Planned) -> None:
            raise error

        return write_run

    plan = Planned()
    plan.run = Planned()
    plan.run.folder = tmp_path
    monkeypatch.setattr(trying, "write_run", fail(OutOfMemory("no memory\nat all")))
    assert run_trial(Trial("a", 1), plan).fault == "no memory"
    monkeypatch.setattr(trying, "write_run", fail(MachineFault("the disk is full")))
    with pytest.raises(MachineFault, match="the disk is full"):
        run_trial(Trial("a", 1), plan)


@pytest.mark.parametrize("content", ["sweep.json", "run", "file", "sweep of an earlier version"])
def test_a_folder_that_is_no_sweep_is_not_touched(content: str, tmp_path: Path) -> None:
    """In a process of its own: before, it was locked, and every hidden .partial file below it was removed."""
    folder = tmp_path / "mine"
    if content == "file":
        folder.write_text("")
    elif content == "run":
        mark(folder, "run")
    else:
        (folder / "below").mkdir(parents=True)
        for name in ("sweep.json", "below/.precious.partial", *(["sweep.md"] if "earlier" in content else [])):
            (folder / name).write_text("mine")
    before = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
    words = [sys.executable, "-m", "train.sweep", "demo", "--vary", "none", "--run", str(folder)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: --run {folder} ") and done.stderr.count("\n") == 1
    assert ("earlier version" in done.stderr) is ("earlier" in content)
    assert sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")) == before


def test_a_list_that_was_cut_off_while_it_was_made_is_taken_up(tmp_path: Path) -> None:
    (tmp_path / f".{MARKER}.1.partial").touch()
    (tmp_path / "lock").touch()
    assert TrialList(tmp_path).results() == []
    assert (tmp_path / MARKER).is_file()


def test_differences_name_what_is_not_as_it_was() -> None:
    then = {"versions": {"torch": "2.12", "peft": "0.20"}, "python": "3.11.9", "git": "abc", "machine_text": "2 cores"}
    now = {"versions": {"torch": "2.13", "peft": "0.20"}, "python": "3.11.9", "git": "abc", "machine_text": "8 cores"}
    assert differences(then, then) == []
    assert differences(then, now) == ["torch was 2.12 and is 2.13", "the machine was 2 cores and is 8 cores"]


def test_only_a_whole_run_with_its_table_is_made_again(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(UserError, match=r"no run\.json"):
        plan_again(run, tmp_path / "again")
    table = tmp_path / "t.csv"
    table.write_text("label,review\n")
    record = {
        "recipe": "r",
        "task": "t",
        "labels": ["A", "B"],
        "dataset": "d",
        "task_file": "t.yaml",
        "model_fingerprint": "x",
    }
    write_json(run / "run.json", record | {"model_folder": str(tmp_path / "gone")})
    write_json(run / "data.json", {"source": {"path": str(table), "sha256": sha256_file(table)}})
    for name in ("sft.yaml", "infer.yaml"):
        (run / name).write_text("{}")
    with pytest.raises(UserError, match="is the run itself"):
        plan_again(run, run)
    with pytest.raises(UserError, match="gone is not the model"):
        plan_again(run, tmp_path / "again")
    table.write_text("label,review\n1,好\n")
    with pytest.raises(UserError, match=r"t\.csv is not the table"):
        plan_again(run, tmp_path / "again")
    write_json(run / "run.json", record | {"machine": {"gpu": "Tesla T4"}})
    with pytest.raises(UserError, match=r"run was tuned on Tesla T4 and no GPU is seen here: repeat it where one is"):
        plan_again(run, tmp_path / "again")
    with pytest.raises(UserError, match="is not a repetition"):
        compare(run)
    assert not (tmp_path / "again").exists()


def test_a_sweep_does_not_compare_points_with_other_validation_rows(tmp_path: Path, monkeypatch) -> None:
    """Another prompt shows other texts, other label words name the same labels: the rows stay the same."""
    table = write_csv(
        tmp_path / "t.csv", [(label, text * (5 + at % 20)) for at, (label, text) in enumerate(reviews(80))]
    )
    model, looked = write_model(tmp_path / "model"), []

    def dataset(trials: TrialList, trial: Trial, words: list[str]) -> Path:
        looked.append(trial.name)
        if trial.name == "original-split":
            raise UserError("a trial that fails is told in its turn")
        split = {"split": replace(task.split, seed=7)} if trial.name == "learning-curve" else {}
        own = replace(find_task("hotel_reviews", trial.overrides), max_length=100, max_reject_share=0.9, **split)
        return build(own, csv=table, out=tmp_path / trial.name, model=model).parent

    task = find_task("hotel_reviews")
    monkeypatch.setattr(TrialList, "dataset", dataset)
    options, trials = parse_options(["hotel_reviews"]), TrialList(tmp_path / "list")
    check_same_validation(trials, [], grid([["none", "rank8", "rank16"]], None, 1), options)
    assert looked == []  # nothing of these changes the task
    check_same_validation(trials, [], grid([["none", "clean", "original-split", "letters"]], None, 1), options)
    assert looked == ["none", "clean", "original-split", "letters"]
    with pytest.raises(UserError, match="learning-curve has other validation rows than none"):
        check_same_validation(trials, [], grid([["none", "learning-curve"]], None, 1), options)


def test_a_soup_is_of_adapters_and_no_run_makes_it_again(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--soup averages LoRA adapters, and tuner_type is full"):
        seeds_main(["demo", "--with", "full", "--seeds", "1", "2", "--soup", "--run", str(tmp_path / "list")])
    assert not (tmp_path / "list").exists()
    run = tmp_path / "run"
    write_json(run / "run.json", {"recipe": "r", "task": "t", "labels": ["A", "B"], "dataset": "d"})
    write_json(run / "data.json", {"source": {"path": "t.csv", "sha256": ""}})
    for name in ("sft.yaml", "infer.yaml"):
        (run / name).write_text("{}")
    stages.record(run, "train", {"soup": ["a", "b"]}, [], 1.0)
    with pytest.raises(UserError, match="is the average of several runs, which no run makes again"):
        plan_again(run, tmp_path / "again")
