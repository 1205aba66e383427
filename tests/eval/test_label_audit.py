"""The audit of labels: it finds labels that were flipped on purpose, and its list can be fed back as corrections."""

import csv
import dataclasses
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.build import build
from data_prep.table.corrections import read_corrections
from demo.reviews import ensure_reviews
from eval.label_audit import audit, linear_probabilities, main, rank_rows
from eval.scoring.responses import load_split
from tests.prep_tables import REAL_TABLE, needs_real, small_task, write_csv
from tests.scored_runs import make_plan
from workspace.errors import UserError
from workspace.files import read_json, read_jsonl, write_jsonl

LABELS = ["正面", "负面"]
GOOD, BAD = ("干净", "热情", "舒适", "方便", "满意"), ("肮脏", "冷淡", "吵闹", "陈旧", "失望")


def clear_rows(count):
    """(label, text) rows whose words tell the label."""
    draw = np.random.default_rng(7)
    rows = []
    for at in range(count):
        words = draw.choice(GOOD if at % 2 else BAD, 3)
        rows.append((str(at % 2), f"{at}号房客：房间{words[0]}，服务{words[1]}，总的来说{words[2]}"))
    return rows


@pytest.fixture
def dataset(tmp_path):
    """A dataset of 200 clear rows, three of which have the wrong label: (its folder, the table, ids of those rows)."""
    rows = clear_rows(200)
    path = build(small_task(tmp_path), csv=write_csv(tmp_path / "clean.csv", rows), out=tmp_path / "clean")
    wrong = [row["id"] for row in read_jsonl(path.parent / "train.jsonl")[:3]]
    for key in wrong:
        label, text = rows[int(key) - 1]
        rows[int(key) - 1] = ("10"[int(label)], text)
    table = write_csv(tmp_path / "t.csv", rows)
    build(small_task(tmp_path), csv=table, out=tmp_path / "data")
    return tmp_path / "data", table, wrong


def test_copies_with_one_wrong_label_are_found(tmp_path):
    text = "只此一家：房间干净，服务热情，前台小王帮我们升级了套房，总的来说满意得不得了"
    copies = [("0", text + "。" * at) for at in range(6)]
    table = write_csv(tmp_path / "t.csv", [*clear_rows(200), *copies])
    path = build(small_task(tmp_path), csv=table, out=tmp_path / "data")
    train = load_split(path.parent, "train", LABELS)
    at = [at for at, text in enumerate(train.reviews) if text.startswith("只此一家")]
    assert len(at) == len(copies)
    assert linear_probabilities(train, LABELS)[at, 1].max() < 0.5


def listed(path):
    with open(path, encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


def found_share(task, table, out, seeds=(0,)):
    """The mean share of the flipped 5 % of train labels that is in the first 8 % of the list, over `seeds`."""
    build(task, csv=table, out=out, limit=10**9)
    rows = load_split(out, "train", LABELS)
    total, shares = len(rows), []
    for seed in seeds:
        flipped = np.random.default_rng(seed).choice(total, round(0.05 * total), replace=False)
        given_labels = list(rows.gold)
        for at in flipped:
            given_labels[at] = LABELS[1 - LABELS.index(given_labels[at])]
        noisy = dataclasses.replace(rows, gold=tuple(given_labels))
        order, _ = rank_rows(noisy.codes(LABELS), linear_probabilities(noisy, LABELS))
        first = set(order[: int(0.08 * total)].tolist())
        shares.append(len(first & set(flipped.tolist())) / len(flipped))
    return statistics.mean(shares)


@needs_real
def test_flipped_labels_of_the_real_table_are_found(tmp_path):
    # Measured: 77, 78 and 72 % with the seeds 0, 1 and 2.
    assert found_share("hotel_reviews", REAL_TABLE, tmp_path / "out") >= 0.6


def test_flipped_labels_of_the_demo_are_found(tmp_path):
    # Measured: 63, 57 and 60 % with the seeds 0, 1 and 2. A sentence cut out of a review bears the review's label, so
    # many labels look wrong before any is flipped, and stand in the list too.
    assert found_share("demo", ensure_reviews(tmp_path / "demo.csv"), tmp_path / "out") >= 0.55


def test_the_list_goes_back_as_corrections(tmp_path, dataset, capsys):
    folder, table, wrong = dataset
    out = audit(str(folder))
    rows = listed(out)
    assert list(rows[0]) == ["row", "label", "review", "given", "suggested", "p_given", "p_suggested", "issue", "judge"]
    assert {row["row"] for row in rows[:3]} == set(wrong)
    assert [row["issue"] for row in rows[:3]] == ["probable"] * 3
    chances = [float(row["p_given"]) for row in rows]
    assert chances == sorted(chances) and all(float(row["p_suggested"]) > 0.5 for row in rows)
    train = {row["id"]: row for row in read_jsonl(folder / "train.jsonl")}
    assert all(train[row["row"]]["messages"][2]["content"] == row["given"] != row["suggested"] for row in rows)
    assert "fill in `label`" in capsys.readouterr().out

    task = small_task(tmp_path, corrections=str(out))
    nothing = read_json(build(task, csv=table, out=tmp_path / "again"))
    assert nothing["corrections"]["changed"]["total"] == 0  # an empty label changes nothing
    filled = [row | {"label": row["suggested"]} for row in rows[:3]] + rows[3:]
    with open(out, "w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(filled)
    manifest = read_json(build(task, csv=table, out=tmp_path / "again"))
    assert set(manifest["corrections"]["ids"]["train"]) == set(wrong)
    with pytest.raises(UserError, match="holds labels that were filled in"):
        audit(str(folder))
    for name in ("train", "val", "test"):  # the labels are those of the table without a wrong one
        assert (tmp_path / "again" / f"{name}.jsonl").read_bytes() == (
            tmp_path / "clean" / f"{name}.jsonl"
        ).read_bytes()


def test_the_same_bytes_again_and_the_dataset_is_left_alone(tmp_path, dataset):
    folder = dataset[0]
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    main([str(folder), "--out", str(tmp_path / "a.csv")])
    main([str(folder), "--out", str(tmp_path / "b.csv")])
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_another_split_is_judged_by_a_model_of_train(tmp_path, dataset):
    rows = load_split(dataset[0], "test", LABELS)
    flipped = dataclasses.replace(rows, gold=(LABELS[1 - LABELS.index(rows.gold[0])], *rows.gold[1:]))
    train = load_split(dataset[0], "train", LABELS)
    order, _ = rank_rows(flipped.codes(LABELS), linear_probabilities(flipped, LABELS, train))
    assert order[0] == 0
    assert audit(str(dataset[0]), split="test") == dataset[0] / "audit-test.csv"


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_what_changes_labels_of_held_out_rows_is_named_with_what_it_does(dataset, capsys, split):
    """By `corrections:` alone, to which the list was said to go, they stay as they are."""
    audit(str(dataset[0]), split=split)
    told = "rows change only with `corrections_test: true`, which makes it another test"
    assert (f"labels of {split} {told}" in capsys.readouterr().out) is (split != "train")


def test_saved_scores_of_a_run_are_used(tmp_path, dataset, capsys):
    folder, run = dataset[0], tmp_path / "run"
    make_plan(run, folder)
    audit(str(folder), run=run, out=tmp_path / "a.csv")
    assert "saved no scores of train rows: the TF-IDF model is used" in capsys.readouterr().out
    rows = load_split(folder, "train", LABELS)
    answers = [
        {"id": key, "gold": gold, "probabilities": {word: 0.9 if word == gold else 0.1 for word in LABELS}}
        for key, gold in zip(rows.ids, rows.gold, strict=True)
    ]
    doubted = answers[5]
    doubted["probabilities"] = dict.fromkeys(LABELS, 0.75) | {doubted["gold"]: 0.25}
    write_jsonl(run / "after" / "train.jsonl", answers)
    rows = listed(audit(str(folder), run=run, out=tmp_path / "a.csv"))
    assert [(row["row"], row["p_given"]) for row in rows] == [(doubted["id"], "0.2500")]
    assert "has learned from these rows" in capsys.readouterr().out
    write_jsonl(run / "after" / "train.jsonl", answers[1:])
    with pytest.raises(UserError, match=r"answers to the [0-9]+ rows of .*: run the inference again"):
        audit(str(folder), run=run, out=tmp_path / "a.csv")
    with pytest.raises(UserError, match="is not a run"):
        audit(str(folder), run=tmp_path, out=tmp_path / "a.csv")


def test_no_cell_is_a_formula(tmp_path):
    rows = [(label, f"=HYPERLINK({text})") for label, text in clear_rows(200)]
    rows = [("10"[int(label)], text) if at % 20 == 0 else (label, text) for at, (label, text) in enumerate(rows)]
    table = write_csv(tmp_path / "t.csv", rows)
    build(small_task(tmp_path), csv=table, out=tmp_path / "data")
    out = audit(str(tmp_path / "data"))
    found = listed(out)
    assert found and all(row["review"].startswith("'=HYPERLINK") for row in found)
    # The apostrophe is no other review: the list is taken back.
    text = out.read_text(encoding="utf-8-sig").replace(f"\n{found[0]['row']},,", f"\n{found[0]['row']},1,")
    out.write_text(text, encoding="utf-8")
    assert len(read_corrections(out)) == 1
    build(small_task(tmp_path, corrections=str(out)), csv=table, out=tmp_path / "again")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda folder: (folder / "train.jsonl").unlink(), "is missing: build the dataset"),
        (lambda folder: (folder / "train.jsonl").write_text("{}\n"), "line 1 cannot be read"),
        (lambda folder: (folder / "train.jsonl").write_text(""), "has no rows"),
        (
            lambda folder: write_jsonl(folder / "train.jsonl", read_jsonl(folder / "train.jsonl")[:5]),
            "expected at least 5: add some",
        ),
    ],
)
def test_faults(dataset, change, told):
    change(dataset[0])
    with pytest.raises(UserError) as caught:
        audit(str(dataset[0]))
    assert told in str(caught.value)


def test_an_unknown_dataset_is_told():
    with pytest.raises(UserError, match="there is no task nowhere"):
        audit("nowhere")


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 5), st.integers(10, 40), st.integers(0, 10**6))
def test_the_rank_is_of_doubtful_rows_by_the_chance_of_the_given_label(classes, count, seed):
    draw = np.random.default_rng(seed)
    codes = np.concatenate([np.arange(classes), draw.integers(0, classes, count)])
    shares = draw.dirichlet(np.ones(classes), len(codes))
    order, issues = rank_rows(codes, shares)
    mine = shares[np.arange(len(codes)), codes]
    assert np.all(np.diff(mine[order]) >= 0)
    assert set(order.tolist()) == set(np.flatnonzero(shares.argmax(axis=1) != codes).tolist())
    assert issues.dtype == bool and issues.shape == codes.shape
