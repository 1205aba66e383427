"""A dataset folder is replaced whole or not at all."""

import pytest

from data_prep.dataset_folder import replaced_folder, up_to_date
from tests.manifests import made_up_manifest
from workspace.errors import UserError
from workspace.files import sha256_file, write_json
from workspace.folder_lock import kept
from workspace.marker import MARKER, is_ours, mark


def made(folder, text="old"):
    with replaced_folder(folder) as fresh:
        (fresh / "train.jsonl").write_text(text)
        files = {"train.jsonl": sha256_file(fresh / "train.jsonl")}
        made_up_manifest(inputs={"a": 1}, files=files).write(fresh)
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


def test_a_dataset_that_a_run_reads_is_not_replaced(tmp_path):
    out = made(tmp_path / "data")
    with kept(out):
        with pytest.raises(UserError, match="data would be made anew, but a run that goes on was made from it: wait"):
            made(out, "new")
        assert (out / "train.jsonl").read_text() == "old"
    made(out, "new")
    assert (out / "train.jsonl").read_text() == "new"


def test_what_makes_a_folder_stale(tmp_path):
    out = made(tmp_path / "out")
    assert up_to_date(out, {"a": 1})
    assert not up_to_date(out, {"a": 2})
    (out / "train.jsonl").write_text("changed")
    assert not up_to_date(out, {"a": 1})
    (out / "manifest.json").write_text("{")
    assert not up_to_date(out, {"a": 1})
    assert not up_to_date(tmp_path / "gone", {"a": 1})


def test_a_dataset_is_marked_and_one_from_before_markers_still_counts(tmp_path):
    out = made(tmp_path / "out")
    assert is_ours(out, "dataset")
    (out / MARKER).unlink()
    assert up_to_date(out, {"a": 1})
    made(out, "new")
    assert (out / "train.jsonl").read_text() == "new" and is_ours(out, "dataset")


def manifest_of_a_web_app(folder):
    write_json(folder / "manifest.json", {"name": "app", "files": ["index.html"]})


def manifest_that_is_a_list(folder):
    write_json(folder / "manifest.json", [1])


def torn_manifest(folder):
    (folder / "manifest.json").write_text("{")


def marker_of_a_run(folder):
    mark(folder, "run")
    made_up_manifest().write(folder)


def marker_that_is_a_link(folder):
    mark(folder.parent / "other", "dataset")
    (folder / MARKER).symlink_to(folder.parent / "other" / MARKER)


@pytest.mark.parametrize(
    "fill", [manifest_of_a_web_app, manifest_that_is_a_list, torn_manifest, marker_of_a_run, marker_that_is_a_link]
)
def test_a_folder_that_is_not_ours_is_never_replaced(tmp_path, fill):
    out = tmp_path / "out"
    out.mkdir()
    fill(out)
    before = contents(out)
    with pytest.raises(UserError, match="is no dataset folder: choose another --out"), replaced_folder(out):
        pass
    assert contents(out) == before


def test_a_strangers_folder_in_the_way_is_kept_and_our_own_leftovers_are_cleared(tmp_path):
    way = tmp_path / ".out.new.partial"
    way.mkdir()
    (way / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is in the way, and this project did not make it: remove it"):
        made(tmp_path / "out")
    assert contents(way) == {"notes.txt": "mine"}
    (way / "notes.txt").rename(way / f".{MARKER}.1.partial")  # a process that was killed while it marked the folder
    made(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
