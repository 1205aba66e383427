"""Words of a command line: numbers of a range, paths that can be one; a sentence and exit status 2 for all else."""

import importlib
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from workspace.command_line import Parser, from_caller, given_number, given_path
from workspace.errors import BAD_PATHS, UserError, run_main
from workspace.paths import ROOT, expanded
from workspace.ranges import Range, whole


@pytest.mark.parametrize(
    ("limits", "right", "wrong"),
    [
        (whole(1, 8), ["1", 8, " 3 "], ["0", 9, "4.0", 4.0, True, "nan", "", "x", "9" * 5000, None]),
        (Range(0, 1), [0, "1", 0.5, "1e-3"], ["nan", math.nan, math.inf, "-inf", "1e999", -0.1, "1.1", "half", None]),
        (Range(0, 1, above=True), [1, "1e-9"], [0, "0.0", -1]),
        (Range(0, 1, below=True), [0, 0.99], [1, "1.0"]),
        (Range(0, 100, above=True, whole_above=1), [0.5, 1, 2, "3.0", 100], [1.5, "2.5", 0]),
    ],
)
def test_a_range_holds_what_is_in_it_and_no_nan(limits: Range, right: list, wrong: list) -> None:
    assert [value for value in right if limits.fault(value)] == []
    assert [value for value in wrong if not limits.fault(value)] == []


def test_a_range_says_what_it_is() -> None:
    assert str(whole(16, 1_000_000)) == "a whole number from 16 to 1,000,000"
    assert str(Range(0, 10, above=True)) == "a number above 0 to 10"
    assert str(Range(0, 1, below=True)) == "a number from 0 and below 1"


@pytest.mark.parametrize(
    "text",
    ["", "  ", "~no_such_user_here", "~no_such_user_here/x", "x" * 300, "a/" + "中" * 100, "/dev/null/x", "x/" * 3000],
    ids=range(8),
)
def test_what_cannot_be_a_path_is_one_sentence_in_every_command(text: str, capsys) -> None:
    parser = Parser("this", "A test.")
    parser.add_argument("--csv", type=given_path)

    def main() -> None:
        parser.parse_args(["--csv", text])

    with pytest.raises(SystemExit) as ended:
        run_main(main)
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("error: --csv") and told.endswith("see `this --help`\n") and told.count("\n") == 1


def test_paths_are_the_callers_and_need_not_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUN_SFT_CALLER", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert given_path("a b/*") == tmp_path / "a b" / "*"
    assert from_caller("~/x") == tmp_path / "home" / "x"
    assert given_path("/x") == Path("/x")
    with pytest.raises(UserError, match="that home folder is not known: write the path out"):
        expanded("~no_such_user_here/x")


def test_numbers_are_numbers() -> None:
    assert (given_number(whole(1, 9))("7"), given_number(Range(0, 9))("0.5")) == (7, 0.5)


@pytest.mark.parametrize("number", sorted(BAD_PATHS))
def test_a_path_that_turns_out_to_be_none_later_is_one_sentence_too(number: int, capsys) -> None:
    def main() -> None:
        raise OSError(number, os.strerror(number), "/some/path")

    with pytest.raises(SystemExit) as ended:
        run_main(main)
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"error: /some/path: {BAD_PATHS[number]}\n"


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("train.sweep", ["demo", "--vary", "none", "--seeds", "42", "42"]),
        ("train.sweep", ["demo", "--vary", "none", "--seeds", "-1"]),
        ("train.sweep", ["demo", "--vary", "none", "--trials", "-1"]),
        ("train.sweep", ["demo", "--vary", "none", "--hours", "nan"]),
        ("train.sweep", ["demo", "--vary", "none", "--halving=yes"]),
        ("train.sweep", ["demo", "--learning_rate", "1e-3", "--num_train_epochs", "1"]),
        ("plan", ["demo", "--model", ""]),
        ("plan", ["~no_such_user_here"]),
        ("plan", ["demo", "--csv", "~no_such_user_here/x.csv"]),
        ("plan", ["demo", "--run", "/dev/null/x"]),
        ("plan", ["demo", "--with", "x" * 300]),
        ("plan", ["x" * 300]),
        ("data_prep.build", ["demo", "--max-length", "3"]),
        ("train.rerun", ["~no_such_user_here"]),
        ("eval.report", ["x" * 300]),
        ("train.sweep", ["--vary", "\udce4"]),
        ("plan", ["\udce4"]),
        ("eval.report", ["\udce4"]),
    ],
)
def test_a_word_that_is_none_is_one_sentence(module: str, words: list[str], capsys) -> None:
    main = importlib.import_module(module if module != "plan" else "plan.__main__").main
    with pytest.raises(SystemExit) as ended:
        run_main(lambda: main(words))
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (2, "")
    assert said.err.startswith("error: ") and said.err.count("\n") == 1


@pytest.mark.parametrize("module", ["plan", "train.sft", "workspace.install"])
def test_help_needs_no_docstrings(module: str) -> None:
    """Python leaves them out with PYTHONOPTIMIZE=2."""
    words = [sys.executable, "-OO", "-m", module, "--help"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0 and "usage: " in done.stdout and not done.stderr
