import pytest

from plan.memory import as_options, found_before, less_memory, remember

BATCH, ACCUMULATION = "per_device_train_batch_size", "gradient_accumulation_steps"


@pytest.mark.parametrize(
    ("batch", "accumulation", "less"),
    [(8, 1, (4, 2)), ("4", "2", (2, 4)), (2, 8, (1, 16))],
)
def test_half_the_batch_keeps_the_effective_one(batch, accumulation, less) -> None:
    values = less_memory({BATCH: batch, ACCUMULATION: accumulation, "per_device_eval_batch_size": 8})
    assert (values[BATCH], values[ACCUMULATION], values["per_device_eval_batch_size"]) == (*less, 4)


def test_at_one_row_activations_are_computed_again_and_then_nothing_is_left() -> None:
    values = {BATCH: 1, ACCUMULATION: 8, "gradient_checkpointing": False}
    assert less_memory(values) == {"gradient_checkpointing": True}
    assert as_options(less_memory(values)) == "--gradient_checkpointing true"
    assert less_memory(values | less_memory(values)) is None


def test_validation_takes_one_row_before_memory_is_given_up() -> None:
    """Eight cards train one row each and validate 64: it was told to take a smaller model."""
    values = {BATCH: 1, ACCUMULATION: 1, "per_device_eval_batch_size": "64", "gradient_checkpointing": False}
    assert less_memory(values) == {"per_device_eval_batch_size": 1}
    assert less_memory(values | less_memory(values)) == {"gradient_checkpointing": True}
    assert less_memory(values | {"eval_strategy": "no"}) == {"gradient_checkpointing": True}


def test_what_fitted_is_remembered(tmp_path) -> None:
    assert found_before(tmp_path) == {}
    remember(tmp_path, {BATCH: 4, ACCUMULATION: 2})
    remember(tmp_path, {BATCH: 2, ACCUMULATION: 4})
    assert found_before(tmp_path) == {BATCH: 2, ACCUMULATION: 4}
