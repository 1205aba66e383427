"""What an option of ms-swift may be here, wherever it is given: command line, recipe, task, override, sweep.

Names, kinds and choices are the installed ms-swift's own (plan/swift_schema.py); this is what it does not check until
it has trained for hours, or at all, and what the pipeline decides itself. Needs nothing but Python.
"""

from collections.abc import Mapping
from typing import Any

from workspace.ranges import SEED, TOKENS, Range, whole

# Options that the pipeline decides itself, and what to use instead.
RESERVED = {
    "output_dir": "use --run DIR",
    "add_version": "checkpoints are looked for in RUN/train",
    "dataset": "use --csv PATH",
    "val_dataset": "use --csv PATH; the validation rows are split off by prep",
    "split_dataset_ratio": "the splits are made by prep, from `split` in task.yaml",
    "system": "set `system` in task.yaml: the rows carry it",
}
# Options of this project that one run has no use for.
OF_SEVERAL = {
    "seeds": "goes neither with --cv nor with `again`: leave one of the two out",
    "soup": "is the average of several seeds' adapters: name them with --seeds N N N",
}
# Those that may not be set anywhere: what stands in a YAML is written into the run, and into every checkpoint.
NOWHERE = {
    "hub_token": "set HF_TOKEN or MODELSCOPE_API_TOKEN in the environment",
    "swanlab_token": "set SWANLAB_API_KEY in the environment",
    "swanlab_secret": "send messages when the run is done: it would be written into the run",
    "swanlab_webhook_url": "send messages when the run is done: it would be written into the run",
    "push_to_hub": "upload RUN/train/checkpoint-N when the run is done",
    "custom_register_path": "put the plugin into plugins/ and name it in a recipe of your own, as external_plugins",
    "cached_dataset": "use --csv PATH",
    "cached_val_dataset": "use --csv PATH",
    "resume_from_checkpoint": "the same command goes on by itself",
    "save_only_model": "going on after an interruption needs the optimiser's state",
    "adapters": "use --adapters DIR on the command line of run_sft.sh: the answers before tuning take it too",
    "result_path": "answers are written into the run",
}
PLUGINS = {"external_plugins": "put the plugin into plugins/ and name it in a recipe of your own"}
LISTS = ("target_modules", "modules_to_save", "report_to", "callbacks", "columns", "freeze_parameters")
TUNERS = ("lora", "longlora", "adalora", "lora_ga", "full")  # whose checkpoints can be answered with

COUNT, SHARE = whole(1, 1_000_000), Range(0, 1)
STEPS = Range(0, 10**9, above=True, whole_above=1)  # below 1 a share of all steps
RANGES = {
    # training
    "learning_rate": Range(0, 10, above=True),
    "vit_lr": Range(0, 10, above=True),
    "aligner_lr": Range(0, 10, above=True),
    "num_train_epochs": Range(0, 10_000, above=True),
    "max_epochs": whole(1, 10_000),
    "max_steps": whole(-1, 10**9),
    "per_device_train_batch_size": whole(1, 65_536),
    "per_device_eval_batch_size": whole(1, 65_536),
    "gradient_accumulation_steps": whole(1, 65_536),
    "max_length": TOKENS,
    "seed": SEED,
    "data_seed": SEED,
    "weight_decay": Range(0, 100),
    "adam_beta1": Range(0, 1, below=True),
    "adam_beta2": Range(0, 1, below=True),
    "adam_epsilon": Range(0, 1, above=True),
    "max_grad_norm": Range(0, 10**6),
    "label_smoothing_factor": SHARE,
    "warmup_ratio": SHARE,
    "warmup_steps": Range(0, 10**9, whole_above=1),
    "neftune_noise_alpha": Range(0, 10**4),
    "freeze_parameters_ratio": SHARE,
    "num_labels": whole(2, 10_000),
    # adapters
    "lora_rank": whole(1, 65_536),
    "lora_alpha": Range(0, 10**6, above=True),
    "lora_dropout": Range(0, 1, below=True),
    "lorap_lr_ratio": Range(0, 10**6, above=True),
    "adalora_target_r": COUNT,
    "adalora_init_r": COUNT,
    "adalora_beta1": Range(0, 1, below=True),
    "adalora_beta2": Range(0, 1, below=True),
    # evaluation, saving, log
    "eval_steps": STEPS,
    "save_steps": STEPS,
    "logging_steps": COUNT,
    "eval_accumulation_steps": COUNT,
    "eval_delay": Range(0, 10**9),
    "save_total_limit": COUNT,
    "early_stop_interval": COUNT,
    "ddp_timeout": whole(1, 10**9),
    "dataset_num_proc": whole(1, 1024),
    "dataloader_num_workers": whole(0, 1024),
    "dataloader_prefetch_factor": whole(1, 1024),
    # answers
    "max_batch_size": whole(1, 65_536),
    "write_batch_size": COUNT,
    "max_new_tokens": COUNT,
    "temperature": Range(0, 100),
    "top_p": Range(0, 1, above=True),
    "top_k": whole(-1, 10**9),
    "repetition_penalty": Range(0, 100, above=True),
    "num_beams": whole(1, 1000),
    "vllm_gpu_memory_utilization": Range(0, 1, above=True),
    "vllm_max_model_len": whole(1, 10**8),
    "vllm_max_num_seqs": COUNT,
    "vllm_tensor_parallel_size": whole(1, 1024),
}
# Every other number: not NaN, not infinite.
OTHERS = {"int": whole(-(2**31), 2**31 - 1), "float": Range(-1e15, 1e15)}


def is_true(values: Mapping[str, Any], key: str, default: bool = False) -> bool:
    """Whether a key says true: in a YAML, or as text of the command line, in any of the words that ms-swift takes."""
    return str(values.get(key, default)).lower() in ("true", "yes", "t", "y", "1")


def reserved(key: str, value: Any, decided: Mapping[str, str]) -> str | None:
    """What to use in place of an option that may not be set here: one of `decided`, or one that may be nowhere."""
    switched_off = key in ("push_to_hub", "save_only_model") and str(value).lower() == "false"
    remedy = None if switched_off else {**NOWHERE, **decided}.get(key)
    return f"is decided by the pipeline: {remedy}" if remedy else None


def limits_fault(key: str, value: Any, kind: str = "str") -> str | None:
    """What is wrong with one value beyond its kind, as the end of a sentence; None when it is right."""
    limits = RANGES.get(key) or OTHERS.get(kind)
    if limits and (fault := limits.fault(value)):
        return fault
    if key == "tuner_type" and value not in TUNERS:
        return f"is {value!r}, which leaves no checkpoint to answer with: use one of {', '.join(TUNERS)}"
    return None


def environment_fault(value: Any) -> str | None:
    """What is wrong with a recipe's `ENV`, variables for ms-swift, as the end of a sentence; None when it is right."""
    if not isinstance(value, dict):
        return f"is {value!r}, expected `NAME: value` lines below it"
    for name, text in value.items():
        if not isinstance(name, str) or not isinstance(text, str | int | float) or "\0" in f"{name}{text}":
            return f"has {name!r}: {text!r}, expected a name, and text or a number"
    return None
