import csv
import json
import subprocess
import sys
from dataclasses import replace

import jsonschema
import pytest

from eval.baselines import make_baselines
from eval.evaluate import SCHEMA_VERSION, evaluate, main
from eval.label_audit import COLUMNS
from eval.scoring.baseline_records import EMBEDDING, ENCODER
from eval.scoring.metrics import classify
from eval.scoring.predictions import LADDER
from eval.scoring.responses import load_split
from eval.scoring.slices import AUDIT, load_label_issues
from tests.scored_runs import answer, make_dataset, make_plan, make_run
from workspace import stages
from workspace.errors import UserError
from workspace.files import read_json, read_jsonl, write_json, write_jsonl
from workspace.paths import ROOT

SCHEMA = read_json(ROOT / "eval" / "metrics.schema.json")


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A run with every reading, scored."""
    run = make_run(tmp_path_factory.mktemp("full"), sizes=(120, 70, 80))
    make_baselines(run)
    state = {"global_step": 30, "max_steps": 30, "log_history": [{"step": 10, "epoch": 1.0, "loss": 0.7}]}
    write_json(run / "train" / "checkpoint-30" / "trainer_state.json", state)
    write_json(run / "before" / "summary.json", summary(generate=61.5))
    write_json(run / "after" / "summary.json", summary(generate=62.5, adapter_sha256="ad" * 32))
    stages.record(run, "train", {}, [], 12.5)
    return run, evaluate(run)


def summary(generate: float, **more):
    return {
        "ms_per_review": {"generate": generate, "score": 40.0, "few_shot": None},
        "parity": {"rows": 6, "same_text": 6, "largest_logprob_difference": 1e-6, "ok": True},
        "no_assistant_turn": True,
        "prompts": {"test": 80, "val": 40},
        "val_prompt_sha256": {"121": "aa"},
        **more,
    }


def check_schema(metrics):
    jsonschema.Draft202012Validator(SCHEMA).validate(metrics)


def test_the_schema_is_one_and_describes_every_key():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$id"] == f"urn:swift-sft:metrics:{SCHEMA_VERSION}"
    assert SCHEMA["properties"]["schema_version"]["const"] == SCHEMA_VERSION

    def walk(node, path):
        for key, child in node.get("properties", {}).items():
            assert "description" in child or "$ref" in child or "const" in child, f"{path}.{key} is not described"
            walk(child, f"{path}.{key}")
        for child in (node.get("items"), node.get("additionalProperties"), *node.get("$defs", {}).values()):
            if isinstance(child, dict):
                walk(child, path)

    walk(SCHEMA, "")


def test_everything_is_there_and_obeys_the_schema(full):
    run, metrics = full
    check_schema(metrics)
    assert metrics == read_json(run / "metrics.json")
    by_hand = (EMBEDDING, ENCODER)
    assert tuple(metrics["readings"]) == tuple(name for name in LADDER if name not in by_hand)
    assert {r["n"] for r in metrics["readings"].values()} == {80}
    assert metrics["verdict"]["code"] == "better"
    assert metrics["verdict"]["baseline"] is not None
    assert metrics["curves"]["train"] == [{"step": 10, "epoch": 1.0, "loss": 0.7}]
    scored = {"tfidf_linear", "before_score", "before_score_calibrated", "after_score", "stack"}
    assert set(metrics["selective"]["readings"]) == scored
    assert (metrics["selective"]["rows"], metrics["selective"]["rows_needed"]) == (70, 59)  # validation rows choose
    chosen = {name for name, one in metrics["selective"]["readings"].items() if one["chosen"]}
    assert chosen == {"tfidf_linear", "stack"}  # the others have one of their 59 surest rows wrong
    assert metrics["costs"] is metrics["ceiling"] is None and metrics["prevalence"]["reading"] == "after_generate"
    assert metrics["run"]["seconds"] == {"before": None, "train": 12.5, "after": None}
    assert metrics["run"]["versions"] == {"torch": "2.13.0", "python": "3.11.9"}
    assert [gate["ok"] for gate in metrics["parity"]] == [True] * 5
    for metric in ("accuracy", "macro_f1"):
        parts = {key: part["difference"] for key, part in metrics["gain"]["metrics"][metric].items()}
        assert sum(parts.values()) == pytest.approx(2 * parts["total"])
        readings = metrics["readings"]
        assert parts["total"] == pytest.approx(readings["after_generate"][metric] - readings["before_generate"][metric])


def test_each_reading_has_its_efficiency(full):
    readings = full[1]["readings"]
    assert readings["before_generate"]["ms_per_review"] == 61.5
    assert readings["after_score"]["ms_per_review"] == readings["after_score_threshold"]["ms_per_review"] == 40
    assert readings["after_generate"]["train_seconds"] == 12.5
    assert readings["before_generate"]["train_seconds"] is None
    assert readings["before_few_shot"]["ms_per_review"] is None
    assert readings["tfidf_linear"]["parameters"] == read_json(full[0] / "baselines.json")["tfidf_linear"]["parameters"]


def test_figures_agree_with_the_rows(full):
    run, metrics = full
    rows = read_jsonl(run / "rows.jsonl")
    gold = [row["gold"] for row in rows]
    for name, reading in metrics["readings"].items():
        told = [row["readings"][name] for row in rows]
        expected = classify(gold, [t["label"] for t in told], metrics["labels"])
        assert reading["correct"] == expected.correct == sum(t["correct"] for t in told)
        assert reading["macro_f1"] == pytest.approx(expected.macro_f1)
        assert sum(map(sum, reading["confusion"]["counts"])) == 80
        assert (reading["strict"] is None) == (reading["kind"] != "generate")
        assert all((t["answer"] is not None) == (reading["kind"] == "generate") for t in told)
    main_pair = next(c for c in metrics["comparisons"] if c["a"] == "before_generate" and c["b"] == "after_generate")
    status = [row["status"] for row in rows]
    assert (status.count("fixed"), status.count("broken")) == (main_pair["fixed"], main_pair["broken"])
    for by in ("length", "label", "cut"):
        parts = [s for s in metrics["slices"] if s["by"] == by and s["reading"] == "after_generate"]
        assert sum(s["n"] for s in parts) == 80
        right = sum(s["n"] * s["accuracy"] for s in parts)
        assert right == pytest.approx(metrics["readings"]["after_generate"]["correct"])


def test_known_rows_are_told_apart_where_the_manifest_has_any(tmp_path, full):
    assert "known" not in {part["by"] for part in full[1]["slices"]}
    run = make_run(tmp_path)
    manifest = tmp_path / "data" / "made_up" / "manifest.json"
    ids = [row["id"] for row in read_jsonl(manifest.parent / "test.jsonl")[:30]]
    texts = {"path": "known.csv", "sha256": "0" * 64, "texts": 30, "exact": 30, "near": 0, "test": {"total": 30}}
    write_json(manifest, read_json(manifest) | {"known_public": texts | {"ids": ids}})
    metrics = evaluate(run)
    check_schema(metrics)
    parts = {s["value"]: s for s in metrics["slices"] if s["by"] == "known" and s["reading"] == "after_generate"}
    assert (parts["known"]["n"], parts["unknown"]["n"]) == (30, 50)
    rows = read_jsonl(run / "rows.jsonl")
    right = [row["readings"]["after_generate"]["correct"] for row in rows if row["id"] in ids]
    assert parts["known"]["accuracy"] == sum(right) / 30


def test_disputed_rows_are_told_apart_after_an_audit_of_the_test_rows(tmp_path, full, capsys):
    assert full[1]["disputed"] is None
    run = make_run(tmp_path)
    dataset = tmp_path / "data" / "made_up"
    split = load_split(dataset, "test", ("正面", "负面"))
    with open(dataset / AUDIT, "w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, restval="")
        writer.writeheader()
        for at in range(10):
            issue = "probable" if at < 7 else "possible"
            writer.writerow({"row": split.ids[at], "given": split.gold[at], "issue": issue, "judge": "linear"})
    metrics = evaluate(run)
    check_schema(metrics)
    parts = {s["value"]: s for s in metrics["slices"] if s["by"] == "disputed" and s["reading"] == "after_generate"}
    assert metrics["disputed"] == {"n": 7, "judge": "linear"}
    assert (metrics["ceiling"]["disputed"], metrics["ceiling"]["accuracy"]) == (7, 73 / 80)
    assert (parts["disputed"]["n"], parts["undisputed"]["n"]) == (7, 73)
    right = [row["readings"]["after_generate"]["correct"] for row in read_jsonl(run / "rows.jsonl")]
    assert parts["undisputed"]["accuracy"] == sum(right[7:]) / 73
    for name in ("before_generate", "after_generate"):  # the whole stays what it was
        assert metrics["readings"][name]["accuracy"] == full[1]["readings"][name]["accuracy"]
    capsys.readouterr()
    assert load_label_issues(dataset, replace(split, gold=split.gold[::-1])) is None
    assert "is of other rows" in capsys.readouterr().out


def test_unparsed_answers_are_wrong_and_counted(full):
    reading = full[1]["readings"]["before_generate"]
    assert 0 < reading["unparsed"] < 80
    assert reading["unparsed"] == sum(row[-1] for row in reading["confusion"]["counts"])
    assert full[1]["readings"]["before_score"]["unparsed"] == 0


def test_answers_that_were_cut_off_are_counted_where_why_they_ended_is_known(tmp_path):
    run = make_run(tmp_path)
    path = run / "before" / "test.jsonl"
    rows = read_jsonl(path)
    first = evaluate(run)
    assert first["readings"]["before_generate"]["cut_off"] is None  # an earlier version's answers
    for at, row in enumerate(rows):
        row |= {"answer": f"这条评论说的是第{at}件", "finish_reason": "length" if at < 7 else "stop"}
    rows[0]["answer"] = rows[0]["gold"]
    write_jsonl(path, rows)
    metrics = evaluate(run)
    check_schema(metrics)
    assert metrics["readings"]["before_generate"]["cut_off"] == {"answers": 7, "unparsed": 6}
    assert metrics["readings"]["before_score"]["cut_off"] is None
    told = [row["readings"]["before_generate"]["finish_reason"] for row in read_jsonl(run / "rows.jsonl")]
    assert told.count("length") == 7 and told.count("stop") == len(rows) - 7


def test_scoring_again_gives_the_same_bytes_and_is_no_new_look(full):
    run, metrics = full
    before = (run / "metrics.json").read_bytes()
    assert evaluate(run) == metrics
    assert (run / "metrics.json").read_bytes() == before
    assert metrics["test"]["looks"] == 1


def test_new_answers_are_a_new_look(tmp_path):
    run = make_run(tmp_path)
    assert evaluate(run)["test"]["looks"] == 1
    answer(run, tmp_path / "data" / "made_up", "after/test.jsonl", right=0.9, seed=9)
    assert evaluate(run)["test"]["looks"] == 2
    looks = read_jsonl(tmp_path / "data" / "made_up.looks.jsonl")
    assert [look["n"] for look in looks] == [80, 80]
    assert looks[0]["answers_sha256"] != looks[1]["answers_sha256"]


@pytest.mark.parametrize("sizes", [(120, 40, 80), (40, 12, 9)])
def test_a_run_where_nothing_improved_says_so(tmp_path, sizes):
    metrics = evaluate(make_run(tmp_path, improved=False, sizes=sizes))
    check_schema(metrics)
    assert metrics["verdict"]["code"] == "undecided"
    assert metrics["verdict"]["en"].startswith("It is not decided whether tuning helped")
    assert metrics["verdict"]["zh"].startswith("还不能断定调优有没有用")
    assert metrics["gain"]["metrics"]["accuracy"]["total"]["difference"] == 0


def test_learning_to_say_one_word_always_is_no_improvement(tmp_path):
    run = make_run(tmp_path)
    for name in ("after/test.jsonl", "after/val.jsonl"):
        rows = read_jsonl(run / name)
        for row in rows:
            row["answer"] = "正面" if "test" in name else None
            row["probabilities"] = {"正面": 0.7, "负面": 0.3}
        write_jsonl(run / name, rows)
    answer(run, tmp_path / "data" / "made_up", "before/test.jsonl", right=0.6, said=0.2)
    metrics = evaluate(run)
    assert next(c for c in metrics["comparisons"] if c["b"] == "after_generate")["code"] == "better"
    assert metrics["verdict"]["code"] == "undecided"
    assert "anything was learned" in metrics["verdict"]["en"] and "guessing" in metrics["verdict"]["en"]


def test_ten_labels(tmp_path):
    labels = tuple("甲乙丙丁戊己庚辛壬癸")
    run = make_run(tmp_path, labels, sizes=(200, 60, 90))
    make_baselines(run)
    metrics = evaluate(run)
    check_schema(metrics)
    assert set(metrics["readings"]["after_score_threshold"]["threshold"]) == set(labels)
    assert len(metrics["readings"]["after_generate"]["confusion"]["counts"]) == 10


def test_only_what_was_answered_is_scored(tmp_path):
    dataset = make_dataset(tmp_path / "data" / "made_up")
    run = make_plan(tmp_path / "run", dataset)
    answer(run, dataset, "before/test.jsonl")
    metrics = evaluate(run)
    check_schema(metrics)
    assert list(metrics["readings"]) == ["before_generate", "before_score"]
    assert (metrics["gain"], metrics["curves"], metrics["selective"]) == (None, None, None)
    assert (metrics["parity"], metrics["verdict"]["baseline"]) == ([], None)
    [weighed] = metrics["comparisons"]  # with the better of the two, which the decision weighs
    assert {weighed["a"], weighed["b"]} == {"before_generate", "before_score"}
    assert "nothing can be compared" in metrics["verdict"]["en"]
    assert {row["status"] for row in read_jsonl(run / "rows.jsonl")} == {None}


def test_score_stands_in_where_no_text_was_generated(tmp_path):
    dataset = make_dataset(tmp_path / "data" / "made_up")
    run = make_plan(tmp_path / "run", dataset)
    answer(run, dataset, "before/test.jsonl", right=0.5, texts=False)
    answer(run, dataset, "after/test.jsonl", right=0.95, texts=False)
    metrics = evaluate(run)
    assert metrics["verdict"]["code"] == "better"
    assert "by the probability of the label words" in metrics["verdict"]["en"]


def test_synonyms_come_from_the_task_of_the_run(tmp_path):
    dataset = make_dataset(tmp_path / "data" / "made_up")
    task = tmp_path / "task.yaml"
    task.write_text(
        "name: made_up\ncolumns: {text: review, label: label}\nlabels: {'1': 正面, '0': 负面}\nsystem: s\n"
        "prompts: {original: '评论内容: {review} 这条评论是正面还是负面？'}\nprompt: original\ndefault_recipe: small\n"
        "csv: data/made_up.csv\nsynonyms: {正面: [满意], 负面: [失望]}\n",
        encoding="utf-8",
    )
    run = make_plan(tmp_path / "run", dataset, task_file=str(task))
    answer(run, dataset, "before/test.jsonl")
    rows = read_jsonl(run / "before" / "test.jsonl")
    write_jsonl(run / "before" / "test.jsonl", [{**row, "answer": "满意"} for row in rows])
    reading = evaluate(run)["readings"]["before_generate"]
    assert (reading["unparsed"], reading["per_class"]["正面"]["predicted"], reading["strict"]) == (0, 80, 0)


def test_a_task_that_is_gone_is_said_since_its_synonyms_are_not_read(tmp_path, capsys):
    run = make_run(tmp_path)
    plan = read_json(run / "run.json")
    write_json(run / "run.json", {**plan, "task_file": str(tmp_path / "gone" / "task.yaml")})
    evaluate(run)
    assert "task.yaml is gone, so synonyms of labels are not read" in capsys.readouterr().out


def spoil_drop_row(run, dataset):
    write_jsonl(run / "after" / "test.jsonl", read_jsonl(run / "after" / "test.jsonl")[:-1])
    return "79 answers to the 80 rows"


def spoil_answer_twice(run, dataset):
    rows = read_jsonl(run / "before" / "test.jsonl")
    write_jsonl(run / "before" / "test.jsonl", [rows[0], rows[0], *rows[2:]])
    return "line 2: the answer to row"


def spoil_gold(run, dataset):
    rows = read_jsonl(run / "before" / "val.jsonl")
    rows[4]["gold"] = "负面" if rows[4]["gold"] == "正面" else "正面"
    write_jsonl(run / "before" / "val.jsonl", rows)
    return "line 5: the answer to row"


def spoil_dataset(run, dataset):
    write_jsonl(dataset / "test.jsonl", read_jsonl(dataset / "test.jsonl")[1:])
    return "is not the file of its manifest.json"


def spoil_manifest(run, dataset):
    (dataset / "manifest.json").unlink()
    return "no manifest.json"


def spoil_manifest_keys(run, dataset):
    write_json(dataset / "manifest.json", {"files": {}})
    return "manifest.json cannot be read"


def spoil_answers(run, dataset):
    for side in ("before", "after"):
        (run / side / "test.jsonl").unlink()
    (run / "before" / "few_shot.jsonl").unlink()
    return "holds no answers yet"


def spoil_plan(run, dataset):
    (run / "run.json").unlink()
    return "is not a run"


@pytest.mark.parametrize("spoil", [v for k, v in sorted(globals().items()) if k.startswith("spoil_")])
def test_what_does_not_fit_is_one_sentence_and_leaves_the_old_scores(tmp_path, spoil):
    run = make_run(tmp_path)
    write_json(run / "metrics.json", {"old": True})
    expected = spoil(run, tmp_path / "data" / "made_up")
    with pytest.raises(UserError) as raised:
        evaluate(run)
    assert expected in str(raised.value)
    assert "\n" not in str(raised.value)
    assert read_json(run / "metrics.json") == {"old": True}
    assert not (tmp_path / "data" / "made_up.looks.jsonl").exists()


def test_command_line(full, capsys):
    run, metrics = full
    assert main([str(run)]) == 0
    assert metrics["verdict"]["en"] in capsys.readouterr().out
    finished = subprocess.run(
        [sys.executable, "-m", "eval.evaluate", str(run / "nowhere")], cwd=ROOT, capture_output=True, text=True
    )
    assert (finished.returncode, finished.stderr.count("\n")) == (2, 1)


def test_a_full_size_run_is_scored_without_torch_or_swift(tmp_path):
    run = make_run(tmp_path, sizes=(50, 622, 1553))
    script = (
        "import sys, json; from pathlib import Path; from eval.evaluate import evaluate;"
        "m = evaluate(Path(sys.argv[1])); heavy = {'torch', 'swift', 'transformers', 'matplotlib'};"
        "print(json.dumps([m['test']['n'], sorted(heavy & set(sys.modules))]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(run)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [1553, []]
