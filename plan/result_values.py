"""What of a resolved sft.yaml or infer.yaml decides a result, apart from what decides speed, place or log alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plan import cpu_kernels
from workspace.paths import ROOT

# Keys of `swift sft` and `swift infer` that change how fast a result is there, not the result.
SPEED_KEYS = {
    "attn_impl", "padding_side", "padding_free", "use_liger_kernel", "per_device_eval_batch_size", "max_batch_size",
    "write_batch_size", "dataset_num_proc", "dataloader_num_workers", "dataloader_pin_memory",
    "dataloader_persistent_workers", "dataloader_prefetch_factor", "load_from_cache_file",
    "vllm_gpu_memory_utilization", "vllm_enforce_eager", "vllm_max_num_seqs",
}  # fmt: skip
# Keys that say where something is, whose content has a hash of its own; and what is logged on the way.
PLACE_KEYS = {"model", "adapters", "dataset", "val_dataset", "output_dir", "logging_dir"}
LOG_KEYS = {"report_to", "logging_steps", "logging_first_step", "logging_strategy", "run_name"}
ROW_CHECK = "row_check"  # the callback of plugins/label_metric.py that looks whether all rows are there
SPEED_ENV = {
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "TOKENIZERS_PARALLELISM",
    "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_",
}  # fmt: skip


def result_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a resolved sft.yaml or infer.yaml that decide a result: what a stage's record may depend on.

    Left out are keys of speed, place and log, and the plugins of the CPU's kernels (plan/cpu_kernels.py), which are
    chosen by a measurement: another machine, or the same under load, must not make finished work stale. What they
    change is rounding: label probabilities by up to 1e-3 (4e-5 was measured), losses and gradients by 1e-5 of their
    size in float32, as much again as the model's own layers in bfloat16. `bf16`, the batch and the dtype of answers are
    keys of the result, which a plan leaves as a run has begun with them (plan/memory.py).
    """
    kernels, callbacks = cpu_kernels.PLUGIN_FILES, {cpu_kernels.CALLBACK, ROW_CHECK}
    left_out = SPEED_KEYS | PLACE_KEYS | LOG_KEYS
    kept = {key: value for key, value in values.items() if key not in left_out}
    for key, unwanted in (("external_plugins", kernels), ("callbacks", callbacks), ("ENV", SPEED_ENV)):
        value = kept.pop(key, None)
        if isinstance(value, Mapping):
            value = {name: one for name, one in value.items() if name not in unwanted}
        elif value is not None:
            value = [one for one in ([value] if isinstance(value, str) else value) if Path(one).name not in unwanted]
            value = [_in_checkout(one) for one in value]
        if value:
            kept[key] = value
    return kept


def _in_checkout(plugin: str) -> str:
    """A plugin's path below the checkout, which may be moved; its content has a hash of its own."""
    path = Path(plugin)
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else plugin
