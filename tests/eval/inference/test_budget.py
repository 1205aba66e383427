"""How many test rows are asked in more than one way: within a quarter of the run, and the same ones each time."""

import pytest

from data_prep.rows import DatasetRow, read_rows
from eval.inference.budget import (
    FEWEST,
    FEWEST_ASKED,
    ROW_COST,
    SHARE,
    VARIANTS_COST,
    budget,
    part_of,
)
from eval.inference.prompts import make_prompts
from tests.scored_runs import make_dataset


def passes(epochs: float, train: int, val: int, test: int) -> float:
    return 3 * epochs * train + val + test


def test_a_long_run_asks_all_rows_in_every_way() -> None:
    asked, variants = budget(3, 5590, 622, 1553)
    assert asked == 1553 and variants >= FEWEST
    assert budget(3, 50_000, 776, 776) == (776, 776)


@pytest.mark.parametrize("rows", [(3, 240, 80, 960), (2, 400, 100, 1600), (3, 800, 200, 1553), (3, 300, 60, 2943)])
def test_a_short_run_asks_a_part_that_costs_a_quarter_and_some_rows_in_other_prompts(rows) -> None:
    asked, variants = budget(*rows)
    assert FEWEST_ASKED <= asked < rows[-1] and FEWEST <= variants <= asked
    cost = asked * ROW_COST + variants * VARIANTS_COST
    assert cost <= SHARE * passes(*rows) < cost + ROW_COST + VARIANTS_COST


def test_a_run_of_seconds_asks_few_rows_and_no_variants() -> None:
    assert budget(1, 48, 12, 96) == (FEWEST_ASKED, 0)
    assert budget(1, 48, 6, 12) == (12, 0)
    assert budget(1, 48, 6, 0) == (0, 0)


def test_the_part_is_the_same_each_time_and_a_larger_one_holds_it() -> None:
    rows = made_rows(["a"] * 90 + ["b"] * 10)
    few, more = part_of(rows, 20), part_of(rows[::-1], 40)
    assert len(few) == 20 and few < more and part_of(rows, 20) == few
    assert sum(int(key) >= 90 for key in few) == 2  # the classes in their shares


def test_every_class_is_asked_however_many_there_are_and_however_rare() -> None:
    labels = [f"label {number // 4}" for number in range(800)]
    asked, _ = budget(1, 400, 100, 800, labels=200)
    assert asked >= 400
    part = part_of(made_rows(labels), asked)
    assert {int(key) // 4 for key in part} == set(range(200))
    rare = part_of(made_rows(["a"] * 99 + ["b"]), FEWEST_ASKED)
    assert "99" in rare


def made_rows(labels: list[str]) -> list[DatasetRow]:
    turns = ({"role": "user", "content": "?"}, {"role": "assistant", "content": ""})
    return [
        DatasetRow([turns[0], turns[1] | {"content": label}], str(at), "?", False) for at, label in enumerate(labels)
    ]


def test_the_untuned_model_is_asked_the_part_and_the_tuned_one_scores_the_rest(tmp_path) -> None:
    dataset = make_dataset(tmp_path / "data")
    every = [one for one in make_prompts(dataset, before=False, seed=42) if one.purpose == "test"]
    part = part_of(read_rows(dataset / "test.jsonl"), 30)
    before = make_prompts(dataset, before=True, seed=42, part=part)
    for purpose in ("test", "few_shot"):
        assert {one.id for one in before if one.purpose == purpose} == part
    after = make_prompts(dataset, before=False, seed=42, part=part)
    tests = [one for one in after if one.purpose == "test"]
    assert {one.id for one in tests} == {one.id for one in every} and len(tests) == len(every)
    assert {one.id for one in tests if one.mode == "generate"} == part
    assert {one.mode for one in tests if one.id not in part} == {"score"}
    assert {one.id for one in after if one.purpose == "parity"} <= part
    chats = {one.id: (one.key, one.chat_sha256) for one in every}
    assert all(chats[one.id] == (one.key, one.chat_sha256) for one in tests)  # the prompt itself is the same
