"""Many faults against the whole pipeline with stand-ins that are fast: every process of it killed at random moments,
stopped for a while, its inputs swapped, its folder moved, the clock and the machine changed."""

import contextlib
import json
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from eval.infer import check_responses_are_current
from plan.run import Run
from tests.faults.conftest import ALL
from tests.faults.storm import IN_USE, Storm, blows
from workspace.files import read_json, read_jsonl, write_json

KILLS, STOPS = (1000, 60) if ALL else (3, 1)
SAME = 0.95  # of the kills, by the same command


@pytest.fixture(scope="module")
def storm(tmp_path_factory: pytest.TempPathFactory, demo_model: Path) -> Iterator[Storm]:
    storm = Storm(tmp_path_factory.mktemp("storm"), demo_model)
    yield storm
    storm.close()


def answers(storm: Storm) -> list:
    return [read_jsonl(storm.run / side / "test.jsonl") for side in ("before", "after")]


def test_any_process_killed_at_any_moment_ends_in_the_same_results(storm: Storm, tally) -> None:
    found, wrong = Counter(), []
    for blow in blows(storm, random.Random(24), KILLS):
        found[blow.victim] += 1
        wrong += [f"{blow.victim}: {what}" for what in blow.wrong]
    for victim, times in found.items():
        tally(f"kill -9 of one process at a random moment, stand-in for swift: {victim}", times)
    assert len(wrong) <= (1 - SAME) * KILLS, "\n".join(wrong[:10])
    assert not [what for what in wrong if "differs" in what or "Traceback" in what], "\n".join(wrong[:10])


@pytest.mark.all
def test_a_process_that_is_stopped_for_a_while_changes_nothing(storm: Storm, tally) -> None:
    draw = random.Random(25)
    for _ in range(STOPS):
        storm.clear()
        shell = storm.start()
        with contextlib.suppress(subprocess.TimeoutExpired):
            shell.wait(draw.random() * storm.seconds * 0.8)
        if members := storm.members(shell.pid):
            one = draw.choice(members)
            with contextlib.suppress(psutil.Error):
                one.send_signal(signal.SIGSTOP)
                time.sleep(draw.random())
                one.send_signal(signal.SIGCONT)
        ended = storm.wait(shell)
        assert ended.status == 0, ended.said[-2000:]
        assert not storm.differences()
    tally("SIGSTOP, then SIGCONT, of one process at a random moment", STOPS)


SWAPS = [(stage, what) for stage in ("train", "before", "after") for what in ("rows", "model")]
MORE = pytest.mark.all  # what the usual test run leaves out


@pytest.mark.parametrize(("stage", "what"), [SWAPS[0], *(pytest.param(*swap, marks=MORE) for swap in SWAPS[1:])])
def test_model_or_rows_swapped_in_a_stage_are_told_or_answered_anew(storm: Storm, tally, stage, what) -> None:
    """Swapped while swift still imports: the same command then ends as if they had been there from the start."""
    storm.clear()
    model = storm.root / "model"
    shutil.rmtree(model, ignore_errors=True)
    shutil.copytree(storm.model, model)
    plain, storm.command = storm.command, [str(model) if word == str(storm.model) else word for word in storm.command]
    config = (model / "config.json").read_text(encoding="utf-8")
    try:
        shell = storm.start(QUICK_SWIFT_START="2")
        while not (storm.run / stage).is_dir() and shell.poll() is None:
            time.sleep(0.01)
        time.sleep(0.5)
        if what == "model":
            (model / "config.json").write_text(config + "\n", encoding="utf-8")
        else:
            dataset = Run.read(storm.run).dataset
            for name in ("train.jsonl", "val.jsonl", "test.jsonl"):
                text = (dataset / name).read_text(encoding="utf-8")
                (dataset / name).write_text("".join(text.splitlines(keepends=True)[1:]), encoding="utf-8")
        ended = storm.wait(shell)
        assert ended.sentence and "run the same command again" in ended.sentence, ended.said[-2000:]
        again = storm.finish()
        assert again.status == 0, again.said[-2000:]
        check_responses_are_current(Run.read(storm.run))
        gone_on = answers(storm)
        shutil.rmtree(storm.run)
        assert storm.finish().status == 0
        assert answers(storm) == gone_on
    finally:
        storm.command = plain
    tally("model or rows swapped in a stage", 1)


@pytest.mark.all
def test_a_run_folder_copied_or_moved_goes_on_where_it_is(storm: Storm, tally) -> None:
    storm.clear()
    assert storm.finish().status == 0
    expected = answers(storm)
    moved = storm.run.with_name("moved")
    for move in (shutil.copytree, shutil.move):
        move(str(storm.run), str(moved))
        plain, storm.command = storm.command, [*storm.command[:-1], str(moved)]
        run, storm.run = storm.run, moved
        try:
            for name in ("metrics.json", "stages/after.json"):
                (moved / name).unlink()
            ended = storm.finish()
            assert ended.status == 0 and "train: finished on" in ended.said, ended.said[-2000:]
            assert answers(storm) == expected
        finally:
            storm.command, storm.run = plain, run
        shutil.rmtree(moved)
    tally("a run folder copied or moved", 2)


def test_two_machines_that_measure_their_cpu_differently_do_no_work_twice(storm: Storm, tally) -> None:
    storm.clear()
    assert storm.finish(CPU_RATES="100 100 100").status == 0
    expected = answers(storm)
    for rates in ("100 400 100", "100 400 900", "50 50 49"):
        ended = storm.finish(CPU_RATES=rates)
        said = [line for line in ended.said.splitlines() if line.startswith(("before:", "train:", "after:"))]
        assert ended.status == 0 and len(said) == 3 and all("skipped" in line for line in said), ended.said[-2000:]
        assert answers(storm) == expected
    tally("another machine's measurement of its CPU", 3)


@pytest.mark.all
@pytest.mark.parametrize("change", ["boot", "start", "pid", "machine"])
def test_a_step_of_the_clock_or_another_machine_lets_nobody_in(storm: Storm, tally, change) -> None:
    """The lock's file says what a holder with another clock, boot, machine or pid namespace would have written."""
    storm.clear()
    shell = storm.start(QUICK_SWIFT_START="3")
    lock, state = storm.run / "lock", {}
    while not state.get("sessions") and shell.poll() is None:
        with contextlib.suppress(OSError, ValueError):
            state = read_json(lock)
        time.sleep(0.02)
    machine, boot, namespace = state["where"].split(" ")
    sessions = [[pid, started + 500] for pid, started in state["sessions"]]
    other = {
        "boot": {"where": f"{machine} 0-0 {namespace}"}, "start": {"sessions": sessions},
        "pid": {"pid": 1, "where": f"{machine} {boot} pid:[1]"}, "machine": {"where": "elsewhere 0-0 pid:[1]"},
    }  # fmt: skip
    with open(lock, "r+", encoding="utf-8") as stream:
        stream.truncate(0)
        stream.write(json.dumps(state | other[change]))
    second = storm.started
    refused = storm.wait(storm.start())
    assert refused.status == 2 and IN_USE in (refused.sentence or ""), refused.said[-2000:]
    storm.started = second
    ended = storm.wait(shell)
    assert ended.status == 0 and not storm.differences(), ended.said[-2000:]
    tally("the lock of a holder with another clock, boot, machine or pid namespace", 1)


@pytest.mark.all
def test_a_pipeline_in_another_pid_namespace_is_seen(storm: Storm, tally) -> None:
    unshare = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("no pid namespace can be made here")
    storm.clear()
    shell = storm.start(QUICK_SWIFT_START="3")
    while not (storm.run / "before").is_dir() and shell.poll() is None:
        time.sleep(0.02)
    words = [*unshare, *storm.real("eval.report", str(storm.run))]
    refused = subprocess.run(words, env=storm.env, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert refused.returncode == 2 and IN_USE in refused.stderr, refused.stderr[-2000:]
    assert storm.wait(shell).status == 0 and not storm.differences()
    tally("a command from another pid namespace", 1)


def test_the_report_names_what_computed_each_stage(storm: Storm) -> None:
    storm.clear()
    assert storm.finish().status == 0
    path = storm.run / "stages" / "before.json"
    record = read_json(path)
    assert record["made_by"]["torch"] and record["made_by"]["machine"] and record["made_by"]["plugins"]
    write_json(path, record | {"made_by": record["made_by"] | {"torch": "1.0"}})
    assert storm.finish().status == 0
    facts = read_json(storm.run / "metrics.json")["run"]
    assert facts["versions"]["torch"] == f"1.0 (before), {record['made_by']['torch']} (train and after)"
    assert " (before and after), " in facts["versions"]["plugins"] or "(train)" in facts["versions"]["plugins"]
    assert facts["versions"]["torch"] in (storm.run / "report.md").read_text(encoding="utf-8")
