"""How many bytes a run will write, on which disk, and whether they fit: said before anything slow starts.

The estimate is an upper bound: for the run folder 2.0 times what four finished runs of the 26M-parameter demo model
held (rank 8, one to three epochs; all weights, one epoch), for the dataset 1.3 to 1.8 times. tests/plan/test_disk.py
holds it between once and three times those runs.
"""

import math
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from data_prep.splits.deciding_rows import held_out_rows
from plan.option_values import is_true
from workspace.errors import MachineFault
from workspace.paths import expanded, shown
from workspace.safetensors_header import read_header

FIXED = 3 << 20  # bytes: pictures, report, logs, records; 1.7 MB were measured
PICTURES = 1 << 18  # bytes of a dataset's card
STATE = 1 << 18  # bytes of a checkpoint's small files
# Bytes of journals, answers and report for a byte of val.jsonl and test.jsonl; 9.5 were measured.
ANSWERS = 12
# Bytes of ms-swift's tokenised copies for a byte of train.jsonl; 3.4 were measured. Test and validation rows are copied
# for each time that they are asked.
ARROW = 5
FEWEST = 32  # held-out rows, so that every class has some
ROW = 320  # bytes that a JSONL row has besides its review, which is in it twice
SAFE_SECONDS = 600.0  # between checkpoints that are made by the clock
SLOWEST = 1e10  # operations a second: below what a single core does
OPTIMISER = 8  # bytes a trained parameter: two moments in float32
MASTER = 4  # more, where DeepSpeed or FSDP keeps a float32 copy
EMBEDDINGS = ("embed_tokens", "lm_head", "wte", "score")  # what all-linear leaves out
BINARY = (".xlsx", ".xlsm", ".parquet", ".pq", ".gz")
UNPACKED = 6  # bytes of text in a byte of those


class Need(NamedTuple):
    """Bytes that will be written to the disk of `folders`, and bytes free on it."""

    folders: tuple[Path, ...]
    needed: int
    free: int


def needed_space(
    sft: Mapping[str, Any], run: Path, dataset: Path, csv: Path, model: Path, rows: int | None
) -> dict[Path, int]:
    """Bytes still to be written, at most, by a run with the resolved keys `sft`: into `run`, `dataset` and the cache.

    `rows` is the limit of training rows, None for all of the table. What is in the two folders already is taken
    off, so that a run that goes on is not asked for its space twice. A table or a model that is not there counts as
    nothing. Reads headers, and the table once to count its lines.
    """
    train, held_out = dataset_bytes(csv, rows)
    total = _table(csv)[0]
    kept = checkpoints_kept(sft, model, total if rows is None else min(rows, total)) * checkpoint_bytes(sft, model)
    return {
        run: max(0, FIXED + ANSWERS * held_out + kept - _there(run)),
        dataset: max(0, train + held_out + PICTURES - _there(dataset)),
        dataset_cache(): ARROW * (train + 2 * held_out),
    }


def dataset_cache() -> Path:
    """Where ms-swift keeps its own, tokenised copies of the datasets."""
    return expanded(os.environ.get("MODELSCOPE_CACHE") or "~/.cache/modelscope").absolute()


def dataset_bytes(csv: Path, rows: int | None) -> tuple[int, int]:
    """Bytes of (train.jsonl, val.jsonl with test.jsonl), for `rows` train rows of the table or, with None, for all."""
    total, size = _table(csv)
    row = 2 * size / max(1, total) + ROW
    if rows is None:
        return round(total * row), round(total * row * 0.25)
    held_out = max(sum(held_out_rows(rows)), FEWEST)
    return round(min(rows, total) * row), round(min(total, held_out) * row)


def checkpoint_bytes(sft: Mapping[str, Any], model: Path) -> int:
    """Bytes of a checkpoint: an adapter or all weights, and the optimiser's state. 0 where no weights are there."""
    shapes = weight_shapes(model)
    if not shapes:
        return 0
    sharded = MASTER if sft.get("deepspeed") or sft.get("fsdp") else 0
    if sft.get("tuner_type", "lora") == "full":
        width = 2 if sft.get("torch_dtype") == "bfloat16" else 4
        trained = sum(math.prod(shape) for shape in shapes.values())
        others = sum(path.stat().st_size for path in model.glob("*.json")) + STATE
        return trained * (width + OPTIMISER + sharded) + others
    return lora_parameters(sft, shapes) * (4 + OPTIMISER + sharded) + STATE


def lora_parameters(sft: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Trained parameters of a LoRA adapter: rank x (inputs + outputs) of each targeted matrix (Hu et al., 2021).

    DoRA adds a magnitude for each output; `modules_to_save`, whole copies. `shapes`: the model's tensors by name.
    """
    rank = int(sft.get("lora_rank", 8))
    targets, whole = _words(sft.get("target_modules", "all-linear")), _words(sft.get("modules_to_save"))
    count = 0
    for name, shape in shapes.items():
        parts = name.split(".")
        if any(word in parts for word in whole):
            count += math.prod(shape)
        if "all-linear" in targets or sft.get("target_regex"):
            chosen = not set(EMBEDDINGS) & set(parts)
        else:
            chosen = any(f".{name}".endswith(f".{word}.weight") for word in targets)
        if chosen and len(shape) == 2:
            count += rank * sum(shape) + (shape[0] if is_true(sft, "use_dora") else 0)
    if sft.get("task_type") == "seq_cls":
        hidden = max((min(shape) for shape in shapes.values() if len(shape) == 2), default=0)
        count += int(sft.get("num_labels", 2)) * hidden
    return count


def checkpoints_kept(sft: Mapping[str, Any], model: Path, rows: int) -> int:
    """The most checkpoints that lie on the disk at a time: those kept, the best among them, and one being written.

    A run too short for checkpoints by the clock has one for each epoch, and one more when it is asked to end.
    """
    epochs = math.ceil(float(sft.get("num_train_epochs", 3)))
    if not (limit := int(sft.get("save_total_limit") or 0)):
        return epochs + 1
    operations = 6 * sum(map(math.prod, weight_shapes(model).values())) * int(sft.get("max_length", 512))
    by_epoch = sft.get("save_strategy") == "epoch" and int(sft.get("max_steps", -1)) <= 0
    short = by_epoch and operations * rows * epochs < SLOWEST * SAFE_SECONDS
    most = max(2, limit) + 1
    return min(most, epochs + 1) if short else most


def weight_shapes(model: Path) -> dict[str, tuple[int, ...]]:
    """The tensors in a model's safetensors files by name, from their headers; a file that is torn counts as empty."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted(model.glob("*.safetensors")):
        with suppress(OSError, ValueError):
            shapes |= read_header(path).shapes
    return shapes


def by_disk(needs: Mapping[Path, int]) -> list[Need]:
    """The needs of folders on one file system added up. A folder that is not there yet is where its parent is."""
    disks: dict[int, list[Path]] = {}
    for folder in needs:
        disks.setdefault(os.stat(existing(folder)).st_dev, []).append(folder)
    return [
        Need(tuple(folders), sum(needs[folder] for folder in folders), shutil.disk_usage(existing(folders[0])).free)
        for folders in disks.values()
    ]


def check_space(needs: Mapping[Path, int], names: Mapping[Path, str] | None = None) -> None:
    """Raise `MachineFault` for the first disk that `needs` do not fit on; `names`: the option for each."""
    for need in by_disk(needs):
        if need.needed > need.free:
            raise MachineFault(": ".join(space_fault(need, names or {})))


def space_fault(need: Need, names: Mapping[Path, str]) -> tuple[str, str]:
    """What does not fit where, and what to do."""
    folders = " and ".join(shown(folder) for folder in need.folders)
    verb, whose = ("needs", "its") if len(need.folders) == 1 else ("need", "their")
    option = next((names[folder] for folder in need.folders if folder in names), "--run")
    found = f"{folders} {verb} about {gib(need.needed)} on {whose} disk and {gib(need.free)} are free"
    return found, f"make room, or choose another place with {option}"


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    folder = folder.absolute()
    return next((path for path in (folder, *folder.parents) if path.exists()), Path(folder.anchor))


def gib(size: int) -> str:
    """Bytes as a user reads them."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 / 10 else f"{size / 2**20:.1f} MiB"


def _there(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # removed meanwhile
            total += path.lstat().st_size if path.is_file() else 0
    return total


def _table(csv: Path) -> tuple[int, float]:
    """(at least the rows of a table: its lines, or what a binary one may well have; its bytes as UTF-8)."""
    if not csv.is_file():
        return 0, 0
    size = csv.stat().st_size
    if csv.suffix.lower() in BINARY:
        return max(1, size * UNPACKED // 256), size * UNPACKED
    with open(csv, "rb") as stream:
        start, rows = stream.read(1 << 16), 1 + sum(1 for _ in stream)
    rows += start.count(b"\n")
    try:
        start[: start.rfind(b"\n") + 1].decode("utf-8")
    except UnicodeDecodeError:
        return rows, 1.5 * size  # Chinese takes two bytes in GBK and three in UTF-8
    return rows, size


def _words(value: Any) -> list[str]:
    return value.split() if isinstance(value, str) else [str(one) for one in value or ()]
