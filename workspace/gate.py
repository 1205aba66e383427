"""The gate for strangers' files: what of a model, checkpoint, run, dataset or recipe is let in; all else is refused.

transformers, peft and ms-swift run what such files ask for: a model's own classes (`trust_remote_code`), plugins named
in a YAML or in a checkpoint's args.json, kernels from a hub, pickles (looked into by train/pickles.py). So every
command comes through here before it reads, loads, writes or removes.
"""

import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from workspace.errors import UserError
from workspace.paths import ROOT, printable, shown

PLUGINS = ROOT / "plugins"  # the only code that a file may name
# Of a model's folder: what is read of it, none of which holds code, and what nothing here ever reads.
READ = {".json", ".safetensors", ".model", ".txt", ".jinja", ".tiktoken"}
UNREAD = {
    "", ".md", ".html", ".pdf", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp", ".csv", ".jsonl", ".yaml", ".yml",
}  # fmt: skip
# The same weights for other programs, which may be pickles: left alone beside safetensors that transformers takes.
COPIES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack", ".ot", ".onnx", ".onnx_data", ".gguf"}
TAKEN = ("model.safetensors", "model.safetensors.index.json")
# What else a checkpoint holds, and the folders of DeepSpeed's states; pickles of states are looked into on their own.
STATES = re.compile(
    r"(global_step\d+/[\w.-]+\.pt|optimizer\.(pt|bin)|scheduler\.pt|scaler\.pt|rng_state(_\d+)?\.pth|training_args\.bin"
    r"|pytorch_model_fsdp\.bin|zero_to_fp32\.py)"
)
TUNERS = ("ADALORA", "LONGLORA", "LORA")
PATTERNS = {"alpha_pattern", "rank_pattern"}  # the mappings of adapter_config.json, from a layer's name to numbers
WORD = re.compile(r"[\w|.-]*")  # a kernel by name; one with a slash is compiled code from a hub
KERNELS = ("attn_impl", "experts_impl", "attn_implementation", "experts_implementation", "implementation_internal")
SETTINGS_BYTES = 50_000_000
NUMBER = re.compile(r"[+-]?[\d._]+(e[+-]?\d+)?|[+-]?(nan|inf)|true|false|yes|no|t|f|y|n", re.IGNORECASE)
# Options of ms-swift that may have a text, a list or a mapping; all others are numbers, or yes and no.
OPTIONS = """
    accelerator_config acc_strategy agent_template attn_impl bnb_4bit_compute_dtype bnb_4bit_quant_storage
    bnb_4bit_quant_type callbacks columns dataloader_multiprocessing_context dataset ddp_backend deepspeed
    device_map eval_metric eval_strategy experts_impl external_plugins freeze_parameters freeze_parameters_regex fsdp
    fsdp_config galore_proj_type galore_target_modules gradient_checkpointing_kwargs infer_backend init_strategy
    init_weights label_names length_column_name liger_kernel_config log_level log_level_replica logging_dir
    logging_strategy lora_bias lora_dtype lora_ga_direction lora_ga_scale loss_scale loss_type lr_scheduler_kwargs
    lr_scheduler_type max_memory max_shard_size metric metric_for_best_model model model_author model_name
    model_revision model_type modules_to_save mrl_dims new_special_tokens norm_bbox optim optim_args
    optim_target_modules optimizer output_dir packing_strategy padding_side problem_type project quant_bits
    quant_method report_to response_prefix rope_scaling run_name save_strategy stop_words stopping_strategy
    structured_outputs_regex swanlab_exp_name swanlab_mode swanlab_project swanlab_workspace system target_modules
    target_parameters target_regex task_type template template_backend torch_dtype train_sampling_strategy
    trainable_parameters trainable_parameters_regex truncation_strategy tuner_backend tuner_type val_dataset
    vllm_limit_mm_per_prompt vllm_quantization adapters
"""
TEXTS = set(OPTIONS.split())
# Environment variables that a YAML may set: processes, devices, threads, and where they talk; none that names code.
VARIABLES = {
    "NPROC_PER_NODE", "NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "CUDA_VISIBLE_DEVICES",
    "ASCEND_RT_VISIBLE_DEVICES", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF", "NCCL_DEBUG", "NCCL_SOCKET_IFNAME",
    "NCCL_P2P_DISABLE", "NCCL_IB_DISABLE", "GLOO_SOCKET_IFNAME", "OMP_NUM_THREADS", "MKL_NUM_THREADS",
    "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "TOKENIZERS_PARALLELISM", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_",
}  # fmt: skip


def check_model(folder: Path) -> None:
    """Raise `UserError` when the model in `folder` asks for code, holds what is not on the list, or pickles alone."""
    _check_settings(folder)  # what it asks for says more than which files it has
    copies = any((folder / name).is_file() for name in TAKEN)
    if (code := folder / "custom_generate").exists():
        raise UserError(f"{shown(code)} is the model's own code, which is never run here: remove it, or take another")
    for path in _files(folder, f"the model {shown(folder)}", linked=True):
        if path.suffix.lower() in COPIES and not copies:
            what = f"{shown(folder)} has its weights as pickle ({path.name}), which can run code when it is loaded"
            raise UserError(f"{what}: take the model's *.safetensors")
        own = STATES.fullmatch(path.relative_to(folder).as_posix())  # a checkpoint is a model too
        if not own and path.suffix.lower() not in READ | UNREAD | COPIES:
            raise UserError(
                f"{shown(path)} is none of a model's files, and may be code: remove it, or take another model"
            )
    if (config := folder / "adapter_config.json").exists():
        raise UserError(f"{shown(config)} would have another model loaded in this one's place: remove it")


def check_checkpoint(folder: Path) -> None:
    """Raise `UserError` when an adapter or a checkpoint asks for code, or holds what is not on the list."""
    for path in _files(folder, f"the checkpoint {shown(folder)}"):
        name = path.relative_to(folder).as_posix()
        if not STATES.fullmatch(name) and ("/" in name or path.suffix.lower() not in READ | UNREAD):
            raise UserError(f"{shown(path)} is none of a checkpoint's files, and may be code: remove it, or tune again")
    _check_settings(folder)
    config = folder / "adapter_config.json"
    if not config.is_file():
        return
    values = _json(config)
    for key in ("peft_type", "swift_type"):
        if values.get(key) is not None and values[key] not in TUNERS:
            raise UserError(f"{shown(config)}: {key} is {values[key]!r}, expected one of {', '.join(TUNERS)}")
    for key, value in values.items():
        if isinstance(value, dict) and value and key not in PATTERNS:
            raise UserError(f"{shown(config)}: {key} names what peft may import or load: remove the key, or tune again")


def check_folder(folder: Path, what: str) -> None:
    """Raise `UserError` when a run or a dataset (`what`) holds a link that leads out of it, a pipe or a device.

    What is written or removed in it then stays in it.
    """
    for _ in _files(folder, f"the {what} {shown(folder)}"):
        pass


def check_name(name: Any, what: str, place: str) -> str:
    """`name`, which becomes a file's, of a `what`. Raises `UserError` for one that leads elsewhere."""
    if not isinstance(name, str) or Path(name).name != name or name in ("", ".", "..") or "\0" in name:
        raise UserError(f"{place}: {name!r:.60} is no name of a {what}: plan the run again with --fresh")
    return name


def check_options(values: Mapping[str, Any], place: Callable[[str], str], run: Path | None = None) -> None:
    """Raise `UserError` for an option of `swift sft` or `swift infer` that may name code, or files elsewhere.

    `place` gives file and key for a message. With `run`, these are all options of that run: its model is looked into,
    its rows must be a file, and what it writes stays in its folder.
    """
    for key, value in values.items():
        if (fault := _fault(key, value, run)) is not None:
            raise UserError(f"{place(key)} {fault}")


def _fault(key: str, value: Any, run: Path | None) -> str | None:
    """What is wrong with an option, as the end of a sentence."""
    texts = [str(one) for one in _leaves(value) if not isinstance(one, int | float)]
    if key == "ENV":
        strange = sorted(str(name) for name in value if name not in VARIABLES) if isinstance(value, Mapping) else ["?"]
        return f"sets {strange[0]}, which no file may: set it in the environment of the command" if strange else None
    if key not in TEXTS:
        if isinstance(value, Mapping) or not all(NUMBER.fullmatch(text) for text in texts):
            return "is not let in, because it may name code, files or addresses: leave it out"
        return None
    if key == "external_plugins":
        return next((fault for text in texts if (fault := _plugin_fault(text))), None)
    if key in KERNELS and (names := _not_words(value)):
        return f"is {names[0]}, compiled code from a hub, which is never run here: use eager, sdpa or flash_attn"
    if key == "adapters":
        for text in texts:
            if not Path(text).is_dir():
                return f"names {text}, which is no folder on this machine: download it first"
            check_checkpoint(Path(text))
    if run is None:
        return None
    for text in texts if key in ("model", "dataset", "val_dataset", "logging_dir") else ():
        path = Path(text)
        if not path.is_absolute():
            return f"is {text}, which ms-swift looks for in a hub: plan the run again"
        if key == "model" and path.is_dir():
            check_model(path)
        if key in ("dataset", "val_dataset") and path.suffix != ".jsonl":
            return f"is {text}, which is no file of rows (.jsonl): plan the run again"
        if key == "logging_dir" and not path.resolve().is_relative_to(run.resolve()):
            return f"is {text}, outside of the run's folder: plan the run again with the same command"
    return None


def _plugin_fault(text: str) -> str | None:
    """Why a plugin may not be loaded; relative paths are the checkout's."""
    path = (ROOT / text).resolve()
    if path.is_relative_to(PLUGINS.resolve()) and path.suffix == ".py" and path.is_file():
        return None
    return f"names {printable(text)}, and only plugins in {shown(PLUGINS)} are run: put it there if it is yours"


def is_copy(path: Path) -> bool:
    """Whether a plugin is that of another checkout with the same bytes, or is not there: then it cannot run."""
    own = PLUGINS / path.name
    return not path.is_file() or (own.is_file() and own.read_bytes() == path.read_bytes())


def _not_words(value: Any) -> list[str]:
    return [printable(text) for text in map(str, _leaves(value)) if not WORD.fullmatch(text)]


def _check_settings(folder: Path) -> None:
    """Raise `UserError` when a file of settings in `folder` asks for code, or cannot be read."""
    for path in sorted(folder.glob("*.json")):
        if path.name in ("tokenizer.json", "vocab.json") or not path.is_file():  # large, and read by tokenizers alone
            continue
        values = _json(path)
        parts = values.get("weight_map", {}) if path.name.endswith(".index.json") else {}
        for part in _leaves(parts):
            if Path(str(part)).name != part or not part.endswith(".safetensors"):
                raise UserError(f"{shown(path)} names {part!r:.60}, no *.safetensors next to it: take another model")
        if path.name == "args.json":  # which ms-swift reads options from; a plugin that is not there cannot run
            plugins = [one for one in _leaves(values.get("external_plugins")) if not is_copy(Path(str(one)))]
            wanted = {key: values[key] for key in ("attn_impl", "experts_impl") if values.get(key)}
            check_options({**wanted, "external_plugins": plugins}, f"{shown(path)}: {{}}".format)
            continue
        for key, value in _pairs(values):
            if key in ("auto_map", "custom_pipelines") and value:
                what = f"code of its own to be run ({shown(path)}: {key})"
            elif key.endswith(KERNELS) and (names := _not_words(value)):
                what = f"compiled code from a hub ({shown(path)}: {key} is {names[0]})"
            elif key == "transformers_weights" and not str(value).endswith((".safetensors", ".safetensors.index.json")):
                what = f"weights that are no safetensors ({shown(path)}: {key})"
            else:
                continue
            raise UserError(f"{shown(folder)} asks for {what}, which is never done here: take a model that needs none")


def _files(folder: Path, what: str, linked: bool = False) -> Iterator[Path]:
    """Every file below `folder`, but for what is hidden in a model. `linked`: files may be links to files anywhere.

    Raises `UserError` for a link that leads out of it, and for what is neither file nor folder.
    """
    top = folder.resolve()
    for at, folders, files in os.walk(folder):
        if linked:
            folders[:] = [name for name in folders if not name.startswith(".")]  # .git, .cache: nothing reads them
            files = [name for name in files if not name.startswith(".")]
        for path in (Path(at, name) for name in [*folders, *files]):
            try:
                is_link, mode = path.is_symlink(), path.stat().st_mode if linked else path.lstat().st_mode
                inside = not is_link or path.resolve().is_relative_to(top)
            except (OSError, RuntimeError):  # a link that leads nowhere, or to itself
                is_link, mode, inside = True, 0, False
            if is_link and not (stat.S_ISREG(mode) if linked else inside):
                raise UserError(f"{what} holds the link {shown(path)}, which leads out of it: remove the link")
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or is_link):
                raise UserError(f"{what} holds {shown(path)}, which is neither a file nor a folder: remove it")
            if stat.S_ISREG(mode):
                yield path


def _json(path: Path) -> dict[str, Any]:
    """The mapping in a file of settings. Raises `UserError` for anything else: what cannot be read is not let in."""
    try:
        if path.stat().st_size > SETTINGS_BYTES:
            raise ValueError("it is too large")
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{shown(path)} cannot be read as settings ({error!s:.80}): fetch it again") from None
    return values if isinstance(values, dict) else {"": values}


def _pairs(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every key and value in nested settings; what stands in a list has the list's key."""
    waiting = [(key, value)]
    while waiting:
        key, one = waiting.pop()
        yield key, one
        if isinstance(one, Mapping):
            waiting += ((str(inner), part) for inner, part in one.items())
        elif isinstance(one, list | tuple):
            waiting += ((key, part) for part in one)


def _leaves(value: Any) -> list[Any]:
    """Every value in a nested one that is neither a list nor a mapping nor null."""
    return [one for _, one in _pairs(value) if one is not None and not isinstance(one, Mapping | list | tuple)]
