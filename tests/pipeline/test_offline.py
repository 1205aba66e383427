"""Without a network: what is on disk is used, what is not is told at once, and nothing waits for an answer."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from plan.run import Run
from workspace.paths import ROOT

REVIEWS = ["房间很干净，服务也好", "太吵了，一夜没睡", "位置方便，早餐丰富", "设施陈旧，有异味"]


@pytest.fixture(scope="module")
def no_network() -> list[str]:
    """The words before a command that take its network away: a network namespace with nothing in it."""
    unshare = shutil.which("unshare")
    if unshare:
        for words in ([unshare, "-n"], [unshare, "-rn"]):
            if subprocess.run([*words, "true"], capture_output=True).returncode == 0:
                return words
    pytest.skip("this system permits no network namespace (unshare): the tests without a network are left out")


def environment(home: Path) -> dict[str, str]:
    """An empty home, and no hub named."""
    prefixes = ("HF_", "MODELSCOPE_", "USE_HF", "TRANSFORMERS_", "SWIFT_SFT_")
    env = {key: value for key, value in os.environ.items() if not key.startswith(prefixes)}
    return {**env, "HOME": str(home)}


def plan(no_network: list[str], home: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """`python -m plan` without a network."""
    command = [*no_network, sys.executable, "-m", "plan", *words, "--run", str(home / "run")]
    return subprocess.run(command, cwd=ROOT, env={**environment(home), **more}, capture_output=True, text=True)


def test_the_network_is_really_gone(no_network: list[str], tmp_path: Path) -> None:
    code = "import socket; socket.create_connection(('192.0.2.1', 80), 5)"
    tried = subprocess.run([*no_network, sys.executable, "-c", code], capture_output=True, text=True)
    assert "Network is unreachable" in tried.stderr


@pytest.mark.parametrize("forbidden", [{}, {"HF_HUB_OFFLINE": "1"}])
def test_a_hub_id_is_refused_in_one_sentence(no_network: list[str], tmp_path: Path, forbidden: dict[str, str]) -> None:
    result = plan(no_network, tmp_path, "hotel_reviews", "--model", "owner/absent", **forbidden)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    error = result.stderr.strip().splitlines()[-1]
    assert error.startswith("error: the weights of owner/absent are not on disk")
    assert "give a folder with --model PATH" in error


def test_the_look_up_itself_waits_for_nothing(no_network: list[str], tmp_path: Path) -> None:
    code = """import time
from hub.find import ModelUnavailable, find_model
begin = time.monotonic()
try:
    find_model("owner/absent")
except ModelUnavailable:
    print(time.monotonic() - begin)"""
    begin = time.monotonic()
    command = [*no_network, sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # The least of the waits that it must not have: three seconds of asking, for each hub.
    assert float(done.stdout) < 3, f"{done.stdout} s of {time.monotonic() - begin:.1f}"


def test_a_model_folder_and_a_table_are_enough_for_plan_and_prep(
    no_network: list[str], tmp_path: Path, demo_model: Path
) -> None:
    model = tmp_path / "carried" / "model"
    shutil.copytree(demo_model, model)
    table = tmp_path / "carried" / "reviews.csv"
    rows = [f"{1 - i % 2},{REVIEWS[i % 4]}，第{i}次入住，{REVIEWS[(i + 2) % 4]}{i * 7}" for i in range(60)]
    table.write_text("label,review\n" + "\n".join(rows) + "\n", encoding="utf-8")
    words = ["hotel_reviews", "--model", str(model), "--csv", str(table), "--limit", "20"]
    planned = plan(no_network, tmp_path, *words)
    assert planned.returncode == 0, planned.stderr
    run = Run.read(Path(planned.stdout.strip()))
    assert (run.model_folder, run.csv) == (model, str(table))
    assert len((run.dataset / "train.jsonl").read_text(encoding="utf-8").splitlines()) == 20
    shutil.rmtree(run.dataset)
