"""Fails the Nth site of one stage, for every N and kind of fault, and lets the same command go on each time.

Run as: python -m tests.faults.sweep ROOT STAGE [--every K]; prints one JSON object. ROOT is made by test_writes.py: the
files of a real run and, below `states`, what they were before each stage.
"""

import argparse
import contextlib
import importlib
import io
import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.faults.outcome import differences, torn_files
from tests.faults.sites import Fault, Sites
from workspace import child_process as child
from workspace.errors import run_main

KINDS = (("ENOSPC", False), ("ENOSPC", True), ("EIO", False), ("EIO", True), ("SIGKILL", False))

COMMANDS = {"plan": "plan.__main__"}  # a package that is run: where its main is


class Stage(NamedTuple):
    """A command of the pipeline: its module and arguments."""

    module: str
    words: list[str]


class Ended(NamedTuple):
    """How a command ended: exit status or minus the signal, what it printed, how many sites it passed."""

    status: int
    text: str
    sites: int


def main() -> int:
    """Sweep one stage."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.sweep", description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("stage")
    parser.add_argument("--every", type=int, default=1, metavar="K", help="one case in K; not a multiple of 5")
    options = parser.parse_args()
    record = json.loads((options.root / "record.json").read_text(encoding="utf-8"))
    stage = Stage(*record["stages"][options.stage])
    places = [Path(place) for place in record["places"]]
    state = options.root / "states" / options.stage
    importlib.import_module(stage.module)
    warm_up(stage)

    def run(fault: Fault | None) -> Ended:
        return in_a_fork(stage, places, fault)

    restore(state, places)
    whole = run(None)
    if whole.status != 0:
        raise SystemExit(f"{options.stage} fails without a fault: {whole.text}")
    expected = options.root / "expected" / options.stage
    keep(expected, places)
    cases, failures = 0, []
    for at in range(1, whole.sites + 1):
        for number, (kind, lasting) in enumerate(KINDS):
            if (at * len(KINDS) + number) % options.every:
                continue
            cases += 1
            fault = Fault(kind, at, lasting)
            restore(state, places)
            faulty = run(fault)
            problems = [*judge(fault, faulty), *torn_files(places)]
            again = run(None)
            if again.status != 0:
                problems.append(f"the same command does not go on: {again.text[-500:]}")
            problems += differences(expected, places)
            failures += [f"{fault}: {problem}" for problem in problems]
            for problem in problems:
                print(f"{fault}: {problem}", file=sys.stderr, flush=True)
    print(json.dumps({"sites": whole.sites, "cases": cases, "failures": failures}))
    return 0


def judge(fault: Fault, ended: Ended) -> list[str]:
    """What is wrong with how a faulty command ended: it must be killed, succeed, or say one sentence with status 1."""
    if "Traceback" in ended.text:
        return [f"a traceback: {ended.text[-800:]}"]
    if fault.kind == "SIGKILL":
        return [] if ended.status in (-signal.SIGKILL, 0) else [f"status {ended.status}"]
    if ended.status == 0:
        return []
    errors = [line for line in ended.text.splitlines() if line.startswith("error: ")]
    if ended.status != 1 or len(errors) != 1:
        return [f"status {ended.status}, said {ended.text[-300:]!r}"]
    return []


def in_a_fork(stage: Stage, places: list[Path], fault: Fault | None) -> Ended:
    """Run the stage in a child process that has imported everything already."""
    read, write = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        sites = Sites(places, fault)
        status = 70
        try:
            os.dup2(write, 1)
            os.dup2(write, 2)
            sys.stdout = sys.stderr = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), "utf-8", write_through=True)
            sites.install()
            module = importlib.import_module(COMMANDS.get(stage.module, stage.module))
            try:
                run_main(lambda: module.main(stage.words))
            except SystemExit as end:
                status = end.code or 0
            except BaseException:
                traceback.print_exc()
        finally:
            with contextlib.suppress(OSError):
                print(f"\n@{sites.count}", flush=True)
            os._exit(status)
    os.close(write)
    with open(read, encoding="utf-8", errors="replace") as stream:
        text = stream.read()
    _, status = os.waitpid(pid, 0)
    said, _, count = text.rpartition("\n@")
    passed = int(count) if count.strip().isdigit() else 0
    return Ended(os.waitstatus_to_exitcode(status), said if passed or count.strip() == "0" else text, passed)


def warm_up(stage: Stage) -> None:
    """Import what the stage imports late, and draw pictures once: they are the same in every fork."""
    for name in ("plan.planning", "eval.evaluate"):
        importlib.import_module(name)
    if stand_in := os.environ.get("STAND_IN_SWIFT"):
        plain_start = child._start
        child._start = lambda one, log: plain_start(one._replace(command=[stand_in, *one.command[1:]]), log)
        child.POLL_SECONDS = 0.05
    if stage.module == "eval.report":
        from eval.reporting import (
            pictures,
            render,  # noqa: F401
        )

        drawn: dict[str, Any] = {}
        plain = pictures.draw_pictures

        def once(*args: Any) -> Any:
            if not drawn:
                drawn.update(plain(*args))
            return dict(drawn)

        pictures.draw_pictures = once
        run = Path(stage.words[0])
        if (run / "metrics.json").is_file():
            from workspace.fonts import chinese_font

            once(json.loads((run / "metrics.json").read_text(encoding="utf-8")), chinese_font())


def keep(folder: Path, places: list[Path]) -> None:
    """Copy the places, those that are there, below `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for number, place in enumerate(places):
        copy(place, folder / str(number))


def restore(folder: Path, places: list[Path]) -> None:
    """Make the places what `keep` copied, with nothing beside them left over."""
    for number, place in enumerate(places):
        for path in beside(place):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        copy(folder / str(number), place)


def beside(place: Path) -> Iterator[Path]:
    """The place and what was made beside it under a name made from its name."""
    yield from [path for path in place.parent.iterdir() if place.name in path.name] if place.parent.is_dir() else []


def copy(source: Path, target: Path) -> None:
    """Copy a file or a folder; nothing when there is none."""
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True)
    elif source.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)


if __name__ == "__main__":
    sys.exit(main())
