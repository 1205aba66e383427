import pytest

from eval.scoring.curves import TrainPoint, ValPoint, load_curves
from workspace.files import write_json


def state(step, log):
    return {"global_step": step, "max_steps": 10, "log_history": log}


def checkpoint(train, step, log):
    write_json(train / f"checkpoint-{step}" / "trainer_state.json", state(step, log))


def test_curves_of_the_newest_checkpoint(tmp_path):
    log = [
        {"step": 5, "epoch": 0.5, "loss": 1.5, "learning_rate": 1e-4, "token_acc": 0.5},
        {"step": 10, "epoch": 1.0, "eval_loss": 0.4, "eval_token_acc": 0.9, "eval_seq_acc": 0.8},
        {"step": 10, "epoch": 1.0, "eval_label_accuracy": 0.85, "eval_label_macro_f1": 0.84},
        {"step": 10, "train_runtime": 3.0, "train_loss": 1.0},
    ]
    checkpoint(tmp_path, 9, [])
    checkpoint(tmp_path, 10, log)
    write_json(tmp_path / "best.json", {"step": 10, "path": "checkpoint-10"})
    got = load_curves(tmp_path)
    assert got.train == [TrainPoint(5, 0.5, 1.5)]
    assert got.val == [ValPoint(10, 1.0, 0.4, 0.8, 0.85, 0.84)]
    assert (got.teacher_forced_metric, got.best_step) == ("eval_seq_acc", 10)


def test_evaluated_twice_at_the_last_step_is_one_point(tmp_path):
    entry = {"step": 10, "epoch": 1.0, "eval_loss": 0.4, "eval_token_acc": 0.9}
    checkpoint(tmp_path, 10, [entry, entry])
    got = load_curves(tmp_path)
    assert got.val == [ValPoint(10, 1.0, 0.4, 0.9, None, None)]
    assert (got.teacher_forced_metric, got.best_step) == ("eval_token_acc", None)


def test_a_diverged_loss_is_undefined_and_a_torn_file_passed_over(tmp_path):
    checkpoint(tmp_path, 5, [])
    path = tmp_path / "checkpoint-5" / "trainer_state.json"
    path.write_text('{"global_step": 5, "max_steps": 10, "log_history": [{"step": 5, "epoch": 1, "loss": NaN}]}')
    (tmp_path / "checkpoint-6").mkdir()
    (tmp_path / "checkpoint-6" / "trainer_state.json").write_text('{"global_step": 6, "log_h')
    assert load_curves(tmp_path).train == [TrainPoint(5, 1.0, None)]


@pytest.mark.parametrize("exists", [True, False])
def test_nothing_trained(tmp_path, exists):
    assert load_curves(tmp_path if exists else tmp_path / "nowhere") is None
