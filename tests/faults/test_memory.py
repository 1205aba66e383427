"""ms-swift killed as the system does when no memory is left: told with what to do, and --auto-batch does it."""

import subprocess
import sys
import time

import psutil
import pytest
import yaml

from tests.faults.conftest import ALL, Recorded, environment
from tests.faults.sweep import restore
from workspace.files import read_json, read_jsonl, write_json
from workspace.paths import ROOT

pytestmark = pytest.mark.swift


def run_and_kill(recorded: Recorded, stage: str, auto_batch: bool) -> subprocess.CompletedProcess[str]:
    """Run a stage; its first ms-swift is killed with signal 9, the next ones are let be."""
    restore(recorded.root / "states" / stage, recorded.places)
    plan = read_json(recorded.run / "run.json")
    write_json(recorded.run / "run.json", plan | {"auto_batch": auto_batch})
    module, words = recorded.stages[stage]
    command = [sys.executable, "-m", module, *words]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment()
    )
    killed = False
    while process.poll() is None and not killed:
        for child in psutil.Process(process.pid).children(recursive=True):
            if "swift/cli/" in " ".join(child.cmdline()):
                child.kill()
                killed = True
        time.sleep(0.05)
    said = process.communicate()[0]
    assert killed
    return subprocess.CompletedProcess(command, process.returncode, said, "")


REMEDIES = [
    ("after", "with --auto-batch, or set max_batch_size: 50 in an override"),
    ("train", "the same command with --per_device_train_batch_size 2 --gradient_accumulation_steps 2 "),
]


@pytest.mark.parametrize(("stage", "remedy"), REMEDIES if ALL else REMEDIES[:1])
def test_want_of_memory_is_told_with_what_to_do(recorded: Recorded, tally, stage: str, remedy: str) -> None:
    result = run_and_kill(recorded, stage, auto_batch=False)
    assert result.returncode == 1
    (error,) = [line for line in result.stdout.splitlines() if line.startswith("error: ")]
    assert "was killed, most likely because no memory was left" in error
    assert remedy in error
    tally("ms-swift killed for want of memory", 1)


def test_auto_batch_trains_with_half_the_batch_and_the_same_effective_one(recorded: Recorded, tally) -> None:
    result = run_and_kill(recorded, "train", auto_batch=True)
    assert result.returncode == 0, result.stdout[-2000:]
    assert "--auto-batch starts again with --per_device_train_batch_size 2" in result.stdout
    values = yaml.safe_load((recorded.run / "sft.yaml").read_text(encoding="utf-8"))
    assert (values["per_device_train_batch_size"], values["gradient_accumulation_steps"]) == (2, 2)
    assert read_json(recorded.run / "auto_batch.json")["per_device_train_batch_size"] == 2
    assert read_json(recorded.run / "train" / "best.json")["step"] in (8, 16)  # as many steps as before
    again = subprocess.run(
        [sys.executable, "-m", "train.sft", str(recorded.run)], cwd=ROOT, capture_output=True, text=True
    )
    assert "finished on" in again.stdout
    tally("ms-swift killed for want of memory", 1)


@pytest.mark.skipif(not ALL, reason="FAULTS=all runs it too")
def test_auto_batch_answers_with_half_the_batch_and_the_same_answers(recorded: Recorded, tally) -> None:
    result = run_and_kill(recorded, "after", auto_batch=True)
    assert result.returncode == 0, result.stdout[-2000:]
    assert "--auto-batch goes on with 4 rows at a time" in result.stdout
    expected = recorded.root / "states" / "finished" / "0" / "after" / "test.jsonl"
    texts = [[row["answer"] for row in read_jsonl(path)] for path in (expected, recorded.run / "after" / "test.jsonl")]
    assert texts[0] == texts[1]
    tally("ms-swift killed for want of memory", 1)
