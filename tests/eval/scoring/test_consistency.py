from eval.scoring.consistency import consistency_checks
from workspace.files import write_json


def summary(same=6, ok=True, no_turn=True, prompts=None):
    return {
        "parity": {"rows": 6, "same_text": same, "largest_logprob_difference": 0.002, "ok": ok},
        "no_assistant_turn": no_turn,
        "prompts": {"test": 10, "val": 5},
        "val_prompt_sha256": prompts or {"1": "aa", "2": "bb"},
    }


def gates(run):
    return {gate.name: gate for gate in consistency_checks(run, ("1", "2"))}


def test_all_pass(tmp_path):
    write_json(tmp_path / "before" / "summary.json", summary())
    write_json(tmp_path / "after" / "summary.json", summary())
    write_json(tmp_path / "train" / "label_metric.json", {"val_prompt_sha256": ["aa", "bb"]})
    got = gates(tmp_path)
    assert [*got] == ["batch_before", "batch_after", "no_assistant_turn_before", "no_assistant_turn_after", "prompt"]
    assert all(gate.ok for gate in got.values())
    assert [gate.n for gate in got.values()] == [6, 6, 15, 15, 2]
    assert "training" in got["prompt"].detail.en


def test_each_failure_is_shown(tmp_path):
    write_json(tmp_path / "before" / "summary.json", summary(same=5, ok=False, no_turn=False))
    write_json(tmp_path / "after" / "summary.json", summary(prompts={"1": "aa", "2": "cc"}))
    got = gates(tmp_path)
    assert {name: gate.ok for name, gate in got.items()} == {
        "batch_before": False,
        "batch_after": True,
        "no_assistant_turn_before": False,
        "no_assistant_turn_after": True,
        "prompt": False,
    }
    assert "5 of 6 texts" in got["batch_before"].detail.en and "5 条文本相同" in got["batch_before"].detail.zh
    assert "some of the 15 prompts" in got["no_assistant_turn_before"].detail.en
    assert "1 have the same tokens" in got["prompt"].detail.en


def test_prompts_differ_between_training_and_evaluation(tmp_path):
    write_json(tmp_path / "after" / "summary.json", summary())
    write_json(tmp_path / "train" / "label_metric.json", {"val_prompt_sha256": ["xx", "bb"]})
    assert not gates(tmp_path)["prompt"].ok


def test_a_row_that_training_dropped_fails_the_gate(tmp_path):
    write_json(tmp_path / "after" / "summary.json", summary())
    write_json(tmp_path / "train" / "label_metric.json", {"val_prompt_sha256": ["aa"]})
    got = gates(tmp_path)["prompt"]
    assert (got.ok, got.n) == (False, 2)


def test_nothing_in_common_is_no_pass_and_nothing_there_no_gate(tmp_path):
    assert consistency_checks(tmp_path, ()) == []
    write_json(tmp_path / "before" / "summary.json", summary(prompts={"1": "aa"}))
    write_json(tmp_path / "after" / "summary.json", summary(prompts={"2": "aa"}))
    assert not gates(tmp_path)["prompt"].ok
