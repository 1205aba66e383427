"""A finished run with everything that any stage leaves, made in seconds with a stand-in for ms-swift and no real model.

Its commands can be run again in this process, over files that were corrupted: see `commands` and `outcome`.
"""

import contextlib
import functools
import importlib
import io
import os
import pickle
import shutil
import traceback
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
import yaml
from safetensors.numpy import save_file

from data_prep.rows import read_rows
from eval.baselines import fit_linear
from eval.scoring.metrics import classify
from plugins.score_lines import chat_sha256
from tests.journals import answer_all_right
from tests.prep_tables import reviews, write_csv, write_model, write_task
from workspace.errors import REASONS, UserError, fault_sentence
from workspace.files import write_json, write_jsonl

STEPS = (4, 8)
ROWS = 120


class Finished(NamedTuple):
    """Where everything is: `root` holds it all."""

    root: Path

    @property
    def run(self) -> Path:
        return self.root / "runs" / "run"

    @property
    def words(self) -> list[str]:
        """The command line of its plan, but for the folder."""
        task, csv, model = (str(self.root / name) for name in ("small", "table.csv", "model"))
        return [task, "--csv", csv, "--model", model, "--num_train_epochs", "2", "--per_device_train_batch_size", "4"]

    def commands(self) -> dict[str, tuple[str, list[str]]]:
        """Every command that reads a run or a dataset: a name, its module and its words."""
        run, again, other = (str(self.root / "runs" / name) for name in ("run", "run-again", "other"))
        task, csv = str(self.root / "small"), str(self.root / "table.csv")
        # Made by the plan; the record of who looked at its test rows lies beside it.
        data = next((str(one) for one in (self.root / "data").glob("small*") if one.is_dir()), "")
        sweep = ["--vary", "none", "lora_rank=4", "--seeds", "42", "--run", str(self.root / "runs" / "sweep")]
        return {
            "plan": ("plan.__main__", [*self.words, "--run", run]),
            "baselines": ("eval.baselines", [run]),
            "before": ("eval.infer", [run, "before"]),
            "train": ("train.sft", [run]),
            # Their records removed: what was answered and trained so far is read.
            "before, gone on with": ("eval.infer", [run, "before"]),
            "train, gone on with": ("train.sft", [run]),
            "after": ("eval.infer", [run, "after"]),
            "injection": ("eval.injection", [run, "--rows", "2"]),
            "audit": ("eval.label_audit", [data, "--run", run, "--split", "test"]),
            "report": ("eval.report", [run]),
            "compare": ("eval.report", [run, other]),
            "again": ("train.rerun", [run]),
            "same": ("train.rerun", ["--compare", again]),
            "sweep": ("train.sweep", [*self.words, *sweep]),
            "build": (
                "data_prep.build",
                [task, "--csv", csv, "--out", data, "--model", str(self.root / "model"), "--template", "qwen"],
            ),
            "doctor": ("doctor.__main__", [*self.words, "--run", run, "--no-forward"]),
        }


def finished(root: Path) -> Finished:
    """Make the run, its dataset, its repetition and a sweep below `root`."""
    made = Finished(root)
    write_csv(root / "table.csv", reviews(ROWS))
    (root / "small").mkdir()
    near = {"threshold": 1.0}
    write_task(root / "small", csv=str(root / "table.csv"), default_recipe="minimind2-small", near_duplicates=near)
    write_model(root / "model")
    config = {"model_type": "qwen2", "hidden_size": 8, "num_hidden_layers": 1, "intermediate_size": 16,
              "num_attention_heads": 1, "architectures": ["Qwen2ForCausalLM"]}  # fmt: skip
    write_json(root / "model" / "config.json", config)
    save_file({"a.weight": np.ones((8, 8), np.float32)}, root / "model" / "model.safetensors")
    for name in made.commands():
        if name == "compare":
            shutil.copytree(made.run, root / "runs" / "other", ignore=shutil.ignore_patterns("lock"))
        said = outcome(made, name)
        assert said.status == 0, f"{name}: {said.text}"
        if name == "again":  # a repetition is tuned, too
            with standing_in(made):
                importlib.import_module("train.sft").main([str(root / "runs" / "run-again")])
    return made


class Outcome(NamedTuple):
    """How a command ended: 0, 2 (bad input), 1 (the machine) or -1 (a traceback), and what it said of it."""

    status: int
    text: str


def outcome(made: Finished, name: str) -> Outcome:
    """Run a command in this process, as `run_main` does."""
    module, words = made.commands()[name]
    stage, _, gone_on = name.partition(", ")
    if gone_on:
        (made.run / "stages" / f"{stage}.json").unlink(missing_ok=True)
    said = io.StringIO()
    with standing_in(made), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            importlib.import_module(module).main(words)
        except UserError as error:
            return Outcome(error.status, str(error))
        except SystemExit as end:
            return Outcome(int(end.code or 0), said.getvalue())
        except OSError as error:
            if error.errno not in REASONS:
                return Outcome(-1, traceback.format_exc())
            return Outcome(1, fault_sentence(error))
        except Exception:
            return Outcome(-1, traceback.format_exc())
    return Outcome(0, said.getvalue())


@contextlib.contextmanager
def standing_in(made: Finished) -> Iterator[None]:
    """What takes long, or is no part of reading records, replaced: ms-swift, pictures, the CPU's measurement."""
    with contextlib.ExitStack() as stack:
        for name in ("train.sft", "train.estimate", "eval.label_audit", "eval.injection", "plan.planning"):
            importlib.import_module(name)
        at = stack.enter_context
        at(patch("train.sft.run_child", _swift_sft))
        at(patch("train.sft.warn_if_long", lambda *words: None))
        at(patch("eval.inference.collect.run_processes", lambda job, prompts, batch: answer_all_right(job, prompts)))
        at(patch("plan.planning.cpu_precision", lambda machine: None))
        at(patch("plan.dataset_place.DATASETS", made.root / "data"))
        at(patch("plan.planning.check_space", lambda *words: None))
        at(patch("plan.planning.write_packages", lambda path: write_json(path, {})))
        at(patch("eval.reporting.pictures.draw_pictures", lambda *words: {}))
        at(patch("eval.evaluate.slice_metrics", lambda *words: []))
        at(patch("eval.evaluate.classify", _classified))
        at(patch("eval.injection.write_report", lambda run: run / "report.html"))  # "report" reads what it reads
        at(patch("eval.injection.fit_linear", _fitted))
        at(patch.dict(os.environ, {"RUN_SFT_LOCK": ""}))
        yield


_classified, _fitted = functools.cache(classify), functools.cache(fit_linear)  # the same for the same answers


def _swift_sft(command: list[str], log: Path, *words: object) -> None:
    """What `swift sft` leaves, given the resolved YAML."""
    values = yaml.safe_load(Path(command[2]).read_text(encoding="utf-8"))
    train, dataset = Path(values["output_dir"]), Path(values["dataset"][0]).parent
    log.write_text("$ swift sft\n", encoding="utf-8")
    scores = {"eval_loss": 0.3, "eval_label_accuracy": 0.9, "eval_label_macro_f1": 0.88, "eval_token_acc": 0.95}
    history: list[dict[str, object]] = []
    for step in STEPS:
        folder = train / f"checkpoint-{step}"
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"a": np.ones((3, 4), np.float32)}, folder / "adapter_model.safetensors")
        for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
            with zipfile.ZipFile(folder / name, "w") as archive:
                archive.writestr("archive/data.pkl", pickle.dumps({"state": [1, 2]}, protocol=2))
        write_json(folder / "adapter_config.json", {"peft_type": "LORA", "r": 8, "lora_alpha": 16})
        write_json(folder / "args.json", {"global_world_size": 1, "model_type": "qwen2"})
        history += [{"step": step, "epoch": step / 4, "loss": 0.5}, {"step": step, "epoch": step / 4, **scores}]
        state = {"global_step": step, "max_steps": STEPS[-1], "log_history": history, "best_metric": 0.88}
        best = str(train / f"checkpoint-{STEPS[0]}")
        write_json(folder / "trainer_state.json", state | {"best_model_checkpoint": best})
    write_jsonl(
        train / "logging.jsonl",
        ({"loss": 0.5, "global_step/max_steps": f"{step}/{STEPS[-1]}", "train_speed(s/it)": 1.0} for step in STEPS),
    )
    hashes = [_tokens_of(row.messages[:-1]) for row in read_rows(dataset / "val.jsonl")]
    rows = {f"{name}_rows": len(read_rows(dataset / f"{name}.jsonl")) for name in ("train", "val")}
    write_json(train / "label_metric.json", rows | {"val_prompt_sha256": hashes})


def _tokens_of(messages: list[dict[str, str]]) -> str:
    return f"tokens of {chat_sha256(messages)}"
