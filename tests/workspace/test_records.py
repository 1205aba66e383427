"""Records read by their schema: what is damaged is one sentence with path, key and remedy, or counts as absent."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import FiniteFloat

from workspace.errors import UserError
from workspace.records import Json, RowId, Stored, read, read_if_whole, read_lines, whole_lines


@dataclass(frozen=True)
class Small:
    name: str
    seconds: FiniteFloat
    inputs: Json = None
    place: Stored | None = None
    id: RowId = ""


DAMAGED = {
    "": "Invalid JSON: ",
    "[]": "Input should be ",
    "[" * 100_000: "Invalid JSON: recursion limit exceeded",
    '{"name": "a"}': "seconds is missing",
    '{"name": 3, "seconds": 1}': "name: Input should be a valid string",
    '{"name": "a", "seconds": NaN}': "seconds: Input should be a finite number",
    '{"name": "a", "seconds": 1e999}': "seconds: Input should be a finite number",
    '{"name": "a", "seconds": 1, "inputs": [1e999]}': "inputs: Out of range float values",
    '{"name": "a\\ud800", "seconds": 1}': "Invalid JSON: ",
    '{"name": "a", "seconds": 1, "place": "a\\u0000b"}': "place: no path that a disk can hold",
    json.dumps({"name": "a", "seconds": 1, "place": "x" * 300}): "place: no path",
}


@pytest.mark.parametrize(("text", "told"), DAMAGED.items(), ids=range(len(DAMAGED)))
def test_what_is_damaged_is_one_sentence_or_counts_as_absent(tmp_path: Path, text: str, told: str, capsys) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read(path, Small, "make it again")
    said = str(caught.value)
    assert said.startswith(f"{path} cannot be read (") and told in said and said.endswith("): make it again")
    assert "\n" not in said
    assert read_if_whole(path, Small) is None
    assert f"{path} cannot be read ({told}" in capsys.readouterr().out
    path.write_text(f'{{"name": "a", "seconds": 1}}\n{text}\n')
    with pytest.raises(UserError, match=r"a\.json, line 2 cannot be read \("):
        read_lines(path, Small, "make it again")
    assert whole_lines(path, Small) == [Small("a", 1.0)]


def test_what_is_whole_is_read_and_later_keys_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"name": "好\\u2028", "seconds": 1, "id": 7, "later": {}}')
    assert read(tmp_path / "a.json", Small, "") == Small("好\u2028", 1.0, id="7")
    assert read_lines(tmp_path / "a.json", Small, "") == [Small("好\u2028", 1.0, id="7")]


def test_a_record_that_is_missing_or_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.json is missing: make it"):
        read(tmp_path / "a.json", Small, "make it")
    with pytest.raises(UserError, match=r"cannot be read \(Is a directory\): make it"):
        read(tmp_path, Small, "make it")
    assert read_if_whole(tmp_path / "a.json", Small) is None and whole_lines(tmp_path / "a.json", Small) == []
    with pytest.raises(UserError, match="is missing"):
        read_lines(tmp_path / "a.json", Small, "make it")
