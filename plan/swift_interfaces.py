"""What the project relies on in ms-swift and its libraries beyond their documented interface: is it still there?

Run as: python -m plan.swift_interfaces; see docs/upgrading.md. Each line that it prints names what is gone and which of
our files use it. It finds names, parameters and constants; whether they still mean the same is for the tests to say.
"""

import importlib
import importlib.util
import inspect
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from plan.cpu_kernels import FAMILIES
from workspace.command_line import Parser
from workspace.paths import ROOT


class Interface(NamedTuple):
    """`where` is `module:attribute.attribute`; `used` a regular expression that our files match where they use it.

    `parameters` that a function must take, or the `value` of a constant, or a `text` in the source. With no attribute
    the module is read, not imported: vLLM's needs a GPU.
    """

    where: str
    used: str
    parameters: tuple[str, ...] = ()
    value: str = ""
    text: str = ""


INTERFACES = (
    # How ms-swift is started
    Interface("swift.cli.main:ROUTE_MAPPING", r"\bROUTE_MAPPING\b"),
    Interface("swift.cli.main:parse_yaml_args", r"\bparse_yaml_args\b", ("argv",)),
    Interface("swift.cli.main:use_torchrun", r"\buse_torchrun\b"),
    Interface("swift.cli.main:get_torchrun_args", r"\bMASTER_PORT\b", text="'NPROC_PER_NODE', 'MASTER_PORT', 'NNODES'"),
    Interface("swift.pipelines:sft_main", r"\bsft_main\b"),
    Interface("swift.pipelines:infer_main", r"\binfer_main\b"),
    # Arguments
    Interface("swift.arguments:SftArguments", r"\bSftArguments\b"),
    Interface("swift.arguments:InferArguments", r"\bInferArguments\b"),
    Interface("transformers:HfArgumentParser", r"HfArgumentParser\(\[cls\]\)\._actions"),
    # Registers that plugins write to
    Interface("swift.callbacks:callbacks_map", r"\bcallbacks_map\b"),
    Interface("swift.callbacks:TrainerCallback", r"\bTrainerCallback\b"),
    Interface("swift.callbacks:TrainerCallback.__init__", r"\bTrainerCallback\b", ("args", "trainer")),
    Interface("swift.loss:loss_map", r"\bloss_map\b"),
    Interface("swift.loss.base:BaseLoss.__call__", r"\bBaseLoss\b", ("outputs", "labels", "num_items_in_batch")),
    Interface("swift.metrics:eval_metrics_map", r"\beval_metrics_map\b"),
    Interface("swift.metrics.base:EvalMetrics.__init__", r"\bEvalMetrics\b", ("args", "trainer")),
    Interface("swift.metrics.base:EvalMetrics.compute_metrics", r"\bEvalMetrics\b"),
    Interface("swift.metrics.base:EvalMetrics.preprocess_logits_for_metrics", r"\bEvalMetrics\b", ("logits", "labels")),
    Interface("swift.template.register:TEMPLATE_MAPPING", r"\bTEMPLATE_MAPPING\b"),
    Interface("swift.template:register_template", r"\bregister_template\b", ("exist_ok",)),
    Interface("swift.template:TemplateMeta.template_cls", r"\btemplate_cls\b"),
    # What the registry's question reads (workspace/swift_registry.py)
    Interface("swift.model.model_meta:MODEL_MAPPING", r"\bMODEL_MAPPING\b"),
    Interface("swift.template:Template._swift_encode", r"\b_swift_encode\b", ("inputs",)),
    Interface("swift.template:Template._swift_prepare_inputs", r"\b_swift_prepare_inputs\b", ("inputs",)),
    Interface("swift.template:Template._simplify_context_list", r"\b_simplify_context_list\b"),
    Interface("swift.template.template_inputs:StdTemplateInputs", r"\bStdTemplateInputs\b"),
    Interface("swift.pipelines.train.tuner:", r'"adapters": \[', text="args.resume_from_checkpoint or args.adapters"),
    # Methods that plugins override
    Interface("swift.template:Template.generate", r"def generate\(self, model", ("model",)),
    Interface("swift.template:Template.encode", r"super\(\)\.encode\("),
    Interface("swift.template.templates.glm:GLM4Template.strip_newline", r"\bstrip_newline\b"),
    Interface("swift.template:Template.decode_seq_cls", r"\bdecode_seq_cls\b", ("logits", "top_logprobs")),
    Interface("swift.infer_engine.infer_engine:InferEngine._batch_encode", r"\b_batch_encode\b", ("strict",)),
    Interface("swift.infer_engine.vllm_engine:", r"\b_add_request\b", text="def _add_request"),
    Interface("swift.pipelines.infer.infer:", r"\bswift\.infer_engine\.VllmEngine\b", text="VllmEngine"),
    # Files, columns and keys that are read
    Interface("swift.trainers.patcher:", r'"global_step/max_steps"', text="'global_step/max_steps'"),
    Interface("swift.trainers.patcher:", r'"logging\.jsonl"', text="'logging.jsonl'"),
    Interface("swift.pipelines.infer.infer:", r'result\["messages"\]|\["response"\]', text="'response': response"),
    # The key of a prompt travels in this column from the dataset to the result rows.
    Interface("swift.dataset.preprocessor.core:", r'\bKEY = "channel"|"channel"', text="'channel'"),
    Interface("swift.arguments.base_args.base_args:", r'"args\.json"', text="'args.json'"),
    Interface(
        "swift.arguments.base_args.base_args:",
        r'"global_world_size"',
        text="self.global_world_size, self.local_world_size",
    ),
    Interface("transformers.trainer:TRAINER_STATE_NAME", r'"trainer_state\.json"', value="trainer_state.json"),
    Interface("transformers.trainer:OPTIMIZER_NAME", r'"optimizer\.pt"', value="optimizer.pt"),
    Interface("transformers.trainer:OPTIMIZER_NAME_BIN", r'"optimizer\.bin"', value="optimizer.bin"),
    Interface("transformers.trainer:SCHEDULER_NAME", r'"scheduler\.pt"', value="scheduler.pt"),
    Interface("transformers.trainer:SCALER_NAME", r'"scaler\.pt"', value="scaler.pt"),
    Interface("transformers.trainer:FSDP_MODEL_NAME", r"pytorch_model_fsdp", value="pytorch_model_fsdp"),
    Interface("transformers.trainer:", r'"rng_state\.pth"', text="rng_state.pth"),
    Interface(
        "peft.utils.constants:SAFETENSORS_WEIGHTS_NAME", r"\bADAPTER_WEIGHTS =", value="adapter_model.safetensors"
    ),
    Interface("peft.utils.constants:CONFIG_NAME", r'"adapter_config\.json"', value="adapter_config.json"),
    Interface("transformers.trainer_callback:TrainerState.log_history", r'"log_history"|\.log_history\b'),
    Interface("transformers.trainer_callback:TrainerState.best_model_checkpoint", r'"best_model_checkpoint"'),
    # Caches of keys and values
    Interface("transformers.cache_utils:DynamicLayer.lazy_initialization", r"\blazy_initialization\b"),
    Interface("transformers.cache_utils:DynamicLayer.update", r"\bRoomyLayer\b", ("key_states", "value_states")),
    Interface("transformers.cache_utils:DynamicCache.crop", r"\bcache\.crop\("),
    Interface("transformers.cache_utils:DynamicSlidingWindowLayer", r"\bDynamicSlidingWindowLayer\b"),
    Interface("transformers.cache_utils:LinearAttentionCacheLayerMixin", r"\bLinearAttentionCacheLayerMixin\b"),
    Interface("transformers.cache_utils:Cache.is_sliding", r"\bcache\.is_sliding\b"),
    Interface("transformers.cache_utils:Cache.is_croppable", r"\bcache\.is_croppable\b"),
    Interface("transformers.cache_utils:DynamicCache.get_seq_length", r"\bget_seq_length\b"),
    Interface("transformers.cache_utils:DynamicCache.batch_repeat_interleave", r"\bbatch_repeat_interleave\b"),
    Interface("transformers.masking_utils:", r"\btree_mask\b", text="len(attention_mask.shape) == 4"),
    Interface("swift.infer_engine.protocol:", r"\.finish_reason\b", text="finish_reason: Literal['stop'"),
    # Decoder layers and adapters
    *(
        Interface(
            f"transformers.models.{family}.modeling_{family}:{family.capitalize()}DecoderLayer.forward",
            r"\bself_attn\b",
            ("hidden_states", "attention_mask", "position_ids", "past_key_values", "use_cache", "position_embeddings"),
        )
        for family in sorted(FAMILIES)
    ),
    Interface("peft.tuners.lora:Linear", r"\blora\.Linear\b"),
    # torch
    Interface("torch:_softmax_backward_data", r"\b_softmax_backward_data\b"),
    Interface("torch.utils.checkpoint:_StopRecomputationError", r"\b_StopRecomputationError\b"),
    Interface("torch._tensor:_rebuild_from_type_v2", r"\b_rebuild_from_type_v2\b"),
    Interface("torch._utils:_rebuild_tensor_v2", r"\b_rebuild_tensor_v2\b"),
    Interface("torch._utils:_rebuild_parameter", r"\b_rebuild_parameter\b"),
    Interface("torch.nn.modules.module:register_module_forward_pre_hook", r"\bregister_module_forward_pre_hook\b"),
    Interface("torch.library:custom_op", r"torch\.library\.custom_op"),
    # Hubs
    Interface("huggingface_hub.utils._http:hf_request_event_hook", r"\bhf_request_event_hook\b"),
    Interface("huggingface_hub._tree_cache:", r'"trees"', text='"trees", f"{commit_hash}.json"'),
    Interface("huggingface_hub:set_client_factory", r"\bset_client_factory\b"),
    Interface("huggingface_hub.constants:HF_HUB_DISABLE_XET", r"\bHF_HUB_DISABLE_XET\b"),
    Interface("modelscope:snapshot_download", r"\bmodelscope_download\b", ("local_files_only",)),
)
# Attributes of objects, by what the object is in a small model: (path from a decoder layer, the regular expression).
LAYER_ATTRIBUTES = (
    *(f"self_attn.{name}" for name in ("head_dim", "scaling", "q_proj", "k_proj", "v_proj", "o_proj")),
    *(f"mlp.{name}" for name in ("gate_proj", "up_proj", "down_proj")),
    "input_layernorm.variance_epsilon",
    "post_attention_layernorm.variance_epsilon",
)
ADAPTER_ATTRIBUTES = (
    "active_adapters", "base_layer", "disable_adapters", "fan_in_fan_out", "lora_A", "lora_B", "lora_bias",
    "lora_dropout", "lora_variant", "merged", "scaling",
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Print what is gone; the exit status is 1 when something is."""
    Parser("python -m plan.swift_interfaces", __doc__).parse_args(argv)
    faults = [*missing(INTERFACES), *missing_attributes()]
    print("\n".join(faults) or f"all {len(INTERFACES)} interfaces and the layers' attributes are there")
    return int(bool(faults))


def missing(interfaces: Sequence[Interface]) -> Iterator[str]:
    """A line on each interface that is gone."""
    for one in interfaces:
        if reason := _fault(one):
            yield f"{one.where} {reason}; used by {', '.join(users(one.used)) or 'none of our files'}"


def missing_attributes() -> Iterator[str]:
    """A line on each attribute of decoder layers and of LoRA's layers that plugins/ reads and that is gone."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    size = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "vocab_size": 8}
    for family in sorted(FAMILIES):
        config = AutoConfig.for_model(family, num_attention_heads=2, num_key_value_heads=1, **size)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
        for name in ("model.layers", "model.rotary_emb", "model.config.hidden_act"):
            if _reached(model, name) is None:
                yield f"{name} of {family} is gone; used by {', '.join(users(last_word(name)))}"
        layer: Any = model.model.layers[0]  # type: ignore[index, union-attr]
        for name in LAYER_ATTRIBUTES:
            if _reached(layer, name) is None:
                yield f"{name} of {family}'s layers is gone; used by {', '.join(users(last_word(name)))}"
    adapted: Any = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"])).get_base_model()
    linear = adapted.model.layers[0].self_attn.q_proj
    for name in ADAPTER_ATTRIBUTES:
        if not hasattr(linear, name):
            yield f"{name} of peft's lora.Linear is gone; used by {', '.join(users(last_word(name)))}"


def users(pattern: str) -> list[str]:
    """Our Python files, but for tests and this one, that match a regular expression."""
    files = [path for path in sorted(ROOT.glob("*/**/*.py")) if path.relative_to(ROOT).parts[0][0] != "."]
    ours = [path for path in files if path.relative_to(ROOT).parts[0] != "tests" and path != Path(__file__)]
    return [str(path.relative_to(ROOT)) for path in ours if re.search(pattern, path.read_text(encoding="utf-8"))]


def last_word(name: str) -> str:
    """The regular expression of an attribute's last part."""
    return rf"\b{name.rpartition('.')[2]}\b"


def _fault(one: Interface) -> str | None:
    module_name, _, path = one.where.partition(":")
    try:
        if not path:
            spec = importlib.util.find_spec(module_name)
            source = "" if spec is None or spec.origin is None else Path(spec.origin).read_text(encoding="utf-8")
            return None if one.text in source else f"no longer has {one.text!r} in its source"
        found = _reached(importlib.import_module(module_name), path)
    except ImportError as error:
        return f"cannot be imported ({error})"
    if found is None:
        return "is gone"
    if one.parameters:
        taken = inspect.signature(found).parameters
        if gone := [name for name in one.parameters if name not in taken]:
            return f"no longer takes {', '.join(gone)}"
    if one.value and found != one.value:
        return f"is {found!r}, was {one.value!r}"
    if one.text and one.text not in inspect.getsource(found):
        return f"no longer has {one.text!r} in its source"
    return None


def _reached(start: Any, path: str) -> Any:
    """The attribute at the end of a dotted path; None where one on the way is gone. A field of a dataclass counts."""
    for name in path.split("."):
        if name in getattr(start, "__dataclass_fields__", {}):
            return name
        start = getattr(start, name, None)
        if start is None:
            return None
    return start


if __name__ == "__main__":
    raise SystemExit(main())
