"""What is measured: a task's rows, a model, and a run planned for them by the project's own commands."""

import subprocess
import sys
from pathlib import Path
from statistics import mean
from typing import Any

from bench.cost import users_environment
from demo.model import ensure_model
from demo.reviews import DEFAULT_TARGET, ensure_reviews
from plan.run import Run
from workspace.errors import UserError
from workspace.files import read_jsonl, write_json
from workspace.paths import ROOT


def reviews_table(csv: Path | None) -> Path:
    """The table of reviews that was named, or the demo's."""
    return (csv or ensure_reviews(DEFAULT_TARGET)).absolute()


def subject(csv: Path | None, model: Path | None, limit: int, run: Path, *options: str) -> Run:
    """Plan a run in `run` with `limit` train rows and prepare its data, by the commands of run_sft.sh.

    The dataset's folder lies in `run`. Raises UserError when a command fails.
    """
    words = ["hotel_reviews", "--csv", str(csv.absolute())] if csv else ["demo"]
    words += ["--model", str((model or ensure_model()).absolute()), "--limit", str(limit), "--run", str(run)]
    command = [sys.executable, "-m", "plan", *words, *options]
    result = subprocess.run(command, cwd=ROOT, stdout=sys.stderr, env=users_environment())
    if result.returncode:
        raise UserError(f"`python -m plan` ended with status {result.returncode}: see its message above")
    return Run.read(run)


def publish(found: dict[str, Any], lines: list[str], json: Path | None) -> None:
    """Write a bench's figures where a file is named, and print its report."""
    if json:
        write_json(json, found)
    print("\n".join(["", *lines]), flush=True)


def tokens(dataset: Path, model: Path, split: str) -> float:
    """The mean number of tokens of a split's rows: prompt and answer of `train`, the prompt alone of others."""
    from data_prep.chat.tokenizer import ModelTokenizer

    tokenizer, counts = ModelTokenizer(model), []
    for row in read_jsonl(dataset / f"{split}.jsonl"):
        answer = f"{row['messages'][-1]['content']}<|im_end|>" if split == "train" else ""
        counts.append(len(tokenizer.ids(chat_text(row) + answer)))
    return mean(counts)


def chat_text(row: dict[str, Any]) -> str:
    """A row's prompt in ChatML, after which the answer comes."""
    turns = (f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in row["messages"][:-1])
    return "".join(turns) + "<|im_start|>assistant\n"
