from dataclasses import replace

from eval.scoring.ledger import Look, Looks, record_look
from workspace.files import read_jsonl

LOOK = Look("runs/a/b", "c0", "model", None, 80, 0.9, "rows", "answers")


def test_each_look_once_and_counted_by_rows_and_task(tmp_path):
    ledger = tmp_path / "sub" / "task.looks.jsonl"
    assert record_look(ledger, LOOK) == Looks(1, 1)
    assert record_look(ledger, LOOK) == Looks(1, 1)
    assert record_look(ledger, replace(LOOK, answers_sha256="others")) == Looks(2, 2)
    assert record_look(ledger, replace(LOOK, run="runs/a/c")) == Looks(3, 3)
    assert record_look(ledger, replace(LOOK, rows_sha256="smaller", answers_sha256="x")) == Looks(1, 4)
    lines = read_jsonl(ledger)
    assert [line["run"] for line in lines] == ["runs/a/b", "runs/a/b", "runs/a/c", "runs/a/b"]
    assert {"time", "config_sha256", "model", "adapter_sha256", "n", "accuracy"} <= lines[0].keys()


def test_a_line_cut_short_by_a_crash_stays_a_look_and_spoils_none(tmp_path):
    ledger = tmp_path / "task.looks.jsonl"
    record_look(ledger, LOOK)
    whole = ledger.read_bytes()
    for end in range(1, len(whole) - 1):
        ledger.write_bytes(whole + whole[:end])
        assert record_look(ledger, replace(LOOK, answers_sha256="new")) == Looks(2, 3)
        assert record_look(ledger, replace(LOOK, answers_sha256="new")) == Looks(2, 3)
