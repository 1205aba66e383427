"""From the 8-bit ONNX graph of MiniMind2-Small to the tensors of a Qwen2ForCausalLM.

MiniMind2 has Llama's architecture: Qwen2's without biases on q, k and v. With biases of zero it is a Qwen2 model,
and so it takes Qwen1.5's own way through ms-swift.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from workspace.files import read_json

Array = np.ndarray
# Graph node -> tensor: `/model/layers.0/self_attn/q_proj/MatMul_quant` is `model.layers.0.self_attn.q_proj.weight`.
NODE_SUFFIX = "/MatMul_quant"


# The model's config.json as transformers 5 writes it: also the shape that the tensors must have.
CONFIG: dict[str, Any] = read_json(Path(__file__).with_name("config.json"))


def convert(model: onnx.ModelProto, config: Mapping[str, Any]) -> dict[str, Array]:
    """The float16 tensors of Qwen2ForCausalLM by name, from a graph that onnxruntime's dynamic quantisation wrote.

    Each matrix is kept as q (8-bit), one scale and one zero point for all of it: weight = (q - zero point) *
    scale (ONNX, DequantizeLinear). MatMulInteger multiplies from the right, so its matrices are (input, output) and
    torch's are their transposes. The embedding is the Gather's table. The lm_head is the same matrix, quantised a
    second time: it is left out, and the config ties the two.

    Raises ValueError when the tensors found are not just those of a model with this config.json.
    """
    stored = {tensor.name: tensor for tensor in model.graph.initializer}

    def value(name: str) -> Array:
        if name not in stored:
            raise ValueError(f"the ONNX graph has no initializer {name}")
        return numpy_helper.to_array(stored[name])

    def weight(name: str) -> Array:
        q, zero_point = value(f"{name}_quantized"), value(f"{name}_zero_point")
        return (q.astype(np.float32) - zero_point.astype(np.float32)) * value(f"{name}_scale")

    tensors = {"model.embed_tokens.weight": weight("model.embed_tokens.weight")}
    for node in model.graph.node:
        if node.op_type == "MatMulInteger" and not node.name.startswith("/lm_head/"):
            name = node.name.removeprefix("/").removesuffix(NODE_SUFFIX).replace("/", ".")
            tensors[f"{name}.weight"] = weight(node.input[1].removesuffix("_quantized")).T
    for name in stored:
        if name.endswith(("layernorm.weight", "model.norm.weight")):
            tensors[name] = value(name)

    expected = tensor_shapes(config)
    tensors |= {name: np.zeros(size) for name, size in expected.items() if name.endswith(".bias")}
    for name in sorted(expected.keys() | tensors.keys()):
        found = tensors[name].shape if name in tensors else None
        if found != expected.get(name):
            raise ValueError(f"the ONNX graph gives {name} the shape {found}; expected {expected.get(name)}")
    # Contiguous, or safetensors writes a transposed view's memory in the wrong order without a word.
    return {name: np.ascontiguousarray(tensors[name], dtype=np.float16) for name in sorted(tensors)}


def tensor_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name and dimensions, (output, input) for matrices, of each tensor of a Qwen2ForCausalLM with tied embeddings."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    kv = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    sizes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config["vocab_size"], hidden)}
    for number in range(config["num_hidden_layers"]):
        layer = f"model.layers.{number}"
        sizes |= {
            f"{layer}.input_layernorm.weight": (hidden,),
            f"{layer}.post_attention_layernorm.weight": (hidden,),
            f"{layer}.self_attn.q_proj.weight": (hidden, hidden),
            f"{layer}.self_attn.q_proj.bias": (hidden,),
            f"{layer}.self_attn.k_proj.weight": (kv, hidden),
            f"{layer}.self_attn.k_proj.bias": (kv,),
            f"{layer}.self_attn.v_proj.weight": (kv, hidden),
            f"{layer}.self_attn.v_proj.bias": (kv,),
            f"{layer}.self_attn.o_proj.weight": (hidden, hidden),
            f"{layer}.mlp.gate_proj.weight": (inner, hidden),
            f"{layer}.mlp.up_proj.weight": (inner, hidden),
            f"{layer}.mlp.down_proj.weight": (hidden, inner),
        }
    return sizes | {"model.norm.weight": (hidden,)}
