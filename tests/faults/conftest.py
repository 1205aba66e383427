"""One real run of few rows, with what its files were before each stage, and the count of faults."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from plan.run import Run
from tests.faults.sweep import keep
from workspace.paths import CONFIGS, ROOT

REVIEWS = [
    "房间很干净，服务也好",
    "太吵了，一夜没睡",
    "位置方便，早餐丰富",
    "设施陈旧，有异味",
    "前台热情，下次还来",
    "价格虚高，不值",
]
ROWS = 60
ALL = os.environ.get("FAULTS") == "all"


class Recorded(NamedTuple):
    """A finished run: where everything is, the commands of its stages, and their seconds."""

    root: Path
    run: Path
    task: str
    dataset: Path
    model: Path
    command: list[str]
    stages: dict[str, tuple[str, list[str]]]
    seconds: dict[str, float]

    @property
    def places(self) -> list[Path]:
        """Everything that the pipeline writes: the run, the dataset, the list of looks at the test rows."""
        return [self.run, self.dataset, self.dataset.parent / f"{self.task}.looks.jsonl"]


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory, demo_model: Path) -> Iterator[Recorded]:
    """The stages of the pipeline one after the other, with real ms-swift, each file kept as it was before."""
    root = tmp_path_factory.mktemp("faults")
    task = root / f"faults-{os.getpid()}"
    task.mkdir()
    text = (CONFIGS / "demo" / "task.yaml").read_text(encoding="utf-8").replace("name: demo", f"name: {task.name}", 1)
    (task / "task.yaml").write_text(text, encoding="utf-8")
    rows = [f"{1 - i % 2},{REVIEWS[i % 6]}，第{i}次入住{'，' + REVIEWS[(i + 2) % 6]}{i * 7}" for i in range(ROWS)]
    (root / "reviews.csv").write_text("label,review\n" + "\n".join(rows) + "\n", encoding="utf-8")
    run = root / "runs" / "run"
    words = [
        str(task),
        "--csv",
        str(root / "reviews.csv"),
        "--model",
        str(demo_model),
        "--limit",
        "32",
        "--run",
        str(run),
    ]
    words += ["--num_train_epochs", "2", "--logging_steps", "1", "--per_device_train_batch_size", "4"]
    plan = subprocess.run([sys.executable, "-m", "plan", *words], cwd=ROOT, capture_output=True, text=True)
    assert plan.returncode == 0, plan.stderr
    planned = Run.read(run)
    dataset = planned.dataset
    places = [run, dataset, dataset.parent / f"{task.name}.looks.jsonl"]
    for place in places[:2]:
        shutil.rmtree(place)
    prep = [str(planned.task_file), "--csv", str(planned.csv), "--out", str(dataset), "--model", str(demo_model)]
    prep += ["--limit", "32", "--prompt", str(planned.prompt), "--max-length", str(planned.max_length)]
    stages = {
        "prep": ("data_prep.build", prep),  # by hand: the plan does the same, and finds it done
        "plan": ("plan", words),
        "baselines": ("eval.baselines", [str(run)]),
        "before": ("eval.infer", [str(run), "before"]),
        "train": ("train.sft", [str(run)]),
        "after": ("eval.infer", [str(run), "after"]),
        "report": ("eval.report", [str(run)]),
    }
    seconds, plain = {}, {}
    for name, (module, arguments) in stages.items():
        keep(root / "states" / name, places)
        plain[name] = (module, arguments)
        begin = time.monotonic()
        stage = subprocess.run(
            [sys.executable, "-m", module, *plain[name][1]], cwd=ROOT, capture_output=True, text=True, env=environment()
        )
        assert stage.returncode == 0, f"{name}: {stage.stderr[-3000:]}"
        seconds[name] = time.monotonic() - begin
    keep(root / "states" / "finished", places)
    record = {"stages": plain, "places": [str(place) for place in places]}
    (root / "record.json").write_text(json.dumps(record), encoding="utf-8")
    command = ["bash", "run_sft.sh", *words]
    yield Recorded(root, run, task.name, dataset, demo_model, command, plain, seconds)
    for place in places[1:]:
        shutil.rmtree(place, ignore_errors=True) if place.is_dir() else place.unlink(missing_ok=True)


def environment(**more: str) -> dict[str, str]:
    """The environment of every command here: a checkpoint after each step that is not an epoch's last."""
    return {**os.environ, "SAFE_CHECKPOINT_SECONDS": "0", **more}


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Callable[[str, int, int], None]:
    """Count what a test has tried, for the table at the end: tally(row of the table, cases, failures)."""

    def add(name: str, cases: int, failures: int = 0) -> None:
        request.node.user_properties.append(("fault", (name, cases, failures)))

    return add
