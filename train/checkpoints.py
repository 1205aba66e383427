"""Checkpoints of a run: which are whole, which to go on from, which is the best."""

import re
import zipfile
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, FiniteFloat

from train.pickles import strange_name
from train.trainer_state import CHECKPOINT, STATE, TrainerState
from workspace.errors import UserError
from workspace.files import remove, sha256_file, sha256_json, write_json
from workspace.gate import check_checkpoint
from workspace.paths import shown
from workspace.records import parse, read, read_if_whole
from workspace.safetensors_header import is_whole

ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
# What decides an adapter's answers next to its weights, and the option of `swift sft` that it comes from.
SETTINGS = {"r": "lora_rank", "lora_alpha": "lora_alpha", "use_dora": "use_dora", "use_rslora": "use_rslora"}
FSDP_WEIGHTS = "pytorch_model_fsdp.bin"
BEST = "best.json"


@dataclass(frozen=True)
class Best:
    """The checkpoint that training chose, as in train/best.json.

    `path` is below the folder of checkpoints. `value` is what it reached in `metric`, None where none was measured.
    """

    step: int
    path: Annotated[str, Field(pattern=rf"^{CHECKPOINT.pattern}$")]
    value: FiniteFloat | None = None
    metric: str | None = None

    @classmethod
    def read(cls, train: Path) -> "Best":
        """The choice kept in the folder `train`. Raises `UserError` where there is none, or it cannot be read."""
        if not (path := train / BEST).is_file():
            run = shown(train.parent)
            raise UserError(f"{run} has no tuned model yet: run `python -m train.sft {run}` first")
        return read(path, cls, "remove it, and run the same command again")

    def write(self, train: Path) -> Path:
        """Keep the choice; the file."""
        write_json(train / BEST, asdict(self))
        return train / BEST


def checkpoints(train: Path) -> list[Path]:
    """The checkpoint folders below `train`, newest first, whole or not."""
    named = [path for path in train.glob("checkpoint-*") if CHECKPOINT.fullmatch(path.name)]
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
        except (ValueError, zipfile.BadZipFile):
            return f"{path.name} is torn"
        if name:
            return f"{path.name} names {name}, which is code and no part of a training state"
    try:
        state = TrainerState.read(checkpoint)
    except FileNotFoundError:
        return f"{STATE} is missing"
    except ValueError:
        return f"{STATE} is torn"
    if state.step != step_of(checkpoint):
        return f"{STATE} is of step {state.step}"
    if reason := weights_fault(checkpoint):
        return reason
    # The best so far may lie in an older one; trained again from before it, it comes out the same.
    best = state.best(checkpoint.parent)
    if best and best != checkpoint and (reason := weights_fault(best)):
        return f"the best so far, {best.name}, is damaged: {reason}"
    return None


def weights_fault(checkpoint: Path) -> str | None:
    """Why the tuned weights of this checkpoint cannot be used; None when they can."""
    if not checkpoint.is_dir():
        return "it is missing"
    weights = list(checkpoint.glob("*.safetensors"))
    if not weights and not (checkpoint / FSDP_WEIGHTS).is_file():
        return "the weights are missing"
    if torn := [path.name for path in weights if not is_whole(path)]:
        return f"{torn[0]} is torn"
    config = ADAPTER_CONFIG if (checkpoint / ADAPTER_WEIGHTS).is_file() else "config.json"
    found = []
    for name in (config, "args.json"):
        try:
            found.append(parse(dict[str, Any], (checkpoint / name).read_bytes()))
        except FileNotFoundError:
            return f"{name} is missing"
        except (ValueError, RecursionError):
            return f"{name} is torn"
    made, asked = found
    for name, option in SETTINGS.items() if made.get("peft_type") == asked.get("tuner_type", "").upper() else ():
        if asked.get(option) is not None and name in made and made[name] != asked[option]:
            return f"{config} was changed: {name} is {made[name]!r:.20}, and training asked for {asked[option]!r:.20}"
    try:
        check_checkpoint(checkpoint)
    except UserError as error:
        return f"it is not let in: {error}"
    return None


def _whole_archive(path: Path) -> bool:
    """Whether a file of torch.save is whole: a zip archive, whose directory is at its end, with right checksums."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError):  # also of kinds not known
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
    named = latest.read_bytes()[:100].decode("ascii", "replace").strip()
    folder = checkpoint / (named if re.fullmatch(r"[\w-]+", named) else "latest")
    shards = sorted(folder.glob("*_optim_states.pt"))
    missing = [folder / f"*_{rank}_optim_states.pt" for rank in range(len(shards), world)]
    return [*shards, *missing, *(sorted(folder.glob("*_model_states.pt")) or [folder / "*_model_states.pt"]), *files]


def _processes_of(checkpoint: Path) -> int:
    """How many processes wrote a checkpoint, by ms-swift's record in it; 1 where it has none."""
    arguments = read_if_whole(checkpoint / "args.json", _Arguments)
    return arguments.global_world_size if arguments else 1


class _Arguments(BaseModel):
    """What is needed of ms-swift's record of its arguments."""

    global_world_size: Annotated[int, Field(ge=1, le=100_000)] = 1


def newest_whole(train: Path) -> Path | None:
    """The newest checkpoint that training can go on from. Says in one line why a newer one is passed over."""
    for checkpoint in checkpoints(train):
        reason = fault(checkpoint)
        if reason is None:
            return checkpoint
        print(f"train: {checkpoint.name} is not whole ({reason}), taking the one before", flush=True)
    return None


def choose_best(train: Path, metric: str | None = None) -> Best:
    """The checkpoint with the best validation `metric`; a run without validation has its last one.

    ms-swift keeps the best in the newest trainer_state.json. Raises `UserError` when there is no whole checkpoint.
    """
    last = newest_whole(train)
    if last is None:
        raise UserError(f"{shown(train)} holds no whole checkpoint: run the same command again")
    state = TrainerState.read(last)
    named = state.best(train)
    best = named or last
    if reason := fault(best):
        raise UserError(f"the best checkpoint {shown(best)} is not whole ({reason}): run again with --fresh")
    return Best(step_of(best), best.name, state.best_metric if named else None, metric)


def validation_scores(train: Path) -> dict[str, float]:
    """What the best checkpoint reached on the validation rows, by metric: ms-swift's names without `eval_`."""
    step = Best.read(train).step
    for checkpoint in checkpoints(train):
        try:
            lines = TrainerState.read(checkpoint).log_history
        except (OSError, ValueError):
            continue
        found = next((line for line in lines if line.get("step") == step and "eval_loss" in line), {})
        scores = {key.removeprefix("eval_"): value for key, value in found.items() if key.startswith("eval_")}
        return {key: value for key, value in scores.items() if isinstance(value, int | float)}
    return {}


def keep_best_alone(train: Path) -> None:
    """Remove every checkpoint but the best of a training that is done.

    Of the last one trainer_state.json stays, in which the curves of the whole training are. Raises `UserError` where
    none was chosen.
    """
    best = Best.read(train).path
    for number, checkpoint in enumerate(checkpoints(train)):
        if checkpoint.name == best:
            continue
        for path in checkpoint.iterdir() if number == 0 else [checkpoint]:
            if path.name != STATE:
                remove(path)


def weight_files(checkpoint: Path) -> list[Path]:
    """The files of tuned weights in a checkpoint: an adapter's one, or those of a whole model. Empty without any."""
    adapter = checkpoint / ADAPTER_WEIGHTS
    return [adapter] if adapter.is_file() else sorted(checkpoint.glob("model*.safetensors"))


def weights_sha256(checkpoint: Path) -> str:
    """The hash of a checkpoint's tuned weights: of the file where it is one, of the files' hashes otherwise."""
    digests = [sha256_file(path) for path in weight_files(checkpoint)]
    return digests[0] if len(digests) == 1 else sha256_json(digests)


def settings_files(checkpoint: Path) -> list[Path]:
    """The files that say how the tuned weights are applied."""
    names = ("adapter_config.json",) if (checkpoint / ADAPTER_WEIGHTS).is_file() else ("config.json",)
    return [path for name in (*names, "args.json") if (path := checkpoint / name).is_file()]


def settings_sha256(checkpoint: Path) -> str:
    """The hash of how a checkpoint's tuned weights are applied: a changed `lora_alpha` gives another model."""
    return sha256_json([sha256_file(path) for path in settings_files(checkpoint)])


def model_options(checkpoint: Path) -> list[str]:
    """The options of `swift infer` that have it answer with the tuned weights."""
    return ["--adapters" if (checkpoint / ADAPTER_WEIGHTS).is_file() else "--model", str(checkpoint)]


def best_checkpoint(run: Path) -> Path:
    """The folder of the checkpoint that training chose. Raises `UserError` before training has finished."""
    folder = run / "train" / Best.read(run / "train").path
    if not weight_files(folder):
        raise UserError(f"{shown(folder)} has no tuned weights: run the same command again with --fresh")
    if reason := weights_fault(folder):
        raise UserError(f"{shown(folder)} cannot be used ({reason}): put it back, or run again with --fresh")
    return folder
