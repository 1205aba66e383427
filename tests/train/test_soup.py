"""The average of runs' adapters as a run of its own: what it is, and which runs are refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from eval.baselines import make_baselines
from eval.evaluate import evaluate
from eval.scoring.predictions import load_predictions
from eval.scoring.responses import load_split
from eval.soup import against_best, on_validation
from eval.trial_answers import Answered
from plan.run import Run
from tests.serve.small_run import answer, small_run
from train.checkpoints import ADAPTER_CONFIG, ADAPTER_WEIGHTS, best_checkpoint
from train.soup import make_soup
from workspace import stages
from workspace.errors import UserError
from workspace.files import read_json

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run(tmp_path_factory.mktemp("soup"))


@pytest.fixture
def runs(finished: Path, tmp_path: Path) -> list[Path]:
    return [Path(shutil.copytree(finished, tmp_path / name)) for name in ("one", "other")]


def weights_of(run: Path) -> dict:
    from safetensors.torch import load_file

    return load_file(best_checkpoint(run) / ADAPTER_WEIGHTS)


def test_the_average_of_equal_adapters_is_the_adapter(runs: list[Path], tmp_path: Path) -> None:
    make_soup(tmp_path / "soup", runs)
    one, soup = weights_of(runs[0]), weights_of(tmp_path / "soup")
    assert soup.keys() == one.keys() and len(one) > 0
    assert all(soup[name].equal(one[name]) and soup[name].dtype == one[name].dtype for name in one)


def test_each_tensor_is_the_mean_and_what_is_made_already_is_left_alone(runs: list[Path], tmp_path: Path) -> None:
    from safetensors.torch import save_file

    one = weights_of(runs[0])
    save_file({name: tensor * 3 for name, tensor in one.items()}, best_checkpoint(runs[1]) / ADAPTER_WEIGHTS)
    made = tmp_path / "soup"
    make_soup(made, runs)
    assert all(tensor.allclose(one[name] * 2) for name, tensor in weights_of(made).items())
    file = best_checkpoint(made) / ADAPTER_WEIGHTS
    before = file.stat().st_mtime_ns
    make_soup(made, runs)
    assert file.stat().st_mtime_ns == before
    save_file(one, best_checkpoint(runs[1]) / ADAPTER_WEIGHTS)
    make_soup(made, runs)
    assert all(tensor.equal(one[name]) for name, tensor in weights_of(made).items())


def test_what_the_runs_were_tuned_on_and_how_long_is_kept(runs: list[Path], tmp_path: Path) -> None:
    for run in runs:
        stages.record(run, "train", {"train.jsonl": "ab"}, [], 30.0)
    make_soup(tmp_path / "soup", runs)
    record = stages.read_record(tmp_path / "soup", "train")
    assert record is not None and record.inputs["train.jsonl"] == "ab" and len(record.inputs["soup"]) == 2
    assert 60 <= record.seconds < 120


def with_seed(run: Path) -> None:
    path = run / "sft.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"seed": 43}))


def with_base(run: Path) -> None:
    path = run / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_fingerprint": "another"}))


def with_rank(run: Path) -> None:
    path = best_checkpoint(run) / ADAPTER_CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | {"r": 8}))


def without_a_layer(run: Path) -> None:
    from safetensors.torch import save_file

    kept = dict(list(weights_of(run).items())[2:])
    save_file(kept, best_checkpoint(run) / ADAPTER_WEIGHTS)


def of_whole_weights(run: Path) -> None:
    made = best_checkpoint(run)
    (made / ADAPTER_WEIGHTS).rename(made / "model.safetensors")
    shutil.copy(made / ADAPTER_CONFIG, made / "config.json")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (with_seed, "differs in seed \\(43 and 42\\), so the adapters did not begin as the same one"),
        (with_base, "differs in model_fingerprint"),
        (with_rank, "differs in r \\(8 and 4\\)"),
        (without_a_layer, "differs in its layers"),
        (of_whole_weights, "holds no adapter"),
    ],
)
def test_adapters_that_do_not_fit_together_are_refused(
    change: Callable[[Path], None], said: str, runs: list[Path], tmp_path: Path
) -> None:
    change(runs[1])
    with pytest.raises(UserError, match=said) as caught:
        make_soup(tmp_path / "soup", runs)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "soup").rglob(ADAPTER_WEIGHTS))


def test_a_soup_answers_and_is_reported_as_any_run(finished: Path, runs: list[Path], tmp_path: Path) -> None:
    made = tmp_path / "soup"
    make_soup(made, runs)
    answer(made, finished.parents[1] / "model", best_checkpoint(made), head=False)
    make_baselines(made)
    evaluate(made)
    soup, first = answered_of(made), answered_of(runs[0])
    probabilities = soup.readings["after_score"].probabilities
    assert probabilities == pytest.approx(first.readings["after_score"].probabilities, abs=1e-4)
    assert on_validation(soup.run, "macro_f1") == on_validation(first.run, "macro_f1")
    found = against_best([first, first], soup, (0.7, 0.7), "macro_f1", 0.01)
    assert found["best"] == 0 and found["comparisons"][0]["value"] == 0  # of equal adapters
    assert read_json(made / "metrics.json")["readings"].keys() >= {"tfidf_linear", "after_score"}


def answered_of(folder: Path) -> Answered:
    run = Run.read(folder)
    test, val = (load_split(run.dataset, name, run.labels) for name in ("test", "val"))
    return Answered(run, test, load_predictions(folder, test, val, run.labels, {}))
