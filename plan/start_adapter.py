"""Going on from an adapter: "before" is the model with it, and tuning takes it further and begins no new one."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.duplicates.contamination import count_seen
from data_prep.rows import read_rows
from data_prep.task import Task
from plan.run import Notice, Run
from workspace import stages
from workspace.errors import UserError
from workspace.gate import check_checkpoint
from workspace.paths import shown
from workspace.records import read
from workspace.safetensors_header import is_whole

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
# The options of `swift sft` that an adapter's own settings decide: field of its config -> option.
SETTINGS = {"r": "lora_rank", "lora_alpha": "lora_alpha", "use_dora": "use_dora", "use_rslora": "use_rslora"}
OTHERS = "take an adapter that this project tuned to words, or leave --adapters out"


@dataclass(frozen=True)
class _Config:
    peft_type: str
    r: int
    lora_alpha: float
    use_dora: bool = False
    use_rslora: bool = False
    task_type: str | None = None


def check_adapter(adapter: Path) -> None:
    """Raise `UserError` for a folder that is no whole adapter, or that holds what is not let in."""
    for name in (CONFIG, WEIGHTS):
        if not (adapter / name).is_file():
            inner = sorted(adapter.glob("train/checkpoint-*")) or sorted(adapter.glob("checkpoint-*"))
            near = f": name {shown(inner[-1])}" if inner else ": name a folder checkpoint-N"
            raise UserError(f"--adapters {shown(adapter)} has no {name}{near}")
    check_checkpoint(adapter)
    if not is_whole(adapter / WEIGHTS):
        raise UserError(f"{shown(adapter / WEIGHTS)} is torn: copy the adapter again")


def adapter_values(
    adapter: Path, run: Path, given: Mapping[str, Any], recipe: Mapping[str, Any], fingerprint: str
) -> dict[str, Any]:
    """The keys of `swift sft` that have it go on from `adapter`: its place, and the settings that it was made with.

    `given` are options that the user chose, `fingerprint` is that of the model. Raises `UserError` for a whole adapter
    (check_adapter) that is none of LoRA for answers in words, was tuned on another model, lies in the folder of the
    `run`, or has other settings than the user asks for.
    """
    if adapter.resolve().is_relative_to(run.resolve()):
        raise UserError(f"--adapters {shown(adapter)} lies in this run's own folder: name another with --run DIR")
    config = read(adapter / CONFIG, _Config, "copy the adapter again")
    head = recipe.get("task_type") == "seq_cls" or config.task_type == "SEQ_CLS"
    if config.peft_type != "LORA" or head or str(recipe.get("tuner_type", "lora")) != "lora":
        kind = "a classification head" if head else f"{config.peft_type} with tuner_type {recipe.get('tuner_type')}"
        raise UserError(f"--adapters {shown(adapter)}: {kind} cannot be gone on from: {OTHERS}")
    values = {option: getattr(config, name) for name, option in SETTINGS.items()}
    for option, value in values.items():
        if option in given and str(given[option]).lower() not in (str(value).lower(), f"{value:g}"):
            raise UserError(f"--{option} {given[option]}: the adapter has {value}; leave the option out")
    earlier = _earlier(adapter)
    if earlier and isinstance(earlier.model_fingerprint, str) and earlier.model_fingerprint != fingerprint:
        raise UserError(
            f"--adapters {shown(adapter)} was tuned on another model than this one: add --model "
            f"{shown(earlier.model_folder) if earlier.model_folder else earlier.model}"
        )
    return {**values, "lora_alpha": int(config.lora_alpha), "adapters": [str(adapter)]}


def adapter_notice(adapter: Path, dataset: Path, task: Task) -> Notice:
    """What "before" is in this run, and how many of its test rows the adapter was tuned on, where that is known."""
    zh = f"“调优前”是已带适配器 {shown(adapter)} 的模型，不是未调优的模型；本报告量出的是在它之上的变化。"
    en = f"“Before” is the model with the adapter {shown(adapter)}, not the untuned one; this report shows what is new."
    seen, total = _seen(adapter, dataset, task)
    if seen is None:
        return {
            "zh": f"{zh}该适配器的训练数据不详：测试集中可能有它训练过的行，两边的数字都可能偏高。",
            "en": f"{en} Its training rows are not known: test rows may be among them, and both figures too high.",
        }
    return {
        "zh": f"{zh}{total} 条测试行中有 {seen} 条（或其近似文本）在它的训练数据里，两边的数字可能偏高。",
        "en": f"{en} {seen} of the {total} test rows, or near copies of them, were among its training rows, where both "
        "sides' figures may be too high.",
    }


def _seen(adapter: Path, dataset: Path, task: Task) -> tuple[int | None, int]:
    """(How many test rows of the dataset the adapter was tuned on, None where that is not known; of how many)."""
    test = [row.review for row in read_rows(dataset / "test.jsonl")]
    earlier = _earlier(adapter)
    if earlier is None:
        return None, len(test)
    try:
        rows = read_rows(earlier.dataset / "train.jsonl", _trained_on(earlier))
    except UserError:  # built again since, or gone
        return None, len(test)
    if earlier.start_adapter is not None:
        return None, len(test)  # it went on from another one, whose rows count too
    return count_seen(test, [row.review for row in rows], task), len(test)


def _trained_on(run: Run) -> str:
    """The SHA-256 of the file of rows that a run was tuned on. Raises `UserError` where it keeps no record of it."""
    record = stages.read_record(run.folder, "train")
    if record is None:
        raise UserError(f"{shown(run.folder)} has no record of its tuning")
    return str(record.inputs["train.jsonl"])


def _earlier(adapter: Path) -> Run | None:
    """The run that made an adapter; None where it does not lie in one, or that cannot be read."""
    try:
        return Run.read(adapter.resolve().parent.parent)
    except UserError:
        return None
