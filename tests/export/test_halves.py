from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from ossicle.export.halves import halved, rounded
from ossicle.runtime.errors import ExportError


def graph_of(weight: np.ndarray, bias: np.ndarray) -> bytes:
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"])]
    ports = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size])]
        for name, size in (("x", weight.shape[0]), ("y", weight.shape[1]))
    ]
    held = [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")]
    graph = helper.make_graph(nodes, "g", *ports, initializer=held)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9
    ).SerializeToString()


def run(data: bytes, x: np.ndarray) -> np.ndarray:
    return np.asarray(ort.InferenceSession(data).run(None, {"x": x})[0])


def test_what_was_rounded_first_is_halved_without_loss() -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(64, 32)
    before = layer.weight.clone()
    rounded(layer)
    assert 0 < float((layer.weight - before).detach().abs().max()) < 1e-3
    weight, bias = layer.weight.detach().numpy().T.copy(), layer.bias.detach().numpy()
    whole = graph_of(weight, bias)
    small = halved(whole)
    assert len(small) < 0.6 * len(whole)
    onnx.checker.check_model(onnx.load_from_string(small))
    x = np.random.default_rng(0).standard_normal((1, 64)).astype(np.float32)
    np.testing.assert_array_equal(run(small, x), run(whole, x))


def test_small_weights_stay_as_they_are() -> None:
    bias = np.float32([1e-9, 2.0])
    small = onnx.load_from_string(halved(graph_of(np.ones((600, 2), np.float32), bias)))
    kept = {w.name: numpy_helper.to_array(w) for w in small.graph.initializer}
    np.testing.assert_array_equal(kept["b"], bias)
    assert kept["w_half"].dtype == np.float16


def test_a_weight_too_large_is_refused_by_name() -> None:
    layer = torch.nn.Linear(64, 32)
    layer.weight.data[0, 0] = 1e5
    with pytest.raises(ExportError, match="weight reaches 100000"):
        rounded(layer)
