"""manifest.json: what is written is what is read, and a broken one is one sentence with path and remedy."""

import json

import pytest

from data_prep.build import build
from data_prep.manifest import MANIFEST, Manifest
from tests.manifests import as_manifest, made_up_manifest
from tests.prep_tables import reviews, small_task, write_csv, write_model
from workspace.errors import UserError
from workspace.files import read_json, write_json


def test_what_prep_writes_is_read_back_whole(tmp_path):
    (tmp_path / "fix.csv").write_text("row,label\n1,1\n", encoding="utf-8")
    (tmp_path / "known.txt").write_text(reviews(1)[0][1], encoding="utf-8")
    task = small_task(
        tmp_path, corrections=str(tmp_path / "fix.csv"), known_public={"path": str(tmp_path / "known.txt")},
        injected_share=0.5,
    )  # fmt: skip
    model = write_model(tmp_path / "model")
    path = build(task, csv=write_csv(tmp_path / "t.csv", reviews(80)), model=model, out=tmp_path / "out", max_length=99)
    manifest = Manifest.read(tmp_path / "out")
    assert manifest.as_json() == read_json(path)
    assert manifest.counts.of("train") == manifest.counts.train == read_json(path)["counts"]["train"]
    assert manifest.corrections and manifest.known_public and manifest.injected and manifest.cut and manifest.tokens
    manifest.write(tmp_path / "again")
    assert (tmp_path / "again" / MANIFEST).read_bytes() == path.read_bytes()


def test_one_without_a_model_and_a_later_versions_keys_are_read(tmp_path):
    values = made_up_manifest().as_json()
    assert as_manifest(values | {"a_later_key": 1}).as_json() == values
    assert (values["cut"], values["tokens"], values["known_public"]) == (None, None, None)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "has no manifest.json: build the dataset with"),
        ("{", "cannot be read (Invalid JSON"),
        ("[]", "cannot be read"),
        ("\xff", "cannot be read"),
        ('{"inputs": 1}', "(schema_version is missing): build the dataset with"),
        ({"counts": None}, "(counts: "),
        ({"counts": {"rows": "many"}}, "(counts.rows: "),
        ({"files": {"train.jsonl": 3}}, "(files.train.jsonl: "),
        ({"labels": ["正面", "正面"]}, "expected two or more, each once"),
        ({"rows_sha256": {}}, "rows_sha256 of train are not whole"),
    ],
)
def test_a_broken_one_is_one_sentence(tmp_path, content, told):
    if isinstance(content, str):
        (tmp_path / MANIFEST).write_text(content, encoding="latin-1")
    elif content:
        write_json(tmp_path / MANIFEST, made_up_manifest().as_json() | content)
    with pytest.raises(UserError) as caught:
        Manifest.read(tmp_path)
    message = str(caught.value)
    assert told in message and str(tmp_path) in message and "\n" not in message
    assert message.endswith("python -m data_prep.build`")


def test_the_folder_may_be_a_file_or_unreadable_json_of_any_depth(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / MANIFEST).write_text("[" * 100_000)
    for folder in (tmp_path / "file", tmp_path):
        with pytest.raises(UserError, match="build the dataset with"):
            Manifest.read(folder)
    (tmp_path / MANIFEST).write_text(json.dumps(made_up_manifest().as_json()))
    assert Manifest.read(tmp_path) == made_up_manifest()
