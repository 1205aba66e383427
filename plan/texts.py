"""Texts without labels before the tuning: the rows of `swift pt` in a run's folder, and the keys it is given.

All weights are trained, whatever tunes them later: a low-rank change would have to be merged, which rounds, and the
stage is done once for all runs that begin with it. AdamW holds four numbers of four bytes a weight.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.chat.prompt import control_pattern, neutralise
from data_prep.chat.tokenizer import ModelTokenizer
from data_prep.duplicates.contamination import read_texts
from data_prep.manifest import Manifest
from data_prep.rows import DatasetRow, write_rows
from data_prep.task import Task, TextFile
from data_prep.unlabelled import KEY, Unlabelled, read_unlabelled
from plan.distributed import planned_processes
from plan.hardware import Machine, dtype_flags
from plan.run import Run
from plan.training_memory import is_quantised, weights_gib
from workspace.errors import UserError
from workspace.files import remove, sha256_file, write_json
from workspace.paths import ROOT, shown

TEXTS = "texts"  # the folder in a run's: its rows, and what the report says of them
RECORD = "texts.json"
SEED = 42  # whatever that of the run: seeds are compared from the same weights
# By the validation rows three epochs are the best tried with 1,000 labelled rows of hotel reviews, five with all 5,590;
# but five and ten were tried at 4e-4 alone, one and three at lower rates: the rate may be the reason (docs/quality.md).
EPOCHS, LEARNING_RATE, BATCH = 3, 2e-4, 16
COPIES = 4  # of the weights: themselves, their gradient and AdamW's two moments, all in float32


def check_texts(
    task: Task, sft: Mapping[str, Any], model: Path, machine: Machine, adapter: Path | None, read: bool = True
) -> None:
    """Raise `UserError` where a run with the keys `sft` cannot learn from the task's texts without labels first.

    `read`: look into the file, too, however large it is.
    """
    if task.unlabelled is None:
        return
    leave = f"leave `{KEY}` out of the task"
    if adapter:
        raise UserError(
            f"--adapters {shown(adapter)} was tuned on another model than the one that has read `{KEY}`: leave one out"
        )
    if is_quantised(sft, model):
        raise UserError(f"`{KEY}` has all weights trained, which cannot be done in few bits: {leave}")
    if planned_processes(sft).nodes > 1:
        raise UserError(f"`{KEY}` is learned from on one node: {leave}, or tune on one")
    needed = COPIES * weights_gib(model)
    room = machine.total_of(1) if machine.gpu else machine.memory_gib  # whoever uses the card now
    if needed > room:
        raise UserError(
            f"`{KEY}` has all weights of {shown(model)} trained, which takes {needed:.0f} GiB and more, and there are "
            f"{room:.0f} GiB: take a smaller model, or {leave}"
        )
    if read:
        read_texts(task.unlabelled, task, KEY)  # a column that is none is told before the data is prepared


def find_texts(run: Run, task: Task) -> Unlabelled | None:
    """The texts that the run's model is to learn from first; None where the task names none, or it has read them.

    Raises `UserError` as `read_unlabelled` does.
    """
    wanted = task.unlabelled and run.model_folder and not run.text_base
    return read_unlabelled(task.unlabelled, task, run.dataset) if task.unlabelled and wanted else None


def prepare_texts(run: Run, task: Task, found: Unlabelled | None) -> None:
    """Write the rows of `swift pt` to RUN/texts, like a dataset's without validation; none of an earlier plan stay."""
    folder = run.folder / TEXTS
    if folder.exists():
        remove(folder)
    if found and task.unlabelled and run.model_folder:
        _write(run.dataset, found, task.unlabelled, ModelTokenizer(run.model_folder), folder)


def _write(dataset: Path, found: Unlabelled, file: TextFile, tokenizer: ModelTokenizer, folder: Path) -> None:
    pattern, first = control_pattern(tokenizer.control_tokens), first_token(tokenizer)
    rows = (
        DatasetRow(
            [{"role": "user", "content": ""}, {"role": "assistant", "content": first + neutralise(text, pattern)}],
            str(number),
            text,
            False,
            0,
        )
        for number, text in enumerate(found.texts, 1)
    )
    folder.mkdir()
    write_rows(folder / "train.jsonl", rows)
    write_rows(folder / "val.jsonl", ())
    manifest = Manifest.read(dataset)
    none = dict.fromkeys(["total", *manifest.labels], 0)
    counts = manifest.counts.model_copy(update={"train": none | {"total": len(found.texts)}, "val": none, "test": none})
    files = {name: sha256_file(folder / name) for name in ("train.jsonl", "val.jsonl")}
    manifest.model_copy(update={"counts": counts, "files": files}).write(folder)
    told = {name: value for name, value in dataclasses.asdict(found).items() if name != "texts"}
    source = {"path": str(file.path), "sha256": sha256_file(file.path)}
    write_json(folder / RECORD, {**source, "used": len(found.texts), **told})


def first_token(tokenizer: ModelTokenizer) -> str:
    """The control token that a text of its own is to begin with: "" where the tokenizer puts it itself, or has none.

    A model attends to the first token of all; without the one that it knows, MiniMind2 has a loss of 11.3 a token on
    the demo's texts, and of 4.7 with it.
    """
    path = tokenizer.folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    token = settings.get("bos_token")
    token = token.get("content") if isinstance(token, dict) else token
    return "" if tokenizer.first_tokens or not isinstance(token, str) else token


def pt_values(run: Run, machine: Machine, out: Path) -> dict[str, Any]:
    """The keys of `swift pt` for the texts of a run, whose model is the base still; checkpoints to `out`."""
    sft = run.sft_values()
    return {
        **dtype_flags(machine, float32_weights=True),
        **({"bf16": True} if machine.gpu is None and run.measured_bf16 else {}),
        **{key: sft[key] for key in ("model", "model_type", "template", "device_map") if key in sft},
        "dataset": [str(run.folder / TEXTS / "train.jsonl")],
        "use_chat_template": False,  # the texts are plain: this and the next are what `swift pt` means
        "loss_scale": "all",
        "tuner_type": "full",
        "max_length": run.max_length or 512,
        "truncation_strategy": "split",  # a longer text goes on in another row
        "split_dataset_ratio": 0,
        "dataset_num_proc": 1,
        "dataloader_num_workers": 0,
        "num_train_epochs": EPOCHS,
        "per_device_train_batch_size": BATCH,
        "gradient_accumulation_steps": 1,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "cosine",
        "warmup_ratio": 0.05,
        "weight_decay": 0.1,
        "max_grad_norm": 1.0,
        "gradient_checkpointing": False,
        "group_by_length": True,
        "seed": SEED,
        "data_seed": SEED,
        "eval_strategy": "no",
        "external_plugins": [str(ROOT / "plugins" / "safe_checkpoints.py")],
        "callbacks": ["safe_checkpoints"],
        "output_dir": str(out),
        "add_version": False,
        "save_strategy": "epoch",
        "save_total_limit": 1,
        "logging_steps": 5,
        "report_to": "none",
        "check_model": False,
    }
