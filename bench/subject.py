"""What is measured: a task's rows, a model, and a run planned for them by the project's own commands."""

import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from bench.cost import users_environment
from bench.limits import draw_shares
from data_prep.rows import Message
from demo.reviews import DEFAULT_TARGET, ensure_reviews
from eval.inference.prompts import Prompt
from plan.gpus import VISIBLE
from plan.hardware import this_machine
from plan.run import Run
from workspace.errors import UserError
from workspace.files import read_jsonl, write_json
from workspace.paths import ROOT

Figures = dict[str, Any]  # what a bench found, as its JSON file has it


def reviews_table(csv: Path | None) -> Path:
    """The table of reviews that was named, or the demo's."""
    return (csv or ensure_reviews(DEFAULT_TARGET)).absolute()


def check_cpu() -> None:
    """Raise `UserError` where a GPU would compute: the limits are a processor's, and so are the flags of the others."""
    if gpu := this_machine().gpu:
        raise UserError(
            f"this bench is of processors, and the {gpu} would compute: run `python -m bench gpu`, or put {VISIBLE}= "
            "(empty) before the command"
        )


def subject(csv: Path | None, model: Path, limit: int, run: Path, *options: str) -> Run:
    """Plan a run in `run` with `limit` train rows and prepare its data; UserError when the command fails."""
    words = ["hotel_reviews", "--csv", str(csv.absolute())] if csv else ["demo"]
    words += ["--model", str(model), "--limit", str(limit), "--run", str(run)]
    command = [sys.executable, "-m", "plan", *words, *options]
    result = subprocess.run(command, cwd=ROOT, stdout=sys.stderr, env=users_environment())
    if result.returncode:
        raise UserError(f"`python -m plan` ended with status {result.returncode}: see its message above")
    return Run.read(run)


def publish(bench: Any, json: Path | None = None, picture: Path | None = None, **options: Any) -> int:
    """Run a bench, write figures and picture where files are named, print its report; 0 when its limits are kept.

    `bench` is a module with `run`, which returns the figures and whether the limits are kept, and `report`; one that
    can be drawn has OPERATIONS and RATES.
    """
    found, kept = bench.run(**options)
    if picture:
        draw_shares(picture, found, bench.OPERATIONS, bench.RATES)
    if json:
        write_json(json, found)
    print("\n".join(["", *bench.report(found)]), flush=True)
    return int(not kept)


def trained_tokens(dataset: Path, model: Path) -> float:
    """The mean number of tokens of the train rows, prompt and answer."""
    chats = (row["messages"] for row in read_jsonl(dataset / "train.jsonl"))
    return _tokens((f"{chat_text(turns[:-1])}{turns[-1]['content']}<|im_end|>" for turns in chats), model)


def asked_tokens(prompts: Iterable[Prompt], model: Path) -> float:
    """The mean number of tokens of prompts."""
    return _tokens((chat_text(one.messages) for one in prompts), model)


def _tokens(texts: Iterable[str], model: Path) -> float:
    from data_prep.chat.tokenizer import ModelTokenizer

    tokenizer = ModelTokenizer(model)
    return mean(len(tokenizer.ids(text)) for text in texts)


def chat_text(messages: Sequence[Message]) -> str:
    """A prompt in ChatML, after which the answer comes."""
    turns = (f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in messages)
    return "".join(turns) + "<|im_start|>assistant\n"
