"""How long tuning will take on this machine, measured over a few steps, before hours are spent."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from data_prep.rows import DatasetRow, read_rows, write_rows
from plan.distributed import planned_processes, rows_a_step
from workspace.child_process import run_child
from workspace.errors import UserError
from workspace.paths import shown
from workspace.records import read_if_whole, whole_lines

LONG_SECONDS = 3600
# A look at a row while the untuned model answered, times this, is a training step's time for the row: forward, and
# backward through frozen weights. Rough: it only decides whether steps are measured at all.
TRAINING_FACTOR = 3
# By ms-swift's command: what its rows are called, and what makes it shorter.
ROWS = {
    "sft": ("reviews", "--limit N, --num_train_epochs 1, --max_length 256, or a GPU"),
    "pt": ("texts without labels", "fewer texts in `unlabelled`, or a GPU"),
}
PROBE_STEPS = 3  # run twice over the same rows: the first pass warms up, the second is measured


@dataclass(frozen=True)
class LossLine:
    """A line of ms-swift's logging.jsonl that has the loss of a step: "7/42" and so on."""

    loss: float
    place: Annotated[str, Field(validation_alias="global_step/max_steps", pattern=r"^\d{1,18}/")]
    seconds_a_step: Annotated[float, Field(validation_alias="train_speed(s/it)")] = 0.0

    @property
    def step(self) -> int:
        """The optimiser step."""
        return int(self.place.partition("/")[0])


@dataclass(frozen=True)
class _Speed:
    """What is needed of a stage's summary.json."""

    ms_per_review: dict[str, float | None]


def warn_if_long(run: Path, values: dict[str, Any], dataset: Path, env: dict[str, str]) -> float | None:
    """Print how long tuning will take when that is more than an hour, with the options that shorten it.

    Steps are measured only where the speed of the untuned model (RUN/before/summary.json) makes half an hour or more
    likely, or is not known. Returns the seconds estimated from measured steps; None when none were measured.
    """
    rows = read_rows(dataset / "train.jsonl")
    epochs = float(values.get("num_train_epochs", 3))
    total = len(rows) * epochs
    if (steps := int(values.get("max_steps", -1))) > 0:
        total = steps * rows_a_step(values)
    rough = rough_seconds(run, total, planned_processes(values).world)
    if rough is not None and rough < LONG_SECONDS / 2:
        return None
    try:
        seconds = total / measured_rows_a_second(run, values, rows, env)
    except UserError as error:
        # The training itself will fail in the same way and say why at its place.
        print(f"train: how long it will take could not be measured ({str(error).splitlines()[0]})", flush=True)
        return None
    print(message(seconds, total, len(rows), swift_command(values)), flush=True)
    return seconds


def swift_command(values: Mapping[str, Any]) -> str:
    """Which command of ms-swift a resolved YAML is for: `pt` where texts are plain."""
    return "sft" if values.get("use_chat_template", True) else "pt"


def message(seconds: float, total: float, rows: int, command: str = "sft") -> str:
    """The line to print: the time, and where that is more than an hour, what shortens it."""
    name, shorter = ROWS[command]
    text = f"train: about {seconds / 3600:.1f} h on this machine for {total:,.0f} {name} ({rows:,} rows), "
    text += f"measured over {PROBE_STEPS} steps"
    if seconds > LONG_SECONDS:
        text += f"; shorten it with {shorter}"
    return text


def rough_seconds(run: Path, total: float, processes: int = 1) -> float | None:
    """Seconds to train on `total` reviews, guessed from how fast the untuned model read them; None when not known.

    `processes` share the reviews.
    """
    summary = read_if_whole(run / "before" / "summary.json", _Speed)
    milliseconds = summary.ms_per_review.get("score") if summary else None
    return None if milliseconds is None else total * TRAINING_FACTOR * milliseconds / 1000 / processes


def spread_rows(rows: list[DatasetRow], count: int) -> list[DatasetRow]:
    """`count` rows spread evenly over the lengths of all: as long on average as the whole."""
    ordered = sorted(rows, key=lambda row: len(row.review))
    count = min(count, len(ordered))
    return [ordered[int((k + 0.5) * len(ordered) / count)] for k in range(count)]


def measured_rows_a_second(run: Path, values: dict[str, Any], rows: list[DatasetRow], env: dict[str, str]) -> float:
    """Reviews a second of a real `swift sft` over a few steps, start-up left out. Raises `UserError` when it fails."""
    probe = run / "probe"
    shutil.rmtree(probe, ignore_errors=True)
    chosen = spread_rows(rows, PROBE_STEPS * rows_a_step(values))
    write_rows(probe / "rows.jsonl", chosen)
    command = ["swift", swift_command(values), str(run / "sft.yaml"), "--output_dir", str(probe / "out")]
    command += ["--max_steps", "-1"]
    command += ["--dataset", str(probe / "rows.jsonl"), "--num_train_epochs", "2", "--logging_steps", "1"]
    command += ["--eval_strategy", "no", "--save_strategy", "no", "--load_best_model_at_end", "false"]
    command += ["--report_to", "none"]
    log = probe / "out" / "logging.jsonl"

    def seconds_at_step() -> list[float]:
        return [number * line.seconds_a_step for number, line in enumerate(whole_lines(log, LossLine), 1)]

    run_child(command, run / "train.log", env, "measuring", 2 * PROBE_STEPS, lambda: len(seconds_at_step()), "step")
    at = seconds_at_step()
    if len(at) < 2 or len(at) % 2:
        raise UserError(f"{len(at)} steps were logged in {shown(log)}; see {shown(run / 'train.log')}")
    shutil.rmtree(probe, ignore_errors=True)
    return len(chosen) / (at[-1] - at[len(at) // 2 - 1])
