"""`predict`: a table of any kind labelled, its columns kept, in parts that an interrupted command goes on from."""

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from data_prep.table.table_settings import TableSettings
from serve import labelling, shards, source_table
from serve.classifier import Classifier
from serve.classifier_file import Thresholds
from serve.encoding import Scored
from serve.linear import SETTINGS
from serve.predict import _source, main
from tests.prep_tables import reviews
from tests.small_bundles import LABELS, a_prompt, linear_bundle, write_file
from workspace.errors import UserError
from workspace.files import read_json, read_jsonl

HEADER = ["编号", "review", "label", "note"]
ANSWERS = ["predicted_label", "confidence", "p_正面", "p_负面", "abstained", "reason"]
ODD = [["a", "  ", "1", "空"], ["b", "", "", "=1+1"]]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return linear_bundle(tmp_path_factory.mktemp("bundle"))


def a_table(path: Path, rows: int = 40, header: list[str] | None = None) -> Path:
    lines = [[str(at), text, "好评" if value == "1" else "负面", "x"] for at, (value, text) in enumerate(reviews(rows))]
    with open(path, "w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header or HEADER, *lines[:3], *ODD, *lines[3:]])
    return path


def labelled(out: Path) -> list[dict[str, str]]:
    with open(out, encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


def predict(*words: object) -> int:
    return main([str(word) for word in words])


def test_the_columns_stay_and_every_row_keeps_its_place(tmp_path: Path, bundle: Path) -> None:
    table, out = a_table(tmp_path / "t.csv"), tmp_path / "o.csv"
    assert predict(bundle, table, "--out", out, "--label", "label") == 0
    found = labelled(out)
    assert list(found[0]) == [*HEADER, *ANSWERS]
    assert [row["编号"] for row in found] == ["0", "1", "2", "a", "b", *map(str, range(3, 40))]
    assert [row["reason"] for row in found[3:5]] == ["empty", "empty"]
    assert {row["predicted_label"] for row in found[3:5]} == {""}
    assert found[4]["note"] == "'=1+1"  # which a spreadsheet would run
    probabilities = Classifier.load(bundle).predict([row["review"] for row in found[5:]])
    assert [row["predicted_label"] for row in found[5:]] == probabilities["label"].tolist()
    assert [float(row["p_正面"]) for row in found[5:]] == probabilities["p_正面"].round(6).tolist()
    outcome = read_json(tmp_path / "o.csv.manifest.json")["outcome"]
    assert outcome["rows"] == 42 and outcome["reasons"] == {"empty": 2}
    assert outcome["agreement"]["all"]["n"] == 40  # 好评 is a synonym
    assert not (tmp_path / "o.csv.parts").exists()


def test_what_is_below_a_confidence_is_left_to_a_person(tmp_path: Path, bundle: Path) -> None:
    table, out = a_table(tmp_path / "t.csv"), tmp_path / "o.csv"
    middle = Classifier.load(bundle).predict([text for _, text in reviews(40)])["confidence"].median().round(4)
    assert predict(bundle, table, "--out", out, "--accept", middle) == 0
    rows = [row for row in labelled(out) if row["reason"] != "empty"]
    assert {row["abstained"] for row in rows} == {"true", "false"}
    for row in rows:
        below = float(row["confidence"]) < middle
        assert (row["abstained"], row["reason"]) == (("true", "below_threshold") if below else ("false", ""))
        assert row["predicted_label"] in LABELS


def write_as(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    elif path.suffix == ".parquet":
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path)
    else:
        book = openpyxl.Workbook()
        book.active.append(list(rows[0]))  # type: ignore[union-attr]
        for row in rows:
            book.active.append([str(cell) for cell in row.values()])  # type: ignore[union-attr]
        book.save(path)
    return path


@pytest.mark.parametrize("kind", [".jsonl", ".json", ".parquet", ".xlsx"])
@pytest.mark.parametrize("written", [".csv", ".parquet", ".jsonl", ".xlsx"])
def test_each_format_is_read_and_written(tmp_path: Path, bundle: Path, kind: str, written: str) -> None:
    texts = [text for _, text in reviews(5)]
    rows = [{"n": at, "review": text, "tags": ["x", str(at)]} for at, text in enumerate(texts)]
    out = tmp_path / f"o{written}"
    assert predict(bundle, write_as(tmp_path / f"t{kind}", rows), "--out", out) == 0
    wanted = Classifier.load(bundle).predict(texts)
    names = ["n", "review", "tags", "label", *ANSWERS[1:]]
    if written == ".csv":
        found: list[dict[str, Any]] = list(labelled(out))
    elif written == ".jsonl":
        found = read_jsonl(out)
        if kind in (".json", ".jsonl"):  # values stay what they are
            assert [(row["n"], row["tags"]) for row in found] == [(row["n"], row["tags"]) for row in rows]
    elif written == ".parquet":
        found = pyarrow.parquet.read_table(out).to_pylist()
        if kind == ".parquet":
            assert [(row["n"], row["tags"]) for row in found] == [(row["n"], row["tags"]) for row in rows]
    else:
        cells = list(openpyxl.load_workbook(out).active.iter_rows(values_only=True))  # type: ignore[union-attr]
        found = [dict(zip(cells[0], row, strict=True)) for row in cells[1:]]
    assert list(found[0]) == names
    assert [row["label"] for row in found] == wanted["label"].tolist()
    assert [float(row["confidence"]) for row in found] == wanted["confidence"].round(6).tolist()


class Ended(BaseException):
    pass


def test_an_interrupted_command_goes_on_after_the_last_part(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table, whole, out = a_table(tmp_path / "t.csv"), tmp_path / "whole.csv", tmp_path / "o.csv"
    monkeypatch.setattr(labelling, "SHARD", 10)
    predict(bundle, table, "--out", whole)
    add, texts = shards.Shards.add, list[str]()
    score = Classifier.score_texts

    def ending(self: shards.Shards, start: int, rows: pa.Table) -> None:
        if start == 20:
            raise Ended
        add(self, start, rows)

    monkeypatch.setattr(shards.Shards, "add", ending)
    with pytest.raises(Ended):
        predict(bundle, table, "--out", out)
    assert not out.exists() and len(list((tmp_path / "o.csv.parts").glob("rows-*"))) == 2
    monkeypatch.setattr(shards.Shards, "add", add)

    def counting(self: Classifier, given: list[str], advance: Callable[[int], object]) -> Scored:
        texts.extend(given)
        return score(self, given, advance)

    monkeypatch.setattr(Classifier, "score_texts", counting)
    capsys.readouterr()
    assert predict(bundle, table, "--out", out) == 0
    assert "going on after 20 of 42 rows" in capsys.readouterr().out
    assert len(texts) == 22
    assert out.read_bytes() == whole.read_bytes()
    assert predict(bundle, table, "--out", out) == 0
    assert "up to date" in capsys.readouterr().out


def test_no_more_rows_are_held_than_are_read_at_a_time(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the table's size, beside the part that grows: so memory does not grow with the rows."""
    table, whole, out = a_table(tmp_path / "t.csv"), tmp_path / "whole.csv", tmp_path / "o.csv"
    predict(bundle, table, "--out", whole)
    for module in (labelling, shards, source_table):
        monkeypatch.setattr(module, "BATCH", 8)
    monkeypatch.setattr(labelling, "SHARD", 20)
    score, tables, add = Classifier.score_texts, shards.Shards.tables, shards.Shards.add
    held, parts = list[int](), list[tuple[int, int]]()

    def scored(self: Classifier, texts: list[str], advance: Callable[[int], object]) -> Scored:
        held.append(len(texts))
        return score(self, texts, advance)

    def read(self: shards.Shards) -> Iterator[pa.Table]:
        for one in tables(self):
            held.append(len(one))
            yield one

    def added(self: shards.Shards, start: int, rows: pa.Table) -> None:
        parts.append((start, len(rows)))
        add(self, start, rows)

    monkeypatch.setattr(Classifier, "score_texts", scored)
    monkeypatch.setattr(shards.Shards, "tables", read)
    monkeypatch.setattr(shards.Shards, "add", added)
    predict(bundle, table, "--out", out)
    assert parts == [(0, 24), (24, 18)] and len(held) > 12 and max(held) == 8
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("labelled_too", [True, False])
def test_a_task_s_label_column_is_taken_where_the_table_has_it(tmp_path: Path, labelled_too: bool) -> None:
    """By looking at the header, for predict and next alike; one that was asked for has to be there."""
    table = tmp_path / "t.csv"
    table.write_text("review,stars\n房间很干净,1\n" if labelled_too else "review\n房间很干净\n", encoding="utf-8")
    task = SimpleNamespace(columns=SimpleNamespace(label="stars"), table=TableSettings())
    found = source_table.open_table(table, ["review"], task)
    assert found.label_at == (1 if labelled_too else None)
    assert [piece.gold for piece in found.pieces(0, 5)] == [["1"] if labelled_too else None]
    with pytest.raises(UserError, match="has no column tone"):
        source_table.open_table(table, ["review"], task, "tone")


def test_without_out_the_labelled_table_lies_beside_the_table(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "elsewhere").mkdir()
    a_table(tmp_path / "tables" / "t.csv")
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("RUN_SFT_CALLER", str(tmp_path / "elsewhere"))
    assert predict(bundle, "../tables/t.csv") == 0
    assert len(labelled(tmp_path / "tables" / "t.labelled.csv")) == 42
    assert not list((tmp_path / "elsewhere").iterdir())


def test_labels_that_the_classifier_does_not_know_are_told(
    tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(bundle, a_table(tmp_path / "t.csv"), "--out", tmp_path / "o.csv", "--label", "note") == 0
    assert "no agreement: no cell of the label column is 正面 or 负面, or a synonym" in capsys.readouterr().out
    assert predict(bundle, tmp_path / "t.csv", "--out", tmp_path / "p.csv") == 0
    assert "agreement" not in capsys.readouterr().out


def test_parts_of_another_model_table_or_option_are_refused(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, out = a_table(tmp_path / "t.csv"), tmp_path / "o.csv"
    monkeypatch.setattr(labelling, "SHARD", 10)
    add = shards.Shards.add

    def ending(self: shards.Shards, start: int, rows: pa.Table) -> None:
        if start:
            raise Ended
        add(self, start, rows)

    monkeypatch.setattr(shards.Shards, "add", ending)
    with pytest.raises(Ended):
        predict(bundle, table, "--out", out)
    monkeypatch.setattr(shards.Shards, "add", add)
    other = linear_bundle(tmp_path / "other", rows=60)
    with pytest.raises(UserError, match=r"not made with this classifier: name another --out"):
        predict(other, table, "--out", out)
    prompt = linear_bundle(tmp_path / "prompt", prompt=a_prompt(max_length=64))
    with pytest.raises(UserError, match="not made with this classifier and this prompt"):
        predict(prompt, table, "--out", out)
    with pytest.raises(UserError, match="not made with these options"):
        predict(bundle, table, "--out", out, "--accept", "0.9")
    a_table(table, rows=41)
    with pytest.raises(UserError, match="not made with this table and these rows"):
        predict(bundle, table, "--out", out)


def test_a_finished_file_is_never_replaced_by_another_s(tmp_path: Path, bundle: Path) -> None:
    table, out = a_table(tmp_path / "t.csv"), tmp_path / "o.csv"
    predict(bundle, table, "--out", out)
    before = out.read_bytes()
    with pytest.raises(UserError, match="not made with these options"):
        predict(bundle, table, "--out", out, "--accept", "0.9")
    with pytest.raises(UserError, match="is the table itself"):
        predict(bundle, table, "--out", table)
    (tmp_path / "mine.csv").write_text("mine")
    with pytest.raises(UserError, match="is there already, and was not made here"):
        predict(bundle, table, "--out", tmp_path / "mine.csv")
    with pytest.raises(UserError, match=r"ends in none of \.csv"):
        predict(bundle, table, "--out", tmp_path / "o.doc")
    assert out.read_bytes() == before


def test_a_labelled_table_that_was_edited_is_not_written_over(tmp_path: Path, bundle: Path) -> None:
    table, out = a_table(tmp_path / "t.csv"), tmp_path / "o.csv"
    predict(bundle, table, "--out", out)
    with open(out, "a", encoding="utf-8") as stream:
        stream.write("looked at,by a person\n")
    edited = out.read_bytes()
    with pytest.raises(UserError, match="was changed since it was made: name another --out"):
        predict(bundle, table, "--out", out)
    assert out.read_bytes() == edited


def test_what_is_cut_off_before_its_table_is_in_place_goes_on(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, out = a_table(tmp_path / "t.csv"), tmp_path / "o.csv"
    monkeypatch.setattr("serve.predict.os.replace", lambda *given: (_ for _ in ()).throw(Ended))
    with pytest.raises(Ended):
        predict(bundle, table, "--out", out)
    monkeypatch.undo()
    assert not out.exists()
    assert predict(bundle, table, "--out", out) == 0
    assert len(labelled(out)) == 42 and not (tmp_path / "o.csv.parts").exists()


def test_a_part_beyond_a_gap_is_taken_away_too(tmp_path: Path, bundle: Path) -> None:
    table, out = a_table(tmp_path / "t.csv"), tmp_path / "o.csv"
    made = shards.Made("a", "b", "c", {}, 4)
    with shards.Shards.opened(tmp_path / "parts", made) as parts:
        for start in (0, 1, 3):
            parts.add(start, pa.table({"x": [1, 2]}))
        assert parts.done == 2
        parts.remove()
    assert not (tmp_path / "parts").exists()
    assert predict(bundle, table, "--out", out) == 0


def test_what_a_task_says_of_its_own_table_is_not_forced_on_another(tmp_path: Path) -> None:
    """A table in UTF-8 is read as such, though the task's own is in GB 18030; one that needs the task's word has it."""
    other, own = tmp_path / "other.csv", tmp_path / "own.csv"
    other.write_text("review\n房间很干净\n", encoding="utf-8")
    own.write_text("review||x\n房间很干净||1\n", encoding="gb18030")
    columns = SimpleNamespace(text=("review",), label="label")
    task = SimpleNamespace(columns=columns, table=TableSettings(encoding="gb18030", delimiter="||"))
    classifier = SimpleNamespace(
        file=SimpleNamespace(prompt=SimpleNamespace(columns=("review",))), finished=SimpleNamespace(task=task)
    )
    for table in (other, own):
        source = _source(classifier, SimpleNamespace(table=table, columns=None, label=None, keys=()))
        assert [text for piece in source.pieces(0, 10) for text in piece.texts] == ["房间很干净"]


def test_a_damaged_part_ends_the_command(tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, out = a_table(tmp_path / "t.csv"), tmp_path / "o.csv"
    monkeypatch.setattr(labelling, "SHARD", 10)
    monkeypatch.setattr("serve.predict.write_labelled", lambda *given: (_ for _ in ()).throw(Ended))
    with pytest.raises(Ended):
        predict(bundle, table, "--out", out)
    monkeypatch.undo()
    part = sorted((tmp_path / "o.csv.parts").glob("rows-*"))[1]
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(UserError, match=r"cannot be read .*: remove it, and run again"):
        predict(bundle, table, "--out", out)
    assert not out.exists()
    part.unlink()
    assert predict(bundle, table, "--out", out) == 0
    assert len(labelled(out)) == 42


def test_a_table_of_other_columns_is_one_sentence(tmp_path: Path, bundle: Path) -> None:
    table = a_table(tmp_path / "t.csv", header=["编号", "评论", "label", "note"])
    with pytest.raises(UserError, match=r"has no column review.*--columns"):
        predict(bundle, table)
    with pytest.raises(UserError, match="names 2 columns"):
        predict(bundle, table, "--columns", "评论", "note")
    assert predict(bundle, table, "--columns", "评论", "--out", tmp_path / "o.csv") == 0
    with pytest.raises(UserError, match="expected a probability from 0 to 1"):
        predict(bundle, table, "--accept", "95")


def test_names_that_are_there_twice_stay_two_columns(tmp_path: Path, bundle: Path) -> None:
    table = a_table(tmp_path / "t.csv", header=["n", "review", "n", "confidence"])
    predict(bundle, table, "--out", tmp_path / "o.csv")
    header = (tmp_path / "o.csv").read_text("utf-8-sig").splitlines()[0]
    assert header == "n,review,n,confidence,label,predicted_confidence,p_正面,p_负面,abstained,reason"
    predict(bundle, table, "--out", tmp_path / "o.parquet")
    names = pyarrow.parquet.read_schema(tmp_path / "o.parquet").names
    assert names[:4] == ["n", "review", "n_3", "confidence"]


def test_drift_is_told_and_can_fail(tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "t.csv"
    table.write_text("review\n" + "".join(f"{text}\n" for value, text in reviews(400) if value == "1"), "utf-8")
    assert predict(bundle, table, "--out", tmp_path / "o.csv", "--fail-on-drift") == 3
    assert "another population by its labels" in capsys.readouterr().out
    assert predict(bundle, table, "--out", tmp_path / "o.csv", "--fail-on-drift") == 3  # it is up to date, and says so
    assert predict(bundle, table, "--out", tmp_path / "o.csv") == 0


def test_an_earlier_classifier_is_compared_on_the_same_rows(
    tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, earlier = a_table(tmp_path / "t.csv", rows=200), linear_bundle(tmp_path / "earlier", rows=6)
    words = (bundle, table, "--out", tmp_path / "o.csv", "--label", "label", "--compare", earlier)
    assert predict(*words) == 0
    told = capsys.readouterr().out
    assert "on 200 rows accuracy is" in told and "mid-p McNemar" in told
    found = read_json(tmp_path / "o.csv.manifest.json")["outcome"]["comparison"]
    assert found["n"] == 200 and found["code"] in ("better", "worse", "equivalent", "undecided")
    assert not list(tmp_path.glob("*.parts*"))
    with pytest.raises(UserError, match="needs a table with right labels"):
        predict(bundle, table, "--out", tmp_path / "p.csv", "--compare", earlier)


def test_another_classifier_at_the_same_place_is_compared_anew(tmp_path: Path, bundle: Path) -> None:
    """Its labels may be called otherwise: the table's are read as the newer one reads them."""
    table = a_table(tmp_path / "t.csv", rows=60)
    earlier = linear_bundle(tmp_path / "earlier", rows=6, synonyms={})
    words = (bundle, table, "--out", tmp_path / "o.csv", "--label", "label", "--compare", earlier)
    assert predict(*words) == 0
    assert read_json(tmp_path / "o.csv.manifest.json")["outcome"]["comparison"]["n"] == 60
    linear_bundle(tmp_path / "earlier", rows=30)
    with pytest.raises(UserError, match="not made with these options"):
        predict(*words)


def test_columns_in_another_order_are_not_compared(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("title,body,label\n很好,房间很干净,正面\n不好,再也不来了,负面\n", encoding="utf-8")
    one = linear_bundle(tmp_path / "one", prompt=a_prompt(columns=("title", "body")))
    other = linear_bundle(tmp_path / "other", prompt=a_prompt(columns=("body", "title")))
    with pytest.raises(UserError, match="or in another order: body, title"):
        predict(one, table, "--out", tmp_path / "o.csv", "--label", "label", "--compare", other)


def test_where_no_threshold_was_found_it_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = linear_bundle(tmp_path / "b", thresholds=Thresholds(target=0.95))
    table = a_table(tmp_path / "t.csv")
    assert predict(found, table, "--out", tmp_path / "o.csv") == 0
    assert "95% of the labels are right: have all of them checked, or set --accept" in capsys.readouterr().out
    assert predict(found, table, "--out", tmp_path / "p.csv", "--accept", "0.9") == 0
    assert "have all of them checked" not in capsys.readouterr().out


def test_numbers_of_the_user_stay_numbers(tmp_path: Path, bundle: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("review,delta,lon\n房间很干净,-5,-73.99\n再也不来了,+1e-3,=1+1\n", encoding="utf-8")
    assert predict(bundle, table, "--out", tmp_path / "o.csv") == 0
    assert [(row["delta"], row["lon"]) for row in labelled(tmp_path / "o.csv")] == [
        ("-5", "-73.99"),
        ("+1e-3", "'=1+1"),
    ]


@pytest.mark.parametrize("given", [(), ("--table", "header=false"), ("--columns", "2")])
def test_a_classifier_of_a_table_without_a_header_labels_such_tables(tmp_path: Path, given: tuple[str, ...]) -> None:
    found = linear_bundle(tmp_path / "b", prompt=a_prompt(columns=("2",)))
    table = tmp_path / "t.csv"
    texts = [text.replace("，", "") for _, text in reviews(12)]
    table.write_text("".join(f"{at},{text}\n" for at, text in enumerate(texts)), encoding="utf-8")
    assert predict(found, table, "--out", tmp_path / "o.csv", *given) == 0
    wanted = Classifier.load(found).predict(texts)
    with open(tmp_path / "o.csv", encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.reader(stream))[1:]
    assert [row[2] for row in rows] == wanted["label"].tolist()


def test_what_the_task_says_of_sheets_and_quotes_counts_for_its_next_tables(tmp_path: Path) -> None:
    book, plain = tmp_path / "book.xlsx", tmp_path / "t.csv"
    with pd.ExcelWriter(book) as writer:
        for name, text in (("2023", "房间很干净"), ("2024", "再也不来了")):
            pd.DataFrame({"review": [text], "label": ["1"]}).to_excel(writer, sheet_name=name, index=False)
    plain.write_text('review,label\n"房间,1\n很干净,1\n再也"不来,0\n', encoding="utf-8")
    columns = SimpleNamespace(text=("review",), label="label")
    for table, settings, rows in ((book, {"sheet": "all"}, 2), (plain, {"quoting": False}, 3)):
        task = SimpleNamespace(columns=columns, table=TableSettings(**settings))
        assert source_table.open_table(table, ["review"], task).rows == rows
    assert source_table.open_table(book, ["review"], settings=TableSettings(sheet="2024")).rows == 1


def test_a_bundle_that_was_changed_is_refused(tmp_path: Path) -> None:
    bundle = linear_bundle(tmp_path / "bundle")
    (bundle / SETTINGS).write_bytes((bundle / SETTINGS).read_bytes() + b" ")
    with pytest.raises(UserError, match="was changed since it was exported"):
        predict(bundle, a_table(tmp_path / "t.csv"))
    with pytest.raises(UserError, match="is not a run folder"):
        predict(tmp_path, tmp_path / "t.csv")
    write_file(bundle, reading="linear", kind=None)
    assert predict(bundle, tmp_path / "t.csv", "--out", tmp_path / "o.csv") == 0
