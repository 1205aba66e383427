"""How much memory a training step takes: an estimate from a model's shape, fitted to what was measured."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, PositiveInt

from plan.distributed import planned_processes, whole_number
from plan.hardware import Machine
from plan.option_values import is_true
from workspace.errors import UserError
from workspace.files import read_json
from workspace.paths import shown
from workspace.records import read

FUSED_HIDDEN_BYTES = 32  # the same of a fused layer
FUSED_SEEN = 0.625  # of a row's tokens, those in the attention weights that a fused layer keeps at 512 tokens
HIDDEN_BYTES = 110  # of all that a layer keeps in the width of its hidden states, over that width
RUNTIME_GIB = 0.5  # Python, torch and ms-swift themselves
LIGER_SHARE = 0.5  # of a step's activations, with liger's layers: 33 of 71 GiB on an H100 (docs/results.md)
MEMORY_SHARE = 0.7  # of the machine's memory that training may take
MOMENTS = 3  # times the weights where AdamW tunes them themselves: their gradient and its two moments


class ModelShape(BaseModel):
    """What is needed of a model's config.json."""

    hidden_size: PositiveInt = 1024
    num_hidden_layers: PositiveInt = 24
    num_attention_heads: PositiveInt = 16
    num_key_value_heads: PositiveInt | None = None
    head_dim: PositiveInt | None = None
    intermediate_size: PositiveInt | None = None
    dtype: str | None = None
    torch_dtype: str | None = None
    model_type: str = ""

    @property
    def stored_in(self) -> str | None:
        """The dtype of the weights on disk, where it is named."""
        return self.dtype or self.torch_dtype

    @property
    def cached_numbers(self) -> int:
        """Numbers that the key/value cache holds for each token."""
        size = self.head_dim or self.hidden_size // self.num_attention_heads
        return 2 * self.num_hidden_layers * (self.num_key_value_heads or self.num_attention_heads) * size

    @classmethod
    def read(cls, model: Path) -> "ModelShape":
        """The shape of the model in a folder. Raises `UserError` for one without a config.json that can be read."""
        return read(model / "config.json", cls, "fetch the model again, or take another with --model")


def training_gib(
    model: Path,
    batch: int,
    tokens: int,
    torch_dtype: str = "float32",
    fused: bool = False,
    bits: int = 0,
    checkpointing: bool = False,
) -> float:
    """Estimated memory, in GiB, of a LoRA step: weights, in so many `bits` where they are quantised, and activations.

    A layer keeps, for each token, hidden states (HIDDEN_BYTES times hidden size), the MLP's inner states and a row of
    attention weights a head. The `fused` layers of plugins/cpu keep less of each, a second copy of the weights of
    queries, keys, values, gate and up, and in the gradient's step about what one layer more would keep.

    Fitted to peak RSS for the shape of Qwen1.5-0.5B in float32 at 512 tokens without padding, two cores of an AMD EPYC.
    The model's own layers: 10.7 GiB at batch 4 with `attn_impl: eager`, 8.8 and 15.5 GiB at batch 4 and 8 with `sdpa`
    (`swift sft`). Fused, above the weights and Python (transformers and peft alone, malloc as in
    plan.hardware.child_environment): 0.22 and 0.67 GiB with 2 and 8 layers at batch 1, 0.53 GiB with 2 at batch 4. The
    whole shape fused at batch 8 is estimated at 11.3 GiB; in bf16 `swift sft` held 8.4 GiB.
    In a `torch_dtype` of two bytes all is taken to need half; on a GPU this was not measured. With gradient
    `checkpointing` a layer keeps its input alone, and one layer at a time all: not measured either.
    """
    shape = ModelShape.read(model)
    hidden, layers, heads = shape.hidden_size, shape.num_hidden_layers, shape.num_attention_heads
    inner = shape.intermediate_size or 4 * hidden
    weights = weights_gib(model) * 2**30
    if fused:
        weights += 4 * layers * hidden * (3 * hidden + 2 * inner)
        per_layer = FUSED_HIDDEN_BYTES * hidden + 4 * 3 * inner + 4 * heads * tokens * FUSED_SEEN
        per_token = (layers + 1) * per_layer
    else:
        per_token = layers * (HIDDEN_BYTES * hidden + 4 * 4 * inner + 4 * heads * tokens)
    if checkpointing:
        per_token = per_token / layers + 4 * layers * hidden
    if bits:
        weights *= bits / (32 if torch_dtype == "float32" else 16)
    share = 1.0 if torch_dtype == "float32" else 0.5
    return RUNTIME_GIB + share * (weights + batch * tokens * per_token) / 2**30


def step_gib(sft: Mapping[str, Any], model: Path, batch: int, fused: bool = False) -> float:
    """Estimated memory, in GiB, of a step of LoRA with `batch` rows by the keys `sft`: what the plan goes by.

    That of one process, with its share of the weights where they are spread. `fused`: through plugins/cpu's layers.
    """
    settings: dict[str, Any] = {
        "tokens": whole_number(sft, "max_length", 512),
        "torch_dtype": str(sft.get("torch_dtype", "float32")),
        "fused": fused,
        "bits": whole_number(sft, "quant_bits", 0),
        "checkpointing": is_true(sft, "gradient_checkpointing", True),
    }
    weights = training_gib(model, 0, **settings)
    share = LIGER_SHARE if is_true(sft, "use_liger_kernel") else 1.0
    elsewhere = loaded_gib(sft, model) * (1 - 1 / spread_over(sft)[0])
    return weights - elsewhere + share * (training_gib(model, batch, **settings) - weights)


def room_gib(sft: Mapping[str, Any], memory_gib: float, model: Path) -> float:
    """What of a GPU's memory, or a process's, a step may take by the keys `sft`: of whole weights that are tuned the
    gradient and AdamW's two moments are there beside it."""
    whole = sft.get("tuner_type") == "full"
    return MEMORY_SHARE * memory_gib - (MOMENTS * weights_gib(model) / spread_over(sft)[1] if whole else 0)


def spread_over(sft: Mapping[str, Any]) -> tuple[int, int]:
    """Over how many processes the weights are spread by the keys of a resolved sft.yaml, and over how many their
    gradients and AdamW's moments: 1 where each holds all. Settings of DeepSpeed that have no name are taken for
    ZeRO-3."""
    world, stage = planned_processes(sft).world, str(sft.get("deepspeed") or "zero0")
    if not sft.get("fsdp") and stage in ("zero0", "zero1"):
        return 1, 1
    return (1 if not sft.get("fsdp") and stage.startswith("zero2") else world), world


def check_room(sft: Mapping[str, Any], machine: Machine, model: Path) -> None:
    """Raise `UserError` where a GPU cannot hold what tuning keeps on it at the least, however small the batch.

    Held against all of the card's memory, whoever uses it now. Weights that are spread, or put elsewhere by the user,
    are not judged.
    """
    if machine.gpu is None or any(sft.get(key) for key in ("deepspeed", "fsdp", "device_map", "max_memory")):
        return
    least, has = _least_gib(sft, model), machine.total_of(planned_processes(sft).per_node)
    if least > has:
        raise UserError(
            f"{shown(model)} takes {least:.1f} GiB of a GPU to be tuned, batch aside, and {machine.gpu} has "
            f"{has:.1f} GiB: {larger_room(sft, machine.gpus if least <= has * machine.gpus else 1)}"
        )


def larger_room(sft: Mapping[str, Any], cards: int) -> str:
    """What to do about a model that a GPU has no room for, where there are `cards`, as the end of a sentence."""
    if sft.get("quant_bits"):
        return "take a smaller model"
    ways = ["take a smaller model"]
    if cards > 1 and not any(sft.get(key) for key in ("deepspeed", "fsdp")):
        ways.insert(0, f"add `--with multi-gpu zero3` or `--with multi-gpu fsdp2`, which spread it over {cards} GPUs")
    full = sft.get("tuner_type") == "full"
    ways.append("tune adapters alone (tuner_type lora)" if full else "its weights in 4 bits, as the qlora recipe does")
    return ", or ".join(ways)


def _least_gib(sft: Mapping[str, Any], model: Path) -> float:
    """Less than any step takes on one GPU: the weights, and with AdamW on all of them MOMENTS times as much."""
    stored = 1 if ModelShape.read(model).stored_in else 2  # in float32, for all that is known
    adamw = sft.get("optim", "adamw_torch") in ("adamw_torch", "adamw_torch_fused") and not sft.get("optimizer")
    saving = is_true(sft, "use_galore") or sft.get("lisa_activated_layers")
    frozen = any(key.startswith("freeze") for key in sft)
    whole = sft.get("tuner_type") == "full" and adamw and not saving and not frozen
    return loaded_gib(sft, model) * (1 + MOMENTS if whole else 1) / stored


def loaded_gib(values: Mapping[str, Any], model: Path) -> float:
    """The weights, in GiB, as ms-swift loads them by its keys."""
    bits = 32 if values.get("torch_dtype") == "float32" else 16
    return weights_gib(model) * (whole_number(values, "quant_bits", 0) or bits) / 32


def is_quantised(sft: Mapping[str, Any], model: Path) -> bool:
    """Whether the model's weights are of few bits: by the keys `sft` that load it, or as they are stored."""
    stored = read_json(model / "config.json")
    return any(sft.get(key) for key in ("quant_bits", "quant_method")) or bool(stored.get("quantization_config"))


def weights_gib(model: Path) -> float:
    """The weights of a model's folder in float32, in GiB."""
    stored = 1 if ModelShape.read(model).stored_in == "float32" else 2
    # Some models are published a second time beside it, in a layout that transformers does not load.
    files = [path for path in model.glob("*.safetensors") if not path.name.startswith("consolidated")]
    return stored * sum(path.stat().st_size for path in files) / 2**30
