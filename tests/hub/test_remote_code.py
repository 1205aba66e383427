"""Model folders from strangers: code and pickles are refused before anything is loaded."""

import json
import pickle
import shutil
import subprocess
import sys

import pytest

from hub.find import find_model
from workspace.errors import UserError
from workspace.gate import check_model
from workspace.paths import ROOT

CODE = """
from pathlib import Path
from transformers import Qwen2Tokenizer
Path({canary!r}).write_text("ran")
class Evil(Qwen2Tokenizer):
    pass
"""


@pytest.fixture
def hostile(tmp_path, demo_model):
    """A whole model whose tokenizer asks for code that writes a file, and that file's path."""
    folder, canary = tmp_path / "model", tmp_path / "canary"
    shutil.copytree(demo_model, folder)
    change(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Evil", None]}, tokenizer_class="Evil")
    (folder / "evil.py").write_text(CODE.format(canary=str(canary)), encoding="utf-8")
    return folder, canary


def change(path, **values):
    settings = json.loads(path.read_text(encoding="utf-8")) | values
    path.write_text(json.dumps(settings), encoding="utf-8")


def run(*words):
    return subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)


def test_the_folders_code_is_not_run_and_would_be_otherwise(hostile, tmp_path):
    folder, canary = hostile
    for words in (["plan", "demo", "--run", str(tmp_path / "run")], ["doctor", "demo"]):
        result = run("-m", *words, "--model", str(folder))
        said = result.stdout + result.stderr
        assert result.returncode in (1, 2) and "auto_map" in said and "Traceback" not in said, said
        assert not canary.exists()
    # The same folder, loaded as ms-swift loads it, does run the code.
    load = "from transformers import AutoTokenizer; AutoTokenizer.from_pretrained({!r}, trust_remote_code=True)"
    run("-c", load.format(str(folder)))
    assert canary.read_text() == "ran"


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer_config.json"])
def test_code_is_found_in_every_file_of_settings_however_deep(tmp_path, demo_model, name):
    folder = tmp_path / "model"
    shutil.copytree(demo_model, folder)
    find_model(str(folder))  # as it is, it is taken
    path = folder / name
    path.write_text(json.dumps({"text_config": [{"auto_map": {"AutoConfig": "other/repo--evil.Evil"}}]}))
    with pytest.raises(UserError, match=r"auto_map\), which is never done here"):
        check_model(folder)


def test_a_kernel_from_a_hub_is_refused_and_a_known_one_is_not(tmp_path, demo_model):
    folder = tmp_path / "model"
    shutil.copytree(demo_model, folder)
    change(folder / "config.json", _attn_implementation="sdpa")
    find_model(str(folder))
    for value in ("stranger/kernel", {"": "stranger/kernel"}):
        change(folder / "config.json", _attn_implementation=value)
        with pytest.raises(UserError, match="compiled code from a hub"):
            find_model(str(folder))


def test_weights_as_pickle_are_refused_by_name_and_not_loaded(tmp_path, demo_model):
    class Evil:
        def __reduce__(self):
            return exec, (f"open({str(tmp_path / 'canary')!r}, 'w').close()",)

    folder = tmp_path / "model"
    shutil.copytree(demo_model, folder)
    for path in folder.glob("*.safetensors"):
        path.unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UserError, match=r"pytorch_model\.bin"):
        find_model(str(folder))
    (folder / "other.safetensors").write_bytes((demo_model / "model.safetensors").read_bytes())  # not what is loaded
    with pytest.raises(UserError, match=r"pytorch_model\.bin"):
        find_model(str(folder))
    result = run("-m", "plan", "demo", "--run", str(tmp_path / "run"), "--model", str(folder))
    assert result.returncode == 2 and "pytorch_model.bin" in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "canary").exists()


def test_generation_code_is_refused(tmp_path, demo_model):
    folder = tmp_path / "model"
    shutil.copytree(demo_model, folder)
    (folder / "custom_generate").mkdir()
    with pytest.raises(UserError, match="custom_generate"):
        find_model(str(folder))
