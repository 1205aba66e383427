"""The original experiment's way to train: Hugging Face's Trainer, a classification head, LoRA, padding to 512 tokens.

Run as: python -m bench.peer_head MODEL TRAIN.jsonl OUT EPOCHS SEED

What is set is what that way is: rank 8 and alpha 16 on all linear layers, 8 reviews a step, every review padded to 512
tokens, no evaluation, nothing saved, on a CPU in float32. All else is the Trainer's default.
"""

import sys
from pathlib import Path
from typing import Any

from bench.cost import cost_of, users_environment
from workspace.errors import UserError, run_main
from workspace.files import read_json, read_jsonl, write_json
from workspace.paths import shown

LENGTH = 512  # tokens of every row
BATCH = 8
LEARNING_RATE = 1e-3  # as the demo's recipe


def train(model: Path, train: Path, out: Path, epochs: float, seed: int) -> dict[str, Any]:
    """Train in a process of its own: rows, epochs, train_runtime (s), train_loss, wall (s), peak_bytes.

    Raises UserError when it fails.
    """
    out.mkdir(parents=True, exist_ok=True)
    words = map(str, (model.absolute(), train.absolute(), out.absolute(), epochs, seed))
    cost = cost_of([sys.executable, "-m", "bench.peer_head", *words], out / "log.txt", users_environment())
    return {**read_json(out / "result.json"), "wall": cost.seconds, "peak_bytes": cost.peak_bytes}


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a train.jsonl. Raises UserError where it cannot be read or has no rows."""
    try:
        rows = read_jsonl(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{shown(path)} is no train.jsonl ({error}): make it with data_prep.build") from None
    if not rows:
        raise UserError(f"{shown(path)} has no rows: make it with data_prep.build")
    return rows


def main(model: str, train: str, out: str, epochs: str, seed: str) -> None:
    """Train in this process and write OUT/result.json. Each row has a `label` (int from 0) and a `review`."""
    from datasets import Dataset
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments, set_seed

    rows = read_rows(Path(train))
    set_seed(int(seed))  # the head is drawn at random
    tokenizer = AutoTokenizer.from_pretrained(model)
    classes = max(2, 1 + max(row["label"] for row in rows))
    network = AutoModelForSequenceClassification.from_pretrained(model, num_labels=classes, dtype="float32")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    network.config.pad_token_id = tokenizer.pad_token_id  # by it the head finds a row's last token
    lora = LoraConfig(task_type=TaskType.SEQ_CLS, r=8, lora_alpha=16, target_modules="all-linear")
    texts = [row["review"] for row in rows]
    padded = tokenizer(texts, padding="max_length", truncation=True, max_length=LENGTH)
    columns = {name: padded[name] for name in ("input_ids", "attention_mask")}
    data = Dataset.from_dict({**columns, "labels": [row["label"] for row in rows]})
    arguments = TrainingArguments(
        output_dir=out, num_train_epochs=float(epochs), per_device_train_batch_size=BATCH,
        learning_rate=LEARNING_RATE, seed=int(seed), use_cpu=True, save_strategy="no", report_to="none",
    )  # fmt: skip
    metrics = Trainer(get_peft_model(network, lora), arguments, train_dataset=data).train().metrics
    figures = {key: metrics[key] for key in ("train_runtime", "train_loss")}
    write_json(Path(out) / "result.json", {"rows": len(rows), "epochs": float(epochs), **figures})


if __name__ == "__main__":
    run_main(lambda: main(*sys.argv[1:]))
