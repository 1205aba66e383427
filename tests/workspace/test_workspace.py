"""Whole-or-nothing files, stage records, child processes."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from workspace import stages
from workspace.errors import UserError, is_want_of_memory, run_main
from workspace.files import read_jsonl, replace_file, write_json, write_jsonl
from workspace.paths import ROOT, printable, shown
from workspace.records import whole_lines
from workspace.spreadsheet import safe_cell, write_csv


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), replace_file(path) as stream:
        stream.write("new")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_jsonl_keeps_every_line_separator_that_a_review_may_hold(tmp_path: Path) -> None:
    rows = [{"review": "一\u2028二\x85三\n四\r五"}, {"review": "\x0b\x0c\x1c"}]
    write_jsonl(tmp_path / "a.jsonl", rows)
    assert read_jsonl(tmp_path / "a.jsonl") == rows
    assert whole_lines(tmp_path / "a.jsonl", dict) == rows


def test_whole_lines_of_a_file_cut_at_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_jsonl(path, [{"n": i, "text": "好" * i} for i in range(4)])
    data = path.read_bytes()
    for length in range(len(data) + 1):
        path.write_bytes(data[:length])
        assert len(whole_lines(path, dict)) == data[:length].count(b"\n")


def test_a_csv_is_read_back_as_it_was_and_has_no_formula(tmp_path: Path) -> None:
    texts = [
        "=1+1",
        " =1",
        "＋1",
        "@a",
        "-1",
        "-1+1",
        "\t=1",
        "a\rb",
        "a\r\nb",
        "\rb",
        "a\nb",
        'a"b',
        "a,b",
        "'a",
        "",
        "好",
        "\ufeffa",
    ]
    write_csv(tmp_path / "a.csv", [["number", "text"], *enumerate(texts)])
    assert (tmp_path / "a.csv").read_bytes().startswith(b"\xef\xbb\xbfnumber,text\r\n")
    with open(tmp_path / "a.csv", encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.reader(stream, strict=True))[1:]
    assert [text for _, text in rows] == [safe_cell(text) for text in texts]
    assert [text.removeprefix("'") for _, text in rows] == [text.removeprefix("'") for text in texts]
    assert [safe_cell(text) != text for text in texts] == [True] * 4 + [False] + [True] * 2 + [False] * 2 + [True] + [
        False
    ] * 7


def test_a_terminal_is_shown_what_it_would_obey(tmp_path: Path, capsys) -> None:
    assert printable("红\x1b[31m \u202e\x07\n一\u3000二 é👍") == "红\\x1b[31m \\u202e\\x07\\n一\u3000二 é👍"
    assert printable("a\nb\udcff", keep="\n") == "a\nb\\udcff"
    assert shown(tmp_path / "a\nb") == f"{tmp_path}/a\\nb"

    def main() -> None:
        raise UserError("line 3 has \x1b]0;title\x07: mend it\nend of log")

    with pytest.raises(SystemExit) as end:
        run_main(main)
    assert end.value.code == 2
    assert capsys.readouterr().err == "error: line 3 has \\x1b]0;title\\x07: mend it\nend of log\n"


def named(name: str, base: type[Exception]) -> type[Exception]:
    """An error of torch's, which is not imported here."""
    return type(name, (base,), {})


ON_CPU = "no memory is left: end other programs, or take fewer rows where the command has --limit"
ON_GPU = "the GPU's memory does not hold this: end what else holds it, or put CUDA_VISIBLE_DEVICES= (empty) before"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError(), ON_CPU),
        (named("_ArrayMemoryError", MemoryError)("Unable to allocate 12.0 GiB for an array"), ON_CPU),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:126] err == 0. DefaultCPUAllocator: can't allocate memory: you "
                      "tried to allocate 4503599627370496 bytes."), ON_CPU),
        (named("OutOfMemoryError", RuntimeError)("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has"), ON_GPU),
        (named("AcceleratorError", RuntimeError)("CUDA error: out of memory\nCUDA kernel errors might be"), ON_GPU),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), ON_GPU),
        (RuntimeError("HIP error: out of memory"), ON_GPU),
    ],
)  # fmt: skip
def test_want_of_memory_is_one_sentence_whatever_stage_it_is(error: Exception, told: str, capsys) -> None:
    def main() -> int:
        raise error

    assert is_want_of_memory(error)
    with pytest.raises(SystemExit) as end:
        run_main(main)
    said = capsys.readouterr().err
    assert end.value.code == 1 and said.startswith(f"error: {told}") and said.count("\n") == 1


def test_a_defect_keeps_its_traceback() -> None:
    def main() -> int:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal"):
        run_main(main)
    assert not is_want_of_memory(UserError("RuntimeError: out of memory"))


def test_nan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not (tmp_path / "a.json").exists()


def test_a_stage_is_finished_until_an_input_or_output_changes(tmp_path: Path, capsys) -> None:
    output = tmp_path / "out.txt"
    output.write_text("1")
    assert not stages.finished(tmp_path, "s", {"a": 1})
    stages.record(tmp_path, "s", {"a": 1}, [output], 2.5)
    assert stages.finished(tmp_path, "s", {"a": 1})
    assert stages.seconds_taken(tmp_path, "s") == 2.5
    assert not stages.finished(tmp_path, "s", {"a": 2})
    assert "stale, because these changed since it ran: a" in capsys.readouterr().out
    output.write_text("2")
    assert not stages.finished(tmp_path, "s", {"a": 1})
    assert "out.txt was removed or changed" in capsys.readouterr().out


def test_a_reader_that_goes_away_ends_a_command_without_a_traceback() -> None:
    """As `python -m data_prep.init my.csv | head -1` does."""
    code = (
        "import time\nfrom workspace.errors import run_main\n"
        "def main():\n    for _ in range(10000): print('x' * 100, flush=True)\nrun_main(main)"
    )
    done = subprocess.run(
        ["bash", "-c", 'set -o pipefail; "$0" -c "$1" | head -1', sys.executable, code],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 141 and done.stderr == "", done.stderr
