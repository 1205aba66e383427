"""The grid of a sweep, its table and its choice; and what is compared when a run is made again."""

from pathlib import Path

import pytest

from plan.options import parse_options
from train import sweep as sweeping
from train.grid import Point, grid
from train.rerun import compare, differences, plan_again
from train.sweep import _too_late, sweep, trial_options, trial_words
from train.sweep_table import Trial, chosen, sweep_table
from workspace.errors import UserError
from workspace.files import read_json, sha256_file, write_json


def test_every_combination_is_a_point() -> None:
    points = grid([["rank8", "none"], ["learning_rate=1e-3", "learning_rate=5e-4", "lr-2e-4"]], None, 42)
    assert [point.name for point in points] == [
        "rank8+learning_rate=1e-3", "rank8+learning_rate=5e-4", "rank8+lr-2e-4",
        "learning_rate=1e-3", "learning_rate=5e-4", "lr-2e-4",
    ]  # fmt: skip
    assert points[0] == Point(("rank8",), (("learning_rate", "1e-3"),))
    assert grid([["none"]], None, 1)[0].name == "none"
    with pytest.raises(UserError, match="names a choice twice"):
        grid([["rank8", "rank8"]], None, 42)


def test_a_draw_is_part_of_the_grid_and_the_same_each_time() -> None:
    dimensions = [[f"a{n}" for n in range(5)], [f"b{n}" for n in range(5)]]
    drawn = grid(dimensions, 7, 42)
    assert len(drawn) == len(set(drawn)) == 7 and drawn == grid(dimensions, 7, 42) != grid(dimensions, 7, 43)
    assert set(drawn) <= set(grid(dimensions, None, 42)) == set(grid(dimensions, 99, 42))


def test_a_trial_is_a_run_with_overrides_values_and_seed(tmp_path: Path) -> None:
    user = parse_options(["demo", "--limit", "40", "--with", "neftune", "--num_train_epochs", "1"])
    one = trial_options(user, Point(("rank8",), (("learning_rate", "1e-3"),)), 7, tmp_path)
    assert (one.overrides, one.limit, one.run) == (
        ("neftune", "rank8"),
        40,
        tmp_path / "rank8+learning_rate=1e-3-seed7",
    )
    assert one.swift == {"num_train_epochs": "1", "learning_rate": "1e-3", "seed": "7", "data_seed": "7"}
    with pytest.raises(UserError, match="num_train_epochs is given and varied"):
        trial_options(user, Point((), (("num_train_epochs", "3"),)), 7, tmp_path)


def test_a_trials_command_makes_the_trial(tmp_path: Path) -> None:
    words = ["demo", "--with", "neftune", "--num_train_epochs", "1", "--limit", "40"]
    point = Point(("rank8",), (("learning_rate", "1e-3"),))
    one = trial_options(parse_options(words), point, 7, tmp_path)
    assert parse_options(trial_words(words, one)) == one
    plain = trial_options(parse_options(words), Point((), ()), 7, tmp_path)
    assert parse_options(trial_words(words, plain)) == plain


def trial(point: str, seed: int, macro_f1: float | None, fault: str | None = None) -> Trial:
    return Trial(point, seed, f"runs/{point}-{seed}", macro_f1, macro_f1, 90.0, fault)


def test_the_best_mean_wins_and_its_first_seed_is_taken() -> None:
    best_single = [trial("a", 1, 0.80), trial("b", 1, 0.92), trial("a", 2, 0.86), trial("b", 2, 0.70)]
    assert chosen(best_single) == best_single[0]  # b has the best single trial, a the best mean
    assert (
        chosen([trial("a", 1, 0.80), trial("b", 1, 0.84), trial("a", 2, 0.90), trial("b", 2, 0.84)]).run == "runs/a-1"
    )
    assert chosen([trial("a", 1, None, "out of memory"), trial("b", 1, 0.5)]).point == "b"
    assert chosen([trial("a", 1, None, "out of memory")]) is None


def test_the_table_has_mean_and_deviation_and_says_what_is_as_good() -> None:
    trials = [trial("a|x", 1, 0.80), trial("b", 1, 0.795), trial("c", 1, 0.5), trial("d", 1, None, "killed")]
    trials += [trial("a|x", 2, 0.90), trial("b", 2, 0.885), trial("c", 2, 0.5)]
    table = sweep_table(trials, 8)
    assert "7 of 8 trials" in table
    assert "| a\\|x | 2 | 0.8500 ± 0.0707 | 85.0 ± 7.1 % | 1.5 |" in table
    assert table.index("| a\\|x |") < table.index("| b |") < table.index("| c |")
    assert "within one standard deviation of the best: b\n" in table
    assert "- failed: d, seed 1: killed" in table
    assert "One seed a point" in sweep_table(trials[:3], 3)


def test_the_budget_counts_the_trial_to_come() -> None:
    assert not _too_late([], 0, 3600)
    assert not _too_late([trial("a", 1, 0.5)], 100, 190)  # a trial took 90 s
    assert _too_late([trial("a", 1, 0.5)], 101, 190)


def test_a_sweep_tries_all_goes_on_after_a_failure_and_keeps_its_budget(tmp_path: Path, monkeypatch) -> None:
    """Planning and tuning are stood in for: how trials are put together is what is looked at."""
    results = {"rank8": 0.7, "rank16": None, "rank64": 0.9}

    def run_trial(run: Path, point: Point, seed: int) -> Trial:
        value = results[point.name]
        return trial(point.name, seed, value, None if value else "killed")

    monkeypatch.setattr(sweeping.plan, "make_plan", lambda options, words: options.run)
    monkeypatch.setattr(sweeping, "run_trial", run_trial)
    options, points = parse_options(["demo", "--run", str(tmp_path)]), grid([list(results)], None, 42)
    assert sweep(options, [], points, [1, 2], None) == Path("runs/rank64-1")
    found = read_json(tmp_path / "sweep.json")["trials"]
    assert [(one["point"], one["seed"]) for one in found] == [(p, s) for s in (1, 2) for p in results]
    assert sweep(options, [], points, [1, 2], 1e-9) == Path("runs/rank8-1")  # the first always runs
    assert len(read_json(tmp_path / "sweep.json")["trials"]) == 1
    results.update(rank8=None, rank64=None)
    with pytest.raises(UserError, match="none of the 3 trials came to an end"):
        sweep(options, [], points, [1], None)


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
    record = {"recipe": "r", "task": "t", "labels": [], "dataset": "d", "task_file": "t.yaml", "model_fingerprint": "x"}
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
    with pytest.raises(UserError, match="is not a repetition"):
        compare(run)
    assert not (tmp_path / "again").exists()
