"""Tables of every mixture of encoding, delimiter, quotes, header and line ends: read as written, or one sentence."""

import random
from collections import Counter

import pytest

from data_prep.table.reading import read_table
from data_prep.table.table_settings import Columns
from workspace.errors import UserError

WORDS = {
    "Simplified": [
        "房间很大",
        "服务也不错",
        "早餐太差了",
        "隔音不好",
        "位置很方便",
        "下次还会来",
        "前台的态度很差",
        "性价比高",
        "空调坏了",
        "（推荐）",
        "“一般”",
        "价格有点贵",
        "离地铁站很近",
        "wifi也没有",
        "三星级的水平",
    ],
    "Traditional": [
        "房間很乾淨",
        "服務也很好",
        "早餐不錯",
        "但是太小了",
        "離捷運站很近",
        "推薦給大家",
        "櫃檯人員態度很差",
        "隔音不好",
        "「下次還會再來」",
        "價格有點貴",
        "冷氣壞了",
        "等了半個小時",
    ],
    "English": [
        "the room was great",
        "I don’t like it",
        "only £30 for the night",
        "“never” again",
        "not very clean – and loud",
        "we were happy with the staff",
        "the breakfast is good…",
        "it was a café",
        "they have no idea",
        "this is it",
    ],
    "French": [
        "la chambre était très agréable",
        "le petit déjeuner n’est pas bon",
        "nous avons aimé l’hôtel",
        "c’est à côté",
        "pas très propre",
        "le personnel est très gentil",
        "un séjour parfait pour nous",
        "déçu par la qualité",
    ],
}
ENCODINGS = {
    "Simplified": ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "gbk", "gb18030"],
    "Traditional": ["utf-8", "utf-8-sig", "cp950", "big5hkscs", "gb18030", "utf-16-le", "utf-16-be"],
    "English": ["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le", "utf-16-be"],
    "French": ["utf-8", "cp1252", "utf-16-le"],
}
DELIMITERS = {",": ".csv", "\t": ".tsv", ";": ".csv", "|": ".csv", "||": ".txt", "::": ".txt"}
LABELS = [["0", "1"], ["1", "2", "3", "4", "5"], ["好", "不好"], ["ham", "spam"], ["Pos. (sure)", "Neg."]]
INSIDE = [" ", ",", ";", " | ", "! ", "\n", "\n\n", '"', ' "so" ', "::", "\t"]
CHINESE = ["，", "。", "！"]
# Without quotes around a field a line end and the delimiter cannot be written in it.
QUOTES = ["minimal", "all", "none", "stray"]
HEADERS = ["names", "names", "title", "none"]


def a_table(draw):
    """A table's bytes, its ending, columns, rows, and whether nothing in it can be understood in two ways."""
    language = draw.choice(list(WORDS))
    encoding, delimiter = draw.choice(ENCODINGS[language]), draw.choice(list(DELIMITERS))
    quotes, header, end = draw.choice(QUOTES), draw.choice(HEADERS), draw.choice(["\n", "\r\n", "\r"])
    labels = draw.choice(LABELS if language in ("Simplified", "Traditional") else LABELS[:2] + LABELS[3:])
    inside = [*INSIDE, *CHINESE] if language in ("Simplified", "Traditional") else INSIDE
    if quotes in ("none", "stray"):
        allowed = [one for one in inside if "\n" not in one and delimiter not in one and delimiter[0] not in one]
        allowed = [one for one in allowed if quotes == "stray" or '"' not in one]
    else:
        allowed = inside
    rows = []
    for _ in range(draw.randint(12, 60)):
        words = draw.choices(WORDS[language], k=draw.randint(1, 5))
        text = "".join(one + draw.choice([*allowed, " "]) for one in words).strip()
        if quotes == "stray" and draw.random() < 0.2:
            text = draw.choice(['"{}', '{}"', '"{}"', 'a "{}']).format(text)
        rows.append((draw.choice(labels), text))

    def field(text):
        ends = text[:1] + text[-1:]  # `||` beside a bar is divided in two ways
        marked = delimiter in text or delimiter[0] in ends or any(one in text for one in '"\r\n')
        if quotes == "all" or (quotes == "minimal" and marked):
            return '"' + text.replace('"', '""') + '"'
        return text

    first = draw.random() < 0.5
    pairs = [("label", "review") if header != "none" else None, *rows]
    lines = [delimiter.join(map(field, pair if first else pair[::-1])) for pair in pairs if pair]
    if header == "title":
        lines = ["Reviews", *lines]
    columns = Columns(text=("review",), label="label")
    if header == "none":
        columns = Columns(text=(2 if first else 1,), label=1 if first else 2)
    content = end.join([*lines, ""]).encode(encoding)
    clear = quotes != "stray" and header != "none"
    return content, DELIMITERS[delimiter], columns, rows, clear, (language, encoding, delimiter, quotes, header, end)


def read_many(tmp_path, seeds):
    """How many were read right, and stopped, by whether they are clear; raises for one that is read wrong."""
    counts, sentences = Counter(), Counter()
    for seed in seeds:
        content, suffix, columns, rows, clear, kind = a_table(random.Random(seed))
        path = tmp_path / f"t{suffix}"
        path.write_bytes(content)
        try:
            table = read_table(path, columns)
        except UserError as error:
            assert path.name in str(error) and "\n" not in str(error)
            counts[clear, "stopped"] += 1
            sentences[str(error).replace(str(path), "")[:60], clear] += 1
            continue
        frame = table.frame
        found = list(zip(frame["label"], frame["text"], strict=True))
        if "they are taken off; set `table: {quoting: false}`" in "".join(table.warnings):  # said, so not in silence
            rows = [(label, text[1:-1] if text[0] == text[-1] == '"' else text) for label, text in rows]
        assert found == rows, (seed, kind, table.encoding)
        counts[clear, "read"] += 1
    print(dict(counts), *sentences.most_common(), sep="\n")
    stopped, read = counts[True, "stopped"], counts[True, "read"]
    assert stopped <= 0.05 * (stopped + read)
    return counts


def test_two_hundred_tables(tmp_path):
    assert sum(read_many(tmp_path, range(200)).values()) == 200


@pytest.mark.all
def test_two_thousand_tables(tmp_path):
    assert sum(read_many(tmp_path, range(200, 2200)).values()) == 2000
