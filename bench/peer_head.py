"""The original experiment's way to train: Hugging Face's Trainer, a classification head, LoRA, padding to 512 tokens.

Run as: python -m bench.peer_head --model DIR --train FILE.jsonl --out DIR --epochs E --seed S [--limit N]

What is set is what that way is: rank 8 and alpha 16 on all linear layers, 8 reviews a step, every review padded to 512
tokens, no evaluation, nothing saved, on a CPU in float32. All else is the Trainer's default.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.cost import POLL, tree_memory
from plan.hardware import IDLE_THREADS
from workspace.errors import UserError, run_main
from workspace.files import read_json, write_json
from workspace.paths import ROOT, shown

LENGTH = 512  # tokens of every row
BATCH = 8
LEARNING_RATE = 1e-3  # as the demo's recipe
# Settings that our own commands make, and a user of a peer does not.
OURS = ("MALLOC_", *IDLE_THREADS)


def users_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment as a user of the peer has it: without our settings for memory and idle threads."""
    return {key: value for key, value in environ.items() if not key.startswith(OURS)}


def run_logged(command: Sequence[str], log: Path, env: Mapping[str, str]) -> tuple[float, int]:
    """Run a command in the repository's root, its output going to `log`; seconds on the clock and peak bytes.

    The peak is as `bench.cost.cost_of` has it. Raises UserError when the command fails.
    """
    peak, ended = 0, threading.Event()
    began = time.monotonic()
    with (
        open(log, "wb") as stream,
        subprocess.Popen(command, cwd=ROOT, env=dict(env), stdout=stream, stderr=subprocess.STDOUT) as process,
    ):
        waiting = threading.Thread(target=lambda: (process.wait(), ended.set()), daemon=True)
        waiting.start()
        try:
            while not ended.is_set():
                peak = max(peak, *tree_memory(process.pid))
                ended.wait(POLL)
        finally:
            if not ended.is_set():
                process.kill()
        seconds = time.monotonic() - began
    if process.returncode:
        raise UserError(f"`{command[0]} ...` ended with status {process.returncode}: see {shown(log)}")
    return seconds, peak


def command(model: Path, train: Path, out: Path, epochs: float, seed: int) -> list[str]:
    """The command line of this peer."""
    words = [sys.executable, "-m", "bench.peer_head", "--model", str(model.absolute()), "--train"]
    return [*words, str(train.absolute()), "--out", str(out.absolute()), "--epochs", str(epochs), "--seed", str(seed)]


def train(model: Path, train: Path, out: Path, epochs: float, seed: int) -> dict[str, Any]:
    """Train in a process of its own: rows, epochs, train_runtime (s), train_loss, wall (s), peak_bytes.

    Raises UserError when it fails.
    """
    out.mkdir(parents=True, exist_ok=True)
    wall, peak = run_logged(command(model, train, out, epochs, seed), out / "log.txt", users_environment())
    return {**read_json(out / "result.json"), "wall": wall, "peak_bytes": peak}


def read_rows(path: Path, limit: int | None = None) -> list[dict[str, Any]]:
    """The first `limit` rows of a train.jsonl, or all. Raises UserError where it cannot be read or has no rows."""
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()][:limit]
    except (OSError, ValueError) as error:
        raise UserError(f"{shown(path)} is no train.jsonl ({error}): make it with data_prep.build") from None
    if not rows:
        raise UserError(f"{shown(path)} has no rows: make it with data_prep.build")
    return rows


def fit(model: Path, rows: Sequence[dict[str, Any]], out: Path, epochs: float, seed: int) -> dict[str, Any]:
    """Train in this process; what result.json holds. Each row has a `label` (int from 0) and a `review`."""
    from datasets import Dataset
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    set_seed(seed)  # the head is drawn at random
    tokenizer = AutoTokenizer.from_pretrained(model)
    classes = max(2, 1 + max(row["label"] for row in rows))
    network = AutoModelForSequenceClassification.from_pretrained(model, num_labels=classes, dtype="float32")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    network.config.pad_token_id = tokenizer.pad_token_id  # by it the head finds a row's last token
    lora = LoraConfig(task_type=TaskType.SEQ_CLS, r=8, lora_alpha=16, target_modules="all-linear")
    padded = tokenizer(
        [row["review"] for row in rows], padding="max_length", truncation=True, max_length=LENGTH, return_tensors=None
    )
    data = Dataset.from_dict(
        {
            "input_ids": padded["input_ids"],
            "attention_mask": padded["attention_mask"],
            "labels": [row["label"] for row in rows],
        }
    )
    arguments = TrainingArguments(
        output_dir=str(out),
        num_train_epochs=epochs,
        per_device_train_batch_size=BATCH,
        learning_rate=LEARNING_RATE,
        seed=seed,
        use_cpu=True,
        save_strategy="no",
        report_to="none",
    )
    result = Trainer(get_peft_model(network, lora), arguments, train_dataset=data).train()
    return {
        "rows": len(rows),
        "epochs": epochs,
        "train_runtime": result.metrics["train_runtime"],
        "train_loss": result.metrics["train_loss"],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Train and write OUT/result.json."""
    parser = argparse.ArgumentParser(prog="python -m bench.peer_head", description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="a causal model's folder")
    parser.add_argument("--train", type=Path, required=True, metavar="FILE", help="rows with label and review")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for result.json")
    parser.add_argument("--epochs", type=float, required=True, metavar="E")
    parser.add_argument("--seed", type=int, required=True, metavar="S")
    parser.add_argument("--limit", type=int, metavar="N", help="train on the first N rows alone")
    options = parser.parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    rows = read_rows(options.train, options.limit)
    write_json(options.out / "result.json", fit(options.model, rows, options.out, options.epochs, options.seed))
    return 0


if __name__ == "__main__":
    run_main(main)
