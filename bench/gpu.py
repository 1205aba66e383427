"""Training and label scores on a GPU, as the project runs them, other ways, and by ms-swift's defaults.

Run as: python -m bench gpu [--minutes N] [--only WORDS] [--rows N] [--csv FILE] [--model DIR] [--json FILE]

The model has the shape of Qwen1.5-0.5B with random weights (on a CPU: a tiny one), the demo's tokenizer and reviews:
nothing is fetched once the demo's model is there. A --model without weights, such as Qwen1.5's own config and
tokenizer, gets random ones. Rates are rows a second between two lines of ms-swift's training log,
so without start-up and warm-up, and its own count of answers; shares are of the rate of a large matrix product. What
matters most is measured first, and what --minutes leave no time for is named.
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from bench.cost import limited
from bench.gpu_ways import DEFAULT, PLANNED, WAYS, Trained, is_planned, measure, wants_liger
from bench.inference import by_default, rate_in
from bench.limits import parameters
from bench.subject import Figures, asked_tokens, subject, trained_tokens
from data_prep.rows import read_rows
from demo.model import COPIED, ensure_model
from eval.inference.job import TRANSFORMERS, InferenceJob, run_processes
from eval.inference.prompts import Prompt, asked, by_length
from plan.gpu_kernels import liger_works
from plan.hardware import Machine, this_machine
from plan.run import Run
from workspace.errors import UserError
from workspace.markdown import table

# Qwen1.5-0.5B's config.json, and one for the test of this bench.
SHAPE = {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 24, "num_attention_heads": 16,
         "num_key_value_heads": 16, "vocab_size": 151936, "tie_word_embeddings": True}  # fmt: skip
TINY = {**SHAPE, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 2, "vocab_size": 6400}  # fmt: skip
TRAINING, SCORING = 4, 2  # operations a parameter and token: see bench/limits.py
SCORED = ("val", "few_shot", "injection")  # purposes under which each row is scored once: a GPU is soon done with one
ANSWER = 3  # tokens that `swift infer` may answer with: a label and the end, as a tuned model does
INFER_ROWS = 64  # that it answers one by one
DEFAULT_INFER = f"swift infer, defaults, {ANSWER} tokens"
RESERVE = 20.0  # seconds for the rates of products
LEAST = 15.0  # seconds in which no command gets anywhere


class Scoring(NamedTuple):
    """How label scores are asked for: `batch` rows at a time and in `dtype`, the plan's own where None."""

    batch: int | None = None
    dtype: str | None = None


SCORES = "label scores, as planned"
SCORINGS = {
    SCORES: Scoring(),
    "label scores, batch 256": Scoring(256),
    "label scores, batch 256, bfloat16": Scoring(256, "bfloat16"),
}
# Training first, scoring next to it where half of the ways have been tried.
ORDER = [*list(WAYS)[:5], SCORES, DEFAULT_INFER, *list(WAYS)[5:9], *list(SCORINGS)[1:], *list(WAYS)[9:]]


NO_LIGER = "liger-kernel, or the compiler that Triton needs, is not installed: `pip install liger-kernel==0.8.5`"


def run(
    rows: int = 2560, minutes: int = 8, only: str = "", csv: Path | None = None, model: Path | None = None
) -> tuple[Figures, bool]:
    """The figures of the ways whose name has `only` in it; one that fails or came too late is named as not measured.

    There is no limit to keep.
    """
    machine, deadline = this_machine(), time.monotonic() + 60 * minutes - RESERVE
    with tempfile.TemporaryDirectory(prefix="bench-gpu-") as scratch:
        folder = Path(scratch)
        if model is None or not any(model.glob("*.safetensors")):
            model = random_model(folder / "shape", SHAPE if machine.gpu else TINY, model)
        model = model.absolute()
        made = subject(csv, model, rows, folder / "run", "--eval_strategy", "no")
        train = read_rows(made.dataset / "train.jsonl")
        prompts = by_length([one for purpose in SCORED for one in asked(purpose, train)])
        single = by_length(asked("test", train[:INFER_ROWS]))
        values = made.sft_values()
        ways: dict[str, Callable[[Path], Trained | float]] = {
            **{name: partial(measure, way, made, model, machine) for name, way in WAYS.items()
               if not is_planned(way, values)},
            **{name: partial(_scored, way, made, prompts) for name, way in SCORINGS.items()},
            DEFAULT_INFER: lambda out: by_default(made, model, single, out, ANSWER)[0],
        }  # fmt: skip
        wanted = [name for name in ORDER if only in name and name in ways]
        missing = {name: NO_LIGER for name in wanted if wants_liger(name) and not liger_works()}
        found, failed = _measured({name: ways[name] for name in wanted if name not in missing}, folder, deadline)
        missing |= failed
        length, asked_length = trained_tokens(made.dataset, model), asked_tokens(prompts, model)
        infer, size = made.infer_values(), parameters(model)
    trained = {name: one._asdict() for name, one in found.items() if isinstance(one, Trained)}
    keys = ("per_device_train_batch_size", "gradient_accumulation_steps", "padding_side", "attn_impl",
            "group_by_length", "use_liger_kernel")  # fmt: skip
    return {
        "bench": "gpu", "rows": len(train), "asked": len(prompts), "parameters": size, "tokens": round(length, 1),
        "asked_tokens": round(asked_length, 1), "machine": machine.describe(), "tflops": matrix_rates(machine),
        "training": trained, "scoring": {name: one for name, one in found.items() if name not in trained},
        "dtype": {"training": _multiplied_in(values), "scoring": str(infer["torch_dtype"])},
        "not_measured": missing, "versions": made.versions, "plan": {key: values.get(key) for key in keys},
    }, bool(found)  # fmt: skip


def _measured(
    ways: Mapping[str, Callable[[Path], Trained | float]], folder: Path, deadline: float
) -> tuple[dict[str, Trained | float], dict[str, str]]:
    """What each way reached, and why others did not; a line on each as it is done."""
    found: dict[str, Trained | float] = {}
    missing: dict[str, str] = {}
    for number, (name, way) in enumerate(ways.items(), 1):
        began = time.monotonic()
        if deadline - began < LEAST:
            missing[name] = "its turn did not come within --minutes"
            continue
        try:
            with limited(deadline - began):
                found[name] = one = way(folder / f"way{number}")
            rate = f"{one if isinstance(one, float) else one.rows_a_second:.1f} rows/s"
            said = rate + (f", {one.memory_gib:.1f} GiB" if isinstance(one, Trained) else "")
        except UserError as error:
            missing[name] = said = " ".join(str(error).split())[-500:]
        now = time.monotonic()
        line = f"gpu: {number} of {len(ways)}, {name}: {said} ({now - began:.0f} s; {deadline - now:.0f} s left)"
        print(line, file=sys.stderr, flush=True)
    return found, missing


def _scored(way: Scoring, made: Run, prompts: Sequence[Prompt], out: Path) -> float:
    """Rows a second of label scores."""
    values = made.infer_values()
    changes: dict[str, Any] = {"torch_dtype": way.dtype} if way.dtype else {}
    changes |= {"write_batch_size": way.batch} if way.batch else {}  # ms-swift batches what it writes at a time
    made.write_yaml("infer", {**values, **changes}, "# changed by the bench")
    job = InferenceJob(made, out.name, None, TRANSFORMERS)
    try:
        run_processes(job, prompts, way.batch or int(values["max_batch_size"]))
        return rate_in(job.folder / "swift.log")
    finally:
        made.write_yaml("infer", values, "# as planned")


def random_model(folder: Path, shape: Mapping[str, Any], without_weights: Path | None = None) -> Path:
    """A model of random weights in bfloat16, in `folder`; the folder.

    A Qwen2 of a `shape` with the demo's tokenizer, or what the folder `without_weights` has a config and tokenizer of.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, Qwen2Config

    torch.manual_seed(0)
    config = Qwen2Config(**shape, eos_token_id=2, bos_token_id=1, dtype="bfloat16")
    if without_weights:
        config = AutoConfig.from_pretrained(without_weights)
        config.dtype = "bfloat16"
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    given = without_weights or ensure_model()
    for path in [one for one in given.iterdir() if without_weights or one.name in COPIED]:
        if not (folder / path.name).exists() or path.name in COPIED:
            shutil.copyfile(path, folder / path.name)
    return folder


def matrix_rates(machine: Machine, size: int = 8192, repeat: int = 10) -> dict[str, float]:
    """TFLOP/s of a product of two square matrices of normal numbers by dtype; `size` is 512 on a CPU."""
    import torch

    device, size = (f"cuda:{machine.best}", size) if machine.gpu else ("cpu", 512)
    names = ("float32", "bfloat16", "float16") if machine.gpu else ("float32", "bfloat16")
    wait = (lambda: torch.cuda.synchronize(device)) if machine.gpu else lambda: None
    found = {}
    for name in names:
        one, other = (torch.randn(size, size, device=device, dtype=getattr(torch, name)) for _ in range(2))
        for times in (3, repeat):  # the first to warm up
            begin = time.perf_counter()
            for _ in range(times):
                one @ other
            wait()
            seconds = (time.perf_counter() - begin) / times
        found[name] = round(2 * size**3 / seconds / 1e12, 2)
    return found


def _multiplied_in(values: Mapping[str, Any]) -> str:
    return "bfloat16" if values.get("bf16") else "float16" if values.get("fp16") else "float32"


def report(found: dict[str, Any]) -> list[str]:
    """The figures as lines."""
    dtypes, tflops, missing = found["dtype"], found["tflops"], {"rows_a_second": float("nan")}

    def share(name: str, operations: int, tokens_a_second: float, planned: str) -> str:
        dtype = next((one for one in ("float32", "bfloat16", "float16") if one in name), planned)
        return f"{operations * found['parameters'] * tokens_a_second / (tflops[dtype] * 1e12):.2%} of {dtype}"

    lines = []
    for name, one in found["training"].items():
        rate, base = one["rows_a_second"], found["training"].get(DEFAULT, missing)["rows_a_second"]
        lines.append(
            [name, f"{1000 * one['seconds_a_step']:.0f}", f"{rate:.1f}", f"{one['tokens_a_second']:,.0f}",
             f"{rate / base:.1f}", share(name, TRAINING, one["tokens_a_second"], dtypes["training"]),
             f"{one['memory_gib']:.1f}"]
        )  # fmt: skip
    for name, rate in found["scoring"].items():
        read, base = rate * found["asked_tokens"], found["scoring"].get(DEFAULT_INFER, float("nan"))
        lines.append(
            [name, "", f"{rate:.1f}", f"{read:,.0f}", f"{rate / base:.1f}",
             share(name, SCORING, read, dtypes["scoring"]), ""]
        )  # fmt: skip
    rates = ", ".join(f"{name} {rate:g}" for name, rate in tflops.items())
    return [
        f"gpu: {found['rows']} rows of {found['tokens']} tokens, {found['asked']} asked, "
        f"{found['parameters'] / 1e6:.0f}M parameters, {found['machine']}; TFLOP/s of a product: {rates}",
        f"{PLANNED}: {found['plan']}; versions: {found['versions']}",
        "",
        *table(["way", "ms a step", "rows/s", "tokens/s", "x default", "share of the matrix rate", "GiB"], lines),
        *(f"not measured: {name}: {why}" for name, why in found["not_measured"].items()),
    ]
