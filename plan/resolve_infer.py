"""The keys of `swift infer` for a run, the same before and after tuning but for adapter, rows and result path."""

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.chat.tokenizer import ModelTokenizer
from plan.distributed import planned_processes, whole_number
from plan.gpu_kernels import HALF
from plan.hardware import Machine, dtype_flags
from plan.recipes import Recipe
from plan.training_memory import MEMORY_SHARE, ModelShape, loaded_gib, weights_gib
from workspace.errors import UserError
from workspace.paths import CONFIGS

BATCH, WRITTEN = "max_batch_size", "write_batch_size"
GPU_INFER_BATCH = 64
CPU_INFER_BATCH = 100  # where their cache is small: a step of text costs 75 ms for 100 rows, 60 ms for 32 (demo model)
CACHE_GIB = 0.5
# How a model is loaded and its chat is written: `swift infer` must do both as `swift sft` did.
MODEL_KEYS = (
    "model", "model_type", "template", "system", "enable_thinking", "quant_method", "quant_bits",
    "bnb_4bit_quant_type", "bnb_4bit_use_double_quant", "bnb_4bit_compute_dtype", "device_map",
)  # fmt: skip
FLOAT32_SHARE = 0.25  # of a GPU's memory that the weights may take where answers are computed in float32
SHOTS = 1.5  # times the longest prompt, which the few-shot one may be
VLLM_MEMORY, VLLM_USUAL, VLLM_FREE = "vllm_gpu_memory_utilization", 0.9, 0.95  # its default; of what is free
VLLM_SPREAD = ("vllm_tensor_parallel_size", "vllm_pipeline_parallel_size")  # one model over so many cards
VLLM_RANK, VLLM_RANKS = 16, (8, 16, 32, 64, 128, 256, 320, 512)  # its default, and what it takes


def vllm_rank(rank: int) -> int:
    """The least rank of adapters to load vLLM with for one of `rank`."""
    return next((one for one in VLLM_RANKS if one >= rank), rank)


def vllm_share(most: float, free: float) -> float:
    """The share of a card's memory that vLLM is to take: `most`, or less where no more than `free` of it is free."""
    return min(most, round(VLLM_FREE * free, 2))


def resolve_infer(
    recipe: Recipe,
    sft: dict[str, Any],
    machine: Machine,
    dataset: Path,
    own_dtype: bool = False,
    begun: str | None = None,
) -> dict[str, Any]:
    """The keys of `swift infer` that follow from the recipe, from those of `swift sft` and from the machine.

    A dtype that is named stands: for the answers, in infer.yaml or an override; for both commands, in the recipe or on
    the command line (own_dtype). begun: in which answers of this run were begun.
    """
    values = {
        **recipe.infer,
        **{key: sft[key] for key in MODEL_KEYS if key in sft},
        "torch_dtype": recipe.infer.get("torch_dtype", sft["torch_dtype"]),
        "val_dataset": [str(dataset / "test.jsonl")],
    }
    by_vllm = values.get("infer_backend") == "vllm"
    if machine.gpu and not own_dtype and "torch_dtype" not in {*recipe.sft, *recipe.infer}:
        values["torch_dtype"] = _planned_dtype(sft, machine, by_vllm, begun)
    if "attn_impl" in sft and not by_vllm:
        # A checkpoint names it, the untuned model does not; flash-attn computes in half precision alone.
        flash = values["torch_dtype"] == "float32" and str(sft["attn_impl"]).startswith("flash")
        values.setdefault("attn_impl", "sdpa" if flash else sft["attn_impl"])
    if by_vllm:
        if sft.get("task_type") == "seq_cls":
            raise UserError("infer_backend vllm answers in words: for a classification head leave it out")
        if sft.get("quant_bits"):  # which ms-swift does not hand on: it would answer by other weights than were tuned
            raise UserError("infer_backend vllm answers by whole weights: with quant_bits leave it out")
        cards = math.prod(whole_number(values, key) for key in VLLM_SPREAD)
        if machine.gpu is None:
            values["vllm_enforce_eager"] = True  # compiling takes longer than the answers
        elif cards > machine.gpus:
            raise UserError(f"{' and '.join(VLLM_SPREAD)} ask for {cards} GPUs and {machine.gpus} are seen: lower them")
        elif (free := machine.free_share_of(max(cards, planned_processes(sft).per_node))) < 1:
            # vLLM takes its share of the whole card, or nothing.
            values[VLLM_MEMORY] = vllm_share(float(values.get(VLLM_MEMORY, VLLM_USUAL)), free)
        if (rank := whole_number(sft, "lora_rank", 8)) > VLLM_RANK and sft.get("tuner_type", "lora") == "lora":
            values.setdefault("vllm_max_lora_rank", vllm_rank(rank))
    elif not _names_batch(recipe):
        values |= _more_at_a_time(values, sft, machine)
    return values


def _names_batch(recipe: Recipe) -> bool:
    """Whether the batch is the user's own: of an override, or of an infer.yaml in the task's folder."""
    own = recipe.files[1].path != CONFIGS / "infer.yaml" and BATCH in recipe.files[1].values
    return own or any(BATCH in change.values["infer"] for change in recipe.overrides)


def _more_at_a_time(values: dict[str, Any], sft: Mapping[str, Any], machine: Machine) -> dict[str, Any]:
    """The keys of `swift infer` for the rows that are answered side by side, where the machine takes more.

    ms-swift splits what it writes at a time into batches. A classification head's rows are read in one pass.
    """
    usual, head = whole_number(values, BATCH, 1), sft.get("task_type") == "seq_cls"
    tokens = whole_number(sft, "max_length", 512) + whole_number(values, "max_new_tokens", 64)
    cache = ModelShape.read(Path(sft["model"])).cached_numbers * tokens / 2**30  # numbers a row, times 2**-30
    if machine.gpu is not None:
        size = 4 if values["torch_dtype"] == "float32" else 2
        cards = cards_needed(values, machine)
        room = MEMORY_SHARE * machine.memory_of(max(cards, planned_processes(sft).per_node))
        room -= loaded_gib(values, Path(sft["model"])) / cards
        most = max(GPU_INFER_BATCH, usual)
        fits = (rows for rows in (most >> halved for halved in range(16)) if rows * size * SHOTS * cache <= room)
        return {BATCH: most if head else max(next(fits, 1), 1)}
    if usual >= CPU_INFER_BATCH or 4 * cache * CPU_INFER_BATCH > CACHE_GIB or head:
        return {}
    return {BATCH: CPU_INFER_BATCH, WRITTEN: max(CPU_INFER_BATCH, whole_number(values, WRITTEN, 1))}


def _planned_dtype(sft: Mapping[str, Any], machine: Machine, by_vllm: bool, begun: str | None) -> str:
    """What a GPU answers in where nobody names it: float32 where the weights take a quarter of its memory at most.

    Half precision rounds by the batch: log probabilities of one row alone and in a batch differ by 0.1 in bfloat16.
    Quantised weights stay as they are. All of a card's memory counts, for who else uses it must not make answers stale;
    only where float32 does not fit into what is free is it half precision. Answers go on as they were begun.
    """
    half = str(sft["torch_dtype"])
    if half == "float32":  # that of weights that are tuned themselves
        half = str(dtype_flags(machine)["torch_dtype"])
    if by_vllm or sft.get("quant_bits") or half not in HALF:
        return half
    weights, cards = weights_gib(Path(sft["model"])), planned_processes(sft).per_node
    if begun == half or (begun == "float32" and weights <= MEMORY_SHARE * machine.total_of(cards)):
        return begun
    few = weights <= FLOAT32_SHARE * machine.total_of(cards) and weights <= MEMORY_SHARE * machine.memory_of(cards)
    return "float32" if few else half


def is_chosen(infer: Mapping[str, Any], machine: Machine, recipe: Recipe, options: Mapping[str, Any]) -> bool:
    """Whether the machine chose the dtype of the answers: a GPU, by transformers, of whole weights, where neither
    `recipe` nor `options` name one."""
    named = "torch_dtype" in {*recipe.sft, *recipe.infer, *options}
    apart = infer.get("infer_backend") == "vllm" or infer.get("quant_bits")
    return machine.gpu is not None and not named and not apart


def answers_dtype(measured: str | None, model: Path, machine: Machine, half_alone: bool = False) -> str:
    """torch's name of what a model's answers are computed in here, outside ms-swift: what they were `measured` in, by
    which thresholds and calibration go, where the card has it and holds it; another dtype is told of on stderr.

    None: not known, and float32 where a run would take it. A CPU computes in float32. `half_alone`: what computes on
    the card takes nothing else.
    """
    if machine.gpu is None:
        return "float32"
    half = str(dtype_flags(machine)["torch_dtype"])
    if measured == "float16" or (measured == "bfloat16" and machine.gpu_bf16):
        return measured
    share = MEMORY_SHARE if measured == "float32" else FLOAT32_SHARE
    found = "float32" if holds_float32(model, machine, share) and not half_alone else half
    if measured not in (None, found):
        told = f"measured in {measured} and computed in {found} on {machine.gpu}"
        print(f"{told}: probabilities differ a little", file=sys.stderr, flush=True)
    return found


def holds_float32(model: Path, machine: Machine, share: float = MEMORY_SHARE) -> bool:
    """Whether the model's weights in float32 take at most that share of the memory of the card for one process."""
    return weights_gib(model) <= share * machine.memory_of(1)


def cards_needed(infer: Mapping[str, Any], machine: Machine) -> int:
    """The GPUs that the weights take together: ms-swift spreads a model over those that it sees. 1 where there is none,
    all of them where they are too few."""
    if machine.gpus < 2:
        return 1
    weights, counts = loaded_gib(infer, Path(infer["model"])), range(1, machine.gpus + 1)
    return next((n for n in counts if weights <= MEMORY_SHARE * n * machine.memory_of(n)), machine.gpus)


def room_for_labels(
    infer: Mapping[str, Any], sft: Mapping[str, Any], labels: Sequence[str], model: Path
) -> dict[str, Any]:
    """The key of `swift infer` that lets the longest label word be answered whole; none where there is room for it."""
    if sft.get("task_type") == "seq_cls" or "max_new_tokens" not in infer:
        return {}
    tokenizer = ModelTokenizer(model)
    needed = max(len(tokenizer.ids(label)) for label in labels) + 2  # a space before it, the token that ends the answer
    return {"max_new_tokens": needed} if whole_number(infer, "max_new_tokens") < needed else {}
