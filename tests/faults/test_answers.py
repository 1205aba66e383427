"""The answers file of an evaluation, torn, cut and fuzzed: what is whole counts, the rest is asked again."""

import json
import random
from pathlib import Path

import pytest

from eval.inference.journal import AttemptFiles, Completion, read_journal
from eval.inference.prompts import Prompt, make_prompts
from workspace.errors import UserError
from workspace.files import read_json

pytestmark = pytest.mark.swift

FUZZED = 2000


@pytest.fixture(scope="module")
def journal(recorded) -> tuple[Path, list[Prompt], dict[str, Completion]]:
    """The journal that real `swift infer` wrote after tuning, its prompts and the answers in it."""
    finished = recorded.root / "states" / "finished"
    prompts = make_prompts(finished / "1", before=False, seed=read_json(finished / "0" / "run.json")["seed"])
    folder = finished / "0" / "after" / "journal"
    return folder, prompts, read_journal(folder, prompts)


def copied(journal: Path, folder: Path) -> Path:
    """A copy of a journal to damage."""
    for path in journal.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.mark.parametrize("kind", ["results", "scores"])
def test_a_file_cut_at_every_byte_of_its_last_record_loses_that_record_alone(journal, tmp_path, tally, kind) -> None:
    folder, prompts, whole = journal
    damaged = copied(folder, tmp_path)
    (path,) = damaged.glob(f"*.{kind}.jsonl")
    data = path.read_bytes()
    last = len(data) - len(data[:-1].rsplit(b"\n", 1)[-1]) - 1
    expected = dict(list(whole.items())[:-1])
    for size in range(last, len(data)):
        path.write_bytes(data[:size])
        assert read_journal(damaged, prompts) == expected
    path.write_bytes(data)
    assert read_journal(damaged, prompts) == whole
    tally("answers file cut at every byte of its last record", len(data) - last)


def test_fuzzed_lines_are_asked_again_and_never_taken_for_answers(journal, tmp_path, tally) -> None:
    folder, prompts, whole = journal
    damaged = copied(folder, tmp_path)
    (files,) = AttemptFiles.all_in(damaged)
    draw = random.Random(6)
    for number in range(FUZZED):
        path = draw.choice([files.prompts, files.results, files.scores])
        data = path.read_bytes()
        path.write_bytes(fuzzed(data, draw, number))
        try:
            found = read_journal(damaged, prompts)
        except UserError as error:  # probabilities that are not finite are the model's fault
            assert "no finite probabilities" in str(error)
            found = {}
        path.write_bytes(data)
        # An answer that is taken belongs to its prompt; its text may have been changed into another text.
        assert all(isinstance(answer, Completion) and key in whole for key, answer in found.items())
        if path is files.prompts:
            assert all(found[key] == whole[key] for key in found)
    tally("fuzzed result lines", FUZZED)


def fuzzed(data: bytes, draw: random.Random, number: int) -> bytes:
    """The file's bytes with one line damaged: bytes changed, a value replaced, or the line cut, doubled or removed."""
    lines = data.split(b"\n")[:-1]
    at = draw.randrange(len(lines))
    line = lines[at]
    match number % 6:
        case 0:
            place = draw.randrange(len(line))
            line = line[:place] + bytes(draw.randrange(256) for _ in range(draw.randrange(1, 5))) + line[place + 1 :]
        case 1:
            line = line[: draw.randrange(len(line))]
        case 2:
            value = json.loads(line)
            key = draw.choice(sorted(value))
            value[key] = draw.choice([None, 1, "x", [], {}, -1e400, True, [None], {"role": "assistant"}])
            line = json.dumps(value).encode()
        case 3:
            line = draw.choice([b"null", b"[]", b"0", b'"x"', b"{}", b"[" * 9000, b"\x00", b"NaN", b""])
        case 4:
            return b"\n".join([*lines[:at], *lines[at + 1 :]]) + b"\n"
        case _:
            return b"\n".join([*lines[:at], line, *lines[at:]]) + b"\n"
    return b"\n".join([*lines[:at], line, *lines[at + 1 :]]) + b"\n"
