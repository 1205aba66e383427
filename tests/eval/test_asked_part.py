"""A run whose untuned model was asked a part of the test rows: each figure is of the rows that were answered."""

import json
import shutil

import numpy as np
import pytest

from eval.baselines import make_baselines
from eval.evaluate import evaluate
from eval.report import write_report
from eval.reporting.compare_runs import compare_runs
from eval.scoring.baseline_records import ANSWERS, LINEAR
from eval.scoring.predictions import load_predictions
from eval.scoring.responses import load_split
from eval.seeds import summary
from eval.trial_answers import Answered
from plan.run import Run
from tests.scored_runs import BINARY, ask_a_part, make_run
from workspace.errors import UserError
from workspace.files import read_json, read_jsonl, write_json, write_jsonl

COUNT, ALL = 50, 200


@pytest.fixture
def run(tmp_path):
    run = make_run(tmp_path, sizes=(120, 40, ALL))
    make_baselines(run)
    return run


@pytest.fixture
def part(run, tmp_path):
    return ask_a_part(run, tmp_path / "data" / "made_up", COUNT)


def test_every_figure_is_of_the_rows_that_were_answered(run, part, tmp_path) -> None:
    metrics = evaluate(run)
    assert metrics["test"]["n"] == ALL and metrics["test"]["asked"] == COUNT
    n = {name: reading["n"] for name, reading in metrics["readings"].items()}
    partly = {name for name in n if name.startswith("before") or name == "after_generate"}
    assert partly and n == {name: COUNT if name in partly else ALL for name in n}
    by_pair = {(one["a"], one["b"]): one["n"] for one in metrics["comparisons"]}
    assert by_pair == {pair: COUNT if partly & set(pair) else ALL for pair in by_pair}
    assert by_pair["before_generate", "after_generate"] == COUNT and by_pair["tfidf_linear", "after_score"] == ALL
    assert f"{COUNT} test reviews" in metrics["verdict"]["en"]
    assert f"{ALL} test reviews" in metrics["verdict"]["baseline"]["en"]
    weighed = metrics["decision"]["advised"]
    assert metrics["readings"][weighed]["n"] == ALL
    gold = {row["id"]: row["messages"][-1]["content"] for row in read_jsonl(tmp_path / "data/made_up/test.jsonl")}
    texts = {row["id"]: row["answer"] for row in read_jsonl(run / "after" / "test.jsonl")}
    right = sum(texts[key] == gold[key] for key in part)
    assert metrics["readings"]["after_generate"]["correct"] == right
    whole = {s["n"] for s in metrics["slices"] if s["by"] == "cut" and s["reading"] == "after_score"}
    assert sum(whole) == ALL


def test_the_part_gives_the_figures_of_a_run_of_these_rows_alone(run, tmp_path) -> None:
    """The same rows, once as a part and once as all there are."""
    whole = evaluate(run)
    dataset = tmp_path / "data" / "made_up"
    part = ask_a_part(run, dataset, COUNT)
    metrics = evaluate(run)
    for name in ("majority", "tfidf_linear", "after_score", "after_score_threshold"):  # of all rows: as they were
        assert metrics["readings"][name] == whole["readings"][name]
    test, val = (load_split(dataset, name, BINARY) for name in ("test", "val"))
    found = load_predictions(run, test, val, BINARY, {})
    assert (
        [row["id"] for row in read_jsonl(run / "before" / "test.jsonl")]
        == list(found.part.ids)
        == sorted(part, key=int)
    )
    for name, one in found.asked.items():
        assert len(one.predicted) == COUNT
        if name in found.test:
            at = [test.ids.index(key) for key in found.part.ids]
            assert one.predicted == tuple(found.test[name].predicted[place] for place in at)


def test_rows_say_nothing_of_readings_that_did_not_answer_them(run, part) -> None:
    evaluate(run)
    for row in read_jsonl(run / "rows.jsonl"):
        asked = row["id"] in part
        assert ("before_generate" in row["readings"]) == ("after_generate" in row["readings"]) == asked
        assert "after_score" in row["readings"] and (row["status"] is not None) == asked


def test_report_and_comparison_say_of_how_many_rows_each_figure_is(run, part) -> None:
    write_report(run)
    text = (run / "report.md").read_text(encoding="utf-8")
    assert f"fixed {COUNT} of the {ALL} test rows" in text and f"{ALL} 条测试评论中固定的 {COUNT} 条" in text
    page = (run / "report.html").read_text(encoding="utf-8")
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    answers = [row[5] for row in data["rows"]]
    assert sum(None in row for row in answers) == ALL - COUNT
    assert "after_score" in compare_runs([run, run]) or "打分" in compare_runs([run, run])


def test_answers_that_are_missing_are_told(run, part) -> None:
    path = run / "before" / "test.jsonl"
    rows = read_jsonl(path)
    write_jsonl(path, rows[1:])
    with pytest.raises(UserError, match=f"has {COUNT - 1} answers to {COUNT} of the {ALL} rows"):
        evaluate(run)
    write_jsonl(path, rows)
    after = read_jsonl(run / "after" / "test.jsonl")
    write_jsonl(run / "after" / "test.jsonl", [row for row in after if row is not after[1]])  # no row of the part
    with pytest.raises(UserError, match=f"has {ALL - 1} answers to the {ALL} rows"):
        evaluate(run)
    torn = [{**row, "answer": None} if row["id"] == part[3] else row for row in after]
    write_jsonl(run / "after" / "test.jsonl", torn)
    with pytest.raises(UserError, match=f"has {COUNT - 1} answers to {COUNT} of the {ALL} rows"):
        evaluate(run)


def test_a_run_of_a_seed_knows_the_part_from_its_own_texts(run, part) -> None:
    """The runs of further seeds do not ask the untuned model."""
    for path in (run / "before").iterdir():
        path.unlink()
    metrics = evaluate(run)
    assert metrics["test"]["asked"] == COUNT and metrics["readings"]["after_generate"]["n"] == COUNT
    assert read_json(run / "after" / "summary.json")["prompts"]["test_score"] == ALL - COUNT
    write_json(run / "after" / "summary.json", {"prompts": {"test": COUNT - 1, "test_score": ALL - COUNT + 1}})
    with pytest.raises(UserError, match=f"has {COUNT} answers to {COUNT - 1} of the {ALL} rows"):
        evaluate(run)


def test_figures_of_other_rows_are_not_weighed_against_each_other(run, part, tmp_path) -> None:
    """Texts that are all right on the part, whose rows the scores have right as well: 100 % of 50 rows is no more than
    95 % of 200."""
    path = run / "after" / "test.jsonl"
    rows = read_jsonl(path)
    sure = [{**row, "answer": row["gold"]} | {"probabilities": shares(row["gold"], 0.9)} for row in rows]
    write_jsonl(path, [new if new["id"] in part else old for new, old in zip(sure, rows, strict=True)])
    dataset = tmp_path / "data" / "made_up"
    ask_a_part(run, dataset, COUNT)
    metrics = evaluate(run)
    assert metrics["readings"]["after_generate"]["macro_f1"] == 1 > metrics["readings"]["after_score"]["macro_f1"]
    assert "after_generate" not in (metrics["decision"]["advised"], metrics["decision"]["weighed"])


def test_an_untuned_reading_that_is_shown_to_be_better_on_the_part_is_advised(run, part, tmp_path) -> None:
    generator = np.random.default_rng(8)
    for name, right in (("after", 0.6), ("before", 1.0)):
        path = run / name / "test.jsonl"
        rows = read_jsonl(path)
        for row in rows:
            said = row["gold"] if generator.random() < right else next(one for one in BINARY if one != row["gold"])
            row |= {"answer": said if row["answer"] else None, "probabilities": shares(said, 0.9)}
        write_jsonl(path, rows)
    path = run / ANSWERS[LINEAR] / "test.jsonl"  # the linear model has learned nothing
    linear = [row | {"probabilities": shares(BINARY[int(row["id"]) % 2], 0.6)} for row in read_jsonl(path)]
    write_jsonl(path, linear)
    metrics = evaluate(run)
    advised = metrics["decision"]["advised"]
    assert advised.startswith("before_") and metrics["verdict"]["code"] == "worse"
    assert f"{metrics['readings'][advised]['macro_f1']:.3f}" in metrics["decision"]["en"]  # its own figure


def test_an_untuned_model_that_is_as_good_on_the_part_is_not_passed_over(run, part) -> None:
    """Nothing shows that tuning brought anything: the cheaper one is advised, as on all rows."""
    for name in ("before", "after"):
        path = run / name / "test.jsonl"
        rows = [row | {"probabilities": shares(row["gold"], 0.9)} for row in read_jsonl(path)]
        write_jsonl(path, [row | {"answer": row["gold"] if row["answer"] else None} for row in rows])
    path = run / ANSWERS[LINEAR] / "test.jsonl"
    write_jsonl(path, [row | {"probabilities": shares(BINARY[int(row["id"]) % 2], 0.6)} for row in read_jsonl(path)])
    metrics = evaluate(run)
    assert metrics["decision"]["advised"].startswith("before_")


def test_a_part_is_above_guessing_where_nothing_else_is(run, part) -> None:
    path = run / "after" / "test.jsonl"
    guesses = np.random.default_rng(3).integers(0, 2, ALL)
    rows = [
        row | {"probabilities": shares(BINARY[code], 0.9)} for code, row in zip(guesses, read_jsonl(path), strict=True)
    ]
    write_jsonl(
        path,
        [
            row | {"answer": max(row["probabilities"], key=row["probabilities"].get) if row["answer"] else None}
            for row in rows
        ],
    )
    path = run / ANSWERS[LINEAR] / "test.jsonl"
    write_jsonl(
        path,
        [
            row | {"probabilities": shares(BINARY[code], 0.6)}
            for code, row in zip(guesses, read_jsonl(path), strict=True)
        ],
    )
    path = run / "before" / "test.jsonl"
    write_jsonl(
        path, [row | {"answer": row["gold"], "probabilities": shares(row["gold"], 0.9)} for row in read_jsonl(path)]
    )
    metrics = evaluate(run)
    assert metrics["decision"]["advised"].startswith("before_"), metrics["decision"]


def test_stages_of_two_versions_are_read_together(run, tmp_path) -> None:
    """Before tuning all rows were asked, by the version before; after it texts are of a part."""
    dataset = tmp_path / "data" / "made_up"
    kept = {name: read_jsonl(run / "before" / f"{name}.jsonl") for name in ("test", "few_shot")}
    ask_a_part(run, dataset, COUNT)
    for name, rows in kept.items():
        write_jsonl(run / "before" / f"{name}.jsonl", rows)
    for said in ({"prompts": {"test": ALL, "few_shot": ALL}}, None):
        path = run / "before" / "summary.json"
        write_json(path, said) if said else path.unlink()
        n = {name: one["n"] for name, one in evaluate(run)["readings"].items()}
        assert n["before_generate"] == n["after_generate"] == n["before_few_shot"] == COUNT and n["after_score"] == ALL


def test_answers_before_tuning_alone_say_what_is_missing(run, part) -> None:
    for path in [*(run / "after").iterdir(), run / "baselines.json"]:
        path.unlink()
    with pytest.raises(UserError, match=r"a part of the test rows alone: run `python -m eval\.baselines"):
        evaluate(run)


@pytest.mark.parametrize("head", [False, True], ids=["words", "head"])
def test_seeds_are_held_against_the_untuned_model_on_the_rows_that_it_was_asked(run, part, tmp_path, head) -> None:
    answered = []
    for seed in (42, 43, 44):
        folder = tmp_path / "runs" / f"seed {seed}"
        shutil.copytree(run, folder)
        if seed > 42:
            shutil.rmtree(folder / "before")
        if head:
            path = folder / "after" / "test.jsonl"
            write_jsonl(path, [row | {"answer": None} for row in read_jsonl(path)])
            write_json(folder / "after" / "summary.json", {"prompts": {"test": ALL}})
        one = Run.read(folder)
        test, val = (load_split(one.dataset, name, BINARY) for name in ("test", "val"))
        answered.append(Answered(one, test, load_predictions(folder, test, val, BINARY, {})))
    found = summary(answered, (42, 43, 44), "macro_f1", 0.01)
    against = {one["a"]: one for one in found["comparisons"]}
    before = next(one for name, one in against.items() if name.startswith("before"))
    assert before["n"] == COUNT and before["code"] == "better" and before["of_b"] > 0.85
    assert against["tfidf_linear"]["n"] == ALL


def shares(label: str, probability: float) -> dict[str, float]:
    return {one: probability if one == label else 1 - probability for one in BINARY}
