"""`pip install -e .` in an environment of its own: modules import from anywhere, and the checkout is found."""

import json
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

from workspace.paths import ROOT

QUESTION = """
import importlib, importlib.metadata, json, pathlib
import eval.report, plan.recipes, data_prep.build, hub.find, train.sft, doctor.result, demo.reviews, bench.tables
import plugins, workspace.paths, eval.reporting
distribution = importlib.metadata.distribution("swift-sft")
print(json.dumps({
    "version": distribution.version,
    "requires": distribution.requires,
    "license": distribution.metadata["License-Expression"],
    "root": str(workspace.paths.ROOT),
    "recipes": plan.recipes.recipe_names(),
    "templates": (pathlib.Path(eval.reporting.__path__[0]) / "templates").is_dir(),
}))
"""


def test_an_editable_installation_imports_from_anywhere(tmp_path: Path) -> None:
    checkout, elsewhere = tmp_path / "checkout", tmp_path / "elsewhere"
    elsewhere.mkdir()
    left_out = shutil.ignore_patterns(".*", "__pycache__", "runs", "dataset_jsonl", "tests", "*.egg-info", "data")
    shutil.copytree(ROOT, checkout, ignore=left_out)
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    python = venv / "bin" / "python"
    own = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True, text=True
    )
    # The packages of the running environment, without installing them again.
    Path(own.stdout.strip(), "running.pth").write_text(sysconfig.get_path("purelib"))
    words = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([python, "-m", "pip", "install", *words, "-e", checkout], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    asked = subprocess.run([python, "-c", QUESTION], cwd=elsewhere, capture_output=True, text=True)
    assert asked.returncode == 0, asked.stderr
    answer = json.loads(asked.stdout)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert answer["version"] == project["version"] and answer["license"] == "Apache-2.0"
    assert answer["root"] == str(checkout) and "demo/minimind2-small" in answer["recipes"] and answer["templates"]
    pins = [line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    assert sorted(answer["requires"]) == sorted(pin for pin in pins if pin)
