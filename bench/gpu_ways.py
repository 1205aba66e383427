"""The ways to train that the bench on a GPU compares: what each changes of the plan, its command, its rate."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from bench.cost import cost_of
from bench.subject import trained_tokens
from data_prep.rows import read_rows, write_rows
from plan.distributed import ACCUMULATION, BATCH
from plan.hardware import Machine, child_environment, one_gpu
from plan.run import Run
from train.estimate import LossLine, spread_rows
from workspace.errors import UserError
from workspace.files import read_jsonl
from workspace.records import whole_lines

STEPS = 20  # of a pass over a way's rows: the first pass warms up, the second, of the same rows, is timed
FEW = 3  # the same for ms-swift's defaults, whose steps are sixteen times as long; on a CPU for all
LIGER, OWN = {"use_liger_kernel": True}, {"use_liger_kernel": False}  # OWN: the layers of transformers
COMPILED = {"torch_compile": True}
FLOAT32 = {"torch_dtype": "float32", "bf16": False, "fp16": False}
PLAIN = {"optim": "adamw_torch"}  # the default is its fused form (transformers' TrainingArguments)
PLANNED, DEFAULT = "as planned", "swift sft, defaults (1 x 16)"


class Way(NamedTuple):
    """`changes` of the plan's keys, at `batch` rows a step (the plan's own where None); None: ms-swift's defaults."""

    batch: int | None
    changes: Mapping[str, Any] | None
    steps: int = STEPS


class Trained(NamedTuple):
    """What a way reached: rows and tokens a second, seconds a step, and the most GiB that torch had reserved."""

    rows_a_second: float
    tokens_a_second: float
    seconds_a_step: float
    memory_gib: float


# The first matter most: the others are left out where time is short. Length buckets (`group_by_length`) and the fused
# optimiser are the recipes' and transformers' own, so it is measured what going without them costs. `padding_free` and
# `packing` are missing: ms-swift takes them with flash-attn alone.
WAYS: dict[str, Way] = {
    PLANNED: Way(None, {}),
    "batch 8": Way(8, OWN),
    "batch 64": Way(64, OWN),
    "batch 64, liger": Way(64, LIGER),
    DEFAULT: Way(16, None, FEW),
    "batch 8, liger": Way(8, LIGER),
    "batch 32, liger": Way(32, LIGER),
    "batch 16, liger": Way(16, LIGER),
    "batch 64, liger, torch.compile": Way(64, LIGER | COMPILED),
    "batch 128, liger": Way(128, LIGER),
    "batch 64, liger, no length buckets": Way(64, LIGER | {"group_by_length": False}),
    "batch 64, float32": Way(64, OWN | FLOAT32),
    "batch 8, torch.compile": Way(8, OWN | COMPILED),
    "batch 64, liger, optimiser not fused": Way(64, LIGER | PLAIN),
    "batch 8, float32": Way(8, OWN | FLOAT32),
}


def is_planned(way: Way, values: Mapping[str, Any]) -> bool:
    """Whether a way is what the plan's `values` are already."""
    changes = way.changes or {"of": "ms-swift"}
    same = all(bool(values.get(key)) is value for key, value in changes.items() if isinstance(value, bool))
    named = {key: value for key, value in changes.items() if not isinstance(value, bool)}
    return same and not named and way.batch == int(values[BATCH]) * int(values[ACCUMULATION])


def wants_liger(name: str) -> bool:
    """Whether a way of that name is trained with liger's kernels."""
    return bool((WAYS[name].changes or {}).get("use_liger_kernel")) if name in WAYS else False


def measure(way: Way, made: Run, model: Path, machine: Machine, out: Path) -> Trained:
    """Train in the folder `out`. Raises `UserError` with the log's last line where it fails."""
    values, steps = made.sft_values(), way.steps if machine.gpu else FEW
    batch = way.batch or int(values[BATCH]) * int(values[ACCUMULATION])
    out.mkdir(parents=True)
    rows = spread_rows(read_rows(made.dataset / "train.jsonl"), batch * steps)
    write_rows(out / "train.jsonl", rows)
    # As many steps a pass whatever the rows that there are.
    command = _command(way, values, model, out, -(-len(rows) // batch), machine)
    try:
        cost_of(command, out / "log.txt", child_environment(machine) | one_gpu(machine))
        return _trained(out, batch, trained_tokens(out, model))
    except UserError as error:
        raise UserError(f"{error}: {_last_line(out / 'log.txt')}") from error
    finally:
        shutil.rmtree(out / "train", ignore_errors=True)


def _command(way: Way, values: Mapping[str, Any], model: Path, out: Path, steps: int, machine: Machine) -> list[str]:
    always = {"dataset": [str(out / "train.jsonl")], "output_dir": str(out / "train"), "max_steps": 2 * steps,
              "save_strategy": "no", "logging_steps": 1, "report_to": "none"}  # fmt: skip
    if way.changes is None:
        own: dict[str, Any] = {"model": str(model), "add_version": False}
        own |= {key: values[key] for key in ("model_type", "template")} | always
        own |= {} if machine.gpu else {"use_cpu": True, "torch_dtype": "float32", "bf16": False}
    else:
        batch = {BATCH: way.batch, ACCUMULATION: 1} if way.batch else {}
        own = {**values, **batch, **way.changes, **always}
    (out / "sft.yaml").write_text(yaml.safe_dump(own, allow_unicode=True), encoding="utf-8")
    return ["swift", "sft", str(out / "sft.yaml")]


def _trained(out: Path, batch: int, length: float) -> Trained:
    """Of the second half of the log's steps: rows of `length` tokens on average, `batch` of them a step."""
    log = out / "train" / "logging.jsonl"
    at = {line.step: line.step * line.seconds_a_step for line in whole_lines(log, LossLine)}
    last = max(at, default=0)
    if last < 2 or last // 2 not in at:
        raise UserError(f"its log names the steps {sorted(at)}")
    seconds = max(at[last] - at[last // 2], 1e-9) / (last - last // 2)
    memory = max(float(line.get("memory(GiB)", 0)) for line in read_jsonl(log))
    return Trained(batch / seconds, batch * length / seconds, seconds, memory)


def _last_line(log: Path) -> str:
    """The last line of a log that names an error, else its last."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()] or ["no output"]
    named = [line for line in lines if "Error" in line.partition(":")[0] or "out of memory" in line]
    return (named or lines)[-1][:300]
