"""A batch without padding trains as a padded one does: real `swift sft`, real metric, the attention kernel aside.

ms-swift takes `padding_free` with flash-attn alone, which needs a GPU. Here its check of the kernel is lifted, and
plain attention keeps the reviews of a row apart, by their positions.
"""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from workspace.paths import ROOT

pytestmark = [pytest.mark.swift, pytest.mark.all]

LIFTED = "from swift.arguments import SftArguments\nSftArguments._check_padding_free = lambda self: None\n"


def shell(command: str) -> None:
    result = subprocess.run(["bash", "-ec", command], cwd=ROOT, capture_output=True, text=True, env={**os.environ})
    assert result.returncode == 0, (result.stdout + result.stderr)[-4000:]


def test_loss_and_label_metric_are_those_of_padded_batches(tmp_path: Path, demo_model: Path) -> None:
    python, run = shlex.quote(sys.executable), tmp_path / "run"
    swift = shlex.quote(str(Path(sys.executable).with_name("swift")))
    shell(
        f"{python} -m plan demo --limit 64 --num_train_epochs 1 --run {run} --bf16 false "
        "--attn_impl eager --learning_rate 1e-4"
    )
    (tmp_path / "lifted.py").write_text(LIFTED, encoding="utf-8")
    plain = yaml.safe_load((run / "sft.yaml").read_text(encoding="utf-8")) | {"logging_steps": 1}
    flat = plain | {"padding_free": True, "external_plugins": [*plain["external_plugins"], str(tmp_path / "lifted.py")]}
    found = []
    for name, values in (("plain", plain), ("flat", flat)):
        out = tmp_path / name
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(values | {"output_dir": str(out)}), encoding="utf-8")
        shell(f"{swift} sft {path}")
        lines = [json.loads(line) for line in (out / "logging.jsonl").read_text(encoding="utf-8").splitlines()]
        found.append(
            {
                "loss": [line["loss"] for line in lines if "loss" in line],
                "evaluated": [line for line in lines if "eval_label_accuracy" in line][-1],
                "rows": json.loads((out / "label_metric.json").read_text(encoding="utf-8")),
            }
        )
    padded, flattened = found
    assert len(padded["loss"]) == 8 and padded["rows"] == flattened["rows"]
    assert flattened["loss"] == pytest.approx(padded["loss"], rel=1e-3)
    for key in ("eval_loss", "eval_label_accuracy", "eval_label_macro_f1"):
        assert flattened["evaluated"][key] == pytest.approx(padded["evaluated"][key], rel=1e-3), key
