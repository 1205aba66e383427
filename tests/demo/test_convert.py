"""The conversion of an 8-bit ONNX graph, on a tiny graph of the same layout whose weights are known."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load, save

from demo.convert import CONFIG, convert, tensor_shapes
from workspace.files import read_json
from workspace.paths import ROOT

TINY = CONFIG | {
    "hidden_size": 8, "intermediate_size": 12, "num_attention_heads": 4, "num_key_value_heads": 2,
    "num_hidden_layers": 2, "vocab_size": 10,
}  # fmt: skip
EXPECTED_MODEL = ROOT.parent / "shared" / "models" / "minimind2-small"


def tiny_graph() -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A graph in the layout of onnxruntime's dynamic quantisation, and the float weights that it stands for.

    Scales are powers of two, so that every product is exact in float16.
    """
    random = np.random.default_rng(0)
    hidden, inner, kv, vocab = 8, 12, 4, 10
    initializers, nodes, weights = [], [], {}

    def add(base: str, size: tuple[int, int], kind: type, zero_point: int) -> np.ndarray:
        limits = np.iinfo(kind)
        q = random.integers(limits.min, limits.max, size, endpoint=True).astype(kind)
        scale = np.float32(2.0 ** -random.integers(4, 9))
        for suffix, array in (("quantized", q), ("scale", scale), ("zero_point", np.array(zero_point, kind))):
            initializers.append(numpy_helper.from_array(np.asarray(array), f"{base}_{suffix}"))
        return (q.astype(np.float64) - zero_point) * float(scale)

    def multiply(path: str, size: tuple[int, int], zero_point: int) -> np.ndarray:
        base = f"onnx::MatMul_{100 + len(nodes)}"
        inputs = ["x_quantized", f"{base}_quantized", "x_zero_point", f"{base}_zero_point"]
        nodes.append(helper.make_node("MatMulInteger", inputs, [f"{path}_out"], name=f"{path}/MatMul_quant"))
        return add(base, size, np.int8, zero_point)

    def norm(name: str) -> None:
        weights[name] = random.integers(-64, 64, hidden) / 32
        initializers.append(numpy_helper.from_array(weights[name].astype(np.float32), name))

    weights["model.embed_tokens.weight"] = add("model.embed_tokens.weight", (vocab, hidden), np.uint8, 128)
    projections = [
        ("self_attn/q_proj", (hidden, hidden)),
        ("self_attn/k_proj", (hidden, kv)),
        ("self_attn/v_proj", (hidden, kv)),
        ("self_attn/o_proj", (hidden, hidden)),
        ("mlp/gate_proj", (hidden, inner)),
        ("mlp/up_proj", (hidden, inner)),
        ("mlp/down_proj", (inner, hidden)),
    ]
    for layer in range(TINY["num_hidden_layers"]):
        norm(f"model.layers.{layer}.input_layernorm.weight")
        norm(f"model.layers.{layer}.post_attention_layernorm.weight")
        for number, (path, size) in enumerate(projections):
            name = f"model.layers.{layer}.{path.replace('/', '.')}.weight"
            weights[name] = multiply(f"/model/layers.{layer}/{path}", size, zero_point=number - 3).T
        for path, width in (("q", hidden), ("k", kv), ("v", kv)):
            weights[f"model.layers.{layer}.self_attn.{path}_proj.bias"] = np.zeros(width)
    norm("model.norm.weight")
    multiply("/lm_head", (hidden, vocab), 0)
    nodes.append(helper.make_node("MatMul", ["a", "b"], ["c"], name="/model/layers.0/self_attn/MatMul"))
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)
    return helper.make_model(helper.make_graph(nodes, "tiny", [], [output], initializers)), weights


def test_weights_are_dequantised_transposed_and_named() -> None:
    model, weights = tiny_graph()
    tensors = convert(model, TINY)
    assert tensors.keys() == weights.keys()
    for name, weight in weights.items():
        assert tensors[name].dtype == np.float16
        np.testing.assert_array_equal(tensors[name].astype(np.float64), weight, err_msg=name)


def test_written_and_read_again_the_tensors_are_the_same() -> None:
    """A transposed view that is not contiguous would be written in the wrong order."""
    tensors = convert(tiny_graph()[0], TINY)
    again = load(save(tensors))
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(again[name], tensor, err_msg=name)


def test_a_missing_matrix_is_named() -> None:
    model, _ = tiny_graph()
    model.graph.node.remove(next(node for node in model.graph.node if "layers.1/mlp/up_proj" in node.name))
    with pytest.raises(ValueError, match=r"model\.layers\.1\.mlp\.up_proj\.weight the shape None; expected \(12, 8\)"):
        convert(model, TINY)


def test_a_missing_scale_is_named() -> None:
    model, _ = tiny_graph()
    model.graph.initializer.remove(next(i for i in model.graph.initializer if i.name == "onnx::MatMul_100_scale"))
    with pytest.raises(ValueError, match="no initializer onnx::MatMul_100_scale"):
        convert(model, TINY)


def test_a_model_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="expected"):
        convert(tiny_graph()[0], CONFIG)


def test_the_demo_model_has_26_million_parameters() -> None:
    sizes = tensor_shapes(CONFIG)
    assert len(sizes) == 98
    assert sum(int(np.prod(size)) for size in sizes.values()) == 25_836_032


@pytest.mark.skipif(not EXPECTED_MODEL.is_dir(), reason="no ../shared/models/minimind2-small to compare with")
def test_config_is_the_expected_one() -> None:
    expected = read_json(EXPECTED_MODEL / "config.json")
    del expected["transformers_version"]
    assert expected == CONFIG
