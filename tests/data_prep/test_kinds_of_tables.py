"""Tables as people have them, each kind made here: read right, or stopped with a sentence whose remedy reads it."""

import gzip
import io
import json
import re

import openpyxl
import pandas as pd
import pytest

from data_prep.table.look import look_at
from data_prep.table.reading import read_table
from data_prep.table.table_settings import Columns, TableSettings
from workspace.errors import UserError

ZH = [
    ("1", "房间很大，服务也不错"),
    ("0", "早餐太差，隔音不好"),
    ("1", "位置很方便，下次还来"),
    ("0", "前台的态度很差"),
] * 5
TW = [
    ("1", "這家飯店的房間很乾淨"),
    ("0", "早餐不錯，但是房間太小了"),
    ("1", "離捷運站很近，推薦給大家"),
    ("0", "櫃檯人員態度很差"),
] * 5
EN = [
    ("ham", "It’s “great” value for £30 – don’t miss it"),
    ("spam", "You have won £1,000 and a prize"),
    ("ham", "I was not there…"),
    ("spam", "Call now for the offer"),
] * 5
FR = [
    ("1", "L’hôtel était très agréable et le petit déjeuner aussi"),
    ("0", "Pas très propre, la chambre sentait mauvais"),
] * 5
JA = [("1", "とても良いホテルでした。朝食もおいしかったです。"), ("0", "部屋がとても狭くて残念でした")] * 5
KO = [("1", "호텔이 아주 좋았습니다. 조식도 맛있어요"), ("0", "방이 너무 작고 시끄러웠어요")] * 5
RU = [("1", "Очень хороший отель и вкусный завтрак"), ("0", "Мне совсем не понравилось")] * 5
CZ = [("1", "Velmi příjemný hotel a výborná snídaně"), ("0", "Pokoj byl špinavý a příliš malý")] * 5
PLAIN = [(str(n % 2), f"this is the text of row {n}") for n in range(20)]
SPANNING = [("1", "good\nreally, good\n\n\nyes"), ("0", "bad\n1. dirty\n2. loud"), ("1", 'he said "fine"')] * 5
COLUMNS = Columns(text=("review",), label="label")
NUMBERS = Columns(text=(2,), label=1)


def quoted(text, delimiter=","):
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in (delimiter, '"', "\n", "\r")) else text


def csv_of(rows, delimiter=",", header="label,review", end="\n", quote=quoted):
    lines = [f"{label}{delimiter}{quote(text, delimiter)}" for label, text in rows]
    head = [header.replace(",", delimiter)] if header else []
    return end.join([*head, *lines, ""])


def bare(text, delimiter):
    return text


def all_quoted(text, delimiter):
    return '"' + text.replace('"', '""') + '"'


def workbook(*sheets, merged=()):
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets:
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    for area in merged:
        book.worksheets[0].merge_cells(area)
    stream = io.BytesIO()
    book.save(stream)
    return stream.getvalue()


def parquet(rows):
    stream = io.BytesIO()
    pd.DataFrame(rows, columns=["label", "review"]).to_parquet(stream)
    return stream.getvalue()


def jsonl(rows):
    return "".join(json.dumps({"label": label, "review": text}, ensure_ascii=False) + "\n" for label, text in rows)


def messages(rows):
    turns = ([{"role": "user", "content": text}, {"role": "assistant", "content": label}] for label, text in rows)
    return "".join(json.dumps({"messages": one}, ensure_ascii=False) + "\n" for one in turns)


HEAD = ["label", "review"]
SWALLOWED = [(label, f'"{text}' if n == 3 else f'{text}"' if n == 9 else text) for n, (label, text) in enumerate(PLAIN)]
ZH_WORDS = [("好评" if one == "1" else "差评", text) for one, text in ZH]
PARTLY = [(label, f'"{text[:4]}" {text[4:]}') for label, text in PLAIN]
COMMAS = [(label, text.replace(" of ", ", of ")) for label, text in PLAIN]

# name -> (file's name, its content, keys of `table:`, columns, rows)
READ = {
    "UTF-8": ("t.csv", csv_of(ZH), {}, COLUMNS, ZH),
    "UTF-8 with its mark": ("t.csv", csv_of(ZH).encode("utf-8-sig"), {}, COLUMNS, ZH),
    "UTF-16 little-endian with its mark": ("t.csv", b"\xff\xfe" + csv_of(ZH).encode("utf-16-le"), {}, COLUMNS, ZH),
    "UTF-16 big-endian with its mark": ("t.csv", b"\xfe\xff" + csv_of(ZH).encode("utf-16-be"), {}, COLUMNS, ZH),
    "UTF-16 little-endian without": ("t.csv", csv_of(ZH).encode("utf-16-le"), {}, COLUMNS, ZH),
    "UTF-16 big-endian without": ("t.csv", csv_of(ZH).encode("utf-16-be"), {}, COLUMNS, ZH),
    "UTF-16 without its mark, English": ("t.csv", csv_of(EN).encode("utf-16-le"), {}, COLUMNS, EN),
    "UTF-16 of Excel's Unicode text": ("t.txt", csv_of(ZH, "\t").encode("utf-16"), {}, COLUMNS, ZH),
    "UTF-32": ("t.csv", csv_of(ZH).encode("utf-32"), {}, COLUMNS, ZH),
    "GBK": ("t.csv", csv_of(ZH).encode("gbk"), {}, COLUMNS, ZH),
    "GB18030": ("t.csv", csv_of([*ZH, ("1", "好㐂𠮷")]).encode("gb18030"), {}, COLUMNS, [*ZH, ("1", "好㐂𠮷")]),
    "GBK, Traditional": ("t.csv", csv_of(TW).encode("gbk"), {}, COLUMNS, TW),
    "GBK, two short rows": (
        "t.csv",
        csv_of([("1", "好的"), ("0", "不好")]).encode("gbk"),
        {},
        COLUMNS,
        [("1", "好的"), ("0", "不好")],
    ),
    "Big5": ("t.csv", csv_of(TW).encode("cp950"), {}, COLUMNS, TW),
    "Big5 with Hong Kong's characters": (
        "t.csv",
        csv_of([*TW, ("1", "嘅咗喺")]).encode("big5hkscs"),
        {},
        COLUMNS,
        [*TW, ("1", "嘅咗喺")],
    ),
    "Windows-1252, English": ("t.csv", csv_of(EN).encode("cp1252"), {}, COLUMNS, EN),
    "Windows-1252, French": ("t.csv", csv_of(FR).encode("cp1252"), {}, COLUMNS, FR),
    "Latin-1": (
        "t.csv",
        csv_of([(one, text.replace("’", "'")) for one, text in FR]).encode("latin-1"),
        {},
        COLUMNS,
        [(one, text.replace("’", "'")) for one, text in FR],
    ),
    "Shift-JIS": ("t.csv", csv_of(JA).encode("cp932"), {}, COLUMNS, JA),
    "EUC-JP": ("t.csv", csv_of(JA).encode("euc_jp"), {}, COLUMNS, JA),
    "EUC-KR": ("t.csv", csv_of(KO).encode("cp949"), {}, COLUMNS, KO),
    "Windows-1251 by key": ("t.csv", csv_of(RU).encode("cp1251"), {"encoding": "cp1251"}, COLUMNS, RU),
    "tabs": ("t.tsv", csv_of(PLAIN, "\t"), {}, COLUMNS, PLAIN),
    "tabs in a .csv": ("t.csv", csv_of(COMMAS, "\t"), {}, COLUMNS, COMMAS),
    "semicolons": ("t.csv", csv_of(COMMAS, ";"), {}, COLUMNS, COMMAS),
    "bars": ("t.csv", csv_of(COMMAS, "|"), {}, COLUMNS, COMMAS),
    "two bars": ("t.csv", csv_of(COMMAS, "||"), {}, COLUMNS, COMMAS),
    "two colons": ("t.txt", csv_of(COMMAS, "::"), {}, COLUMNS, COMMAS),
    "a delimiter by key": ("t.txt", csv_of(COMMAS, " ||| "), {"delimiter": " ||| "}, COLUMNS, COMMAS),
    "a quoted delimiter of two characters": (
        "t.csv",
        csv_of([("1", "a || b"), ("0", 'c "d"')], "||"),
        {},
        COLUMNS,
        [("1", "a || b"), ("0", 'c "d"')],
    ),
    "Excel's sep=; line": ("t.csv", "sep=;\r\n" + csv_of(COMMAS, ";", end="\r\n"), {}, COLUMNS, COMMAS),
    "trailing commas": ("t.csv", csv_of(PLAIN, end=",,\n"), {}, COLUMNS, PLAIN),
    "trailing commas below the header alone": (
        "t.csv",
        csv_of(PLAIN, end=",\n").replace(",\n", "\n", 1),
        {},
        COLUMNS,
        PLAIN,
    ),
    "trailing comma of the header alone": ("t.csv", csv_of(PLAIN).replace("\n", ",\n", 1), {}, COLUMNS, PLAIN),
    "blank lines and lines of commas": ("t.csv", csv_of(PLAIN, end="\n\n,\n"), {}, COLUMNS, PLAIN),
    "old Mac line ends": ("t.csv", csv_of(PLAIN, end="\r"), {}, COLUMNS, PLAIN),
    "a title line": ("t.csv", "Reviews of 2024\n\n" + csv_of(PLAIN), {}, COLUMNS, PLAIN),
    "a title line, by key": ("t.csv", "a,b\nc,d\n" + csv_of(PLAIN), {"header": 3}, Columns(text=(2,), label=1), PLAIN),
    "no header": ("t.csv", csv_of(PLAIN, header=""), {"header": False}, NUMBERS, PLAIN),
    "no header, found out": ("t.csv", csv_of(PLAIN, header=""), {}, NUMBERS, PLAIN),
    "no header, Chinese": ("t.csv", csv_of(ZH_WORDS, header=""), {}, NUMBERS, ZH_WORDS),
    "columns by number below a header": ("t.csv", csv_of(PLAIN), {}, NUMBERS, PLAIN),
    "texts of many lines": ("t.csv", csv_of(SPANNING), {}, COLUMNS, SPANNING),
    "all fields quoted, rows within a text": (
        "t.csv",
        '"label","review"\n"1","good"\n"0","see:\n1,good\n0,bad"\n"1","fine"\n',
        {},
        COLUMNS,
        [("1", "good"), ("0", "see:\n1,good\n0,bad"), ("1", "fine")],
    ),
    "a numbered list in a text": (
        "t.csv",
        csv_of([*PLAIN, ("1", "good:\n1,place\n2,food\n3,price")]),
        {},
        COLUMNS,
        [*PLAIN, ("1", "good:\n1,place\n2,food\n3,price")],
    ),
    "quotes at the beginning of texts that are not quoted": (
        "t.tsv",
        csv_of(PARTLY, "\t", quote=bare),
        {},
        COLUMNS,
        PARTLY,
    ),
    "quoting off by key": ("t.tsv", csv_of(SWALLOWED, "\t", quote=bare), {"quoting": False}, COLUMNS, SWALLOWED),
    "JSON lines": ("t.jsonl", jsonl(ZH), {}, COLUMNS, ZH),
    "JSON lines in GBK": ("t.jsonl", jsonl(ZH).encode("gbk"), {}, COLUMNS, ZH),
    "JSON lines in a .json": ("t.json", jsonl(ZH), {}, COLUMNS, ZH),
    "JSON lines in a .txt": ("t.txt", jsonl(ZH), {}, COLUMNS, ZH),
    "a JSON array": ("t.json", json.dumps([{"label": one, "review": text} for one, text in ZH]), {}, COLUMNS, ZH),
    "an indented JSON array": (
        "t.json",
        json.dumps([{"label": one, "review": text} for one, text in ZH], indent=2),
        {},
        COLUMNS,
        ZH,
    ),
    "indented JSON objects": (
        "t.json",
        "\n".join(json.dumps({"label": one, "review": text}, indent=1) for one, text in ZH),
        {},
        COLUMNS,
        ZH,
    ),
    "ms-swift's messages": ("t.jsonl", messages(ZH), {}, Columns(text=("user",), label="assistant"), ZH),
    "Excel": ("t.xlsx", workbook(("S", [HEAD, *ZH])), {}, COLUMNS, ZH),
    "Excel in a .csv": ("t.csv", workbook(("S", [HEAD, *ZH])), {}, COLUMNS, ZH),
    "Excel with an empty first sheet": ("t.xlsx", workbook(("A", []), ("B", [HEAD, *ZH])), {}, COLUMNS, ZH),
    "Excel with a title and empty rows": (
        "t.xlsx",
        workbook(("S", [["Reviews"], [], HEAD, *ZH[:3], [], [], *ZH[3:], [None, None]])),
        {},
        COLUMNS,
        ZH,
    ),
    "Excel without header": ("t.xlsx", workbook(("S", PLAIN)), {}, NUMBERS, PLAIN),
    "a sheet by its name": ("t.xlsx", workbook(("A", [HEAD, *TW]), ("B", [HEAD, *ZH])), {"sheet": "B"}, COLUMNS, ZH),
    "two sheets": (
        "t.xlsx",
        workbook(("A", [HEAD, *TW]), ("B", [HEAD, *ZH])),
        {"sheet": ["B", "A"]},
        COLUMNS,
        [*ZH, *TW],
    ),
    "all sheets, their columns in another order": (
        "t.xlsx",
        workbook(("A", [HEAD, *TW]), ("B", [HEAD[::-1], *[one[::-1] for one in ZH]])),
        {"sheet": "all"},
        COLUMNS,
        [*TW, *ZH],
    ),
    "merged labels by key": (
        "t.xlsx",
        workbook(("S", [HEAD, ["1", "a"], [None, "b"], ["0", "c"], [None, "d"]]), merged=["A2:A3", "A4:A5"]),
        {"fill_merged": True},
        COLUMNS,
        [("1", "a"), ("1", "b"), ("0", "c"), ("0", "d")],
    ),
    "Parquet": ("t.parquet", parquet(ZH), {}, COLUMNS, ZH),
    "gzip": ("t.csv.gz", gzip.compress(csv_of(ZH).encode("gbk")), {}, COLUMNS, ZH),
    "gzip of JSON lines": ("t.jsonl.gz", gzip.compress(jsonl(ZH).encode()), {}, COLUMNS, ZH),
    "gzip of tabs": ("t.tsv.gz", gzip.compress(csv_of(COMMAS, "\t").encode()), {}, COLUMNS, COMMAS),
}

# name -> (file's name, content, columns, the sentence, keys of `table:` and columns that it tells, rows then)
STOPPED = {
    "Windows-1251": (
        "t.csv",
        csv_of(RU).encode("cp1251"),
        COLUMNS,
        r"not clear.*cp1251: 1,Очень хороший.*`table: \{encoding: NAME\}`",
        {"encoding": "cp1251"},
        None,
        RU,
    ),
    "Windows-1250": (
        "t.csv",
        csv_of(CZ).encode("cp1250"),
        COLUMNS,
        r"cp1250: \d,.*(říj|špin).*`table: \{encoding: NAME\}`",
        {"encoding": "cp1250"},
        None,
        CZ,
    ),
    "two delimiters": (
        "t.csv",
        "a;b,x;c\n" * 12,
        NUMBERS,
        r"',' and ';' both divide its rows alike.*`table: \{delimiter: ';'\}`",
        {"delimiter": ";", "header": False},
        None,
        [("a", "b,x")] * 12,
    ),
    "no header, names given": (
        "t.csv",
        csv_of(PLAIN, header=""),
        COLUMNS,
        r"no column review and no column label.*set `table: \{header: false\}` and `columns: \{text: 2, label: 1\}`",
        {"header": False},
        NUMBERS,
        PLAIN,
    ),
    "a header or a row": (
        "t.csv",
        "q,w\nab,cd\nef,gh\n",
        NUMBERS,
        r"first line \(q, w\) is a header: say `table: \{header: true\}` or",
        {"header": True},
        None,
        [("ab", "cd"), ("ef", "gh")],
    ),
    "other columns": (
        "t.csv",
        csv_of(PLAIN, header="sentiment,text"),
        COLUMNS,
        r"found: sentiment, text; name the columns in `columns`",
        {},
        Columns(text=("text",), label="sentiment"),
        PLAIN,
    ),
    "a number too high": (
        "t.csv",
        csv_of(PLAIN),
        Columns(text=(3,), label=1),
        r"no column 3; found 2: label, review; correct the number",
        {},
        NUMBERS,
        PLAIN,
    ),
    "a name twice": (
        "t.csv",
        "label,review,review\n1,a,b\n0,c,d\n",
        COLUMNS,
        r"review is in the header twice.*by its number in `columns`",
        {},
        Columns(text=(2,), label="label"),
        [("1", "a"), ("0", "c")],
    ),
    "rows that a stray quote swallows": (
        "t.tsv",
        csv_of(SWALLOWED, "\t", quote=bare),
        COLUMNS,
        r"line 5: a quote that opens here and closes at line 11 makes one text of 7 lines.*`table: \{quoting: false\}`",
        {"quoting": False},
        None,
        SWALLOWED,
    ),
    "a text that looks like rows": (
        "t.csv",
        csv_of([*PLAIN, ("1", "compare:\n0,this\n1,that")]).replace("compare", "see"),
        COLUMNS,
        r"line 22: a quote that opens here.*`table: \{quoting: true\}` where it is one text",
        {"quoting": True},
        None,
        [*PLAIN, ("1", "see:\n0,this\n1,that")],
    ),
    "a quote that closes too early": (
        "t.csv",
        csv_of(PLAIN) + '1,"very" good\n0,"bad"\n',
        COLUMNS,
        r"line 22: a quote in this row is closed too early.*or say `table: \{quoting: false\}`",
        {"quoting": False},
        None,
        [*PLAIN, ("1", '"very" good'), ("0", '"bad"')],
    ),
    "another sheet has the columns": (
        "t.xlsx",
        workbook(("A", [["x", "y"], [1, 2]]), ("Data", [HEAD, *ZH])),
        COLUMNS,
        r"the first sheet lacks columns of the task, the sheet Data has them: set `table: \{sheet: 'Data'\}`",
        {"sheet": "Data"},
        None,
        ZH,
    ),
    "names without a header": (
        "t.csv",
        csv_of(PLAIN, header=""),
        COLUMNS,
        r"`table: \{header: false\}` says that there is no header: give the columns by their numbers",
        {"header": False},
        NUMBERS,
        PLAIN,
    ),
    "UTF-8 by another key": (
        "t.csv",
        csv_of(ZH),
        COLUMNS,
        r"is UTF-8, not gb18030: take `encoding: gb18030` out of `table` in the task \(its text is \d,.*[房早位前]",
        {},
        None,
        ZH,
    ),
    "another delimiter": (
        "t.csv",
        csv_of(PLAIN),
        COLUMNS,
        r"found: label,review; say what divides the fields, `table: \{delimiter: ','\}`",
        {"delimiter": ","},
        None,
        PLAIN,
    ),
    "a delimiter that is not known": (
        "t.csv",
        csv_of(PLAIN, "§"),
        COLUMNS,
        r"found: label§review; say what divides the fields, `table: \{delimiter: '§'\}`",
        {"delimiter": "§"},
        None,
        PLAIN,
    ),
    "merged labels": (
        "t.xlsx",
        workbook(("S", [HEAD, ["1", "a"], [None, "b"], ["0", "c"]]), merged=["A2:A3"]),
        COLUMNS,
        r"merged over several rows \(A2:A3\).*`table: \{fill_merged: true\}`",
        {"fill_merged": True},
        None,
        [("1", "a"), ("1", "b"), ("0", "c")],
    ),
    "a sheet that is not there": (
        "t.xlsx",
        workbook(("Data", [HEAD, *ZH])),
        COLUMNS,
        r"no sheet Date that holds something, did you mean Data\?; found: Data: correct",
        {"sheet": "Data"},
        None,
        ZH,
    ),
    "a comma that is not quoted": (
        "t.csv",
        csv_of(PLAIN) + "1,good, really\n",
        COLUMNS,
        r"line 22: found 3 fields, expected 2.*put a field",
    ),
    "an old workbook": (
        "t.xls",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
        COLUMNS,
        r"save it as \.xlsx or CSV",
    ),
    "an .xls that is HTML": ("t.xls", "<html><table>", COLUMNS, r"save it as \.xlsx or CSV"),
    "a zip": ("t.zip", b"PK\x03\x04\x14\0\0\0\0\0table.csv", COLUMNS, r"is a zip archive: unpack it"),
    "gzip by content": (
        "t.csv",
        gzip.compress(b"label,review\n1,a\n"),
        COLUMNS,
        r"packed with gzip: give its name the ending \.gz",
    ),
    "a cut gzip": ("t.csv.gz", gzip.compress(csv_of(ZH).encode() * 50)[:200], COLUMNS, r"cannot be read"),
    "a chat of two questions": (
        "t.jsonl",
        json.dumps({"messages": [{"role": "user", "content": "a"}] * 2}),
        Columns(text=("user",), label="assistant"),
        r"line 1: messages are read as one question and its answer",
    ),
    "messages, other columns": (
        "t.jsonl",
        messages(ZH),
        COLUMNS,
        r"found: system, user, assistant",
        {},
        Columns(text=("user",), label="assistant"),
        ZH,
    ),
    "JSON by number": ("t.jsonl", jsonl(ZH), NUMBERS, r"JSON has no column 2: give its key", {}, COLUMNS, ZH),
    "a broken JSON array": (
        "t.json",
        '[{"label": 1, "review": "a"},\n{"label": 1,',
        COLUMNS,
        r"line 2: not valid JSON",
    ),
}


# What a task said before its sentence.
WRONG_KEYS = {
    "a sheet that is not there": {"sheet": "Date"},
    "names without a header": {"header": False},
    "UTF-8 by another key": {"encoding": "gb18030"},
    "another delimiter": {"delimiter": ";"},
}


def read(tmp_path, name, content, columns, keys):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(path, columns, TableSettings(**keys))


@pytest.mark.parametrize("kind", READ)
def test_read_right(tmp_path, kind):
    name, content, keys, columns, rows = READ[kind]
    frame = read(tmp_path, name, content, columns, keys).frame
    assert list(zip(frame["label"], frame["text"], strict=True)) == [(str(one), text) for one, text in rows]
    assert not frame["undecodable"].any()


@pytest.mark.parametrize("kind", STOPPED)
def test_stopped_with_a_sentence_whose_remedy_reads_it(tmp_path, kind):
    name, content, columns, told, *remedy = STOPPED[kind]
    keys, others, rows = remedy or (None, None, None)
    wrong = WRONG_KEYS.get(kind, {})
    with pytest.raises(UserError) as caught:
        read(tmp_path, name, content, columns, wrong)
    assert re.search(told, str(caught.value)) and name in str(caught.value) and "\n" not in str(caught.value)
    if keys is not None:
        frame = read(tmp_path, name, content, others or columns, keys).frame
        assert list(zip(frame["label"], frame["text"], strict=True)) == rows


@pytest.mark.parametrize("kind", READ)
def test_a_look_gives_the_keys_that_read_it_so(tmp_path, kind):
    """What `look_at` finds without knowing the columns, or asks for; its keys read the same rows again."""
    name, content, keys, _, rows = READ[kind]
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    look = look_at(path, TableSettings(**keys))
    at = {"label": 0, "1": 0, "assistant": 2}
    label = next(one for one in at if one in look.names)
    text = {"label": "review", "1": "2", "assistant": "user"}[label]
    found = [int(one) if one.isdigit() else one for one in (text, label)]
    frame = read_table(path, Columns(text=(found[0],), label=found[1]), TableSettings(**look.keys)).frame
    assert list(zip(frame["label"], frame["text"], strict=True)) == [(str(one), text) for one, text in rows]


def test_other_sheets_and_merged_cells_are_named(tmp_path):
    content = workbook(("A", [HEAD, ["1", "a"], ["1", None], ["0", "c"]]), ("B", [HEAD, *ZH]), merged=["B2:B3"])
    table = read(tmp_path, "t.xlsx", content, COLUMNS, {})
    sheets, merged = (one.replace(str(tmp_path), "") for one in table.warnings)
    assert sheets == "/t.xlsx: the sheet A is read, not B: name them in `table: {sheet: [...]}` of the task, or all"
    assert "merged over several rows (B2:B3)" in merged and "`table: {fill_merged: true}`" in merged
    assert table.frame["text"].tolist() == ["a", "", "c"]


def test_a_gzip_without_end_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("data_prep.table.encoding.MOST_UNPACKED", 10_000)
    with pytest.raises(UserError, match=r"t\.csv\.gz unpacks to more than"):
        read(tmp_path, "t.csv.gz", gzip.compress(b"label,review\n" + b"1,aaaa\n" * 5_000), COLUMNS, {})


def test_there_are_sixty_kinds():
    assert len(READ) + len(STOPPED) >= 60
