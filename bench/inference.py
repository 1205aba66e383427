"""`swift infer` as the project uses it against its defaults: rows a second, share of the arithmetic limit, answers.

Run as: python -m bench inference [--rows N] [--repeat N] [--csv FILE] [--model DIR] [--json FILE] [--picture FILE]

Rates are ms-swift's own count (`samples/s`), so without the start-up of some fifteen seconds.
"""

import re
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.cost import cost_of, users_environment
from bench.limits import Stolen, heading, measured_limits, medians, parameters, share
from bench.subject import Figures, asked_tokens, subject
from demo.model import ensure_model
from eval.inference.job import TRANSFORMERS, InferenceJob, run_processes
from eval.inference.journal import read_journal
from eval.inference.prompts import Prompt, make_prompts
from plan.hardware import child_environment, one_gpu, this_machine
from plan.run import Run
from train.checkpoints import best_checkpoint
from train.sft import tune
from workspace.files import read_jsonl, write_jsonl
from workspace.markdown import table

STEPS = 40  # of the tuning: enough for the model to answer with a label and stop
BATCHES = (1, 8, 16)  # beside the recipe's, to compare the answers
RATE = re.compile(r"'num_samples': (\d+), 'runtime': ([0-9.]+)")
OPERATIONS, RATES = 2, ("float32", "onednn")  # a parameter and token; the rates of float32 products
DEFAULT, BEST = "swift infer, defaults", "swift infer, its own flags at their best"
BEST_BATCH = 32  # the recipes' on a CPU
WAYS = {"generate": "generate, untuned", "tuned": "generate, tuned", "score": "label scores"}


def run(rows: int = 200, repeat: int = 3, csv: Path | None = None, model: Path | None = None) -> tuple[Figures, bool]:
    """The figures, and whether all answers are the same. Raises UserError when a command fails."""
    model = (model or ensure_model()).absolute()
    with tempfile.TemporaryDirectory(prefix="bench-inference-") as scratch, Stolen() as stolen:
        made = subject(csv, model, 4 * rows, Path(scratch) / "run", "--max_steps", str(STEPS), "--eval_strategy", "no")
        tune(made.folder, estimate=False)
        asked = [one for one in make_prompts(made.dataset, False, 42) if one.purpose == "test"]
        asked = asked[:: -(-len(asked) // rows)]  # a run's test rows are more than are wanted here
        rates: dict[str, list[float]] = {DEFAULT: [], BEST: [], **{name: [] for name in WAYS.values()}}
        answers: dict[str, dict[str, Any]] = {}
        limits = []
        for at in range(repeat):
            limits.append(measured_limits())
            rate, answers[DEFAULT] = by_default(made, model, asked, Path(scratch) / f"default{at}")
            rates[DEFAULT].append(rate)
            rates[BEST].append(by_default(made, model, asked, Path(scratch) / f"best{at}", batch=BEST_BATCH)[0])
            for kind, name in WAYS.items():
                rate, answers[kind] = by_us(made, kind, asked, str(at))
                rates[name].append(rate)
        same = {"default": same_texts(answers[DEFAULT], answers["generate"])}
        once: dict[str, float] = {}
        for batch in BATCHES:
            for kind in WAYS:
                once[f"{kind}, batch {batch}"], again = by_us(made, kind, asked, f"batch{batch}", batch)
                same[f"{kind}, batch {batch}"] = same_texts(answers[kind], again)
        length = asked_tokens(asked, model)
    found = {
        "bench": "inference", "reviews": (csv or made.dataset).name, "rows": len(asked), "model": model.name,
        "parameters": parameters(model), "tokens": round(length, 1), "machine": this_machine().describe(),
        "limits": medians(limits), "rates": rates, "same": same, "once": once, "stolen": round(stolen.share, 3),
        "versions": made.versions,
    }  # fmt: skip
    return found, all(one["same"] == one["rows"] for one in same.values())


def by_default(
    made: Run, model: Path, asked: list[Prompt], out: Path, new_tokens: int | None = None, batch: int = 1
) -> tuple[float, dict[str, str]]:
    """(rows a second, text by row id) of plain `swift infer`, which is told no more than it needs.

    `new_tokens`: how many it answers with at most; the plan's number where None. `batch`: rows at a time.
    """
    values = made.infer_values()
    write_jsonl(out / "rows.jsonl", ({"messages": list(one.messages)} for one in asked))
    command = ["swift", "infer", "--model", str(model), "--model_type", values["model_type"]]
    command += ["--template", values["template"], "--val_dataset", str(out / "rows.jsonl"), "--temperature", "0"]
    command += ["--max_new_tokens", str(new_tokens or values["max_new_tokens"]), "--torch_dtype", values["torch_dtype"]]
    command += ["--repetition_penalty", str(values["repetition_penalty"]), "--result_path", str(out / "results.jsonl")]
    command += ["--max_batch_size", str(batch)]
    machine = this_machine()
    cost_of(command, out / "log.txt", users_environment(child_environment(machine) | one_gpu(machine)))
    texts = [row["response"] for row in read_jsonl(out / "results.jsonl")]
    return rate_in(out / "log.txt"), {one.id: text for one, text in zip(asked, texts, strict=True)}


def by_us(
    made: Run, kind: str, asked: list[Prompt], attempt: str = "", batch: int | None = None
) -> tuple[float, dict[str, Any]]:
    """(rows a second, answer by row id) as the project asks: sorted by length, scores and text from one pass."""
    prompts = [replace(one, purpose="val" if kind == "score" else "test") for one in asked]
    adapter = best_checkpoint(made.folder) if kind == "tuned" else None
    job = InferenceJob(made, f"{kind}{attempt}", adapter, TRANSFORMERS)
    run_processes(job, prompts, batch or int(made.infer_values()["max_batch_size"]))
    found, field = read_journal(job.journal, prompts), "label" if kind == "score" else "text"
    return rate_in(job.folder / "swift.log"), {one.id: getattr(found[one.key], field) for one in prompts}


def rate_in(log: Path) -> float:
    """Rows a second by the last count in a log of `swift infer`."""
    rows, seconds = RATE.findall(log.read_text(encoding="utf-8", errors="replace"))[-1]
    return int(rows) / float(seconds)


def same_texts(one: dict[str, Any], other: dict[str, Any]) -> dict[str, int]:
    """How many rows have the same answer in both."""
    return {"rows": len(one), "same": sum(other[key] == text for key, text in one.items())}


def report(found: dict[str, Any]) -> list[str]:
    """The figures as lines."""
    lines = []
    default = statistics.median(found["rates"][DEFAULT])
    for name, rates in found["rates"].items():
        rate = statistics.median(rates)
        of_limits = (f"{share(found, name, OPERATIONS, by):.0%}" for by in RATES)
        lines.append([name, f"{rate:.1f}", f"{min(rates):.1f}–{max(rates):.1f}", f"{rate / default:.1f}", *of_limits])
    header = ["way", "rows/s", "lowest–highest", "x default", "of 2NT, MKL", "of 2NT, oneDNN"]
    result = [*heading(found), "", *table(header, lines), ""]
    for name, one in found["same"].items():
        once = f"; {found['once'][name]:.1f} rows/s, measured once" if name in found["once"] else ""
        result.append(f"same answers, {name}: {one['same']} of {one['rows']}{once}")
    return result
