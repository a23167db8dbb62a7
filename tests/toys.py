"""Small bundles made on the spot, with known behaviour: a stateful filter, and its broken kin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
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

RATE = 16_000


def fir_onnx(hop: int, taps: NDArray[np.float32]) -> bytes:
    """A causal FIR filter as one Conv with an explicit history of ``len(taps) - 1`` samples."""
    memory = len(taps) - 1
    nodes = [
        helper.make_node("Concat", ["history", "audio"], ["joined"], axis=2),
        helper.make_node("Conv", ["joined", "taps"], ["out"]),
        helper.make_node("Slice", ["joined", "from", "to", "axis"], ["history_next"]),
    ]
    constants = [
        numpy_helper.from_array(taps[::-1].reshape(1, 1, -1).copy(), "taps"),
        numpy_helper.from_array(np.array([hop], np.int64), "from"),
        numpy_helper.from_array(np.array([hop + memory], np.int64), "to"),
        numpy_helper.from_array(np.array([2], np.int64), "axis"),
    ]

    def value(name: str, length: int) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", 1, length])

    graph = helper.make_graph(
        nodes,
        "fir",
        [value("audio", hop), value("history", memory)],
        [value("out", hop), value("history_next", memory)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def fir_manifest(name: str, hop: int, memory: int, **changes: Any) -> Manifest:
    fields: dict[str, Any] = {
        "schema": 1,
        "name": name,
        "version": "1",
        "task": "enhance",
        "license": "Apache-2.0",
        "license_class": "permissive",
        "source": "tests/toys.py",
        "sample_rate_hz": RATE,
        "hop": hop,
        "latency": hop,
        "latency_class": "talk",
        "graphs": {
            "main": Graph(
                "main.onnx",
                (Port("audio", (1, hop)),),
                (Port("out", (1, hop)),),
                (State("history", "history_next", (1, memory)),),
            )
        },
        "programs": {
            "step": Program(
                (ProgramInput("audio", "audio", (1, hop)),),
                (ProgramOutput("out", "audio", (1, hop)),),
                (Op("graph", ("audio",), ("out",), "main"),),
            )
        },
    }
    return Manifest(**{**fields, **changes})


def write_fir(place: Path, hop: int = 64, taps: NDArray[np.float32] | None = None) -> Bundle:
    """A bundle that filters; the first tap is not zero, so that its delay is none."""
    if taps is None:
        taps = np.array([0.5, 0.25, -0.125, 0.0625, 0.3], np.float32)
    manifest = fir_manifest(place.stem, hop, len(taps) - 1)
    return write_bundle(place, manifest, {"main.onnx": fir_onnx(hop, taps)})


def write_stft(place: Path, n_fft: int = 512, hop: int = 256) -> Bundle:
    """A bundle of host transforms only: analysis and synthesis, delay ``n_fft - hop``."""
    window = {"n_fft": n_fft, "hop": hop, "window": "sqrt_hann"}
    program = Program(
        (ProgramInput("audio", "audio", (1, hop)),),
        (ProgramOutput("out", "audio", (1, hop)),),
        (Op("stft", ("audio",), ("s",), params=window), Op("istft", ("s",), ("out",),
                                                            params=window)),
    )  # fmt: skip
    manifest = fir_manifest(
        place.stem, hop, 1, graphs={}, programs={"step": program}, latency=n_fft,
        lookahead=n_fft - hop,
    )  # fmt: skip
    return write_bundle(place, manifest, {})


def write_masked(place: Path, n_fft: int = 512, hop: int = 256) -> Bundle:
    """Like :func:`write_stft`, with gains ``mask`` that every stream has to give."""
    window = {"n_fft": n_fft, "hop": hop, "window": "sqrt_hann"}
    program = Program(
        (ProgramInput("audio", "audio", (1, hop)),
         ProgramInput("mask", "condition", (1, n_fft // 2 + 1))),
        (ProgramOutput("out", "audio", (1, hop)),),
        (Op("stft", ("audio",), ("s",), params=window), Op("apply_mask", ("s", "mask"), ("m",)),
         Op("istft", ("m",), ("out",), params=window)),
    )  # fmt: skip
    manifest = fir_manifest(
        place.stem, hop, 1, graphs={}, programs={"step": program}, latency=n_fft,
        lookahead=n_fft - hop,
    )  # fmt: skip
    return write_bundle(place, manifest, {})
