"""The real pipeline, killed or ended at a random moment of every stage: the same command goes on to the same result."""

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import psutil
import pytest
import torch

from plan.swift_server import SUPERVISOR
from tests.faults.conftest import ALL, Recorded, environment
from tests.faults.outcome import differences, torn_files
from tests.faults.sweep import restore
from tests.train.test_pickles import Touch
from train.checkpoints import best_checkpoint, weights_sha256
from workspace.files import read_json
from workspace.paths import ROOT

pytestmark = pytest.mark.swift

# The stages as the banners of run_sft.sh count them, the first from the start of the command on, with those of the
# recorded run that make them up.
PARTS = {
    1: ("prep", "plan"),
    2: ("prep", "plan"),
    3: ("baselines", "before"),
    4: ("train",),
    5: ("after",),
    6: ("report",),
}
# Who is killed; TERM and INT are asked to end, as by `kill` and by Ctrl-C.
VICTIMS = ("everything", "the shell", "the stage", "ms-swift", "the supervisor", "TERM", "INT")
CHAINS = 10  # they strike 60 times


class Started(NamedTuple):
    """A run of the pipeline in a session of its own, and what it has printed so far."""

    process: subprocess.Popen
    printed: list[str]
    reader: threading.Thread


def start(command: list[str]) -> Started:
    """Start the pipeline and read along."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(),
        start_new_session=True,
        # A shell's background job ignores Ctrl-C, and would hand that on to the test.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    printed: list[str] = []

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            printed.append(line)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    return Started(process, printed, reader)


def reached(started: Started, part: int) -> bool:
    """Wait for the banner of a part; whether it came before the end."""
    while started.process.poll() is None:
        if part == 1 or any(line.startswith(f"=== {part}/6") for line in started.printed):
            return True
        time.sleep(0.05)
    return False


def family(process: subprocess.Popen) -> list[psutil.Process]:
    """The processes that descend from the pipeline's shell, the shell first."""
    try:
        shell = psutil.Process(process.pid)
        return [shell, *shell.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def strike(started: Started, victim: str) -> None:
    """Kill, or ask to end."""
    members = family(started.process)
    if victim == "TERM":
        started.process.send_signal(signal.SIGTERM)
    elif victim == "INT":
        with contextlib.suppress(ProcessLookupError):  # just ended by itself
            os.killpg(started.process.pid, signal.SIGINT)
    else:
        lines, names = {}, {}
        for member in members:
            with contextlib.suppress(psutil.Error):  # just ended by itself
                lines[member.pid], names[member.pid] = " ".join(member.cmdline()), member.name()
        chosen = {
            "everything": members,
            "the shell": members[:1],
            "the stage": [one for one in members if re.search(r" -m (plan|(train|eval)\.)", lines.get(one.pid, ""))],
            "ms-swift": [one for one in members if names.get(one.pid) in ("swift sft", "swift infer")],
            "the supervisor": [one for one in members if names.get(one.pid) == SUPERVISOR],
        }[victim] or members
        for member in chosen:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
    for member in members:  # none may outlive it
        member.wait()
    started.process.wait()
    started.reader.join(10)


def chains() -> Iterator[list[tuple[int, str, float]]]:
    """(part, victim, when in it as a share of its time): each chain strikes once in every part."""
    draw = random.Random(29)
    for chain in range(CHAINS):
        yield [(part, VICTIMS[(part + chain) % len(VICTIMS)], draw.random()) for part in PARTS]


# The usual test run strikes a pipeline with stand-ins instead (test_storm.py): seconds in place of minutes.
@pytest.mark.all
@pytest.mark.parametrize("chain", list(chains()), ids=lambda chain: "-".join(victim for _, victim, _ in chain))
def test_struck_in_every_stage_it_ends_with_the_same_results(recorded: Recorded, tally, chain) -> None:
    finished = recorded.root / "states" / "finished"
    places = recorded.places
    restore(recorded.root / "states" / "prep", places)
    struck: Counter[str] = Counter()
    for part, victim, share in chain:
        started = start(recorded.command)
        if reached(started, part):
            time.sleep(share * sum(recorded.seconds[stage] for stage in PARTS[part]))
            if started.process.poll() is None:
                struck["SIGTERM or Ctrl-C" if victim in ("TERM", "INT") else "kill -9"] += 1
        strike(started, victim)
        said = "".join(started.printed)
        assert "Traceback" not in said, f"{victim} in part {part}: {said[-3000:]}"
        assert not torn_files(places)
        expected = {"TERM": (143, 0), "INT": (130, 0)}.get(victim)
        assert expected is None or started.process.returncode in expected, said[-2000:]
        if started.process.returncode in (130, 143):
            assert "the same command goes on from here" in said
    last = start(recorded.command)
    if reached(last, 4):
        second = subprocess.run(recorded.command, cwd=ROOT, capture_output=True, text=True, env=environment())
        assert second.returncode == 2 and "is in use by process" in second.stderr, second.stderr
        tally("two runs at once", 1)
    last.process.wait()
    last.reader.join(10)
    assert last.process.returncode == 0, "".join(last.printed)[-3000:]
    found = differences(finished, places)
    assert weights_sha256(best_checkpoint(recorded.run)) == weights_sha256(best_checkpoint(finished / "0"))
    for kind, times in struck.items():
        tally(f"{kind} at a random moment of the real pipeline", times, len(found))
    assert not found


def damaged_files(recorded: Recorded) -> list[tuple[str, str]]:
    """Every file of the newest checkpoint, truncated, emptied and removed, and code put into a training state."""
    newest = recorded.root / "states" / "finished" / "0" / "train" / "checkpoint-16"
    return [(path.name, damage) for path in sorted(newest.iterdir()) for damage in ("truncated", "emptied", "removed")]


def test_a_damaged_checkpoint_file_costs_steps_and_no_result(recorded: Recorded, tally) -> None:
    places = recorded.places
    finished = recorded.root / "states" / "finished"
    cases = damaged_files(recorded)
    assert len(cases) >= 30 and ("adapter_model.safetensors", "truncated") in cases
    if not ALL:  # some twenty seconds each
        cases = [("adapter_model.safetensors", "truncated")]
    canary = recorded.root / "canary"
    for name, damage in [*cases, ("optimizer.pt", "tampered")]:
        restore(finished, places)
        path = recorded.run / "train" / "checkpoint-16" / name
        if damage == "removed":
            path.unlink()
        elif damage == "tampered":
            torch.save({"param_groups": Touch(canary)}, path)
        else:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 if damage == "truncated" else 0])
        (recorded.run / "stages" / "train.json").unlink()
        (recorded.run / "train" / "best.json").unlink()
        command = [sys.executable, "-m", "train.sft", str(recorded.run)]
        again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment())
        assert again.returncode == 0, f"{name} {damage}: {again.stderr[-2000:]}"
        same = weights_sha256(best_checkpoint(recorded.run)) == weights_sha256(best_checkpoint(finished / "0"))
        assert same, f"{name} {damage}"
        assert read_json(recorded.run / "train" / "best.json") == read_json(finished / "0" / "train" / "best.json")
        assert not canary.exists()
        tally("a file of the newest checkpoint truncated, emptied, removed or with code in it", 1)
    shutil.rmtree(recorded.run)
