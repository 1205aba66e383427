"""`swift sft` as the project runs it against its defaults and against other tools, on the same rows for as many epochs.

Run as: python -m bench training [--rows N] [--repeat N] [--csv FILE] [--model DIR] [--json FILE] [--picture FILE]
                                 [--alone]

Rates are rows a second by each trainer's own `train_runtime`: without start-up, with the last checkpoint. Each
repetition has a seed of its own, and what it leaves is judged on test rows that none was tuned on.
"""

import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from bench import peer_head, peer_llamafactory
from bench.cost import cost_of, users_environment
from bench.limits import Stolen, heading, measured_limits, medians, parameters, share
from bench.subject import Figures, chat_text, check_cpu, subject, trained_tokens
from demo.model import ensure_model
from plan.hardware import child_environment, this_machine
from plan.run import Run
from train.checkpoints import newest_whole
from workspace.errors import UserError
from workspace.files import read_jsonl
from workspace.markdown import table

EPOCHS = 1
OPERATIONS, RATES = 4, ("float32", "onednn", "bf16")  # a parameter and token
OURS, PLAIN = "this project", "this project, --bf16 false"
DEFAULT = "swift sft, defaults (1 x 16)"
BEST = "swift sft, its own flags at their best"  # the plan's keys without the project's plugins and environment
OF_PLUGINS = {"external_plugins", "callbacks", "eval_metric", "metric_for_best_model", "greater_is_better"}
HEAD, FACTORY = "HF Trainer, head, padded to 512", f"LLaMA-Factory {peer_llamafactory.VERSION}, 8 x 1"
JUDGED = (OURS, PLAIN, DEFAULT)
TESTED = 200  # test rows at most, evenly spread
Way = Callable[[Path, int], dict[str, Any]]


def run(
    rows: int = 240, repeat: int = 3, csv: Path | None = None, model: Path | None = None, alone: bool = False
) -> tuple[Figures, bool]:
    """The figures; a peer that cannot be had is named as not measured. There is no limit to keep.

    Raises `UserError` where a GPU would compute.
    """
    check_cpu()
    model = (model or ensure_model()).absolute()
    with tempfile.TemporaryDirectory(prefix="bench-training-") as scratch, Stolen() as stolen:
        folder = Path(scratch)
        options = ("--with", "learning-curve", "--num_train_epochs", str(EPOCHS), "--eval_strategy", "no")
        made = subject(csv, model, rows, folder / "run", *options)
        ways = {name: way for name, way in ways_to_train(made, model).items() if not alone or name in (*JUDGED, BEST)}
        done: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
        missing: dict[str, str] = {}
        limits = []
        for at in range(repeat):
            limits.append(measured_limits())
            for name, way in ways.items():
                if name in missing:
                    continue
                try:
                    done[name].append(way(folder / f"{len(done[name])}-{list(ways).index(name)}", 42 + at))
                except UserError as error:
                    missing[name] = str(error)
        tests = read_jsonl(made.dataset / "test.jsonl")
        tests = tests[:: -(-len(tests) // TESTED)]
        # Of every way, for a path cannot be written with the figures.
        adapters = {name: [one.pop("adapter", None) for one in every] for name, every in done.items()}
        judged = [] if alone else [name for name in JUDGED if name in done]
        accuracy = {name: [label_accuracy(model, one, tests) for one in adapters[name]] for name in judged}
        length = trained_tokens(made.dataset, model)
        count = len(read_jsonl(made.dataset / "train.jsonl"))
    found = {
        "bench": "training", "rows": count, "epochs": EPOCHS, "model": model.name, "parameters": parameters(model),
        "tokens": round(length, 1), "machine": this_machine().describe(), "limits": medians(limits), "runs": done,
        "rates": {
            name: [EPOCHS * count / one["train_runtime"] for one in every] for name, every in done.items() if every
        },
        "accuracy": accuracy, "tested": len(tests), "not_measured": missing, "stolen": round(stolen.share, 3),
        "versions": made.versions,
    }  # fmt: skip
    return found, True


def ways_to_train(made: Run, model: Path) -> dict[str, Way]:
    """Each way by name: called with a folder and a seed it trains and returns train_runtime (s), wall, peak_bytes."""
    values = made.sft_values()
    train = made.dataset / "train.jsonl"
    ours = child_environment(this_machine())

    def planned(changes: dict[str, Any], values: dict[str, Any] = values, environment: Mapping[str, str] = ours) -> Way:
        def way(out: Path, seed: int) -> dict[str, Any]:
            out.mkdir(parents=True)
            own = values | changes | {"output_dir": str(out / "train"), "seed": seed, "data_seed": seed}
            (out / "sft.yaml").write_text(yaml.safe_dump(own, allow_unicode=True), encoding="utf-8")
            return _swift(["swift", "sft", str(out / "sft.yaml")], out, environment)

        return way

    def default(out: Path, seed: int) -> dict[str, Any]:
        out.mkdir(parents=True)
        command = ["swift", "sft", "--model", str(model), "--model_type", values["model_type"], "--template"]
        command += [values["template"], "--dataset", str(train), "--num_train_epochs", str(EPOCHS), "--use_cpu"]
        command += ["true", "--torch_dtype", "float32", "--bf16", "false", "--fp16", "false", "--seed", str(seed)]
        command += ["--learning_rate", str(values["learning_rate"]), "--output_dir", str(out / "train")]
        return _swift([*command, "--add_version", "false"], out, users_environment(ours))

    own_flags = {key: value for key, value in values.items() if key not in OF_PLUGINS}
    best = planned({}, own_flags, users_environment(ours))
    ways: dict[str, Way] = {OURS: planned({}), PLAIN: planned({"bf16": False}), BEST: best, DEFAULT: default}
    ways[HEAD] = lambda out, seed: peer_head.train(model, train, out, EPOCHS, seed)
    ways[FACTORY] = lambda out, seed: peer_llamafactory.train(model, train, out, EPOCHS, seed)
    return ways if values.get("bf16") else {name: way for name, way in ways.items() if name != PLAIN}


def _swift(command: list[str], out: Path, env: Mapping[str, str]) -> dict[str, Any]:
    cost = cost_of(command, out / "log.txt", env)
    lines = read_jsonl(out / "train" / "logging.jsonl")
    seconds = next(float(line["train_runtime"]) for line in reversed(lines) if "train_runtime" in line)
    adapter = newest_whole(out / "train")
    if adapter is None:
        raise UserError(f"`swift sft` left no checkpoint: see {out / 'log.txt'}")
    return {"train_runtime": seconds, "wall": cost.seconds, "peak_bytes": cost.peak_bytes, "adapter": adapter}


def label_accuracy(model: Path, adapter: Path, rows: Sequence[dict[str, Any]]) -> float:
    """The share of rows whose most probable label word is right, by plain transformers with the adapter.

    Words are compared by the log probability of their tokens with the end token.
    """
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    plain = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    network = PeftModel.from_pretrained(plain, adapter).eval()
    words = sorted({row["messages"][-1]["content"] for row in rows})
    answers = [tokenizer.encode(f"{word}<|im_end|>", add_special_tokens=False) for word in words]
    right = 0
    for row in rows:
        ids = tokenizer.encode(chat_text(row["messages"][:-1]), add_special_tokens=False)
        scores = []
        for answer in answers:
            with torch.inference_mode():
                found = network(input_ids=torch.tensor([ids + answer]), logits_to_keep=len(answer) + 1)
            scores.append(found.logits[0, :-1].log_softmax(-1)[range(len(answer)), answer].sum().item())
        right += words[scores.index(max(scores))] == row["messages"][-1]["content"]
    return right / len(rows)


def report(found: dict[str, Any]) -> list[str]:
    """The figures as lines."""
    ours = statistics.median(found["rates"][OURS])
    lines = []
    for name, rates in found["rates"].items():
        rate = statistics.median(rates)
        of_limits = (f"{share(found, name, OPERATIONS, by):.0%}" for by in RATES)
        peak = max(one["peak_bytes"] for one in found["runs"][name]) / 2**30
        scores = " ".join(f"{one:.1%}" for one in found["accuracy"].get(name, [])) or "–"
        lines.append(
            [name, f"{rate:.2f}", f"{min(rates):.2f}–{max(rates):.2f}", f"{ours / rate:.1f}", *of_limits,
             f"{peak:.1f}", scores]
        )  # fmt: skip
    header = ["way", "rows/s", "lowest–highest", "we are x", "of 4NT, MKL", "oneDNN", "bf16", "peak GiB", "accuracy"]
    return [
        *heading(found),
        f"{found['epochs']} epoch; accuracy on {found['tested']} test rows, a seed each",
        "",
        *table(header, lines),
        *(f"not measured: {name}: {why}" for name, why in found["not_measured"].items()),
    ]
