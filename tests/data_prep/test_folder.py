"""A dataset folder is replaced whole or not at all."""

import json

import pytest

from data_prep.folder import replaced_folder, up_to_date
from workspace.errors import UserError
from workspace.files import sha256_file


def made(folder, text="old"):
    with replaced_folder(folder) as fresh:
        (fresh / "train.jsonl").write_text(text)
        files = {"train.jsonl": sha256_file(fresh / "train.jsonl")}
        (fresh / "manifest.json").write_text(json.dumps({"inputs": {"a": 1}, "files": files}))
    return folder


def contents(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_new_folder_and_a_second_one_in_its_place(tmp_path):
    out = made(tmp_path / "below" / "out")
    (out / "README.md").write_text("mine")
    (out / "pictures").mkdir()
    made(out, "new")
    assert (out / "train.jsonl").read_text() == "new"
    assert (out / "README.md").read_text() == "mine"
    assert (out / "pictures").is_dir()
    assert [path.name for path in out.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("fault", [RuntimeError("a defect"), UserError("a fault"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_folder(tmp_path, fault):
    out = made(tmp_path / "out")
    before = contents(out)
    with pytest.raises(type(fault)), replaced_folder(out) as fresh:
        (fresh / "train.jsonl").write_text("half")
        raise fault
    assert contents(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_full_disk_is_told(tmp_path):
    out = made(tmp_path / "out")
    with pytest.raises(UserError, match=r"cannot be written: the disk is full: make room"), replaced_folder(out):
        raise OSError(28, "No space left on device")
    assert (out / "train.jsonl").read_text() == "old"


def test_other_peoples_folders_and_files_are_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="no dataset folder: choose another --out"), replaced_folder(tmp_path):
        pass
    with pytest.raises(UserError, match="is a file"), replaced_folder(tmp_path / "notes.txt"):
        pass
    assert contents(tmp_path) == {"notes.txt": "mine"}


def test_an_empty_folder_and_a_link_are_fine(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    made(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "train.jsonl").read_text() == "old"


def test_what_makes_a_folder_stale(tmp_path):
    out = made(tmp_path / "out")
    assert up_to_date(out, {"a": 1})
    assert not up_to_date(out, {"a": 2})
    (out / "train.jsonl").write_text("changed")
    assert not up_to_date(out, {"a": 1})
    (out / "manifest.json").write_text("{")
    assert not up_to_date(out, {"a": 1})
    assert not up_to_date(tmp_path / "gone", {"a": 1})
