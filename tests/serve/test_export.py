"""A bundle: it answers as its run, has no text and no place of it, and is whole, the same each time, or refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from plan.run import Run
from serve import export, tuned
from serve.bundle import files_in, open_bundle
from serve.classifier import Classifier
from serve.classifier_file import ClassifierFile, path_in
from serve.describe import describe
from serve.finished_run import FinishedRun
from serve.merging import TOLERANCE, compare
from tests.plan.faked_machines import MACHINES, machine_of
from tests.serve.small_run import LABELS, small_run
from workspace.child_process import OutOfMemory
from workspace.errors import UserError
from workspace.files import read_json, read_jsonl, sha256_file, write_json

pytestmark = pytest.mark.torch
REPORTED = {"tuned": "after_score", "linear": "tfidf_linear", "stack": "stack"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return small_run(tmp_path_factory.mktemp("words"))


@pytest.fixture(scope="module")
def head_run(tmp_path_factory):
    return small_run(tmp_path_factory.mktemp("head"), head=True)


@pytest.fixture(scope="module")
def bundle(run, tmp_path_factory):
    return exported(run, tmp_path_factory.mktemp("bundle") / "mine", "stack")


def exported(run: Path, folder: Path, reading: str | None = None, *words: str) -> Path:
    given = ["--reading", reading] if reading else []
    assert export.main([str(run), str(folder), *given, *words]) == 0
    return folder


def answers(finished: FinishedRun, reading: str) -> np.ndarray:
    return finished.predictions.test[REPORTED[reading]].probabilities


@pytest.mark.parametrize("reading", ["tuned", "linear", "stack"])
def test_a_bundle_answers_the_test_rows_as_the_report(run, tmp_path, reading):
    folder = exported(run, tmp_path / "elsewhere", reading)
    moved = tmp_path / "carried"
    shutil.move(folder, moved)
    finished = FinishedRun.read(Run.read(run))
    found = Classifier.load(moved).score(list(finished.test.reviews)).probabilities
    assert np.abs(found - answers(finished, reading)).max() < 1e-4
    assert any(finished.test.cut) and len(found) == len(finished.test)


def test_a_head_keeps_what_was_trained_as_a_whole(head_run, tmp_path):
    folder = exported(head_run, tmp_path / "head", "tuned")
    finished = FinishedRun.read(Run.read(head_run))
    found = Classifier.load(folder).score(list(finished.test.reviews)).probabilities
    assert np.abs(found - answers(finished, "tuned")).max() < 1e-4
    assert read_json(folder / "config.json")["id2label"] == {"0": "正面", "1": "负面"}


def test_an_adapter_alone_answers_with_its_base(run, tmp_path):
    folder = exported(run, tmp_path / "adapter", "tuned", "--adapter")
    assert not list(folder.glob("*.safetensors"))
    assert (folder / "adapter" / "adapter_model.safetensors").is_file()
    finished = FinishedRun.read(Run.read(run))
    found = Classifier.load(folder, base=finished.run.model_folder).score(list(finished.test.reviews)).probabilities
    assert np.abs(found - answers(finished, "tuned")).max() < 1e-4


def test_without_a_reading_the_bundle_is_what_the_report_advises(run, tmp_path):
    advised = read_json(run / "metrics.json")["decision"]["advised"]
    file, _ = open_bundle(exported(run, tmp_path / "advised"))
    assert file.reported == advised and file.reading == file.advice


def test_a_report_that_advises_neither_asks_for_a_reading(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    metrics = read_json(copy / "metrics.json")
    metrics["decision"]["advised"] = "majority"
    write_json(copy / "metrics.json", metrics)
    with pytest.raises(UserError, match=r"advises majority class.*--reading linear"):
        describe(Run.read(copy))
    assert describe(Run.read(copy), "linear").advice is None


def test_two_exports_are_the_same_bytes(run, bundle, tmp_path):
    again = exported(run, tmp_path / "mine", "stack")
    names = [*files_in(bundle), "classifier.json"]
    assert names == [*files_in(again), "classifier.json"]
    assert {name: sha256_file(bundle / name) for name in names} == {name: sha256_file(again / name) for name in names}


@pytest.mark.parametrize("words", [(), ("--adapter",)])
def test_no_text_of_the_table_and_no_place_is_in_any_file(run, tmp_path, words):
    folder = exported(run, tmp_path / "bare", "stack", *words)
    data = Run.read(run).dataset
    texts = [row["review"] for name in ("train", "val", "test") for row in read_jsonl(data / f"{name}.jsonl")]
    places = [str(run.parents[1]), str(Path.home()), str(Path.cwd())]
    assert len(texts) > 200
    for name in [*files_in(folder), "classifier.json"]:
        held = (folder / name).read_bytes()
        # As it stands, and as JSON may write it.
        wanted = [form for text in texts for form in (text.encode(), json.dumps(text)[1:-1].encode())]
        assert not [one for one in wanted if one in held], name
        assert not [one for one in places if one.encode() in held], name


def test_texts_are_in_the_report_where_they_are_asked_for(run, tmp_path):
    folder = exported(run, tmp_path / "told", "linear", "--with-texts")
    held = (folder / "report" / "report.html").read_text("utf-8")
    assert all(row["review"] in held for row in read_jsonl(run / "rows.jsonl"))


def change(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"x")


@pytest.mark.parametrize(
    ("name", "what", "said"),
    [
        ("model.safetensors", change, "model.safetensors was changed"),
        ("report/report.md", change, "report.md was changed"),
        ("stack.json", Path.unlink, "has lost stack.json"),
        ("classifier.json", Path.unlink, "is no bundle"),
        ("added_tokens.json", Path.touch, "is no file of the bundle"),
    ],
)
def test_a_bundle_that_was_changed_is_refused(bundle, tmp_path, name, what, said):
    copy = shutil.copytree(bundle, tmp_path / "copy")
    what(copy / name)
    with pytest.raises(UserError, match=said) as error:
        open_bundle(copy)
    assert error.value.status == 2 and "\n" not in str(error.value)


def test_a_bundle_of_a_later_format_is_refused(bundle, tmp_path):
    copy = shutil.copytree(bundle, tmp_path / "copy")
    write_json(path_in(copy), read_json(path_in(copy)) | {"format": 3})
    with pytest.raises(UserError, match="has the format 3, and 2 is read"):
        open_bundle(copy)


def test_a_run_that_is_not_finished_is_refused(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "metrics.json").unlink()
    with pytest.raises(UserError, match="is not finished"):
        export.main([str(copy)])
    assert not (tmp_path / "run-bundle").exists()


def test_answers_that_are_not_the_reports_are_refused(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    for reading in ("test", "val"):
        shutil.copy(copy / "before" / f"{reading}.jsonl", copy / "after" / f"{reading}.jsonl")
    with pytest.raises(UserError, match="of other answers than the run has now"):
        export.main([str(copy)])


def test_another_base_than_was_tuned_is_refused(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    record = read_json(copy / "run.json")
    write_json(copy / "run.json", record | {"model_fingerprint": "0" * 16})
    with pytest.raises(UserError, match="is another model than the one that was tuned"):
        export.main([str(copy), "--reading", "tuned"])
    write_json(copy / "run.json", record | {"model_folder": str(tmp_path / "gone")})
    with pytest.raises(UserError, match=r"is not in .*gone any more"):
        export.main([str(copy), "--reading", "tuned"])
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_quantised_base_keeps_its_adapter_apart(run, tmp_path, capsys):
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "sft.yaml").write_text((copy / "sft.yaml").read_text() + "quant_bits: 4\nquant_method: bnb\n")
    file, folder = open_bundle(exported(copy, tmp_path / "apart", "tuned"))
    assert file.weights == "adapter" and not list(folder.glob("*.safetensors"))
    assert "quantised" in capsys.readouterr().out
    # Whole, the base answers otherwise than it was measured.
    assert file.quant_bits == 4 and "--quant_bits 4" in (folder / "README.md").read_text(encoding="utf-8")
    with pytest.raises(UserError, match="was tuned on a quantised model"):
        Classifier.load(folder, base=Run.read(run).model_folder)


def test_a_folder_of_something_else_stays(run, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="holds something other than a bundle"):
        export.main([str(run), str(tmp_path / "mine"), "--reading", "linear"])
    with pytest.raises(UserError, match="holds the run itself"):
        export.main([str(run), str(run.parent), "--reading", "linear"])
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_a_bundle_is_replaced_as_a_whole_or_not_at_all(run, bundle, tmp_path, monkeypatch):
    copy = shutil.copytree(bundle, tmp_path / "copy")
    before = sha256_file(path_in(copy))
    with monkeypatch.context() as patched:
        patched.setattr(export, "write_bare_report", lambda *words: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            export.main([str(run), str(copy), "--reading", "linear"])
    assert sha256_file(path_in(copy)) == before and [path.name for path in tmp_path.iterdir()] == ["copy"]
    file, _ = open_bundle(exported(run, copy, "linear"))
    assert file.reading == "linear" and not (copy / "model.safetensors").exists()


def test_weights_that_a_dtype_does_not_hold_are_stored_in_float32(run, tmp_path, monkeypatch, capsys):
    copy = shutil.copytree(run, tmp_path / "run")
    model = shutil.copytree(Run.read(run).model_folder, tmp_path / "model")
    write_json(model / "config.json", read_json(model / "config.json") | {"dtype": "float16"})
    record = read_json(copy / "run.json")
    from hub.model_files import fingerprint

    write_json(copy / "run.json", record | {"model_folder": str(model), "model_fingerprint": fingerprint(model)})
    monkeypatch.setitem(TOLERANCE, "float16", 0.0)
    file, _ = open_bundle(exported(copy, tmp_path / "stored", "tuned"))
    assert file.agreement.dtype == "float32" and file.agreement.rows == 72
    assert "in float16 a probability differs by" in capsys.readouterr().out
    monkeypatch.setitem(TOLERANCE, "float32", -1.0)
    with pytest.raises(UserError, match="do not answer as they did apart"):
        export.main([str(copy), str(tmp_path / "none"), "--reading", "tuned"])
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("card", "measured", "computed"),
    [("RTX 4090", "float32", "float32"), ("RTX 4090", "bfloat16", "bfloat16"), ("T4", "bfloat16", "float32")],
)
def test_a_bundle_computes_in_the_dtype_that_was_measured(run, tmp_path, monkeypatch, card, measured, computed):
    """Its thresholds and its calibration are those answers'; it took the dtype of the stored weights."""
    copy = shutil.copytree(run, tmp_path / "run")
    with open(copy / "infer.yaml", "a", encoding="utf-8") as keys:
        keys.write(f"torch_dtype: {measured}\n")
    folder = exported(copy, tmp_path / "bundle", "tuned")
    assert open_bundle(folder)[0].dtype == measured
    asked = []

    def loaded(model, adapter, classes, dtype, device):
        asked.append((dtype, str(device)))
        raise UserError("far enough")

    monkeypatch.setattr(tuned, "_loaded", loaded)
    monkeypatch.setattr(tuned, "this_machine", lambda: machine_of(MACHINES[card]))
    for path in (copy, folder):
        with pytest.raises(UserError, match="far enough"):
            Classifier.load(path, "tuned")
    assert asked == [(computed, "cuda:0")] * 2


def test_a_bundle_of_an_earlier_version_says_no_dtype_and_is_read(bundle, tmp_path):
    copy = shutil.copytree(bundle, tmp_path / "copy")
    kept = read_json(path_in(copy))
    del kept["dtype"]
    write_json(path_in(copy), kept)
    assert open_bundle(copy)[0].dtype is None


def test_weights_that_a_card_does_not_hold_in_float32_are_compared_on_the_cpu(run, tmp_path, monkeypatch, capsys):
    small = replace(machine_of(MACHINES["T4"]), best_memory_gib=1e-5)
    emptied, freed = [], torch.cuda.empty_cache
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(freed()))
    monkeypatch.setattr(export, "this_machine", lambda: small)
    file, _ = open_bundle(exported(run, tmp_path / "bundle", "tuned"))
    assert file.agreement.rows == 72 and len(emptied) >= 2  # after each model, or the next finds no room
    assert "Tesla T4 does not hold the weights in float32: answers are compared on the CPU" in capsys.readouterr().out


@pytest.mark.parametrize(
    "error", [RuntimeError("CUDA error: out of memory"), OutOfMemory("the model does not fit: end other programs")]
)
def test_want_of_memory_names_the_adapter_as_a_way_out(run, tmp_path, monkeypatch, error):
    from serve import merging

    def full(*_):
        raise error

    monkeypatch.setattr(merging, "_answers", full)
    with pytest.raises(
        OutOfMemory, match=r"does not hold .* in float32, .* or export the adapter alone with --adapter$"
    ):
        export.main([str(run), str(tmp_path / "none"), "--reading", "tuned"])
    assert not (tmp_path / "none").exists()


def test_labels_may_differ_where_two_are_nearly_equal_alone():
    wanted = np.array([[0.5001, 0.4999], [0.9, 0.1]])
    near = compare(wanted, np.array([[0.4999, 0.5001], [0.9, 0.1]]), "float16")
    assert near.ties == 1 and near.rows == 2 and near.difference == 0.0002
    assert "differs by 0.4" in compare(wanted, np.array([[0.5001, 0.4999], [0.5, 0.5]]), "float16")


def test_what_classifier_json_holds_is_the_runs(run, bundle):
    file, _ = open_bundle(bundle)
    metrics, manifest = read_json(run / "metrics.json"), read_json(Run.read(run).dataset / "manifest.json")
    stack = metrics["readings"]["stack"]
    assert file.measured.value == stack["macro_f1"] and file.measured.n == 72
    assert list(file.measured.interval) == stack["intervals"]["macro_f1"]
    assert file.labels == LABELS and file.synonyms == {"正面": ("好评",)}
    assert file.thresholds.target == 0.6 and file.expected.n == 72
    assert file.data_sha256 == manifest["rows_sha256"] and file.licences["data"] == "CC-BY-4.0"
    assert (file.prompt.template, file.prompt.max_length) == (manifest["template"], 128)
    assert sum(file.expected.labels.values()) == pytest.approx(1)
    assert sum(file.expected.length_shares) == pytest.approx(1) == pytest.approx(sum(file.expected.confidence_shares))
    assert isinstance(file, ClassifierFile) and set(file.files) == set(files_in(bundle))
