import json
import shutil
import zipfile

import pytest

from eval.evaluate import evaluate
from eval.export import main
from tests.scored_runs import make_run
from workspace.errors import UserError
from workspace.files import read_jsonl, write_json, write_jsonl


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A scored run whose first untuned answer was cut off."""
    run = make_run(tmp_path_factory.mktemp("scored"))
    rows = read_jsonl(run / "before" / "test.jsonl")
    rows = [{**row, "finish_reason": "stop", "label_mass": 0.25} for row in rows]
    rows[0] |= {"answer": "这要看", "finish_reason": "length"}
    write_jsonl(run / "before" / "test.jsonl", rows)
    evaluate(run)
    return run


@pytest.fixture
def run(scored, tmp_path):
    return shutil.copytree(scored, tmp_path / "small")


def members(path):
    with zipfile.ZipFile(path) as log:
        return {name: json.loads(log.read(name)) for name in log.namelist()}


def test_each_row_has_prompt_answer_and_every_reading(run, scored, capsys):
    assert main([str(run)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    log = members(run / "inspect" / "before.eval")
    rows = read_jsonl(run / "rows.jsonl")
    dataset = {row["id"]: row for row in read_jsonl(scored.parents[1] / "data" / "made_up" / "test.jsonl")}
    samples = [log[f"samples/{row['id']}_epoch_1.json"] for row in rows]
    assert len(log) == len(samples) + 2 == len(log["summaries.json"]) + 2
    for row, sample in zip(rows, samples, strict=True):
        assert sample["input"] == dataset[row["id"]]["messages"][:-1]
        assert sample["target"] == row["gold"]
        assert sample["output"]["completion"] == row["readings"]["before_generate"]["answer"]
        assert sample["metadata"]["label_mass"] == 0.25
        assert sum(sample["metadata"]["probabilities"].values()) == pytest.approx(1)
        for name, score in sample["scores"].items():
            told = row["readings"][name]
            assert score["answer"] == told["label"]
            assert score["value"] == ("N" if told["label"] is None else "C" if told["correct"] else "I")
            if shares := score["metadata"].get("probabilities"):
                assert shares[told["label"]] == pytest.approx(told["p"], abs=1e-4)
    first = samples[0]
    assert first["output"]["choices"][0]["stop_reason"] == "max_tokens"
    assert (first["metadata"]["finish_reason"], first["scores"]["before_generate"]["value"]) == ("length", "N")


def test_figures_and_few_shot_prompts_are_in_the_logs(run):
    main([str(run)])
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    header = members(run / "inspect" / "after.eval")["header.json"]
    scores = {one["name"]: one["metrics"] for one in header["results"]["scores"]}
    assert list(scores) == [name for name in metrics["readings"] if name.startswith("after_") or name == "stack"]
    assert all(found["accuracy"]["value"] == metrics["readings"][name]["accuracy"] for name, found in scores.items())
    assert header["eval"]["metadata"]["verdict"] == metrics["verdict"]["en"]
    few_shot = members(run / "inspect" / "before_few_shot.eval")
    sample = next(one for name, one in few_shot.items() if name.startswith("samples/"))
    assert [turn["role"] for turn in sample["input"]].count("assistant") == 4
    assert sample["output"]["choices"] == []


def test_the_same_run_gives_the_same_bytes(run):
    main([str(run)])
    before = (run / "inspect" / "before.eval").read_bytes()
    main([str(run)])
    assert (run / "inspect" / "before.eval").read_bytes() == before


def test_answers_that_were_not_scored_are_not_exported(run):
    (run / "metrics.json").rename(run / "kept.json")
    with pytest.raises(UserError, match=r"not scored yet: run `python -m eval.report .*` first"):
        main([str(run)])
    (run / "kept.json").rename(run / "metrics.json")
    for file in ("test", "val"):
        write_jsonl(run / "after" / f"{file}.jsonl", read_jsonl(run / "before" / f"{file}.jsonl"))
    with pytest.raises(UserError, match="of other answers than the run has now"):
        main([str(run)])


def test_a_prompt_that_was_not_asked_is_not_shown_with_an_answer(run, monkeypatch):
    monkeypatch.setattr("eval.export.check_responses_are_current", lambda run: None)  # which asks for a whole plan
    write_json(run / "before" / "summary.json", {"inputs": {"prompts": "ab" * 32}})
    with pytest.raises(UserError, match="to other prompts than this version asks"):
        main([str(run)])
