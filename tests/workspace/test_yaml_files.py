"""YAML files of strangers: an alias that stands for millions is refused before it is written out."""

from pathlib import Path

import pytest

from workspace.errors import UserError
from workspace.yaml_files import read_yaml

LAUGHS = "\n".join(
    [f"a0: &a0 {list(range(9))}", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))]
)
MERGES = "\n".join(
    ["a0: &a0 {x: 1}", *(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 12))]
)


@pytest.mark.parametrize("text", [LAUGHS, MERGES, "a: &a [*a]", "a: &a {b: *a}"], ids=range(4))
def test_an_alias_bomb_is_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bomb.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"bomb\.yaml has more than 100,000 values, aliases written out: write fewer"):
        read_yaml(path, "")


def test_a_file_that_is_no_settings_is_not_read_at_all(tmp_path: Path) -> None:
    path = tmp_path / "long.yaml"
    path.write_text("a: [" + "1, " * 500_000 + "]", encoding="utf-8")
    with pytest.raises(UserError, match=r"long\.yaml has more than 1,000,000 bytes: name another"):
        read_yaml(path, "name another")


def test_aliases_and_merges_of_the_usual_size_are_read(tmp_path: Path) -> None:
    path = tmp_path / "fine.yaml"
    path.write_text("a: &a {x: 1, y: [2]}\nb: {<<: *a, x: 3}\nc: *a\n", encoding="utf-8")
    assert read_yaml(path, "").values == {"a": {"x": 1, "y": [2]}, "b": {"x": 3, "y": [2]}, "c": {"x": 1, "y": [2]}}


@pytest.mark.parametrize(
    "text",
    [
        "[" * 1500,
        "5: x\n",
        "? [a]\n: b\n",
        "null: 1\n",
        "a: " + "9" * 5000,
        "a: \0",
        "- &a",
        r'a: "\ud800"',
        r'"\udfff": 1',
    ],
    ids=range(9),
)
def test_what_is_no_file_of_keys_is_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"odd\.yaml") as said:
        read_yaml(path, "write it again")
    assert "\n" not in str(said.value)
