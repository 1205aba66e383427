"""The whole of prep: rows conserved, the same bytes each time, nothing overwritten by a failure."""

import csv
import json
import random
import subprocess
import sys

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_prep import build as build_module
from data_prep.build import build
from data_prep.card import page as card
from data_prep.chat.tokenizer import ModelTokenizer
from data_prep.splits import split_frame as splitting
from data_prep.table import checking
from data_prep.task import SPLITS
from tests.prep_tables import REAL, REAL_TABLE, needs_real, reviews, small_task, write_csv, write_model, write_task
from workspace.errors import UserError
from workspace.files import read_json, read_jsonl, sha256_file
from workspace.paths import ROOT


def rows_of(out):
    return {name: read_jsonl(out / f"{name}.jsonl") for name in SPLITS}


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_files_and_manifest(tmp_path, capsys):
    rows = [*reviews(200), ("1", ""), ("7", "别的"), ("1", "<|im_end|>注入"), ("0", "长" * 3000)]
    table, model = write_csv(tmp_path / "t.csv", rows, "gbk"), write_model(tmp_path / "model")
    task = small_task(tmp_path)
    path = build(task, csv=table, model=model, out=tmp_path / "out", max_length=200)
    manifest = read_json(path)
    counts = manifest["counts"]
    assert counts["rows"] == 204
    assert counts["set_aside"] == {"total": 2, "empty": 1, "unknown_label": 1}
    assert counts["not_used"] == {"total": 0, "train": 0, "val": 0, "test": 0}
    assert sum(counts[name]["total"] for name in SPLITS) == 202
    written = rows_of(tmp_path / "out")
    for name in SPLITS:
        assert list(written[name][0]) == ["messages", "label", "id", "review", "cut"]
        assert len(written[name]) == counts[name]["total"]
        answers = [row["messages"][2]["content"] for row in written[name]]
        assert {word: answers.count(word) for word in ("正面", "负面")} == {
            k: counts[name][k] for k in ("正面", "负面")
        }
        order = [len(row["messages"][1]["content"]) if name == "val" else int(row["id"]) for row in written[name]]
        assert order == sorted(order)
    every = {row["id"]: row for name in SPLITS for row in written[name]}
    for at, (label, text) in enumerate(rows, start=1):
        if str(at) in every:
            row = every[str(at)]
            assert row["review"] == text
            assert [one["role"] for one in row["messages"]] == ["system", "user", "assistant"]
            assert row["messages"][0]["content"] == task.system
            assert row["messages"][2]["content"] == task.labels[label]
            assert row["label"] == {"1": 0, "0": 1}[label]  # by the order in the task, not the table's own value
            if at <= 200:
                assert (row["messages"][1]["content"], row["cut"]) == (task.render(text), False)
    assert "<|im_end|>" not in every["203"]["messages"][1]["content"]
    assert every["204"]["cut"] is True
    assert every["204"]["messages"][1]["content"].endswith("长 这条评论是正面还是负面？")
    assert sum(manifest["cut"][name]["total"] for name in SPLITS) == manifest["cut"]["total"] == 1
    assert [one for name in SPLITS for one in manifest["cut"]["ids"][name]] == ["204"]
    assert manifest["tokens"]["after"]["greatest"] <= 200
    assert manifest["source"]["encoding"] == "gb18030"
    assert manifest["source"]["sha256"] == sha256_file(table)
    made = (
        "README.md",
        "class_balance.png",
        "lengths.png",
        "rejects.csv",
        "split.json",
        "test.jsonl",
        "train.jsonl",
        "val.jsonl",
    )
    assert manifest["files"] == {name: sha256_file(tmp_path / "out" / name) for name in made}
    assert manifest["max_length"] == 200
    assert manifest["tokenizer_sha256"] == sha256_file(model / "tokenizer.json")
    with open(tmp_path / "out" / "rejects.csv", encoding="utf-8-sig", newline="") as stream:
        assert list(csv.reader(stream)) == [
            ["row", "line", "reason", "label", "text"],
            ["201", "202", "empty", "1", ""],
            ["202", "203", "unknown_label", "7", "别的"],
        ]
    told = capsys.readouterr().out
    assert "204 rows, 2 set aside (1 empty, 1 unknown_label)" in told
    assert "1 reviews cut to fit 200 tokens" in told
    assert "warning: the prompt original names the labels" in told


def test_the_same_bytes_again_and_up_to_date(tmp_path, capsys):
    task = small_task(tmp_path)
    table = write_csv(tmp_path / "t.csv", reviews(100))
    for out in ("a", "b"):
        build(task, csv=table, limit=20, out=tmp_path / out)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    capsys.readouterr()
    for judged in ({}, {"selective": {"target": 0.9}, "costs": {"ask": 0.3}}):
        build(small_task(tmp_path, **judged), csv=table, limit=20, out=tmp_path / "a")
        assert capsys.readouterr().out.endswith("a is up to date\n")


def test_how_answers_are_judged_makes_no_other_dataset(tmp_path, capsys):
    table = write_csv(tmp_path / "t.csv", reviews(100))
    build(small_task(tmp_path), csv=table, out=tmp_path / "out")
    build(small_task(tmp_path, primary_metric="accuracy", margin=0.02), csv=table, out=tmp_path / "out")
    assert capsys.readouterr().out.endswith("out is up to date\n")


@pytest.mark.parametrize(
    "change",
    [
        {"limit": 30},
        {"prompt": "clean"},
        {"max_length": 100},
        {"task": {"split": {"seed": 7}}},
        {"task": {"labels": {"0": "负面", "1": "正面"}}},
        {"rows": reviews(101)},
        {"model": True},
        {"damage": "val.jsonl"},
    ],
)
def test_what_makes_it_run_again(tmp_path, capsys, change):
    table = write_csv(tmp_path / "t.csv", reviews(100))
    build(small_task(tmp_path), csv=table, out=tmp_path / "out")
    task = small_task(tmp_path, **change.pop("task", {}))
    if rows := change.pop("rows", None):
        write_csv(table, rows)
    if damaged := change.pop("damage", None):
        (tmp_path / "out" / damaged).write_text("", encoding="utf-8")
    if change.pop("model", None):
        change["model"] = write_model(tmp_path / "model")
    capsys.readouterr()
    build(task, csv=table, out=tmp_path / "out", **change)
    assert "written to" in capsys.readouterr().out


def test_the_limit_counts_what_is_not_used(tmp_path, capsys):
    table = write_csv(tmp_path / "t.csv", reviews(400))
    counts = read_json(build(small_task(tmp_path, limit=60), csv=table, out=tmp_path / "out"))["counts"]
    assert [counts[name]["total"] for name in SPLITS] == [60, 15, 40]
    assert counts["not_used"]["total"] == 400 - 115
    assert "285 rows are left out by the limit of 60 train rows" in capsys.readouterr().out
    counts = read_json(build(small_task(tmp_path, limit=60), csv=table, limit=10_000, out=tmp_path / "out"))["counts"]
    assert counts["not_used"]["total"] == 0


def test_only_the_rows_in_use_are_counted_under_a_limit(tmp_path, monkeypatch):
    whole, counted = ModelTokenizer.count, []
    monkeypatch.setattr(ModelTokenizer, "count", lambda self, texts, n: counted.append(n) or whole(self, texts, n))
    table, model = write_csv(tmp_path / "t.csv", reviews(400)), write_model(tmp_path / "model")
    build(small_task(tmp_path), csv=table, model=model, limit=40, out=tmp_path / "out")
    assert counted == [40 + 40 + 10]


def test_near_copies_stay_in_one_split(tmp_path):
    draw = random.Random(2)
    rows = []
    for label, text in reviews(150):
        rows += [
            (label, text * 3 + "！" * draw.randint(0, 3) + draw.choice("啊呀呢")) for _ in range(draw.randint(1, 4))
        ]
    manifest = read_json(build(small_task(tmp_path), csv=write_csv(tmp_path / "t.csv", rows), out=tmp_path / "out"))
    homes = {}
    for name, written in rows_of(tmp_path / "out").items():
        for row in written:
            homes.setdefault(row["review"][:5], set()).add(name)
    assert all(len(names) == 1 for names in homes.values())
    assert manifest["repeats"]["near"]["groups"] > 50
    assert all(part == {"exact": 0, "near": 0} for part in manifest["leaks"].values())


def test_the_original_scheme_counts_its_leaks(tmp_path, capsys):
    task = small_task(tmp_path, split={"scheme": "original"})
    table = write_csv(tmp_path / "t.csv", reviews(100) * 2)
    manifest = read_json(build(task, csv=table, out=tmp_path / "out"))
    assert [manifest["counts"][name]["total"] for name in ("train", "val", "test")] == [144, 16, 40]
    assert manifest["leaks"]["test_in_train"]["exact"] > 10
    assert "times a row has a copy or near copy in another split" in capsys.readouterr().out


def test_the_gate_joins_what_grouping_missed(tmp_path, monkeypatch):
    rows = [(label, text * 2 + end) for end in ("", "啊") for label, text in reviews(100)]
    table = write_csv(tmp_path / "t.csv", rows)
    grouped = checking.find_duplicates
    monkeypatch.setattr(
        checking, "find_duplicates", lambda texts, *rest: grouped([str(n) for n in range(len(texts))], *rest)
    )
    manifest = read_json(build(small_task(tmp_path), csv=table, out=tmp_path / "out"))
    assert all(part == {"exact": 0, "near": 0} for part in manifest["leaks"].values())
    homes = {}
    for name, written in rows_of(tmp_path / "out").items():
        for row in written:
            homes.setdefault(row["review"].removesuffix("啊"), set()).add(name)
    assert all(len(names) == 1 for names in homes.values())
    monkeypatch.setattr(splitting, "join", lambda groups, pairs: groups)
    with pytest.raises(UserError, match=r"rows [\d,]+ and [\d,]+ are near copies in two splits"):
        build(small_task(tmp_path), csv=table, limit=20, out=tmp_path / "anew")


def test_lost_rows_are_a_defect(tmp_path, monkeypatch):
    table = write_csv(tmp_path / "t.csv", reviews(100))
    whole = build_module.fit_frame
    monkeypatch.setattr(build_module, "fit_frame", lambda kept, *rest: whole(kept.iloc[1:], *rest))
    with pytest.raises(RuntimeError, match="rows were lost"):
        build(small_task(tmp_path), csv=table, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"csv": "gone.csv"}, "there is no file"),
        ({"csv": "."}, "is a folder"),
        ({"prompt": "clen"}, "has no prompt clen: give --prompt with one of original, clean"),
        ({"limit": 0}, "--limit is 0, expected a whole number from 1 to"),
        ({"max_length": 16}, "tokens without a review"),
        ({"model": "nowhere"}, "has no tokenizer.json"),
    ],
)
def test_faults_leave_the_old_output(tmp_path, monkeypatch, change, told):
    monkeypatch.chdir(tmp_path)
    asked = {"csv": write_csv(tmp_path / "t.csv", reviews(100)), "model": write_model(tmp_path / "model")}
    task = small_task(tmp_path)
    build(task, out=tmp_path / "out", **asked)
    before = contents(tmp_path / "out")
    with pytest.raises(UserError) as caught:
        build(task, out=tmp_path / "out", **(asked | change))
    assert told in str(caught.value)
    assert contents(tmp_path / "out") == before


def test_the_command_ends_with_one_sentence_and_status_2(tmp_path):
    command = [sys.executable, "-m", "data_prep.build", str(write_task(tmp_path)), "--out", str(tmp_path / "out")]
    table = tmp_path / "t.csv"
    table.write_text("label,review\n1,好\n0\n", encoding="utf-8")
    done = subprocess.run([*command, "--csv", str(table)], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: {table}, line 3: found 1 fields, expected 2 as in the header: add the missing fields\n"
    )
    assert not (tmp_path / "out").exists()
    write_csv(table, reviews(60))
    done = subprocess.run([*command, "--csv", str(table)], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == f"prep: written to {tmp_path / 'out'}"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["1", "0", "1.0", "", "x"]),
            st.one_of(
                st.sampled_from(["", " ", "好", "好！", "差", "很 好"]), st.text("好差房间大😀\u200b <s>", max_size=8)
            ),
        ),
        max_size=40,
    ),
    st.sampled_from(["stratified", "original"]),
    st.sampled_from(["keep", "set_aside"]),
    st.sampled_from([None, 2, 5, 50]),
)
def test_no_row_is_lost(tmp_path, monkeypatch, rows, scheme, conflicts, limit):
    monkeypatch.setattr(card, "draw_card", lambda *_: {})  # half a second each, and tested in test_prep_card.py
    task = small_task(tmp_path, split={"scheme": scheme}, conflicts=conflicts, max_reject_share=1.0)
    rows = [*(row for row in rows if any(row)), *reviews(12)]  # a line of empty cells is no row
    try:
        path = build(task, csv=write_csv(tmp_path / "t.csv", rows), limit=limit, out=tmp_path / "out")
    except UserError as error:
        assert "the class" in str(error)
        return
    counts = read_json(path)["counts"]
    ids = [row["id"] for written in rows_of(tmp_path / "out").values() for row in written]
    with open(tmp_path / "out" / "rejects.csv", encoding="utf-8-sig", newline="") as stream:
        rejected = [row["row"] for row in csv.DictReader(stream)]
    assert len(set(ids + rejected)) == len(ids) + len(rejected)
    assert len(ids) + len(rejected) + counts["not_used"]["total"] == counts["rows"] == len(rows)
    assert set(ids + rejected) <= {str(n) for n in range(1, len(rows) + 1)}
    if limit is None:
        assert counts["not_used"]["total"] == 0


def test_three_and_ten_classes(tmp_path):
    for count in (3, 10):
        rows = [(str(at % count), text) for at, (_, text) in enumerate(reviews(count * 20))]
        labels = {str(n): f"第{n}类" for n in range(count)}
        task = small_task(tmp_path, labels=labels)
        manifest = read_json(build(task, csv=write_csv(tmp_path / "t.csv", rows), limit=50, out=tmp_path / str(count)))
        for name in SPLITS:
            assert all(manifest["counts"][name][word] >= 1 for word in labels.values())


@needs_real
def test_the_real_table(tmp_path, monkeypatch):
    monkeypatch.setenv("SWIFT_SFT_CACHE", str(tmp_path / "cache"))
    model = REAL / "models" / "qwen1.5-0.5b-chat-shape"
    manifest = read_json(build("hotel_reviews", csv=REAL_TABLE, model=model, out=tmp_path / "out"))
    counts = manifest["counts"]
    assert (counts["rows"], counts["set_aside"]) == (7766, {"total": 1, "empty": 1})
    assert sum(counts[name]["total"] for name in SPLITS) == 7765
    for word, total in (("正面", 5322), ("负面", 2443)):
        assert sum(counts[name][word] for name in SPLITS) == total
        assert counts["test"][word] / total == pytest.approx(0.1, abs=0.02)
    assert manifest["repeats"]["exact"] == {"groups": 1, "rows": 2}
    assert manifest["repeats"]["near"] == {"groups": 5, "rows": 10}
    assert manifest["cut"]["total"] == 71
    assert manifest["tokens"]["after"]["greatest"] <= 512
    assert (tmp_path / "out" / "rejects.csv").read_text(encoding="utf-8-sig").splitlines()[1:] == ["6375,6376,empty,0,"]
    # Every row is in one place, with its own text and label.
    with open(REAL_TABLE, encoding="utf-8", newline="") as stream:
        table = list(csv.DictReader(stream))
    seen = set()
    for written in rows_of(tmp_path / "out").values():
        for row in written:
            source = table[int(row["id"]) - 1]
            assert row["review"] == source["review"]
            assert row["messages"][2]["content"] == {"1": "正面", "0": "负面"}[source["label"]]
            seen.add(row["id"])
    assert len(seen) == 7765


@needs_real
def test_the_original_experiments_split_of_the_real_table(tmp_path):
    from sklearn.model_selection import train_test_split

    text = (ROOT / "swift_configs" / "hotel_reviews" / "task.yaml").read_text(encoding="utf-8")
    text = text.replace("scheme: stratified, seed: 42, val: 0.1, test: 0.1", "scheme: original")
    (tmp_path / "task.yaml").write_text(text, encoding="utf-8")
    manifest = read_json(build(str(tmp_path), csv=REAL_TABLE, out=tmp_path / "out"))
    assert [manifest["counts"][name]["total"] for name in ("train", "val", "test")] == [5590, 622, 1553]
    frame = pd.read_csv(REAL_TABLE).dropna()
    rest, test = train_test_split(frame, test_size=0.2, random_state=42)
    train, val = train_test_split(rest, test_size=0.1, random_state=42)
    for name, expected in (("train", train), ("val", val), ("test", test)):
        written = read_jsonl(tmp_path / "out" / f"{name}.jsonl")
        assert sorted(int(row["id"]) - 1 for row in written) == sorted(expected.index)


def test_every_line_of_a_split_is_json_whatever_the_review_holds(tmp_path):
    odd = ["换行\n符", "\u2028", "\x85", '引""号', "\\", "\x1a\x0b", "{review}", "😀"]
    rows = [*reviews(60), *[(str(at % 2), f"{text}第{at}种") for at, text in enumerate(odd)]]
    build(small_task(tmp_path), csv=write_csv(tmp_path / "t.csv", rows), out=tmp_path / "out")
    found = []
    for name in SPLITS:
        for line in (tmp_path / "out" / f"{name}.jsonl").read_bytes().rstrip(b"\n").split(b"\n"):
            found.append(json.loads(line)["review"])
    assert {f"{text}第{at}种".replace('""', '"') for at, text in enumerate(odd)} <= set(found)
