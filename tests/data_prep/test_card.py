"""The data card: what it says is what the files hold, whatever strangers wrote, and its pictures show it."""

import io
import os
import random
import subprocess
import sys
import warnings
from collections import Counter
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread

from data_prep.build import build, main
from data_prep.card import page as card
from data_prep.card.page import CONFLICTS, REASON_WORDS, render_card, shown_path
from data_prep.card.pictures import PICTURES, draw_card
from data_prep.statistics import BINS, bin_edges
from data_prep.table.checking import REASONS
from data_prep.task import SPLITS, Conflicts, Scheme
from tests.manifests import as_manifest, made_up_manifest
from tests.prep_tables import REAL, REAL_TABLE, needs_real, reviews, small_task, write_csv, write_model, write_task
from workspace.files import read_json, read_jsonl, sha256_file
from workspace.fonts import chinese_font
from workspace.markdown import escape
from workspace.paths import ROOT
from workspace.picture_style import BLUE, ORANGE

markdown_it = pytest.importorskip("markdown_it")
HOSTILE = (
    "<script>alert(1)</script>",
    "</td><img src=x onerror=alert(2)>",
    "a|b `c` **d** [e](javascript:f) $g$ &lt;",
    "一\n\n# 二\n```\n---",
    "\u202e三 http://example.com",
)


@pytest.fixture(autouse=True)
def warnings_are_errors():
    """matplotlib warns of each character that it draws as a box, and of a layout that does not fit."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def parsed(text):
    """The blocks of a card as a renderer of GitHub's tables with HTML allowed sees them, and all inline tokens."""
    blocks = markdown_it.MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text)
    return blocks, [token for block in blocks for token in (block, *(block.children or ()))]


def tables(text):
    """English heading -> the rows of the tables below it, cells as shown, the header row first."""
    found, heading, inside = {}, None, None
    for block in parsed(text)[0]:
        inside = block.type if block.type.endswith("_open") else inside
        if block.type == "inline":
            shown = "".join(t.content for t in block.children if t.type in {"text", "text_special"})
            if inside == "heading_open":
                heading = shown.split(" (")[0].split(" ", 1)[1]
            elif inside in {"th_open", "td_open"}:
                found[heading][-1].append(shown)
        elif block.type == "tr_open":
            found.setdefault(heading, []).append([])
    return found


def built(folder, rows, name="t.csv", **changes):
    """The folder and manifest of a small dataset; `options` of build apart from the task's `changes`."""
    options = changes.pop("options", {})
    path = build(small_task(folder, **changes), csv=write_csv(folder / name, rows), out=folder / "out", **options)
    return folder / "out", read_json(path)


def pixels(data):
    return np.round(imread(io.BytesIO(data))[:, :, :3] * 255).astype(int)


def area(picture, colour):
    wanted = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    return int((np.abs(picture - wanted).max(axis=2) <= 2).sum())


def test_the_card_says_what_the_files_hold(tmp_path):
    rows = [*reviews(200), ("1", ""), ("7", "别的"), ("0", "长" * 3000), *reviews(6), ("0", reviews(2)[1][1] + "！")]
    model = write_model(tmp_path / "model")
    out, manifest = built(tmp_path, rows, options={"model": model, "max_length": 200}, licence="CC BY 4.0")
    text = (out / "README.md").read_text(encoding="utf-8")
    said = tables(text)
    written = {name: read_jsonl(out / f"{name}.jsonl") for name in SPLITS}
    classes = {name: Counter(row["messages"][2]["content"] for row in written[name]) for name in SPLITS}
    total = sum(map(len, written.values()))

    for at, word in enumerate(("正面", "负面"), start=1):
        cells = said["Splits and classes"][at]
        n = [sum(classes[name][word] for name in SPLITS), *(classes[name][word] for name in SPLITS)]
        shares = [k / whole for k, whole in zip(n, [total, *(len(written[name]) for name in SPLITS)], strict=True)]
        assert cells == [word, *(f"{k} ({share * 100:.1f}%)" for k, share in zip(n, shares, strict=True))]
    assert said["Splits and classes"][3][1:] == [str(total), *(str(len(written[name])) for name in SPLITS)]
    assert f"可用 {total} 行" in text and f"**{len(rows)} rows in the table: {total} usable" in text

    lengths = {name: sorted(len(row["review"]) for row in written[name]) for name in SPLITS}
    for at, name in enumerate(SPLITS, start=2):
        cells = said["Lengths"][at]
        assert (cells[1], cells[5]) == (f"{lengths[name][0]:,}", f"{lengths[name][-1]:,}")
        assert cells[2] == f"{np.median(lengths[name]):,.0f}"
    assert said["Lengths"][-1][0] == "截断后 after cutting" and int(said["Lengths"][-1][5]) <= 200

    cut = [(name, row) for name in SPLITS for row in written[name] if row["cut"]]
    assert [row["review"][:3] for _, row in cut] == ["长长长"]
    assert said["Cut rows"][-1][1] == f"1 ({1 / total * 100:.1f}%)"
    negative = sum(classes[name]["负面"] for name in SPLITS)
    assert said["Cut rows"][2][1] == f"1 ({1 / negative * 100:.1f}%)"

    # row 2's text stands there three times, once under the other label; five others twice
    assert [row[1:] for row in said["Repeats and conflicts"][1:]] == [["6", "13"], ["6", "13"], ["1", "3"], ["1", "3"]]
    assert [row[2:] for row in said["Leaks"][1:]] == [["0", "0", "0.0%"]] * 3
    assert "No review stands in two splits" in text
    aside = {row[0]: row[2] for row in said["Rows set aside"][1:]}
    assert aside == {"empty": "1", "unknown_label": "1", "conflicting_label": "3", "": "5"}
    assert "names the labels" in text.split("警告 Warnings")[1].split("##")[0]

    facts = dict(said["Provenance and licence"][1:])
    assert facts["来源 provenance"] == "没有说明 not stated" and facts["许可 licence"] == "CC BY 4.0"
    assert facts["表 table"].startswith("t.csv, ") and str(tmp_path) not in text
    hashes = dict(said["Hashes"][1:])
    assert hashes["表 table"] == sha256_file(tmp_path / "t.csv")
    assert hashes["tokenizer.json"] == sha256_file(model / "tokenizer.json")
    for name in ("rejects.csv", *(f"{split}.jsonl" for split in SPLITS)):
        assert hashes[name] == sha256_file(out / name) == manifest["files"][name]
    assert hashes["训练 train: id, text, label"] == manifest["rows_sha256"]["train"]


def test_the_histograms_count_every_row(tmp_path):
    model = write_model(tmp_path / "model")
    out, manifest = built(
        tmp_path, [*reviews(300), ("0", "长" * 900)], options={"model": model, "max_length": 300, "limit": 100}
    )
    reviewed = [row["review"] for name in SPLITS for row in read_jsonl(out / f"{name}.jsonl")]
    for found in (manifest["characters"]["histogram"], manifest["tokens"]["histogram"]):
        for word in ("正面", "负面"):
            assert sum(found["class"][word]["counts"]) == sum(manifest["counts"][name][word] for name in SPLITS)
    edges = manifest["characters"]["histogram"]["edges"]
    counts = np.sum([found["counts"] for found in manifest["characters"]["histogram"]["class"].values()], axis=0)
    assert counts.tolist() == np.histogram([len(one) for one in reviewed], [*edges, np.inf])[0].tolist()


@pytest.mark.parametrize("hostile", HOSTILE)
def test_strangers_text_is_shown_as_it_is(tmp_path, hostile):
    name = hostile.replace("/", "").replace("\n", "").replace("\u202e", "")[:40] + ".csv"
    (tmp_path / "known.txt").write_text(reviews(5)[4][1], encoding="utf-8")
    out, manifest = built(
        tmp_path,
        reviews(60),
        name,
        labels={"1": hostile, "0": "负面"},
        provenance=f"from {hostile} here",
        licence=hostile,
        system=hostile,
        prompts={hostile: f"{hostile} {{review}}"},
        prompt=hostile,
        known_public={"path": str(tmp_path / "known.txt")},
    )
    text = (out / "README.md").read_text(encoding="utf-8")
    blocks, every = parsed(text)
    assert [t.attrs["src"] for t in every if t.type == "image"] == list(PICTURES)
    kinds = {token.type for token in every}
    assert not kinds & {"html_inline", "html_block", "link_open", "code_inline", "em_open", "s_open", "hr"}
    assert [block.content.count("\n") for block in blocks if block.type == "fence"] == [1]
    assert sum(block.type == "heading_open" for block in blocks) == 11
    before, fenced = text.split("```bash\n")
    after = fenced.split("\n```\n")[1]
    assert "\u202e" not in text and "://" not in before + after
    plain = " ".join(hostile.replace("\u202e", " ").split())
    said = tables(text)
    assert said["Splits and classes"][1][0] == plain
    assert dict(said["Provenance and licence"][1:])["来源 provenance"] == f"from {plain} here"
    assert dict(said["Provenance and licence"][1:])["表 table"].startswith(name)
    for rows in said.values():
        assert len({len(row) for row in rows}) == 1
    assert draw_card(as_manifest(manifest), None).keys() == PICTURES.keys()


def test_without_a_tokenizer_nothing_is_said_of_tokens(tmp_path):
    out, _ = built(tmp_path, reviews(80))
    text = (out / "README.md").read_text(encoding="utf-8")
    said = tables(text)
    assert "tokens were not counted" in text and "Cut rows" not in said and "after cutting" not in text
    assert dict(said["Hashes"][1:])["tokenizer.json"] == "–"
    assert dict(said["How it was made"][1:])["长度上限 limit of length"] == "–"
    assert "--model" not in text
    small = pixels((out / "lengths.png").read_bytes())
    with_tokens, _ = built(tmp_path, reviews(80), options={"model": write_model(tmp_path / "model")})
    assert pixels((with_tokens / "lengths.png").read_bytes()).shape[0] > small.shape[0] + 300  # one plot more


def test_a_limit_and_leaks_under_the_original_scheme(tmp_path):
    out, manifest = built(tmp_path, reviews(200) * 2, split={"scheme": "original"}, options={"limit": 40})
    text = (out / "README.md").read_text(encoding="utf-8")
    said = tables(text)
    assert text.startswith("# small · limit 40 · ")
    left = 400 - 40 - 80 - 10
    assert f"因行数上限未用 {left}" in text and f"{left} left out by the limit" in text
    assert "**Reviews stand in two splits: results on test are too high.**" in text
    n, exact, near, share = said["Leaks"][1][1:]
    assert (n, exact) == ("80", str(manifest["leaks"]["test_in_train"]["exact"])) and int(exact) > 20
    assert share == f"{(int(exact) + int(near)) / 80 * 100:.1f}%"
    assert "train_test_split" in dict(said["How it was made"][1:])["划分 scheme"]
    assert "kept" in text.split("Repeats and conflicts")[1].split("##")[0]


def test_ten_classes(tmp_path):
    draw = random.Random(3)
    labels = [str(at % 10 if at < 80 else min(int(draw.expovariate(0.5)), 9)) for at in range(500)]
    rows = [(label, text) for label, (_, text) in zip(labels, reviews(500), strict=True)]
    words = [f"第{n}类很长很长的名称一二三四五" for n in range(10)]
    out, _ = built(tmp_path, rows, labels={str(n): word for n, word in enumerate(words)})
    said = tables((out / "README.md").read_text(encoding="utf-8"))
    assert [row[0] for row in said["Splits and classes"][1:-1]] == words
    assert [row[0] for row in said["Lengths"][5:]] == words
    found = Counter(label for label, _ in rows)
    assert [int(row[1].split(" ")[0]) for row in said["Splits and classes"][1:-1]] == [found[str(n)] for n in range(10)]
    assert pixels((out / "class_balance.png").read_bytes()).shape[1] == 1200


def test_equal_classes_are_not_ranked(tmp_path):
    _, manifest = built(tmp_path, reviews(60))
    for name in SPLITS:
        manifest["counts"][name] = {"total": 14, "正面": 7, "负面": 7}
    assert "All classes have the same number of rows. Always answering 正面 is right on 50.0%" in render_card(
        as_manifest(manifest)
    )
    manifest["counts"]["train"] = {"total": 28, "正面": 7, "负面": 21}
    text = render_card(as_manifest(manifest))
    assert "The largest class, 负面, has 1.67 times the rows of the smallest, 正面. Always answering 负面 is" in text


def test_corrections_and_known_texts(tmp_path):
    rows = reviews(200)
    _, manifest = built(tmp_path, rows)
    assert "更正" not in render_card(as_manifest(manifest))
    train, test = (read_jsonl(tmp_path / "out" / f"{name}.jsonl") for name in ("train", "test"))
    other = {"正面": "负面", "负面": "正面"}
    lines = [f"{row['id']},{other[row['messages'][2]['content']]}" for row in (*train[:3], test[0])]
    (tmp_path / "fix.csv").write_text("\n".join(["row,label", *lines]) + "\n", encoding="utf-8")
    (tmp_path / "known.txt").write_text("\n".join(row["review"] for row in test[:4]), encoding="utf-8")
    out, manifest = built(
        tmp_path, rows, corrections=str(tmp_path / "fix.csv"), known_public={"path": str(tmp_path / "known.txt")}
    )
    text = (out / "README.md").read_text(encoding="utf-8")
    said = tables(text)
    fixed = dict(said["Corrections"][1:])
    assert (fixed["改了标签 changed, train"], fixed["改了标签 changed, test"]) == ("3", "0")
    assert fixed["未用：在测试集 not applied: in test"] == "1"
    share = f"{4 / len(test) * 100:.1f}%"
    assert f"4 test reviews ({share}) stand among the 4 texts of known.txt: 4 word for word, 0 nearly." in text
    hashes = dict(said["Hashes"][1:])
    assert hashes["corrections: fix.csv"] == sha256_file(tmp_path / "fix.csv")
    assert hashes["known_public: known.txt"] == sha256_file(tmp_path / "known.txt")


def test_the_command_of_the_card_makes_the_same_files(tmp_path, monkeypatch):
    rows, model = reviews(120), write_model(tmp_path / "MODEL_FOLDER")
    override = tmp_path / "seed.yaml"
    override.write_text("task: {split: {seed: 7}}\n", encoding="utf-8")
    prompts = {"it's $(odd)\n": "{review}?"}
    task = write_task(tmp_path, prompts=prompts, prompt=next(iter(prompts)))
    table = write_csv(tmp_path / "t t.csv", rows)
    options = {"model": model, "limit": 40, "max_length": 300, "override": [str(override)]}
    build(str(task), csv=table, out=tmp_path / "out", **options)
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    command = text.split("```bash\n")[1].split("\n```")[0]
    spelt = subprocess.run(["bash", "-c", f"printf '%s\\0' {command}"], capture_output=True, text=True, check=True)
    words = spelt.stdout.split("\0")[:-1]
    assert words[:3] == ["python", "-m", "data_prep.build"]
    monkeypatch.chdir(tmp_path)  # where the files lie that it names
    main([*words[3:], "--out", "again"])
    for path in (tmp_path / "out").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_another_process_writes_the_same_bytes(tmp_path):
    task, table = write_task(tmp_path), write_csv(tmp_path / "t.csv", reviews(80))
    for seed in ("1", "2"):
        command = [sys.executable, "-m", "data_prep.build", str(task), "--csv", str(table), "--out"]
        subprocess.run([*command, tmp_path / seed], cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": seed}, check=True)
    for name in ("README.md", "manifest.json", *PICTURES):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def test_what_is_up_to_date_is_not_drawn_and_a_lost_card_is(tmp_path, monkeypatch, capsys):
    out, _ = built(tmp_path, reviews(60))
    drawn = []
    whole = card.draw_card
    monkeypatch.setattr(card, "draw_card", lambda *given: drawn.append(1) or whole(*given))
    built(tmp_path, reviews(60))
    assert drawn == [] and capsys.readouterr().out.endswith("is up to date\n")
    (out / "README.md").unlink()
    built(tmp_path, reviews(60))
    assert drawn == [1] and (out / "README.md").is_file()


def test_the_pictures_show_the_counts(tmp_path):
    out, manifest = built(tmp_path, reviews(600), options={"model": write_model(tmp_path / "model")})
    balance, spread = (pixels((out / name).read_bytes()) for name in PICTURES)
    assert balance.shape[1] == spread.shape[1] == 1200  # pixels; large enough text needs this width of 8 inches
    counts = manifest["counts"]
    # the legend's two patches are as large as one another
    assert area(balance, ORANGE) / area(balance, BLUE) == pytest.approx(
        counts["test"]["total"] / counts["train"]["total"], rel=0.15
    )
    assert area(spread, ORANGE) / area(spread, BLUE) == pytest.approx(
        sum(counts[name]["负面"] for name in SPLITS) / sum(counts[name]["正面"] for name in SPLITS), rel=0.15
    )


@pytest.mark.parametrize("font", [None, chinese_font()], ids=["English alone", "Chinese"])
@pytest.mark.parametrize(
    "words", [("😀𠀀\u200b", "c\nd"), ("$a_b$", "x" * 300), tuple("甲乙丙丁戊己庚辛壬癸子丑寅卯辰巳午未")]
)
def test_pictures_of_any_label_words(tmp_path, font, words):
    rows = [(str(at % len(words)), text * (1 + at % 5)) for at, (_, text) in enumerate(reviews(20 * len(words)))]
    _, manifest = built(tmp_path, rows, labels={str(at): word for at, word in enumerate(words)})
    drawn = draw_card(as_manifest(manifest), font)
    assert all(pixels(data).std() > 10 for data in drawn.values())


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=50), st.none() | st.integers(16, 10**6))
def test_bins_are_few_round_and_hold_every_length(lengths, limit):
    lengths = np.array(lengths)
    edges = bin_edges(lengths, limit)
    step = edges[1] - edges[0]
    assert 2 <= len(edges) <= BINS + 1
    assert str(step).rstrip("0") in {"1", "2", "5"} and (np.diff(edges) == step).all() and (edges % step == 0).all()
    assert edges[0] <= lengths.min() < edges[0] + step and np.percentile(lengths, 99) < edges[-1]
    if limit is not None and limit < lengths.max() and limit <= 4 * np.percentile(lengths, 99):
        assert limit < edges[-1]


def test_every_code_has_its_words():
    assert REASON_WORDS.keys() == set(REASONS)
    assert CONFLICTS.keys() == set(get_args(Conflicts))
    assert card.SCHEMES.keys() == {*get_args(Scheme), "column", "files", "folds"}
    assert shown_path("data/my table.csv") == "data/my table.csv"
    assert shown_path("/home/someone/my table.csv") == "my table.csv"


@needs_real
def test_the_card_of_the_real_table(tmp_path, monkeypatch):
    monkeypatch.setenv("SWIFT_SFT_CACHE", str(tmp_path / "cache"))
    model = REAL / "models" / "qwen1.5-0.5b-chat-shape"
    build("hotel_reviews", csv=REAL_TABLE, model=model, out=tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    said = tables(text)
    assert "7,766 rows in the table: 7,765 usable (6,207 train, 733 val, 825 test), 1 set aside, none lost." in text
    assert [row[1] for row in said["Splits and classes"][1:]] == ["5,322 (68.5%)", "2,443 (31.5%)", "7,765"]
    assert [row[1:] for row in said["Repeats and conflicts"][1:]] == [["1", "2"], ["5", "10"], ["0", "0"], ["0", "0"]]
    assert said["Cut rows"][-1][1] == "71 (0.9%)"
    assert [row[0] for row in said["Rows set aside"][1:]] == ["empty", ""]
    assert "python -m data_prep.build hotel_reviews --csv ChnSentiCorp_htl_all.csv --model MODEL_FOLDER" in text
    assert escape("ChnSentiCorp_htl_all, hotel reviews collected by Songbo Tan") in text


@pytest.mark.parametrize("count", [20, 21, 200])
def test_of_many_classes_the_largest_and_the_smallest_are_shown(count):
    labels = [f"类别{at}" for at in range(count)]
    manifest = made_up_manifest(labels=labels, inputs={"task_sha256": "0" * 64})
    for name in SPLITS:
        rows = manifest.counts.of(name)
        rows |= {label: at + 1 for at, label in enumerate(labels)}
        rows["total"] = sum(rows[label] for label in labels)
    text = render_card(manifest)
    named = {label for label in labels if f"| {label} |" in text}
    assert named == (set(labels) if count == 20 else {*labels[:10], *labels[-10:]})
    assert (f"{count} classes: the largest and the smallest are shown; manifest.json has all." in text) == (count > 20)
    assert len(text) < 12_000
    drawn = draw_card(manifest, None)["class_balance.png"]
    assert int.from_bytes(drawn[20:24]) < 4000  # a picture that fits a page, not 200 bars
