"""The rows to label next: doubted, unlike one another and new; and the whole way back into the train rows."""

import csv
import json
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.build import build
from data_prep.task import SPLITS, load_task
from plan.run import Run
from serve.classifier import Classifier
from serve.informative import margins, most_informative
from serve.next import INTERFACE_FILE, OURS, ROWS_FILE, TASKS_FILE, main, suggest
from serve.unlabelled import unlike
from tests.prep_tables import reviews, small_task, write_csv, write_task
from tests.scored_runs import make_plan
from tests.serve.small_run import small_run
from workspace.errors import UserError
from workspace.files import read_json, read_jsonl, write_json

LABELS = ["正面", "负面"]
POOL = [text for _, text in reviews(60, start=5_000)]
COLUMNS = {"columns": {"text": "review", "label": "label", "id": "no"}}


@pytest.fixture
def run(tmp_path):
    """A planned run with its dataset: what rows are chosen by."""
    table = tmp_path / "t.csv"
    lines = [f"{label},{text},a{at}" for at, (label, text) in enumerate(reviews(120))]
    table.write_text("\n".join(["label,review,no", *lines]) + "\n", encoding="utf-8")
    build(small_task(tmp_path, **COLUMNS), csv=table, out=tmp_path / "data")
    make_plan(tmp_path / "run", tmp_path / "data", LABELS, task_file=str(tmp_path / "task.yaml"))
    return Run.read(tmp_path / "run")


def unlabelled(tmp_path, texts, header="no,review,city"):
    path = tmp_path / "pool.csv"
    with open(path, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(header.split(","))
        writer.writerows((f"n{at}", text, "=1+1") for at, text in enumerate(texts))
    return path


def doubting(word):
    """A scorer that doubts texts with the word, and is sure of the others."""
    return lambda texts: np.array([[0.55, 0.45] if word in text else [0.98, 0.02] for text in texts])


def rows_of(path):
    with open(path, encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


def test_rows_that_a_limit_left_out_are_not_offered(tmp_path, run):
    """Prep sets them aside once they are labelled, for they stand in the task's table."""
    write_json(run.folder / "data.json", {"source": {"path": str(tmp_path / "t.csv"), "sha256": ""}})
    texts = [text for _, text in reviews(120)]
    table = unlabelled(tmp_path, [*texts, *POOL])
    build(small_task(tmp_path, **COLUMNS, limit=20), csv=tmp_path / "t.csv", out=tmp_path / "data")
    assert suggest(replace(run, limit=20), table, doubting("很好"), tmp_path / "o", rows=1_000).others[
        "stand in the run's rows"
    ] == len(texts)
    assert {row["review"] for row in rows_of(tmp_path / "o" / "rows.csv")} <= {*POOL}


def test_of_a_table_that_is_labelled_in_part_the_rest_is_offered_under_a_limit_too(tmp_path, run, capsys):
    lines = [f"{label},{text},a{at}" for at, (label, text) in enumerate(reviews(120))]
    lines += [f",{text},b{at}" for at, text in enumerate(POOL)]
    table = tmp_path / "t.csv"
    table.write_text("\n".join(["label,review,no", *lines]) + "\n", encoding="utf-8")
    build(
        small_task(tmp_path, **COLUMNS, limit=20, labels={"1": "正面", "0": "负面", "": None}),
        csv=table,
        out=run.dataset,
    )
    write_json(run.folder / "data.json", {"source": {"path": str(table), "sha256": ""}})
    found = suggest(replace(run, limit=20), table, doubting("很好"), tmp_path / "o", rows=1_000)
    assert (
        {row["review"] for row in rows_of(tmp_path / "o" / "rows.csv")}
        == {found.texts[at] for at in found.at}
        <= {*POOL}
    )
    write_json(run.folder / "data.json", {"source": {"path": str(tmp_path / "gone.csv"), "sha256": ""}})
    suggest(replace(run, limit=20), table, doubting("很好"), tmp_path / "p", rows=1_000)
    assert "rows that the run's limit left out are offered too" in capsys.readouterr().out


def test_rows_of_the_run_labelled_rows_and_copies_are_never_chosen(tmp_path, run, capsys):
    held = [read_jsonl(run.dataset / f"{name}.jsonl")[0]["review"] for name in SPLITS]
    texts = [*held, held[2] + "！！", *POOL, POOL[0] + "。", " ", "一"]
    table = tmp_path / "pool.csv"
    labels = [""] * (len(texts) - 1) + ["1"]
    lines = [f'{label},"{text}",n{at}' for at, (label, text) in enumerate(zip(labels, texts, strict=True))]
    table.write_text("\n".join(["label,review,no", *lines]) + "\n", encoding="utf-8")
    found = suggest(run, table, doubting("很好"), tmp_path / "o", rows=1_000)
    assert found.others == {
        "have a label": 1,
        "have no text that can be read": 1,
        "stand in the run's rows": 4,
        "are copies of others": 1,
    }
    assert {row["review"] for row in rows_of(tmp_path / "o" / ROWS_FILE)} == set(POOL)
    assert "60 of 60 chosen" in capsys.readouterr().out


def test_the_doubted_are_chosen_and_written_with_the_tables_own_columns(tmp_path, run):
    table = unlabelled(tmp_path, POOL)
    suggest(run, table, doubting("很好"), tmp_path / "o", rows=12, model="small tuned")
    rows = rows_of(tmp_path / "o" / ROWS_FILE)
    assert list(rows[0]) == ["no", "review", "city", "label", *OURS]
    assert len(rows) == 12 and all("很好" in row["review"] for row in rows)
    assert {(row["city"], row["label"], row["next_label"], row["next_confidence"]) for row in rows} == {
        ("'=1+1", "", "正面", "0.55")
    }
    assert all(
        POOL[int(row["next_row"]) - 1] == row["review"] and row["no"] == f"n{int(row['next_row']) - 1}" for row in rows
    )
    tasks = read_json(tmp_path / "o" / TASKS_FILE)
    assert [task["data"] for task in tasks] == [
        {"text": row["review"], "row": int(row["next_row"]), "source_id": row["no"]} for row in rows
    ]
    controls = ElementTree.parse(tmp_path / "o" / INTERFACE_FILE).getroot()
    choices, text = controls.find("Choices"), controls.find("Text")
    assert [one.get("value") for one in choices] == LABELS and text.get("value") == "$text"
    for task in tasks:
        (prediction,) = task["predictions"]
        (result,) = prediction["result"]
        assert (prediction["score"], prediction["model_version"]) == (0.55, "small tuned")
        assert result["from_name"] == choices.get("name") and result["type"] == "choices"
        assert result["to_name"] == choices.get("toName") == text.get("name")
        assert result["value"] == {"choices": ["正面"]}


def test_the_surest_answers_come_back_as_train_rows_as_many_of_each_label(tmp_path, run):
    """Self-training: never a row of validation or test, and both labels alike however many answers each has."""
    held = [read_jsonl(run.dataset / f"{name}.jsonl")[0]["review"] for name in SPLITS]
    texts = [*POOL, *held, held[1] + "！"]

    def score(given):
        share = [(0.6 + POOL.index(text) / 200) for text in given]  # the later, the surer; one in three negative
        return np.array([[1 - p, p] if at % 3 == 0 else [p, 1 - p] for at, p in enumerate(share)])

    suggest(run, unlabelled(tmp_path, texts), score, tmp_path / "o", rows=10, sure=True)
    rows = rows_of(tmp_path / "o" / ROWS_FILE)
    assert [(row["label"], int(row["next_row"]) - 1) for row in rows] == [
        *(("正面", at) for at in (59, 58, 56, 55, 53)), *(("负面", at) for at in (57, 54, 51, 48, 45)),
    ]  # fmt: skip
    suggest(run, unlabelled(tmp_path, texts), score, tmp_path / "all", rows=1_000, sure=True)
    assert len(rows_of(tmp_path / "all" / ROWS_FILE)) == 2 * 20
    write_task(tmp_path, added=str(tmp_path / "o" / ROWS_FILE), **COLUMNS)
    build(load_task(tmp_path / "task.yaml"), csv=tmp_path / "t.csv", out=tmp_path / "more")
    added = {row["review"]: row["label"] for row in read_jsonl(tmp_path / "more" / "train.jsonl")}
    assert [added[row["review"]] for row in rows] == [0] * 5 + [1] * 5
    assert read_json(tmp_path / "more" / "manifest.json")["added"] == {"train": 10}
    with pytest.raises(
        UserError, match=r"--surest: of 60 rows of .*pool.csv the model gives one of the 2 labels to none"
    ):
        suggest(run, unlabelled(tmp_path, texts), doubting("很好"), tmp_path / "p", sure=True)


def test_the_same_rows_again(tmp_path, run):
    table = unlabelled(tmp_path, POOL)
    for name in ("a", "b"):
        suggest(run, table, doubting("早餐"), tmp_path / name, rows=7, pool=30)
    for file in (ROWS_FILE, TASKS_FILE, INTERFACE_FILE):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_filled_in_rows_come_back_as_train_rows_and_are_not_overwritten(tmp_path, run):
    table = unlabelled(tmp_path, ["=1+1是这家酒店的算术，很好", *POOL])
    suggest(run, table, doubting("很好"), tmp_path / "o", rows=5)
    path = tmp_path / "o" / ROWS_FILE
    rows = rows_of(path)
    with open(path, "w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(row | {"label": "正面" if at < 3 else ""} for at, row in enumerate(rows))
    before = path.read_bytes()
    with pytest.raises(UserError, match="holds labels that were filled in: move it away"):
        suggest(run, table, doubting("很好"), tmp_path / "o", rows=5)
    assert path.read_bytes() == before
    task = load_task(write_task(tmp_path, added=str(path), **COLUMNS))
    manifest = read_json(build(task, csv=tmp_path / "t.csv", out=tmp_path / "again"))
    assert manifest["added"] == {"train": 3, "no label yet": 2}
    train = read_jsonl(tmp_path / "again" / "train.jsonl")
    written = {row["next_row"]: row for row in rows[:3]}
    texts = ["=1+1是这家酒店的算术，很好", *POOL]
    assert [row["source_id"] for row in train[-3:]] == [row["no"] for row in written.values()]
    assert [row["review"] for row in train[-3:]] == [texts[int(row) - 1] for row in written]
    for name in ("val", "test"):
        file = f"{name}.jsonl"
        assert (tmp_path / "again" / file).read_bytes() == (run.dataset / file).read_bytes()


def test_label_studios_tasks_come_back_as_train_rows(tmp_path, run):
    suggest(run, unlabelled(tmp_path, POOL), doubting("很好"), tmp_path / "o", rows=4)
    tasks = read_json(tmp_path / "o" / TASKS_FILE)
    for number, task in enumerate(tasks, 1):  # as Label Studio exports them: the prediction accepted or put right
        result = dict(task["predictions"][0]["result"][0])
        if number == 2:
            result["value"] = {"choices": ["负面"]}
        task |= {"id": number, "annotations": [{"id": number, "completed_by": 1, "result": [result]}]}
    write_json(tmp_path / "export.json", tasks)
    task = load_task(write_task(tmp_path, added=str(tmp_path / "export.json"), **COLUMNS))
    build(task, csv=tmp_path / "t.csv", out=tmp_path / "again")
    train = read_jsonl(tmp_path / "again" / "train.jsonl")[-4:]
    assert [row["messages"][-1]["content"] for row in train] == ["正面", "负面", "正面", "正面"]
    assert [row["review"] for row in train] == [task["data"]["text"] for task in tasks]


def test_an_export_puts_labels_of_the_table_right(tmp_path, run):
    first, other = read_jsonl(run.dataset / "train.jsonl")[:2]
    flipped = "负面" if first["messages"][-1]["content"] == "正面" else "正面"

    def corrected(*labels, text=first["review"], row=first["id"]):
        annotations = [{"result": [{"type": "choices", "value": {"choices": [label]}}]} for label in labels]
        write_json(tmp_path / "c.json", [{"id": 5, "data": {"text": text, "row": row}, "annotations": annotations}])
        task = load_task(write_task(tmp_path, corrections=str(tmp_path / "c.json"), **COLUMNS))
        build(task, csv=tmp_path / "t.csv", out=tmp_path / "again")
        return {row["id"]: row["messages"][-1]["content"] for row in read_jsonl(tmp_path / "again" / "train.jsonl")}

    assert corrected(flipped)[first["id"]] == flipped
    with pytest.raises(UserError, match=r"c.json, task 5: one annotator says 正面 and another 负面: agree on one"):
        corrected("正面", "负面")
    with pytest.raises(UserError, match="task 5: the label is '中性', expected one of 正面"):
        corrected("中性")
    with pytest.raises(UserError, match="task 5: the table has no row 900"):
        corrected("正面", row=900)
    with pytest.raises(UserError, match=f"task 5: row {first['id']} of the table has another review"):
        corrected("正面", text=other["review"])


def test_several_text_columns_have_a_task_with_each(tmp_path):
    columns = {"text": ["title", "review"], "label": "label"}
    prompts = {"original": "{title}：{review}\n这条评论是正面还是负面？"}
    rows = "".join(f"{label},标题{at},{text}\n" for at, (label, text) in enumerate(reviews(120)))
    (tmp_path / "t.csv").write_text("label,title,review\n" + rows, encoding="utf-8")
    build(small_task(tmp_path, columns=columns, prompts=prompts), csv=tmp_path / "t.csv", out=tmp_path / "data")
    make_plan(tmp_path / "run", tmp_path / "data", LABELS, task_file=str(tmp_path / "task.yaml"))
    table = tmp_path / "pool.csv"
    again = reviews(120)[3][1]
    table.write_text(f"title,review\n标题3,{again}\n新的,{POOL[1]}\n,{POOL[2]}\n", encoding="utf-8")
    suggest(Run.read(tmp_path / "run"), table, doubting("号"), tmp_path / "o")
    data = [task["data"] for task in read_json(tmp_path / "o" / TASKS_FILE)]
    assert data == [{"text_1": "新的", "text_2": POOL[1], "row": 2}, {"text_1": "", "text_2": POOL[2], "row": 3}]
    assert '<Header value="title"/>' in (tmp_path / "o" / INTERFACE_FILE).read_text(encoding="utf-8")


def test_a_table_of_objects_and_columns_of_other_names(tmp_path, run):
    lines = [
        json.dumps({"说的": text, "stars": at, "no": f"n{at}"}, ensure_ascii=False) for at, text in enumerate(POOL)
    ]
    (tmp_path / "pool.jsonl").write_text("\n".join(lines), encoding="utf-8")
    suggest(run, tmp_path / "pool.jsonl", doubting("很好"), tmp_path / "o", rows=3, columns=["说的"])
    rows = rows_of(tmp_path / "o" / ROWS_FILE)
    assert list(rows[0]) == ["review", "stars", "no", "label", *OURS]  # as the task calls them, so that they come back
    assert all(row["review"] == POOL[int(row["stars"])] for row in rows)


@pytest.mark.parametrize(
    ("text", "columns", "told"),
    [
        ("no,text\n1,很好的一家酒店\n", None, "has no column review"),
        ("no,review\n1,很好的一家酒店\n", ["no", "review"], "--columns names 2 columns, expected one for each"),
        ("no,review\n1,\n2,  \n", None, "has no row that is worth labelling (2 have no text that can be read)"),
        ("", None, "is empty"),
    ],
)
def test_faults_are_one_sentence(tmp_path, run, text, columns, told):
    (tmp_path / "pool.csv").write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        suggest(run, tmp_path / "pool.csv", doubting("很好"), tmp_path / "o", columns=columns)
    assert told in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "o").exists()


def test_a_bundle_and_a_folder_that_is_no_run_are_refused(tmp_path):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "classifier.json").write_text("{}")
    table = write_csv(tmp_path / "t.csv", reviews(3))
    with pytest.raises(UserError, match="is a bundle, which has no rows to compare with"):
        main([str(tmp_path / "bundle"), str(table)])
    with pytest.raises(UserError, match="is not a run folder"):
        main([str(tmp_path), str(table)])


@pytest.mark.torch
def test_a_finished_run_chooses_by_each_of_its_models(tmp_path, monkeypatch, capsys):
    run = small_run(tmp_path)
    table = unlabelled(tmp_path, POOL)
    monkeypatch.setenv("RUN_SFT_CALLER", str(tmp_path))
    for reading in ("tuned", "linear"):
        main([str(run), str(table), "--rows", "9", "--reading", reading, "--out", str(tmp_path / reading)])
        rows = rows_of(tmp_path / reading / ROWS_FILE)
        texts = [row["review"] for row in rows]
        probabilities = Classifier.load(run, reading).score_texts(POOL).probabilities
        assert texts == [POOL[at] for at in most_informative(POOL, probabilities, 9)]
        asked = probabilities[[POOL.index(text) for text in texts]]
        assert [row["next_label"] for row in rows] == [LABELS[code] for code in asked.argmax(axis=1)]
        assert np.allclose([float(row["next_confidence"]) for row in rows], asked.max(axis=1), atol=1e-4)
        (model,) = {task["predictions"][0]["model_version"] for task in read_json(tmp_path / reading / TASKS_FILE)}
        assert model == f"small/tiny {reading}"
    assert f'added: "{tmp_path / "linear" / ROWS_FILE}"' in capsys.readouterr().out


def test_copies_of_one_doubted_text_do_not_fill_the_list():
    """By the margin alone the ten most doubted are all of one kind; with clusters every kind is there."""
    kinds = ["早餐很难吃也很贵", "前台态度冷淡没有笑容", "房间隔音差整夜睡不着", "位置偏僻打车要很久"]
    texts = [f"{kinds[at // 25]}{at}" for at in range(100)]
    chances = 0.5 + np.arange(100) / 400
    probabilities = np.column_stack([chances, 1 - chances])
    by_margin = most_informative(texts, probabilities, 4, candidates=1)
    assert {texts[at][:4] for at in by_margin} == {"早餐很难"}
    diverse = most_informative(texts, probabilities, 4, candidates=25)
    assert {texts[at][:4] for at in diverse} == {kind[:4] for kind in kinds}


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 80), st.integers(2, 5), st.integers(0, 10**6))
def test_so_many_are_chosen_each_once_and_the_most_doubted_first(rows, count, labels, seed):
    draw = np.random.default_rng(seed)
    probabilities = draw.dirichlet(np.ones(labels), rows)
    texts = ["".join(draw.choice(list("酒店房间早餐服务位置价格"), 12)) for _ in range(rows)]
    chosen = most_informative(texts, probabilities, count, candidates=3)
    assert len(chosen) == len(set(chosen.tolist())) == min(rows, count)
    assert np.all(np.diff(margins(probabilities)[chosen]) >= 0)
    assert margins(probabilities)[chosen].max() <= np.sort(margins(probabilities))[: 3 * count].max()


def test_near_copies_of_what_is_known_are_not_new(tmp_path):
    near = small_task(tmp_path).near_duplicates
    new, there = unlike(["房间很干净，服务热情，下次还来"], ["房间很干净服务热情下次还来！", "太吵", "太吵。"], near)
    assert new.tolist() == [False, True, False] and there.tolist() == [True, False, False]


def test_a_table_without_header_stays_without(tmp_path):
    rows = "".join(f"{label},{text}\n" for label, text in reviews(120))
    (tmp_path / "t.csv").write_text(rows, encoding="utf-8")
    changes = {"columns": {"text": 2, "label": 1}, "table": {"header": False}}
    build(small_task(tmp_path, **changes), csv=tmp_path / "t.csv", out=tmp_path / "data")
    make_plan(tmp_path / "run", tmp_path / "data", LABELS, task_file=str(tmp_path / "task.yaml"))
    (tmp_path / "pool.csv").write_text("".join(f",{text.replace('，', '')}\n" for text in POOL), encoding="utf-8")
    suggest(Run.read(tmp_path / "run"), tmp_path / "pool.csv", doubting("很好"), tmp_path / "o", rows=3)
    path = tmp_path / "o" / ROWS_FILE
    text = path.read_text(encoding="utf-8-sig")
    path.write_text("\n".join("1" + line for line in text.splitlines()), encoding="utf-8")
    task = small_task(tmp_path, added=str(path), **changes)
    assert read_json(build(task, csv=tmp_path / "t.csv", out=tmp_path / "again"))["added"] == {"train": 3}
