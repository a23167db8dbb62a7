"""A small codec made on the spot: a windowed cosine transform, cut to 32 numbers, and an RVQ."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ossicle.runtime.bundle import Bundle, write_bundle
from ossicle.runtime.manifest import (
    Graph,
    Manifest,
    Op,
    Port,
    Program,
    ProgramInput,
    ProgramOutput,
    State,
)
from ossicle.runtime.model import Model
from ossicle.streaming.codec.quantiser import fit_residual

HOP, WIDTH, LAYERS, CODES = 320, 32, 16, 64


def mdct() -> np.ndarray:
    """``[2 * HOP, WIDTH]``: the lowest columns of an orthonormal lapped transform."""
    n, k = np.arange(2 * HOP)[:, None], np.arange(WIDTH)[None, :]
    window = np.sin(np.pi * (n + 0.5) / (2 * HOP))
    basis = np.cos(np.pi / HOP * (n + 0.5 + HOP / 2) * (k + 0.5))
    return (np.sqrt(2 / HOP) * window * basis).astype(np.float32)


def onnx_bytes(nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: Any) -> bytes:
    tensors = [numpy_helper.from_array(a, name) for name, a in constants.items()]
    graph = helper.make_graph(nodes, "toy", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def value(name: str, *shape: int) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", *shape])


def encoder() -> bytes:
    nodes = [
        helper.make_node("Concat", ["before", "audio"], ["joined"], axis=2),
        helper.make_node("MatMul", ["joined", "basis"], ["latent"]),
        helper.make_node("Identity", ["audio"], ["before_next"]),
    ]
    return onnx_bytes(
        nodes,
        [value("audio", 1, HOP), value("before", 1, HOP)],
        [value("latent", 1, WIDTH), value("before_next", 1, HOP)],
        {"basis": mdct()},
    )


def decoder() -> bytes:
    nodes = [
        helper.make_node("MatMul", ["latent", "basis"], ["wide"]),
        helper.make_node("Split", ["wide"], ["head", "tail_next"], axis=2, num_outputs=2),
        helper.make_node("Add", ["head", "tail"], ["audio"]),
    ]
    return onnx_bytes(
        nodes,
        [value("latent", 1, WIDTH), value("tail", 1, HOP)],
        [value("audio", 1, HOP), value("tail_next", 1, HOP)],
        {"basis": mdct().T.copy()},
    )


def toy_books() -> np.ndarray:
    """``[K, N, D]`` fitted to tones; code 0 of every layer is zero, so that silence is exact."""
    rng = np.random.default_rng(5)
    time = np.arange(1500 * HOP).reshape(1500, HOP) / 16_000
    pitch = rng.uniform(80, 800, (1500, 3, 1))
    tones = np.sin(2 * np.pi * pitch * time[:, None] + rng.random((1500, 3, 1)) * 6)
    loud = (0.15 * rng.random((1500, 3, 1)) * tones).sum(1)
    hops = np.concatenate([loud, np.roll(loud, 1, axis=1)], axis=1)
    latents = (hops @ mdct()).astype(np.float32)
    books = fit_residual(latents, LAYERS, CODES).vectors.copy()
    books[:, 0] = 0
    return books


def toy_codec(place: Path) -> Bundle:
    stored = io.BytesIO()
    np.save(stored, toy_books())
    books = {"books": "books.npy"}
    encode = Program(
        (
            ProgramInput("audio", "audio", (1, HOP)),
            ProgramInput("layers", "condition", (1,), "int32", "zeros"),
        ),
        (ProgramOutput("codes", "frame", (LAYERS, 1), "int32"),),
        (
            Op("graph", ("audio",), ("z",), "encode"),
            Op("rvq_encode", ("z", "layers"), ("codes",), params=books),
        ),
    )
    decode = Program(
        (ProgramInput("codes", "frame", (LAYERS, 1), "int32"),),
        (ProgramOutput("audio", "audio", (1, HOP)),),
        (
            Op("rvq_decode", ("codes",), ("z",), params=books),
            Op("graph", ("z",), ("audio",), "decode"),
        ),
    )
    manifest = Manifest(
        schema=1, name="toy-codec", version="1", task="encode", license="Apache-2.0",
        license_class="permissive", source="tests", sample_rate_hz=16_000, hop=HOP,
        latency=2 * HOP, latency_class="talk",
        graphs={
            "encode": Graph("encode.onnx", (Port("audio", (1, HOP)),),
                            (Port("latent", (1, WIDTH)),),
                            (State("before", "before_next", (1, HOP)),)),
            "decode": Graph("decode.onnx", (Port("latent", (1, WIDTH)),),
                            (Port("audio", (1, HOP)),), (State("tail", "tail_next", (1, HOP)),)),
        },
        programs={"encode": encode, "decode": decode},
    )  # fmt: skip
    files = {"encode.onnx": encoder(), "decode.onnx": decoder(), "books.npy": stored.getvalue()}
    return write_bundle(place, manifest, files)


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return toy_codec(tmp_path_factory.mktemp("bundles") / "toy-codec")


@pytest.fixture(scope="session")
def toy_model(toy: Bundle) -> Model:
    return Model.load(toy)
