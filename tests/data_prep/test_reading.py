"""Tables as users have them: encodings, formats, line ends, and every fault told with its line."""

import json
import os
import zipfile
from datetime import datetime

import numpy as np
import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from data_prep.table.reading import read_table, read_tables
from data_prep.table.table_settings import Columns, OwnSplits
from tests.prep_tables import small_task
from workspace.errors import UserError

COLUMNS = Columns(text=("review",), label="label")
CASES = int(os.environ.get("PREP_FUZZ_CASES", "1100"))  # of each of the two fuzz tests
ROWS = [("1", "很好，“不错”"), ("0", "房间太小\n空调坏了"), ("1", 'he said ""ok""')]
TEXTS = ["很好，“不错”", "房间太小\n空调坏了", 'he said "ok"']


def csv_of(rows=ROWS, delimiter=",", end="\n"):
    return f"label{delimiter}review{end}" + "".join(f'{label}{delimiter}"{text}"{end}' for label, text in rows)


def read(tmp_path, content, name="table.csv", columns=COLUMNS):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(path, columns)


@pytest.mark.parametrize(
    ("encoding", "told"),
    [("utf-8", "utf-8"), ("utf-8-sig", "utf-8-sig"), ("gbk", "gb18030"), ("gb18030", "gb18030"), ("utf-16", "utf-16")],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends(tmp_path, encoding, told, end):
    table = read(tmp_path, csv_of(end=end).encode(encoding))
    assert table.encoding.name == told
    assert table.encoding.fault is None
    assert table.frame["text"].tolist() == TEXTS
    assert table.frame["label"].tolist() == ["1", "0", "1"]
    assert table.frame["row"].tolist() == [1, 2, 3]
    assert table.frame["line"].tolist() == [2, 3, 5]


def test_mixed_line_ends_blank_lines_and_more_columns(tmp_path):
    table = read(tmp_path, "\n id , label ,review\r\n7,1,好\n\n\r8,0,差\r\n\n9,1,很好")
    assert table.frame["text"].tolist() == ["好", "差", "很好"]
    assert table.frame["line"].tolist() == [3, 6, 8]


@pytest.mark.parametrize(("name", "delimiter"), [("t.tsv", "\t"), ("t.csv", "\t"), ("t.csv", ";"), ("t.TXT", ",")])
def test_delimiters(tmp_path, name, delimiter):
    assert read(tmp_path, csv_of(delimiter=delimiter), name).frame["text"].tolist() == TEXTS


def test_values_stay_as_they_are(tmp_path):
    table = read(tmp_path, "label,review\n01,NA\n1.0,null\n, \n1e3,\u2028\n")
    assert table.frame["label"].tolist() == ["01", "1.0", "", "1e3"]
    assert table.frame["text"].tolist() == ["NA", "null", " ", "\u2028"]


def test_nul_characters_are_taken_out_and_counted(tmp_path):
    table = read(tmp_path, b"label,re\0view\n1,\0a\0b\n0,c\n")
    assert table.frame["text"].tolist() == ["ab", "c"]
    assert table.nul_characters == 3


def test_rows_that_a_stray_quote_swallows_are_told(tmp_path):
    swallowed = "".join(f"{n % 2},第{n}条\n" for n in range(30))
    with pytest.raises(UserError, match=r"line 3: a quote that opens here and closes at line 33 makes one text of 31"):
        read(tmp_path, f'label,review\n1,好\n0,"差\n{swallowed.rstrip()}"\n')


def test_a_quote_left_open_is_told_where_it_began(tmp_path):
    with pytest.raises(UserError, match="line 3: a quote in this row is closed too early or too late"):
        read(tmp_path, 'label,review\n1,好\n0,"差\n1,中\n1,"好"\n')


def test_jsonl(tmp_path):
    lines = [{"review": "好\u2028的", "label": 1}, {"label": None, "review": "a\0b"}, {"label": 1.0, "review": 5}]
    table = read(tmp_path, "\n\n".join(json.dumps(line) for line in lines), "t.jsonl")
    assert table.frame["text"].tolist() == ["好\u2028的", "ab", "5"]
    assert table.frame["label"].tolist() == ["1", "", "1.0"]
    assert table.frame["line"].tolist() == [1, 3, 5]
    assert table.nul_characters == 1


def test_half_a_character_in_jsonl_is_marked(tmp_path):
    table = read(
        tmp_path, r'{"label": "1", "review": "a\ud800"}' + "\n" + '{"label": "1", "review": "b\ufffd"}', "t.jsonl"
    )
    assert table.frame["undecodable"].tolist() == [True, True]


def test_excel(tmp_path):
    path = tmp_path / "t.xlsx"
    pd.DataFrame({"id": [1, 2, 3], "label": [1, 0, None], "review": ["好\n的", None, "NA"]}).to_excel(path, index=False)
    table = read_table(path, COLUMNS)
    assert table.frame["text"].tolist() == ["好\n的", "", "NA"]
    assert [label.removesuffix(".0") for label in table.frame["label"]] == ["1", "0", ""]
    assert table.frame["line"].tolist() == [2, 3, 4]
    assert table.encoding is None


@pytest.mark.parametrize("labels", [[1, 0, None], ["1", "0", None], [1.0, 0.0, None]])
def test_parquet(tmp_path, labels):
    path = tmp_path / "t.parquet"
    pd.DataFrame({"id": [1, 2, 3], "label": labels, "review": ["好\0", None, "NA"]}).to_parquet(path)
    table = read_table(path, COLUMNS)
    assert table.frame["text"].tolist() == ["好", "", "NA"]
    assert [label.removesuffix(".0") for label in table.frame["label"]] == ["1", "0", ""]
    assert table.frame["line"].tolist() == [0, 0, 0]
    assert table.nul_characters == 1


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("t.csv", b"", "is empty: expected a header"),
        ("t.csv", b"\xef\xbb\xbf\n\n", "is empty: expected a header"),
        ("t.csv", b"label,review\n", "has a header but no rows"),
        ("t.csv", b"label,reviews\n1,a\n", "no column review, did you mean reviews?; found: label, reviews"),
        ("t.csv", b"1,a\n0,b\n", "no column review and no column label; found: 1, a"),
        ("t.csv", b"label,review,review\n1,a,b\n", "the column review is in the header twice"),
        ("t.csv", b"label,review\n1,a\n0\n", "line 3: found 1 fields, expected 2 as in the header: add"),
        (
            "t.csv",
            b'label,review\n1,"a\nb"\n0,b,c\n',
            "line 4: found 3 fields, expected 2 as in the header: put a field",
        ),
        ("t.csv", b'label,review\n1,"a"b\n0,"c"\n', "line 2: a quote in this row is closed too early or too late"),
        ("t.csv", b'label,review\n1,a\n0,"b\nc\n\n', "line 3: a quote is opened in this row and never closed"),
        ("t.csv", b'"label,review\n1,a\n', 'has no column label, did you mean "label?'),
        ("t.doc", b"x", "of an unknown kind: expected a name that ends in .csv"),
        ("t.jsonl", b'{"label": 1, "review": "a"}\n{"label": 1,\n', "line 2: not valid JSON"),
        ("t.jsonl", b"[1]\n", "line 1: expected a JSON object"),
        ("t.jsonl", b'{"label": 1, "review": ["a"]}\n', "line 1: review is a list, expected text"),
        ("t.jsonl", b'{"label": 1, "review": "a"}\n{"label": 1}\n', "line 2: has no review; found: label"),
        ("t.jsonl", b'{"label": 1, "text": "a"}\n', "no column review; found: label, text"),
        ("t.jsonl", b"[" * 100_000, "line 1: not valid JSON"),
        ("t.jsonl", b'{"label": ' + b"9" * 5000 + b', "review": "a"}', "line 1: not valid JSON"),
        ("t.xlsx", b"not a workbook", "cannot be read as excel"),
        ("t.parquet", b"not a table", "cannot be read as parquet"),
    ],
)
def test_faults_are_told_with_file_and_line(tmp_path, name, content, told):
    with pytest.raises(UserError) as caught:
        read(tmp_path, content, name)
    assert str(tmp_path / name) in str(caught.value)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_columns_of_excel_and_parquet(tmp_path):
    frame = pd.DataFrame({"标签": ["1"], "评论": ["好"]})
    frame.to_excel(tmp_path / "t.xlsx", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    for name in ("t.xlsx", "t.parquet"):
        with pytest.raises(UserError, match="no column review and no column label; found: 标签, 评论"):
            read_table(tmp_path / name, COLUMNS)
        assert read_table(tmp_path / name, Columns(text=("评论",), label="标签")).frame["text"].tolist() == ["好"]


def test_lists_in_parquet_are_refused(tmp_path):
    pd.DataFrame({"label": ["1"], "review": [["a", "b"]]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(UserError, match="the column review holds mixed values"):
        read_table(tmp_path / "t.parquet", COLUMNS)


def test_no_file_a_folder_and_no_permission(tmp_path):
    with pytest.raises(UserError, match=r"gone\.csv cannot be read \(No such file"):
        read_table(tmp_path / "gone.csv", COLUMNS)
    with pytest.raises(UserError, match="is a folder"):
        read_table(tmp_path, COLUMNS)


def test_bytes_of_no_encoding_mark_their_rows_and_no_others(tmp_path):
    good = "".join(f"{n % 2},第{n}条\n" for n in range(50))
    for encoding in ("utf-8", "gb18030"):
        content = ("label,review\n" + good).encode(encoding) + b"1,\xff\xff bad\n" + good.encode(encoding)
        table = read(tmp_path, content)
        assert table.encoding.name == encoding
        assert table.encoding.fault == (52, content.index(b"\xff"))
        assert table.frame.index[table.frame["undecodable"]].tolist() == [50]
        assert table.frame["line"][50] == 52


@settings(max_examples=CASES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.binary(max_size=200),
        st.text(alphabet=st.sampled_from('好差1,"\n\r\t;\0\ufeff\ud800 a'), max_size=80).map(
            lambda text: b"label,review\n" + text.encode("utf-8", "surrogatepass")
        ),
        st.binary(max_size=60).map(lambda tail: "label,review\n1,很好\n0,".encode("gbk") + tail),
    ),
    st.sampled_from(["t.csv", "t.tsv", "t.jsonl"]),
)
@example(b"\xff\xfe", "t.csv")
@example(b"\xff\xfel", "t.csv")
@example(b"label,review\r\r1,a", "t.csv")
def test_any_bytes_give_a_table_or_one_sentence(tmp_path, content, name):
    try:
        table = read(tmp_path, content, name)
    except UserError as error:
        assert name in str(error)
        return
    frame = table.frame
    assert len(frame) > 0
    assert frame["row"].tolist() == list(range(1, len(frame) + 1))
    assert frame["line"].is_monotonic_increasing
    assert not any("\0" in text for text in frame["text"])


@settings(max_examples=CASES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["0", "1"]),
            st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=30),
        ),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from(["utf-8", "utf-8-sig", "gb18030"]),
)
def test_what_was_written_is_read(tmp_path, rows, encoding):
    # Characters of any kind may be no text of a language in GB18030: then the encoding is asked for.
    content = "label,review\n" + "".join(f'{label},"{text.replace(chr(34), chr(34) * 2)}"\n' for label, text in rows)
    try:
        table = read(tmp_path, (content + '1,"很好的酒店"\n').encode(encoding))
    except UserError as error:
        assert encoding == "gb18030" and "its encoding is not clear" in str(error)
        return
    assert list(zip(table.frame["label"], table.frame["text"], strict=True)) == [*rows, ("1", "很好的酒店")]


def workbook(path, rows, **cells):
    """A workbook of `rows`, with single cells put in by their name."""
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    for place, value in cells.items():
        book.active[place] = value
    book.save(path)
    return path


@pytest.mark.parametrize("cell", ["XFD1048576", "A1048576", "XFD3"])
def test_a_stray_cell_far_off_is_no_part_of_the_table(tmp_path, cell):
    """It would make the sheet 17 billion cells large."""
    rows = [["id", "label", "review"], [1, 1, "好"], [2, 0, "差"]]
    path = workbook(tmp_path / "t.xlsx", rows, **{cell: "x"})
    frame = read_table(path, COLUMNS).frame
    assert (frame["text"].tolist(), frame["label"].tolist(), frame["line"].tolist()) == (
        ["好", "差"],
        ["1", "0"],
        [2, 3],
    )


def test_rows_of_empty_cells_are_no_rows(tmp_path):
    path = workbook(tmp_path / "t.xlsx", [["label", "review"], [1, "好"], [], [None, "差"], [], [None, " "], []])
    frame = read_table(path, COLUMNS).frame
    assert frame["text"].tolist() == ["好", "差", " "] and frame["line"].tolist() == [2, 4, 6]


def test_cells_of_every_kind_are_text(tmp_path):
    values = [1, 1.0, 1.5, True, datetime(2024, 1, 2), 10**20, "#N/A"]
    path = workbook(tmp_path / "t.xlsx", [["label", "review"], *([one, "好"] for one in values)])
    labels = read_table(path, COLUMNS).frame["label"].tolist()
    assert labels == ["1", "1", "1.5", "True", "2024-01-02 00:00:00", "100000000000000000000", ""]


def test_a_workbook_that_unpacks_to_more_than_memory_holds_is_one_sentence(tmp_path):
    """Some hundred kilobytes of zeros, which are half a gigabyte."""
    path = workbook(tmp_path / "t.xlsx", [["label", "review"], [1, "好"]])
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("xl/bomb.xml", "w") as part:
        for _ in range(129):
            part.write(bytes(2**22))
    assert path.stat().st_size < 1_000_000
    with pytest.raises(UserError, match=r"t\.xlsx unpacks to 0\.5 GiB, expected at most 0\.5: save the columns as"):
        read_table(path, COLUMNS)


def test_a_sheet_of_too_many_cells_is_one_sentence(tmp_path, monkeypatch):
    path = workbook(tmp_path / "t.xlsx", [["label", "review"], *[[1, "好", 3, 4]] * 30])
    monkeypatch.setattr("data_prep.table.binary.MOST_CELLS", 100)
    with pytest.raises(UserError, match=r"t\.xlsx has more than 100 cells: save the columns as CSV"):
        read_table(path, COLUMNS)


def test_a_parquet_file_that_unpacks_to_more_than_memory_holds_is_one_sentence(tmp_path):
    """One text of 120 kB, which stands in 20,000 rows and in the file once."""
    places = pa.array(np.zeros(20_000, np.int32))
    columns = {"label": pa.DictionaryArray.from_arrays(places, ["1"])}
    columns["review"] = pa.DictionaryArray.from_arrays(places, ["好" * 40_000])
    pa.parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    assert (tmp_path / "t.parquet").stat().st_size < 1_000_000
    with pytest.raises(UserError, match=r"t\.parquet unpacks to .* GiB, expected at most 0\.5"):
        read_table(tmp_path / "t.parquet", COLUMNS)


def test_rows_that_span_lines_are_no_reason_for_a_warning(tmp_path):
    lines = "好\n" * 30
    text = "label,review\n" + "".join(f'1,"{lines}{n}"\n' for n in range(3000))
    table = read(tmp_path, text.encode(), "t.csv")
    assert table.warnings == () and len(table.frame) == 3000


OWN = OwnSplits(column="part")


def test_several_text_columns_an_id_and_a_split_column(tmp_path):
    content = "no,part,title,label,review\nA7,train,好,1,房间大\nA8,DEV,,0,差\nA9,test,贵,0, \n"
    (tmp_path / "t.csv").write_text(content)
    columns = Columns(text=("title", "review"), label="label", id="no")
    frame = read_table(tmp_path / "t.csv", columns, None, OWN).frame
    assert frame["text"].tolist() == ["好\n房间大", "差", "贵"]
    assert frame["{title}"].tolist() == ["好", "", "贵"] and frame["{review}"].tolist() == ["房间大", "差", " "]
    assert frame["id"].tolist() == ["A7", "A8", "A9"] and frame["split"].tolist() == ["train", "val", "test"]
    numbered = read_table(tmp_path / "t.csv", Columns(text=(3, 5), label=4, id=1), None, OWN).frame
    assert numbered["text"].tolist() == frame["text"].tolist() and numbered["{5}"].tolist() == ["房间大", "差", " "]


def test_a_value_that_names_no_split_is_told_and_its_remedy_works(tmp_path):
    (tmp_path / "t.csv").write_text("part,label,review\ntrain,1,a\nholdout,0,b\n")
    with pytest.raises(UserError, match=r"t.csv, line 3: the split column part .* no split: 'holdout'; known are"):
        read_table(tmp_path / "t.csv", COLUMNS, None, OWN)
    own = OwnSplits(column="part", values={"train": ["train"], "test": ["Holdout"]})
    assert read_table(tmp_path / "t.csv", COLUMNS, None, own).frame["split"].tolist() == ["train", "test"]


def test_a_file_for_each_split(tmp_path):
    for name, rows in {"train": "1,a\n0,b\n", "test": "1,c\n"}.items():
        (tmp_path / f"{name}.csv").write_text("label,review\n" + rows)
    files = {name: str(tmp_path / f"{name}.csv") for name in ("train", "test")}
    table = read_tables(None, small_task(tmp_path, split={"files": files}))
    assert table.frame["split"].tolist() == ["train", "train", "test"] and table.frame["row"].tolist() == [1, 2, 3]
    assert table.frame["line"].tolist() == [2, 3, 2]
