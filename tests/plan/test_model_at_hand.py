"""Where a model cannot be had, the sentence names what can: the demo's own, on the same task."""

from pathlib import Path

import pytest

from hub.find import ModelUnavailable
from plan.options import parse_options
from plan.planning import make_plan
from plan.recipes import load_recipe


def test_the_demos_model_is_named_for_the_task_and_is_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> Path:
        raise ModelUnavailable(f"{name} cannot be had")

    monkeypatch.setattr("plan.planning.find_model", none)
    with pytest.raises(ModelUnavailable, match=r"run_sft\.sh hotel_reviews/minimind2-small"):
        make_plan(parse_options(["hotel_reviews", "--run", str(tmp_path / "run")]), [])
    assert load_recipe("hotel_reviews/minimind2-small").is_demo_model
    with pytest.raises(ModelUnavailable, match=r"^a/b cannot be had$"):
        make_plan(parse_options(["hotel_reviews", "--model", "a/b", "--run", str(tmp_path / "run")]), [])
