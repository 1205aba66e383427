"""run_sft.sh over a few rows with stand-ins that are fast, struck at random moments: for the thousands of kills."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from tests.faults.outcome import differences, torn_files
from tests.faults.sweep import keep
from workspace.paths import CONFIGS, DATASETS, ROOT

WORDS = ("房间", "干净", "服务", "吵", "早餐", "陈旧", "热情", "价格", "位置", "异味", "前台", "空调", "电梯", "停车")
ROWS = 60
IN_USE = "is in use by"


class Ended(NamedTuple):
    """How a command ended, and what it said."""

    status: int
    said: str

    @property
    def sentence(self) -> str | None:
        """The one sentence of a command that refused or failed."""
        errors = [line for line in self.said.splitlines() if line.startswith("error: ")]
        return errors[-1] if errors and self.status in (1, 2) and "Traceback" not in self.said else None


class Storm:
    """A small task with its model, the fast stand-ins, and the result of a run that nothing disturbed."""

    def __init__(self, root: Path, model: Path, pace: float = 0.004) -> None:
        self.root, self.model, self.started = root, model, 0
        self.name = f"storm-{os.getpid()}-{root.name}"
        self.run, self.dataset = root / "runs" / "run", DATASETS / f"{self.name}@limit32"
        self.table = root / "reviews.csv"
        self._write_inputs()
        self.command = ["bash", "run_sft.sh", str(root / self.name), "--csv", str(self.table), "--model", str(model)]
        self.command += ["--limit", "32", "--run", str(self.run)]
        binaries = root / "bin"
        binaries.mkdir()
        for name, source in (("python", "relay"), ("swift", "quick_swift")):
            text = (ROOT / "tests" / "faults" / f"{source}.py").read_text(encoding="utf-8")
            (binaries / name).write_text(f"#!{sys.executable} -ESs\n{text}", encoding="utf-8")
            (binaries / name).chmod(0o755)
        socket = str(root / "socket")
        self.env = os.environ | {
            "PATH": f"{binaries}:{os.environ['PATH']}", "REAL_PYTHON": sys.executable, "WARM_STAGES": socket,
            "QUICK_SWIFT": str(binaries / "swift"), "QUICK_SWIFT_PACE": str(pace), "SWIFT_SERVER": "off",
            "PYTHON": "true", "VIRTUAL_ENV": sys.prefix, "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        self.server = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.warm_stages", socket], cwd=ROOT, stdout=subprocess.PIPE, env=self.env
        )
        assert self.server.stdout is not None and self.server.stdout.readline() == b"ready\n"
        begin = time.monotonic()
        first = self.finish()
        self.seconds = time.monotonic() - begin
        assert first.status == 0, first.said[-3000:]
        found = sorted(DATASETS.glob(f"{self.name}*"))
        self.dataset = next(path for path in found if path.is_dir())
        self.expected = root / "expected"
        keep(self.expected, self.places)

    @property
    def places(self) -> list[Path]:
        """The folders that the command writes."""
        return [self.run, self.dataset]

    def _write_inputs(self) -> None:
        folder = self.root / self.name
        folder.mkdir()
        text = (CONFIGS / "demo" / "task.yaml").read_text(encoding="utf-8")
        (folder / "task.yaml").write_text(text.replace("name: demo", f"name: {self.name}", 1), encoding="utf-8")
        draw = random.Random(1)
        rows = [f"{i % 2},{''.join(draw.sample(WORDS, 6))}{i * 7}" for i in range(ROWS)]
        self.table.write_text("label,review\n" + "\n".join(rows) + "\n", encoding="utf-8")

    def start(self, **more: str) -> "subprocess.Popen[str]":
        """Start the command; what it says goes to a file of its own: what outlives it may still write."""
        self.started += 1
        with open(self.root / f"said-{self.started}.txt", "w", encoding="utf-8") as said:
            return subprocess.Popen(
                self.command, cwd=ROOT, stdout=said, stderr=said, stdin=subprocess.DEVNULL, env=self.env | more,
                text=True, start_new_session=True,
            )  # fmt: skip

    def wait(self, process: "subprocess.Popen[str]") -> Ended:
        """Wait for the end."""
        status, said = process.wait(), self.root / f"said-{self.started}.txt"
        return Ended(status, said.read_text(encoding="utf-8", errors="replace"))

    def real(self, module: str, *words: str) -> list[str]:
        """A stage's command with the real Python."""
        return [sys.executable, "-m", module, *words]

    def finish(self, **more: str) -> Ended:
        """The same command, again while what was struck before still holds the folder."""
        while IN_USE in (ended := self.wait(self.start(**more))).said and ended.status == 2:
            time.sleep(0.2)
        return ended

    def members(self, shell: int) -> list[psutil.Process]:
        """Every process of a real run's tree: the shell, stages, supervisors, `swift` and its child."""
        found = []
        with contextlib.suppress(psutil.Error):
            found = [psutil.Process(shell), *psutil.Process(self.server.pid).children(recursive=True)]
        alive = []
        for one in found:
            with contextlib.suppress(psutil.Error):
                if one.status() != psutil.STATUS_ZOMBIE and one.name() != "monitor":
                    alive.append(one)
        return alive

    def differences(self) -> list[str]:
        """What differs from the undisturbed run, and what is torn."""
        return [*torn_files(self.places), *differences(self.expected, self.places)]

    def clear(self) -> None:
        """Remove what the command made, once nothing of it runs."""
        while self.members(self.server.pid)[1:]:
            time.sleep(0.05)
        for path in [*self.run.parent.glob("*"), *self.places]:
            shutil.rmtree(path, ignore_errors=True)
        # The ledger counts looks at another model's answers, too.
        (DATASETS / f"{self.name}.looks.jsonl").unlink(missing_ok=True)

    def close(self) -> None:
        """End what is left and remove what lies outside the test's folder."""
        for one in self.members(self.server.pid)[1:]:
            with contextlib.suppress(psutil.Error):
                one.kill()
        self.server.kill()
        self.server.wait()
        for path in DATASETS.glob(f"*{self.name}*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


ROLES = ("the shell", "a stage", "the supervisor", "swift")


def role(process: psutil.Process, shell: int) -> str:
    """What a process is in a run, for the count of victims."""
    words: list[str] = []
    with contextlib.suppress(psutil.Error):
        words = process.cmdline()
    names = {"supervisor.py": "the supervisor", "bin/swift": "swift"}
    known = [name for end, name in names.items() if any(word.endswith(end) for word in words)]
    return "the shell" if process.pid == shell else known[0] if known else "a stage"


class Blow(NamedTuple):
    """A process that was killed, and what is wrong with what came of it: known when the command came to its end."""

    victim: str
    wrong: list[str]


def blows(storm: Storm, draw: random.Random, wanted: int) -> Iterator[Blow]:
    """Kill a process of the tree at a random moment, `wanted` times; the same command goes on until it is struck again.

    Where it refuses because what was struck before still holds the folder, it is given again.
    """
    victims: list[str] = []
    done = 0
    storm.clear()
    while done < wanted or victims:
        shell, struck = storm.start(), False
        if done < wanted:
            with contextlib.suppress(subprocess.TimeoutExpired):
                shell.wait(draw.random() * storm.seconds * 0.8)
            # Stages live longest: who is struck is drawn first, and waited for.
            victim, later = draw.choice(ROLES), draw.random() * 0.5
            found: list[psutil.Process] = []
            while shell.poll() is None and not found:
                found = [one for one in storm.members(shell.pid) if role(one, shell.pid) == victim]
                time.sleep(0.01)
            with contextlib.suppress(subprocess.TimeoutExpired):
                shell.wait(later)
            alive = [one for one in found if one.is_running()] or storm.members(shell.pid)
            if shell.poll() is None and alive:
                one = draw.choice(alive)
                victims.append(role(one, shell.pid))
                struck, done = True, done + 1
                with contextlib.suppress(psutil.Error):
                    one.send_signal(signal.SIGKILL)
        ended = storm.wait(shell)
        busy = ended.status == 2 and IN_USE in ended.said
        wrong = storm.differences() if ended.status == 0 else []
        if "Traceback" in ended.said or not (struck or busy or ended.status == 0):
            wrong.append(f"status {ended.status}: {ended.said[-1500:]}")
        if ended.status == 0 or wrong:
            yield from (Blow(victim, wrong) for victim in victims)
            victims = []
            storm.clear()
        elif busy:
            time.sleep(0.1)
