"""Training and label scores on a GPU, as the project runs them, at a larger batch, and by ms-swift's defaults.

Run as: python -m bench gpu [--rows N] [--csv FILE] [--model DIR] [--json FILE]

The model has the shape of Qwen1.5-0.5B with random weights (on a CPU: a tiny one), the demo's tokenizer and reviews:
nothing is fetched once the demo's model is there. Rates are rows a second between two lines of ms-swift's training log,
so without start-up and warm-up, and its own count of answers; shares are of the rate of a large matrix product.
"""

import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from bench.cost import cost_of
from bench.inference import by_default, by_us
from bench.limits import parameters
from bench.subject import Figures, subject, tokens
from demo.model import COPIED, ensure_model
from eval.inference.prompts import make_prompts
from plan.hardware import Machine, child_environment, one_gpu, this_machine
from plan.run import Run
from train.estimate import LossLine
from workspace.errors import UserError
from workspace.files import read_jsonl
from workspace.markdown import table
from workspace.records import whole_lines

# Qwen1.5-0.5B's config.json, and one for the test of this bench.
SHAPE = {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 24, "num_attention_heads": 16,
         "num_key_value_heads": 16, "vocab_size": 151936, "tie_word_embeddings": True}  # fmt: skip
TINY = {**SHAPE, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 2, "vocab_size": 6400}  # fmt: skip
TRAINING, SCORING = 4, 2  # operations a parameter and token: see bench/limits.py
BATCH = {"per_device_train_batch_size": 64, "gradient_accumulation_steps": 1}
LIGER = {"use_liger_kernel": True}
OURS, LARGE, LARGE_LIGER, DEFAULT = "as planned", "batch 64", "batch 64, liger kernels", "swift sft, defaults (1 x 16)"
SCORES, DEFAULT_INFER = "label scores, as planned", "swift infer, defaults"
LOGGED = 5  # steps between two lines of the log
STEPS = {OURS: 40, LARGE: 20, LARGE_LIGER: 20, DEFAULT: 10}
DEFAULT_ROWS = 16  # that `swift infer` answers one by one


def run(rows: int = 1600, csv: Path | None = None, model: Path | None = None) -> tuple[Figures, bool]:
    """The figures; a way that fails is named as not measured. There is no limit to keep."""
    machine = this_machine()
    with tempfile.TemporaryDirectory(prefix="bench-gpu-") as scratch:
        folder = Path(scratch)
        model = (model or random_model(folder / "shape", SHAPE if machine.gpu else TINY)).absolute()
        made = subject(csv, model, rows, folder / "run", "--eval_strategy", "no")
        found: dict[str, dict[str, float]] = {}
        missing: dict[str, str] = {}
        steps = STEPS if machine.gpu else dict.fromkeys(STEPS, 2 * LOGGED)
        for name, command in _commands(made, model, folder, steps, machine).items():
            try:
                out = folder / name
                cost_of(command, out / "log.txt", child_environment(machine) | one_gpu(machine))
                found[name] = _training_rate(out, steps[name], 16 if name == DEFAULT else _batch(out))
            except UserError as error:
                missing[name] = f"{error}: {_last_line(folder / name / 'log.txt')}"
        asked = [one for one in make_prompts(made.dataset, False, 42) if one.purpose == "test"]
        scored = {SCORES: by_us(made, "score", asked)[0]}
        scored[DEFAULT_INFER] = by_default(made, model, asked[:DEFAULT_ROWS], folder / "default-infer")[0]
        length, asked_length = (tokens(made.dataset, model, split) for split in ("train", "test"))
        values, infer = made.sft_values(), made.infer_values()
        size = parameters(model)
    return {
        "bench": "gpu", "rows": rows, "asked": len(asked), "parameters": size, "tokens": round(length, 1),
        "asked_tokens": round(asked_length, 1), "machine": machine.describe(), "tflops": matrix_rates(machine),
        "training": found, "scoring": scored, "dtype": {"training": _multiplied_in(values), "scoring":
        str(infer["torch_dtype"])}, "not_measured": missing, "versions": made.versions,
        "plan": {key: values.get(key) for key in ("per_device_train_batch_size", "padding_side", "attn_impl")},
    }, True  # fmt: skip


def random_model(folder: Path, shape: Mapping[str, Any]) -> Path:
    """A Qwen2 model of a shape with random weights in bfloat16, in `folder`, with the demo's tokenizer; the folder."""
    import torch
    from transformers import AutoModelForCausalLM, Qwen2Config

    torch.manual_seed(0)
    config = Qwen2Config(**shape, eos_token_id=2, bos_token_id=1, dtype="bfloat16")
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    for name in COPIED:
        shutil.copyfile(ensure_model() / name, folder / name)
    return folder


def matrix_rates(machine: Machine, size: int = 8192, repeat: int = 10) -> dict[str, float]:
    """TFLOP/s of a product of two square matrices of normal numbers by dtype; `size` is 512 on a CPU."""
    import torch

    device, size = ("cuda", size) if machine.gpu else ("cpu", 512)
    names = ("float32", "bfloat16", "float16") if machine.gpu else ("float32", "bfloat16")
    wait = torch.cuda.synchronize if machine.gpu else lambda: None
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


def _commands(made: Run, model: Path, folder: Path, steps: Mapping[str, int], machine: Machine) -> dict[str, list[str]]:
    """The command of each way to train, whose folder is made."""
    values = made.sft_values()
    commands = {}
    for name, changes in ((OURS, {}), (LARGE, BATCH), (LARGE_LIGER, BATCH | LIGER)):
        out = folder / name
        out.mkdir()
        own = {**values, **changes, "output_dir": str(out / "train"), "max_steps": steps[name], "save_strategy": "no"}
        own |= {"logging_steps": LOGGED, "load_best_model_at_end": False, "report_to": "none"}
        (out / "sft.yaml").write_text(yaml.safe_dump(own, allow_unicode=True), encoding="utf-8")
        commands[name] = ["swift", "sft", str(out / "sft.yaml")]
    (folder / DEFAULT).mkdir()
    default = ["swift", "sft", "--model", str(model), "--model_type", values["model_type"], "--template"]
    default += [values["template"], "--dataset", str(made.dataset / "train.jsonl"), "--max_steps", str(steps[DEFAULT])]
    default += ["--output_dir", str(folder / DEFAULT / "train"), "--add_version", "false", "--save_strategy", "no"]
    default += ["--report_to", "none"]
    default += [] if machine.gpu else ["--use_cpu", "true", "--torch_dtype", "float32"]
    return commands | {DEFAULT: default}


def _training_rate(out: Path, steps: int, batch: int) -> dict[str, float]:
    """{"rows_a_second", "memory_gib"} between the first and the last line of the log that count whole intervals."""
    lines = [line for line in whole_lines(out / "train" / "logging.jsonl", LossLine) if line.step % LOGGED == 0]
    at = {line.step: line.step * line.seconds_a_step for line in lines}
    if not {LOGGED, steps} <= at.keys():
        raise UserError(f"its log names the steps {sorted(at)}")
    memory = [float(line.get("memory(GiB)", 0)) for line in read_jsonl(out / "train" / "logging.jsonl")]
    seconds = max(at[steps] - at[LOGGED], 1e-9)
    return {"rows_a_second": batch * (steps - LOGGED) / seconds, "memory_gib": max(memory)}


def _batch(out: Path) -> int:
    values = yaml.safe_load((out / "sft.yaml").read_text(encoding="utf-8"))
    return int(values["per_device_train_batch_size"]) * int(values["gradient_accumulation_steps"])


def _multiplied_in(values: Mapping[str, Any]) -> str:
    return "bfloat16" if values.get("bf16") else "float16" if values.get("fp16") else "float32"


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    return next((line for line in reversed(lines) if line.strip()), "no output")[:300]


def report(found: dict[str, Any]) -> list[str]:
    """The figures as lines."""

    def line(name: str, rate: float, base: float, length: float, operations: int, dtype: str, memory: str) -> list[str]:
        share = operations * found["parameters"] * length * rate / (found["tflops"][dtype] * 1e12)
        return [name, f"{rate:.1f}", f"{rate * length:,.0f}", f"{rate / base:.1f}", f"{share:.1%} of {dtype}", memory]

    trained, scored, dtype = found["training"], found["scoring"], found["dtype"]
    base = trained.get(DEFAULT, {"rows_a_second": float("nan")})["rows_a_second"]
    lines = [
        line(name, one["rows_a_second"], base, found["tokens"], TRAINING, dtype["training"], f"{one['memory_gib']:.1f}")
        for name, one in trained.items()
    ]
    lines += [
        line(name, rate, scored[DEFAULT_INFER], found["asked_tokens"], SCORING, dtype["scoring"], "")
        for name, rate in scored.items()
    ]
    rates = ", ".join(f"{name} {rate:g}" for name, rate in found["tflops"].items())
    return [
        f"gpu: {found['rows']} rows of {found['tokens']} tokens, {found['parameters'] / 1e6:.0f}M parameters, "
        f"{found['machine']}; TFLOP/s of a product: {rates}",
        f"plan: {found['plan']}",
        "",
        *table(["way", "rows/s", "tokens/s", "x default", "share of the matrix rate", "GiB"], lines),
        *(f"not measured: {name}: {why}" for name, why in found["not_measured"].items()),
    ]  # fmt: skip
