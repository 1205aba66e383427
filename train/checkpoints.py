"""Checkpoints of a run: which are whole, which to go on from, which is the best."""

import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from train.pickles import strange_name
from workspace.errors import UserError
from workspace.files import read_json, sha256_file, sha256_json
from workspace.paths import shown

ADAPTER_WEIGHTS = "adapter_model.safetensors"
FSDP_WEIGHTS = "pytorch_model_fsdp.bin"


def checkpoints(train: Path) -> list[Path]:
    """The checkpoint folders below `train`, newest first, whole or not."""
    named = [path for path in train.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    return sorted((path for path in named if path.is_dir()), key=step_of, reverse=True)


def step_of(checkpoint: Path) -> int:
    """The optimiser step in a checkpoint folder's name."""
    return int(checkpoint.name.rsplit("-", 1)[1])


def fault(checkpoint: Path) -> str | None:
    """Why training cannot go on from this checkpoint; None when it can."""
    for path in [*state_files(checkpoint), *checkpoint.glob("scaler.pt")]:
        if not path.is_file() or not _whole_archive(path):
            return f"{path.name} is missing or torn"
        try:
            name = strange_name(path)
        except ValueError:
            return f"{path.name} is torn"
        if name:
            return f"{path.name} names {name}, which is code and no part of a training state"
    try:
        state = read_json(checkpoint / "trainer_state.json")
        step, best = state["global_step"], state.get("best_model_checkpoint")
    except FileNotFoundError:
        return "trainer_state.json is missing"
    except (ValueError, KeyError, TypeError, AttributeError):
        return "trainer_state.json is torn"
    if step != step_of(checkpoint):
        return f"trainer_state.json is of step {step}"
    if reason := weights_fault(checkpoint):
        return reason
    # The best so far may lie in an older one; trained again from before it, it comes out the same.
    if best and (older := checkpoint.with_name(Path(best).name)) != checkpoint and (reason := weights_fault(older)):
        return f"the best so far, {older.name}, is damaged: {reason}"
    return None


def weights_fault(checkpoint: Path) -> str | None:
    """Why the tuned weights of this checkpoint cannot be used; None when they can."""
    if not checkpoint.is_dir():
        return "it is missing"
    weights = list(checkpoint.glob("*.safetensors"))
    if not weights and not (checkpoint / FSDP_WEIGHTS).is_file():
        return "the weights are missing"
    if torn := [path.name for path in weights if not whole_safetensors(path)]:
        return f"{torn[0]} is torn"
    config = "adapter_config.json" if (checkpoint / ADAPTER_WEIGHTS).is_file() else "config.json"
    for name in (config, "args.json"):
        try:
            read_json(checkpoint / name)
        except FileNotFoundError:
            return f"{name} is missing"
        except ValueError:
            return f"{name} is torn"
    return None


def _whole_archive(path: Path) -> bool:
    """Whether a file of torch.save is whole: a zip archive, whose directory stands at the end, with right checksums."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, OSError, EOFError, ValueError):
        return False


def state_files(checkpoint: Path) -> list[Path]:
    """The files of training's state that a checkpoint must have, there or not.

    Without any of them ms-swift goes on in silence, with another result than the uninterrupted run. Each process has a
    random state of its own; DeepSpeed keeps the optimiser's in a folder named by `latest`, a file a process; FSDP2 has
    weights and optimiser in files of its own.
    """
    world = _processes_of(checkpoint)
    names = [f"rng_state_{rank}.pth" for rank in range(world)] if world > 1 else ["rng_state.pth"]
    files = [checkpoint / name for name in ("scheduler.pt", *names)]
    if (weights := checkpoint / FSDP_WEIGHTS).is_file():
        return [weights, checkpoint / "optimizer.bin", *files]
    if not (latest := checkpoint / "latest").is_file():
        return [checkpoint / "optimizer.pt", *files]
    folder = checkpoint / latest.read_text(encoding="utf-8", errors="replace").strip()
    shards = sorted(folder.glob("*_optim_states.pt"))
    missing = [folder / f"*_{rank}_optim_states.pt" for rank in range(len(shards), world)]
    return [*shards, *missing, *(sorted(folder.glob("*_model_states.pt")) or [folder / "*_model_states.pt"]), *files]


def _processes_of(checkpoint: Path) -> int:
    """How many processes wrote a checkpoint, by ms-swift's record in it; 1 where it has none."""
    try:
        return int(read_json(checkpoint / "args.json")["global_world_size"])
    except (OSError, ValueError, KeyError, TypeError):
        return 1


def whole_safetensors(path: Path) -> bool:
    """Whether a safetensors file's header parses and the file is as long as its header says."""
    size = path.stat().st_size
    with open(path, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length == 0 or length > size - 8:
            return False
        try:
            header = json.loads(stream.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, KeyError, TypeError, AttributeError):
            return False
    return size == 8 + length + max(ends, default=0)


def newest_whole(train: Path) -> Path | None:
    """The newest checkpoint that training can go on from. Says in one line why a newer one is passed over."""
    for checkpoint in checkpoints(train):
        reason = fault(checkpoint)
        if reason is None:
            return checkpoint
        print(f"train: {checkpoint.name} is not whole ({reason}), taking the one before", flush=True)
    return None


def is_finished(checkpoint: Path, values: Mapping[str, Any]) -> bool:
    """Whether training ended at this checkpoint: at its last step, or early. `values` are those of sft.yaml."""
    state = read_json(checkpoint / "trainer_state.json")
    return state["global_step"] >= state["max_steps"] or stopped_early(state["log_history"], values)


def stopped_early(log_history: Sequence[Mapping[str, Any]], values: Mapping[str, Any]) -> bool:
    """Whether the last `early_stop_interval` validations brought no better metric: ms-swift's callback then stops.

    Going on from such a checkpoint would train on, because the callback begins to count anew.
    """
    patience, metric = int(values.get("early_stop_interval") or 0), values.get("metric_for_best_model")
    scores = [line[f"eval_{metric}"] for line in log_history if f"eval_{metric}" in line]
    if not patience or not scores:
        return False
    sign = -1 if str(values.get("greater_is_better", True)).lower() == "false" else 1
    best = max(range(len(scores)), key=lambda at: (sign * scores[at], -at))  # the first of equal ones
    return len(scores) - 1 - best >= patience


def choose_best(train: Path) -> dict[str, Any]:
    """The checkpoint with the best validation metric: {"step", "path" (below `train`), "metric", "value"}.

    ms-swift keeps the best in the newest trainer_state.json; a run without evaluation has its last checkpoint.
    Raises `UserError` when there is no whole checkpoint.
    """
    last = newest_whole(train)
    if last is None:
        raise UserError(f"{shown(train)} holds no whole checkpoint: run the same command again")
    state = read_json(last / "trainer_state.json")
    named = state.get("best_model_checkpoint")
    best = train / Path(named).name if named else last
    if fault(best) is not None:
        raise UserError(f"the best checkpoint {shown(best)} is not whole ({fault(best)}): run again with --fresh")
    return {"step": step_of(best), "path": best.name, "value": state.get("best_metric") if named else None}


def validation_scores(train: Path) -> dict[str, float]:
    """What the best checkpoint reached on the validation rows, by metric: ms-swift's names without `eval_`."""
    best, last = read_json(train / "best.json")["step"], newest_whole(train)
    lines = read_json(last / "trainer_state.json")["log_history"] if last else []
    found = next((line for line in lines if line.get("step") == best and "eval_loss" in line), {})
    return {key.removeprefix("eval_"): value for key, value in found.items() if key.startswith("eval_")}


def weight_files(checkpoint: Path) -> list[Path]:
    """The files of tuned weights in a checkpoint: an adapter's one, or those of a whole model. Empty without any."""
    adapter = checkpoint / ADAPTER_WEIGHTS
    return [adapter] if adapter.is_file() else sorted(checkpoint.glob("model*.safetensors"))


def weights_sha256(checkpoint: Path) -> str:
    """The hash of a checkpoint's tuned weights: of the file where it is one, of the files' hashes otherwise."""
    digests = [sha256_file(path) for path in weight_files(checkpoint)]
    return digests[0] if len(digests) == 1 else sha256_json(digests)


def model_options(checkpoint: Path) -> list[str]:
    """The options of `swift infer` that have it answer with the tuned weights."""
    return ["--adapters" if (checkpoint / ADAPTER_WEIGHTS).is_file() else "--model", str(checkpoint)]


def best_checkpoint(run: Path) -> Path:
    """The folder of the checkpoint that training chose. Raises `UserError` before training has finished."""
    record = run / "train" / "best.json"
    if not record.is_file():
        raise UserError(f"{shown(run)} has no tuned model yet: run `python -m train.sft {shown(run)}` first")
    folder = record.parent / read_json(record)["path"]
    if not weight_files(folder):
        raise UserError(f"{shown(folder)} has no tuned weights: run the same command again with --fresh")
    return folder
