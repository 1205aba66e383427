"""What is measured: a task's rows, a model, and a run planned for them by the project's own commands."""

import argparse
import subprocess
import sys
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from bench.cost import users_environment
from demo.model import ensure_model
from demo.reviews import DEFAULT_TARGET, ensure_reviews
from plan.run import Run
from workspace.errors import UserError
from workspace.files import read_jsonl, write_json
from workspace.paths import ROOT


class Subject(NamedTuple):
    """A planned run and its dataset's folder."""

    run: Path
    dataset: Path


def add_options(parser: argparse.ArgumentParser, *names: str, rows: int = 0, repeat: int = 3) -> None:
    """Add the options in `names` that several benches have, with these defaults."""
    options: dict[str, dict[str, Any]] = {
        "rows": {"type": int, "default": rows, "metavar": "N", "help": f"default: {rows}"},
        "repeat": {
            "type": int,
            "default": repeat,
            "metavar": "N",
            "help": f"repetitions; default: {repeat}",
        },
        "csv": {"type": Path, "metavar": "FILE", "help": "reviews with columns label and review; default: the demo's"},
        "model": {"type": Path, "metavar": "DIR", "help": "default: the demo's"},
        "json": {"type": Path, "metavar": "FILE", "help": "write the figures there too"},
        "picture": {"type": Path, "metavar": "FILE", "help": "draw them as a PNG"},
    }
    for name in names:
        parser.add_argument(f"--{name}", **options[name])


def reviews_table(csv: Path | None) -> Path:
    """The table of reviews that was named, or the demo's."""
    return (csv or ensure_reviews(DEFAULT_TARGET)).absolute()


def subject(csv: Path | None, model: Path | None, limit: int, run: Path, *options: str) -> Subject:
    """Plan a run in `run` with `limit` train rows and prepare its data, by the commands of run_sft.sh.

    The dataset's folder lies in `run`. Raises UserError when a command fails.
    """
    words = ["hotel_reviews", "--csv", str(csv.absolute())] if csv else ["demo"]
    words += ["--model", str((model or ensure_model()).absolute()), "--limit", str(limit), "--run", str(run)]
    command = [sys.executable, "-m", "plan", *words, *options]
    result = subprocess.run(command, cwd=ROOT, stdout=sys.stderr, env=users_environment())
    if result.returncode:
        raise UserError(f"`python -m plan` ended with status {result.returncode}: see its message above")
    return Subject(run, Run.read(run).dataset)


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
        *prompt, answer = row["messages"]
        chat = "".join(f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in prompt)
        chat += "<|im_start|>assistant\n" + (f"{answer['content']}<|im_end|>" if split == "train" else "")
        counts.append(len(tokenizer.ids(chat)))
    return mean(counts)
