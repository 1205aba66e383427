"""Every file of a finished run and of its dataset, damaged in many ways: each command that reads it ends in a sentence.

What reads a file is not listed but seen: the files that a command opens are noted while it runs over the whole run.
"""

import os
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.records.damage import damage
from tests.records.finished import Finished, finished, outcome

# Not records: a table and a task have tests of their own, a model's files are judged by tests/hub.
LEFT_OUT = ("table.csv", "small/", "model/", "/lock")
_opened: set[str] | None = None


def _note(event: str, words: tuple[object, ...]) -> None:
    if _opened is not None and event == "open" and isinstance(words[0], str | os.PathLike):
        _opened.add(os.fspath(words[0]))


sys.addaudithook(_note)


class Kept:
    """The files below a folder as they were, to be put back after each command."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
        self.stats = {path: self._stat(path) for path in self.files}

    def restore(self) -> None:
        there = {path for path in self.root.rglob("*") if path.is_file() or path.is_symlink()}
        for path in there - self.files.keys():
            path.unlink()
        for path, data in self.files.items():
            if path not in there or self._stat(path) != self.stats[path]:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
                self.stats[path] = self._stat(path)

    @staticmethod
    def _stat(path: Path) -> tuple[int, int]:
        stat = path.stat()
        return stat.st_size, stat.st_mtime_ns


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    root = tmp_path_factory.mktemp("records")
    (root / "in").mkdir()
    return finished(root / "in")


def readers(made: Finished, kept: Kept) -> dict[Path, list[str]]:
    """The commands that open each file."""
    global _opened
    found: dict[Path, list[str]] = {}
    for name in made.commands():
        _opened = set()
        assert outcome(made, name).status == 0, name
        seen, _opened = _opened, None
        for path in sorted(map(Path, seen)):
            if path in kept.files and not any(part in str(path.relative_to(made.root)) for part in LEFT_OUT):
                found.setdefault(path, []).append(name)
        kept.restore()
    return found


def corrupt(made: Finished, cases: int, seed: int) -> Iterator[str]:
    """Damage files and run their commands, `cases` times; what ended otherwise than in a result or a sentence."""
    kept, dice = Kept(made.root), random.Random(seed)
    by_file = readers(made, kept)
    paths = sorted(by_file)
    for case in range(cases):
        path = paths[case % len(paths)]
        name = dice.choice(by_file[path])
        where = f"case {case}: {path.relative_to(made.root)} before {name}"
        data = damage(path, kept.files[path], dice)
        path.write_bytes(data)
        ended = outcome(made, name)
        if ended.status not in (0, 1, 2):
            yield f"{where} ({data[:60]!r}): {ended.text}"
        elif ended.status == 2 and ("\n" in ended.text.strip() or "/" not in ended.text):
            yield f"{where}: no sentence with a path: {ended.text}"
        outside = {one.name for one in made.root.parent.iterdir()} - {"in"}
        if outside:
            yield f"{where}: wrote {outside} outside"
        kept.restore()


def test_damaged_records_end_in_a_sentence(made: Finished) -> None:
    assert list(corrupt(made, 100, 1)) == []


@pytest.mark.all
def test_six_thousand_damaged_records_end_in_a_sentence(made: Finished) -> None:
    assert list(corrupt(made, 6000, 2)) == []


@pytest.mark.parametrize("name", ["again", "injection"])
def test_a_template_that_is_none_is_told_with_the_file_that_names_it(made: Finished, name: str) -> None:
    kept, path = Kept(made.root), made.run / "sft.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r"(?m)^template: .*", "template: 正面", text), encoding="utf-8")
    ended = outcome(made, name)
    kept.restore()
    assert ended.status == 2 and "sft.yaml: ms-swift has no template 正面" in ended.text, ended.text
