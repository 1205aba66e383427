"""The bench of prep: tables as promised, memory of the whole process tree, limits told."""

import csv
import sys

import pytest

from bench import prep
from bench.__main__ import main
from bench.cost import cost_of
from bench.tables import COPIES, read_reviews, varied, write_table
from data_prep.duplicates.deduplication import Normaliser, find_duplicates, group_counts
from data_prep.task import NearDuplicates
from tests.prep_tables import reviews, write_csv, write_model
from workspace.errors import UserError
from workspace.files import read_json

MIB = 2**20
HOLD = "import sys, time; block = bytearray(b'x') * (int(sys.argv[1]) << 20); time.sleep(1.5)"
# Each process holds 100 MiB at the same time: no single one holds what the two do.
BOTH = "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', sys.argv[2], '100']); exec(sys.argv[2])"


def clauses(count):
    """(label, review) rows of six clauses each, all different."""
    return [
        (label, "，".join(f"{text[:6]}{at}甲{k}" for k in range(6))) for at, (label, text) in enumerate(reviews(count))
    ]


def test_the_same_seed_gives_the_same_rows_and_few_are_near_copies():
    real = clauses(300)
    rows = list(varied(real, 5000, 1))
    assert rows == list(varied(real, 5000, 1)) != list(varied(real, 5000, 2))
    assert rows[:300] == real
    near = find_duplicates(Normaliser().normalise([text for _, text in rows]), NearDuplicates(0.8, 3), 0).near
    copies = len(rows) - len(set(near.tolist()))
    assert 0.5 * COPIES < copies / len(rows) < 2 * COPIES
    assert group_counts(near).groups > 0


def test_fewer_rows_than_the_file_are_drawn_from_all_of_it():
    real = sorted(clauses(300))
    assert {label for label, _ in varied(real, 40, 1)} == {"0", "1"}


def test_a_table_is_read_as_it_was_written(tmp_path):
    rows = [("1", '引"号，逗,号\n换行'), *clauses(5)]
    write_table(tmp_path / "t.csv", iter(rows))
    assert read_reviews(tmp_path / "t.csv") == rows
    with open(tmp_path / "t.csv", encoding="utf-8", newline="") as stream:
        assert next(csv.reader(stream)) == ["label", "review"]


@pytest.mark.parametrize("content", ["", "label,text\n1,a\n", "label,review\n1,\n", b"label,review\n1,\xff\n"])
def test_what_is_no_table_of_reviews_is_told(tmp_path, content):
    (tmp_path / "t.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=r"t\.csv .*with --csv"):
        read_reviews(tmp_path / "t.csv")


def test_the_peak_is_that_of_the_process():
    small, large = (cost_of([sys.executable, "-c", HOLD, str(size)]) for size in (1, 300))
    assert 290 * MIB < large.peak_bytes - small.peak_bytes < 310 * MIB
    assert large.seconds > 1.5
    assert 0 < large.cpu_seconds < large.seconds


def test_the_peak_is_that_of_a_process_and_its_children_together():
    assert cost_of([sys.executable, "-c", BOTH, "100", HOLD]).peak_bytes > 200 * MIB


def test_a_command_that_fails_is_told():
    with pytest.raises(UserError, match="ended with status 3"):
        cost_of([sys.executable, "-c", "raise SystemExit(3)"])


def test_prep_is_measured_at_each_size(tmp_path, capsys):
    arguments = ["prep", "--rows", "400", "200", "--repeat", "1", "--json", str(tmp_path / "b.json")]
    table, model = write_csv(tmp_path / "t.csv", clauses(300)), write_model(tmp_path / "model")
    assert main([*arguments, "--csv", str(table), "--model", str(model), "--folder", str(tmp_path)]) == 0
    found = read_json(tmp_path / "b.json")
    assert [one["rows"] for one in found["sizes"]] == [200, 400]
    for one in found["sizes"]:
        assert one["counts"]["rows"] == one["rows"]
        assert len(one["runs"]) == 1
        assert all(run["seconds"] > 0 and run["peak_bytes"] > 30 * MIB for run in one["runs"])
        assert one["peak_bytes"] == max(run["peak_bytes"] for run in one["runs"])
    printed = capsys.readouterr().out
    assert "| 200 |" in printed
    assert "| 400 |" in printed
    assert {path.name for path in tmp_path.iterdir()} == {"t.csv", "model", "b.json"}  # the tables are gone


@pytest.mark.parametrize(
    ("rows", "seconds", "peak", "kept"),
    [
        (1_000_000, 180.0, 2 * 2**30, True),
        (1_000_000, 180.1, 2**30, False),
        (1_000_000, 100.0, 2 * 2**30 + 1, False),
        (999_999, 1000.0, 2**40, True),
    ],
)
def test_limits(rows, seconds, peak, kept):
    assert prep.limits_kept(rows, seconds, peak) is kept


def test_a_limit_that_is_not_kept_is_told_and_is_the_exit_status(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(prep, "LIMIT_ROWS", 200)
    monkeypatch.setattr(prep, "LIMIT_BYTES", 2**20)
    table, model = write_csv(tmp_path / "t.csv", clauses(300)), write_model(tmp_path / "model")
    assert main(["prep", "--rows", "200", "--repeat", "1", "--csv", str(table), "--model", str(model)]) == 1
    assert "200 rows, limits 180 s and 0 GiB NOT kept: " in capsys.readouterr().out
