"""Successive halving in a sweep: who goes on, in which order, after which interruptions, and what a budget leaves."""

import itertools
import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest

from plan.planning import Plan, write_run
from plan.recipes import load_recipe
from tests.prep_tables import reviews, write_csv, write_model, write_task
from train import halving, sweep
from train import trials as trying
from train.halving import goes_on, rungs
from train.sweep import default_grid, grid, main
from train.trials import METRIC, Trial, TrialList, TrialResult
from workspace.errors import UserError
from workspace.files import read_jsonl

ROWS = (25, 50)
F1 = {"a": 0.5, "b": 0.9, "c": 0.7, "d": 0.8}  # by point, on part of the rows
ON_ALL = {"b": 0.81, "d": 0.85}


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_the_better_half_goes_on_in_whatever_order_it_stands(order: tuple[int, ...]) -> None:
    values, on = [0.5, 0.9, 0.7, 0.8], [False, True, False, True]
    assert goes_on([values[at] for at in order]) == [on[at] for at in order]


@pytest.mark.parametrize(
    ("values", "on"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5], "   45"),  # rounded down
        ([0.3, 0.2, 0.1], "3  "),
        ([0.2], "2"),  # one at least
        ([0.4, 0.3, 0.3, 0.2], "433 "),  # equal to the last that goes on
        ([0.3, 0.3, 0.3], "333"),
        ([math.nan, 0.2, 0.3, math.nan, 0.1], "  3  "),  # what failed is not among those halved
        ([math.nan, math.nan], "  "),
        ([], ""),
    ],
)
def test_half_is_rounded_down_equal_points_stay_together_and_failures_go(values: list[float], on: str) -> None:
    assert goes_on(values) == [mark != " " for mark in on]


def test_no_point_is_judged_on_a_handful_of_rows() -> None:
    assert rungs(5590, 2795) == [1397, 2795]
    assert rungs(399, 199) == [199]
    assert rungs(199, 99) == rungs(5590, 72) == []
    assert rungs(800, 24) == []  # half of the rows would have a dozen of the rare label


def test_the_default_grid_is_around_the_recipe_and_leaves_what_is_given(tmp_path: Path) -> None:
    rates = ["learning_rate=0.0005", "learning_rate=0.001", "learning_rate=0.002"]
    epochs = ["num_train_epochs=2", "num_train_epochs=3", "num_train_epochs=5"]
    demo = load_recipe("demo")
    assert default_grid(demo, {}) == [rates, epochs]
    assert default_grid(demo, {"learning_rate": "1"}) == [epochs]
    assert default_grid(demo, {"num_train_epochs": "1"}) == default_grid(demo, {"max_steps": "9"}) == [rates]
    own = demo._replace(sft=demo.sft | {"num_train_epochs": 4, "learning_rate": "5e-5"})
    assert default_grid(own, {}) == [
        ["learning_rate=2.5e-05", "learning_rate=5e-05", "learning_rate=0.0001"],
        ["num_train_epochs=2", "num_train_epochs=3", "num_train_epochs=4", "num_train_epochs=5"],
    ]


def test_where_nothing_is_left_to_vary_no_folder_is_made(tmp_path: Path) -> None:
    words = ["--run", str(tmp_path / "sweep")]
    with pytest.raises(UserError, match="leave one out to have it varied, or name --vary"):
        main(["demo", "--learning_rate", "1e-3", "--num_train_epochs", "1", *words])
    (tmp_path / "task").mkdir()
    write_task(tmp_path / "task", name="own", csv=str(tmp_path / "t.csv"))
    (tmp_path / "task" / "mine.yaml").write_text("model: x/y\ntemplate: qwen\n")
    with pytest.raises(UserError, match=r"mine\.yaml has no learning_rate to vary around"):
        main([str(tmp_path / "task" / "mine.yaml"), *words])
    assert not (tmp_path / "sweep").exists()


class World:
    """Stands in for planning, tuning and the clock; what is tuned leaves a file, and is not tuned again."""

    def __init__(self, folder: Path) -> None:
        self.trials = TrialList(folder)
        self.reached = dict(F1)
        self.on_all = dict(ON_ALL)
        self.tuned: list[str] = []
        self.cut_after = 10**6
        self.now = 0.0

    def run_trial(self, trial: Trial, plan: SimpleNamespace) -> TrialResult:
        seconds = 36.0 * (trial.rows or 100)
        if not (plan.folder / "tuned").exists():
            if len(self.tuned) == self.cut_after:
                raise KeyboardInterrupt
            self.tuned.append(trial.folder_name)
            self.now += seconds
            plan.folder.mkdir()
            (plan.folder / "tuned").touch()
        value = (self.reached if trial.rows else self.on_all).get(trial.name)
        scores = {} if value is None else {METRIC: value}
        return TrialResult(trial, plan.folder, scores, seconds, "killed" if value is None else None)

    def sweep(self, hours: float | None = None) -> str:
        points = grid([list(F1)], None, 1)
        return sweep.sweep(self.trials, ["demo"], points, [1, 2], hours, ROWS).name

    def table(self) -> str:
        return (self.trials.folder / "sweep.md").read_text(encoding="utf-8")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(tmp_path / "sweep")
    for module in (trying, halving, sweep):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: made.now))
    monkeypatch.setattr(trying, "make_plan", lambda options, words: SimpleNamespace(folder=options.run))
    monkeypatch.setattr(trying, "run_trial", lambda trial, plan: made.run_trial(trial, plan))
    return made


WHOLE = [
    *(f"{name}-rows25-seed1" for name in "abcd"),
    *(f"{name}-rows50-seed1" for name in "bd"),
    *(f"b-seed{seed}" for seed in (1, 2)),
]


def test_the_better_half_gets_more_rows_and_the_last_all_rows_and_all_seeds(world: World) -> None:
    assert world.sweep() == "b-seed1"
    assert world.tuned == WHOLE
    table = world.table()
    assert "8 of 8 trials" in table
    assert "| b | 2 | 0.8100 ± 0.0000 |" in table  # on all rows alone
    for line in ("| a | 25 | 0.5000 |", "| c | 25 | 0.7000 |", "| d | 50 | 0.8000 |"):
        assert line in table
    part, whole = world.trials.results()[0], world.trials.results()[-1]
    assert (part.trial.rows, part.trial.overrides) == (25, ("a", "learning-curve"))  # all validation rows
    assert (whole.trial.rows, whole.trial.overrides) == (None, ("b",))


def test_points_that_are_equal_go_on_together(world: World) -> None:
    world.reached["d"] = 0.9
    assert world.sweep() == "d-seed1"  # the better one on all rows
    assert world.tuned == [*WHOLE[:6], "b-seed1", "d-seed1", "b-seed2", "d-seed2"]
    assert "10 of 10 trials" in world.table() and "| d | 50 |" not in world.table()


def test_after_every_interruption_nothing_is_tuned_twice_and_the_end_is_the_same(world: World, tmp_path: Path) -> None:
    for number in range(len(WHOLE)):
        world.cut_after = number
        with pytest.raises(KeyboardInterrupt):
            world.sweep()
        kept = [one.trial.folder_name for one in world.trials.results()]
        assert world.tuned == WHOLE[:number] == kept
        if 0 < number <= 6:
            assert f"{number} trials so far, on part of the rows" in world.table()
    world.cut_after = 10**6
    assert world.sweep() == "b-seed1"
    assert world.tuned == WHOLE
    cut = world.table(), (world.trials.folder / "trials.json").read_bytes()
    world.tuned, world.trials = [], TrialList(tmp_path / "again")
    assert world.sweep() == "b-seed1"
    assert (world.table(), (world.trials.folder / "trials.json").read_bytes()) == cut
    # trials.json is the one record of results, and what halving decides can be made again without it.
    (world.trials.folder / "trials.json").write_text("[")
    assert world.sweep() == "b-seed1" and world.tuned == WHOLE
    assert len(json.loads((world.trials.folder / "trials.json").read_text())["results"]) == len(WHOLE)


def test_a_budget_counts_the_longer_trials_to_come_and_the_same_command_goes_on(world: World) -> None:
    """On 25 rows a trial takes a quarter of an hour, on all an hour."""
    for done in (4, 6):
        with pytest.raises(
            UserError, match=r"--hours 1\.2 ended before a trial with all rows did: give more, or go on"
        ):
            world.sweep(1.2)
        assert world.tuned == WHOLE[:done]
    assert world.sweep(1.2) == "b-seed1"
    assert world.tuned == WHOLE[:7] and "7 of 8 trials" in world.table()


def test_the_first_trial_is_begun_in_any_budget(world: World) -> None:
    with pytest.raises(UserError, match=r"--hours 0\.001 ended"):
        world.sweep(0.001)
    assert world.tuned == WHOLE[:1]


def test_what_fails_goes_no_further(world: World) -> None:
    del world.reached["b"]
    assert world.sweep() == "d-seed1"
    assert world.tuned == [*WHOLE[:4], "d-rows50-seed1", "d-seed1", "d-seed2"]
    assert "- failed: b, seed 1: killed" in world.table()
    world.reached.clear()
    with pytest.raises(UserError, match="none of the 4 trials came to an end"):
        world.sweep()


@pytest.mark.slow
@pytest.mark.parametrize("limit", [[], ["--limit", "200"]])
def test_a_part_is_of_the_training_rows_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], limit: list[str]
) -> None:
    """Planned and prepared for real; tuning alone is stood in for."""
    seen: dict[str, tuple[int, set[str], set[str]]] = {}

    def run_trial(trial: Trial, plan: Plan) -> TrialResult:
        write_run(plan)
        train, val, test = (
            {row["id"] for row in read_jsonl(plan.run.dataset / f"{name}.jsonl")} for name in ("train", "val", "test")
        )
        assert not train & (val | test)
        seen[plan.run.folder.name] = len(train), val, test
        return TrialResult(trial, plan.run.folder, {METRIC: float(dict(trial.options)["learning_rate"])}, 1.0)

    monkeypatch.setattr(trying, "run_trial", run_trial)
    monkeypatch.setattr("plan.dataset_place.DATASETS", tmp_path / "datasets")
    (tmp_path / "task").mkdir()
    table = write_csv(tmp_path / "t.csv", reviews(300))
    write_task(tmp_path / "task", name="own", csv=str(table), default_recipe="minimind2-small")
    model = write_model(tmp_path / "model")
    config = {"model_type": "qwen2", "hidden_size": 8, "num_hidden_layers": 1, "intermediate_size": 8}
    (model / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (model / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    words = [str(tmp_path / "task"), "--model", str(model), "--num_train_epochs", "1", "--run", str(tmp_path / "sweep")]
    main(words := [*words, *limit])
    point = "learning_rate={}".format
    every, val, test = seen[f"{point(0.002)}-seed42"]
    assert seen == {
        **{f"{point(rate)}-rows{every // 2}-seed42": (every // 2, val, test) for rate in ("0.0005", "0.001", "0.002")},
        f"{point(0.002)}-seed42": (every, val, test),
    }
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "sweep" / f"{point(0.002)}-seed42")
    seen.clear()
    main([*words, "--no-halving", "--fresh"])
    assert {count for count, _, _ in seen.values()} == {every} and len(seen) == 3
