"""LLaMA-Factory with its defaults as a peer of the training bench, in a virtual environment of its own.

Set are the model, stage sft, do_train, finetuning_type lora, the dataset and its folder, template qwen, output_dir,
the epochs, learning_rate and seed, and 8 reviews a step without accumulation, so that as many steps are taken as by
`swift sft`. The GPU is hidden. All else is LLaMA-Factory's default.
"""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from bench.cost import cost_of, users_environment
from bench.peer_head import BATCH, LEARNING_RATE, read_rows
from workspace.errors import UserError
from workspace.files import read_json, write_json, write_jsonl, write_text
from workspace.paths import cache_folder, shown

VERSION = "0.9.5"
# The newest three that fit together: LLaMA-Factory imports torchaudio and torchvision whatever it trains.
PINS = (f"llamafactory=={VERSION}", "torch==2.11.0", "torchaudio==2.11.0", "torchvision==0.26.0")
DATASET = "bench_train"


def environment_folder() -> Path:
    """Where LLaMA-Factory's virtual environment is, or will be."""
    return cache_folder() / "bench" / f"llamafactory-{VERSION}"


def ready() -> bool:
    """Whether the virtual environment is there whole: the mark in it is written last."""
    return (environment_folder() / "ready").is_file()


def ensure_environment() -> Path:
    """The virtual environment's folder, made first where it is not there. Raises UserError when it cannot be."""
    folder = environment_folder()
    if ready():
        return folder
    print(f"bench: installing LLaMA-Factory {VERSION} into {shown(folder)} (minutes, once)", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, stdout=sys.stderr)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        installed = not subprocess.run([*pip, *PINS], stdout=sys.stderr).returncode
        starts = [str(folder / "bin" / "llamafactory-cli"), "version"]
        if installed and not subprocess.run(starts, capture_output=True).returncode:
            (folder / "ready").touch()
            return folder
    except (OSError, subprocess.CalledProcessError) as error:
        raise UserError(f"LLaMA-Factory {VERSION} has no environment in {shown(folder)} ({error})") from None
    problem = "does not start" if installed else "could not be installed"
    raise UserError(f"LLaMA-Factory {VERSION} {problem}: connect to a package index and run again")


def write_dataset(rows: Sequence[dict[str, Any]], folder: Path) -> None:
    """Write the rows' messages and the dataset_info.json that names them, in the OpenAI form of `sharegpt`."""
    write_jsonl(folder / f"{DATASET}.jsonl", ({"messages": row["messages"]} for row in rows))
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant",
            "system_tag": "system"}  # fmt: skip
    entry = {"file_name": f"{DATASET}.jsonl", "formatting": "sharegpt", "columns": {"messages": "messages"}}
    write_json(folder / "dataset_info.json", {DATASET: entry | {"tags": tags}})


def in_float32(model: Path, folder: Path) -> Path:
    """A folder with the model's files, as links, whose config.json says float32; returns it."""
    folder.mkdir()
    for path in model.absolute().iterdir():
        if path.name != "config.json":
            (folder / path.name).symlink_to(path)
    config = read_json(model / "config.json") | {"dtype": "float32"}
    config.pop("torch_dtype", None)
    write_json(folder / "config.json", config)
    return folder


def configuration(model: Path, out: Path, epochs: float, seed: int) -> dict[str, Any]:
    """What LLaMA-Factory is told."""
    return {
        "model_name_or_path": str(model.absolute()), "stage": "sft", "do_train": True, "finetuning_type": "lora",
        "dataset": DATASET, "dataset_dir": str(out.absolute()), "template": "qwen",
        "output_dir": str(out.absolute() / "trained"), "num_train_epochs": epochs, "learning_rate": LEARNING_RATE,
        "seed": seed, "per_device_train_batch_size": BATCH, "gradient_accumulation_steps": 1,
    }  # fmt: skip


def train(model: Path, train: Path, out: Path, epochs: float, seed: int) -> dict[str, Any]:
    """Train in a process of its own: rows, epochs, train_runtime (s), train_loss, wall (s), peak_bytes.

    Raises UserError when LLaMA-Factory cannot be installed or fails.
    """
    folder = ensure_environment()
    rows = read_rows(train)
    out.mkdir(parents=True)  # LLaMA-Factory would go on from a checkpoint in it
    model = in_float32(model, out / "model")
    write_dataset(rows, out)
    write_text(out / "train.yaml", yaml.safe_dump(configuration(model, out, epochs, seed), sort_keys=False))
    env = users_environment() | {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    command = [str(folder / "bin" / "llamafactory-cli"), "train", str(out.absolute() / "train.yaml")]
    cost = cost_of(command, out / "log.txt", env)
    found = read_json(out / "trained" / "all_results.json")
    result = {"rows": len(rows), "epochs": epochs} | {key: found[key] for key in ("train_runtime", "train_loss")}
    write_json(out / "result.json", result)
    return {**result, "wall": cost.seconds, "peak_bytes": cost.peak_bytes}
