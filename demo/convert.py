"""From the 8-bit ONNX graph of MiniMind2-Small to the tensors and config.json of a Qwen2ForCausalLM.

MiniMind2 has Llama's architecture: Qwen2's without biases on q, k and v. With biases of zero it is a Qwen2 model,
and so it takes Qwen1.5's own way through ms-swift.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

Array = np.ndarray
# Graph node -> tensor: `/model/layers.0/self_attn/q_proj/MatMul_quant` is `model.layers.0.self_attn.q_proj.weight`.
NODE_SUFFIX = "/MatMul_quant"


@dataclass(frozen=True)
class Shape:
    """The sizes of a Qwen2 model. `heads` and `kv_heads` split `hidden` and the keys' and values' width."""

    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    layers: int
    vocab: int

    @property
    def kv_width(self) -> int:
        """Width of all keys of a token: kv_heads heads, each as wide as a query head."""
        return self.hidden // self.heads * self.kv_heads


MINIMIND2_SMALL = Shape(hidden=512, intermediate=1408, heads=8, kv_heads=2, layers=8, vocab=6400)


def convert(model: onnx.ModelProto, shape: Shape) -> dict[str, Array]:
    """The float16 tensors of Qwen2ForCausalLM by name, from a graph that onnxruntime's dynamic quantisation wrote.

    Each matrix is kept as q (8-bit), one scale and one zero point for all of it: weight = (q - zero point) *
    scale (ONNX, DequantizeLinear). MatMulInteger multiplies from the right, so its matrices are (input, output) and
    torch's are their transposes. The embedding is the Gather's table. The lm_head is the same matrix, quantised a
    second time: it is left out, and the config ties the two.

    Raises ValueError when the tensors found are not just those of `shape`.
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

    expected = tensor_shapes(shape)
    tensors |= {name: np.zeros(size) for name, size in expected.items() if name.endswith(".bias")}
    for name in sorted(expected.keys() | tensors.keys()):
        found = tensors[name].shape if name in tensors else None
        if found != expected.get(name):
            raise ValueError(f"the ONNX graph gives {name} the shape {found}; expected {expected.get(name)}")
    # Contiguous, or safetensors writes a transposed view's memory in the wrong order without a word.
    return {name: np.ascontiguousarray(tensors[name], dtype=np.float16) for name in sorted(tensors)}


def tensor_shapes(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Name and dimensions, (output, input) for matrices, of each tensor of a Qwen2ForCausalLM with tied embeddings."""
    hidden, inner, kv = shape.hidden, shape.intermediate, shape.kv_width
    sizes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (shape.vocab, hidden)}
    for number in range(shape.layers):
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


def config(shape: Shape) -> dict[str, Any]:
    """The config.json of the converted model, as transformers 5 writes it."""
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": 1,
        "dtype": "float16",
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "initializer_range": 0.02,
        "intermediate_size": shape.intermediate,
        "layer_types": ["full_attention"] * shape.layers,
        "max_position_embeddings": 32768,
        "max_window_layers": 28,
        "model_type": "qwen2",
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.kv_heads,
        "pad_token_id": 0,
        "rms_norm_eps": 1e-05,
        "rope_parameters": {"rope_theta": 1000000.0, "rope_type": "default"},
        "sliding_window": None,
        "tie_word_embeddings": True,
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": shape.vocab,
    }
