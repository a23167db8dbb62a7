"""Silero VAD: the chance of speech in each 32 ms, from a learned spectrum and one LSTM.

Source: the authors' ONNX file (opset 15, 16 kHz only). Its control flow, which only squeezes axes
of length one, is gone; a frame is the hop behind 64 samples of the last one, and 64 mirrored ones.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ossicle.export.graph import StepWriter
from ossicle.export.importers.cells import gates_in_order, lstm_cell
from ossicle.export.importers.source import Draft, Weights, file_in, load_onnx, source_line
from ossicle.runtime.manifest import Manifest, Op, Program, ProgramInput, ProgramOutput

HOP, CONTEXT, MIRROR = 512, 64, 64
WINDOW, STRIDE, BINS, WIDTH = 256, 128, 129, 128
UPSTREAM = "https://github.com/snakers4/silero-vad"
# Output channels, input channels and stride of the four convolutions (kernel 3, padding 1).
LAYERS = ((128, BINS, 1), (64, 128, 2), (64, 64, 2), (128, 64, 1))


def draft(path: Path) -> Draft:
    """Get the bundle of the 16 kHz ONNX file, given itself or its folder."""
    file = file_in(path, "silero_vad_16k_op15.onnx", "silero_vad.onnx")
    graph = _build(Weights.of_onnx(load_onnx(file), file.name, "Silero VAD"))
    manifest = Manifest(
        schema=1,
        name="silero-vad",
        version="5",
        task="vad",
        license="MIT",
        license_class="permissive",
        source=source_line(UPSTREAM, [file]),
        sample_rate_hz=16000,
        hop=HOP,
        latency=HOP,
        latency_class="talk",
        labels=("speech",),
        graphs={"vad": graph.entry("vad.onnx")},
        programs={
            "step": Program(
                inputs=(ProgramInput("audio", "audio", (1, HOP)),),
                outputs=(ProgramOutput("scores", "frame", (1,)),),
                ops=(
                    Op("frame", ("audio",), ("frame",), params={"context": CONTEXT}),
                    Op("graph", ("frame",), ("scores",), "vad"),
                ),
            )
        },
    )
    return Draft(manifest, {"vad.onnx": graph.bytes()})


def _build(w: Weights) -> StepWriter:
    g = StepWriter("silero_vad")
    frame = g.reshape(g.input("frame", (CONTEXT + HOP,)), -1, 1, CONTEXT + HOP)
    padded = g.node("Pad", frame, g.ints(0, 0, 0, 0, 0, MIRROR), mode="reflect")
    basis = w.get("model.stft.forward_basis_buffer", 2 * BINS, 1, WINDOW)
    spectrum = g.node(
        "Conv", padded, g.weight(basis), kernel_shape=[WINDOW], strides=[STRIDE]
    )  # [B, 258, 4]
    parts = g.reshape(spectrum, -1, 2, BINS, 4)
    power = g.node("ReduceSumSquare", parts, g.ints(1), keepdims=0)
    x = g.node("Sqrt", power)
    for index, (outputs, inputs, stride) in enumerate(LAYERS):
        name = f"model.encoder.{index}.reparam_conv"
        weight = w.get(f"{name}.weight", outputs, inputs, 3)
        bias = w.get(f"{name}.bias", outputs)
        x = g.node(
            "Conv", x, g.weight(weight), g.weight(bias),
            kernel_shape=[3], strides=[stride], pads=[1, 1],
        )  # fmt: skip
        x = g.node("Relu", x)
    cell = "model.decoder.rnn"
    kernel = np.concatenate(
        [
            w.get(f"{cell}.weight_ih", 4 * WIDTH, WIDTH),
            w.get(f"{cell}.weight_hh", 4 * WIDTH, WIDTH),
        ],
        axis=1,
    ).T
    bias = w.get(f"{cell}.bias_ih", 4 * WIDTH) + w.get(f"{cell}.bias_hh", 4 * WIDTH)
    h, c = g.state("h", (WIDTH,)), g.state("c", (WIDTH,))
    # torch keeps the gates as input, forget, cell, output.
    h_next, c_next = lstm_cell(
        g, g.reshape(x, -1, WIDTH), h, c, gates_in_order(kernel, "ifco"),
        gates_in_order(bias, "ifco"),
    )  # fmt: skip
    g.keep(h, h_next)
    g.keep(c, c_next)
    last = w.get("model.decoder.decoder.2.weight", 1, WIDTH, 1)[:, :, 0].T
    shift = w.get("model.decoder.decoder.2.bias", 1)
    score = g.node(
        "Gemm", g.node("Relu", h_next), g.weight(np.ascontiguousarray(last)), g.weight(shift)
    )
    g.output("scores", g.node("Sigmoid", score), (1,))
    return g
