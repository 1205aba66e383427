"""What is measured: a task's rows, a model, and a run planned for them by the project's own commands."""

import argparse
import subprocess
import sys
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from bench.peer_head import users_environment
from demo.model import ensure_model
from plan.run import Run
from workspace.errors import UserError
from workspace.files import read_json, read_jsonl
from workspace.paths import ROOT

REAL = ROOT.parent / "shared" / "data" / "ChnSentiCorp_htl_all.csv"


class Subject(NamedTuple):
    """A planned run and its dataset's folder."""

    run: Path
    dataset: Path

    @property
    def labels(self) -> list[str]:
        """The label words."""
        return read_json(self.run / "run.json")["labels"]


def add_options(parser: argparse.ArgumentParser, rows: int) -> None:
    """The options that the benches of inference and training share."""
    parser.add_argument("--rows", type=int, default=rows, metavar="N", help=f"default: {rows}")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="interleaved repetitions; default: 3")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="hotel reviews; default: the demo's")
    parser.add_argument("--model", type=Path, metavar="DIR", help="default: the demo's")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw them as a PNG")


def subject(csv: Path | None, model: Path | None, limit: int, run: Path, *options: str) -> Subject:
    """Plan a run in `run` with `limit` train rows and prepare its data, by the commands of run_sft.sh.

    The dataset's folder lies in `run`. Raises UserError when a command fails.
    """
    csv = csv or (REAL if REAL.is_file() else None)
    words = ["hotel_reviews", "--csv", str(csv.absolute())] if csv else ["demo"]
    words += ["--model", str((model or ensure_model()).absolute()), "--limit", str(limit), "--run", str(run)]
    _run("plan", *words, *options)
    return Subject(run, Run.read(run).dataset)


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


def _run(module: str, *words: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", module, *words], cwd=ROOT, stdout=sys.stderr, env=users_environment()
    )
    if result.returncode:
        raise UserError(f"`python -m {module}` ended with status {result.returncode}: see its message above")
