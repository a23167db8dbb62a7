"""GTCRN: a small convolutional recurrent denoiser on ERB bands, rewritten for batches.

Source: X. Rong et al., "GTCRN: A Speech Enhancement Model Requiring Ultralow Computational
Resources", ICASSP 2024, and the authors' streaming ONNX, whose 415 nodes do one frame of one
stream. Here the same weights make about a third of the nodes: batch norms are folded, subband
unfolding is part of the convolution behind it, the two groups of each recurrent layer and both
directions of time are one block-diagonal layer, and every cache is a state of its own.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ossicle.export.graph import StepWriter
from ossicle.export.importers.enhancer_card import with_card
from ossicle.export.importers.gtcrn_blocks import (
    DILATIONS,
    HALF,
    Build,
    C,
    Temporal,
    conv,
    dual_path,
    mirrored,
    norm,
    prelu,
    slope_of,
    temporal,
)
from ossicle.export.importers.source import (
    Draft,
    InOrder,
    Weights,
    file_in,
    load_onnx,
    source_line,
)
from ossicle.runtime.manifest import Manifest, Op, Program, ProgramInput, ProgramOutput

N_FFT, HOP, BINS, BANDS, LOW = 512, 256, 257, 129, 65
UPSTREAM = "https://github.com/Xiaobin-Rong/gtcrn"
ABOUT = (
    "GTCRN (X. Rong et al., ICASSP 2024): a small convolutional recurrent denoiser on ERB bands, "
    "trained by its authors."
)


def draft(path: Path) -> Draft:
    """Get the bundle of ``gtcrn_simple.onnx``, given itself or its folder."""
    file = file_in(path, "gtcrn_simple.onnx", "gtcrn.onnx")
    model = load_onnx(file)
    graph = _build(Weights.of_onnx(model, file.name, "GTCRN"), InOrder(model, file.name))
    manifest = Manifest(
        schema=1,
        name="gtcrn",
        version="1",
        task="enhance",
        license="MIT",
        license_class="permissive",
        source=source_line(UPSTREAM, [file]),
        sample_rate_hz=16000,
        hop=HOP,
        latency=N_FFT,
        lookahead=N_FFT - HOP,
        latency_class="talk",
        level_range_dbfs=(-50.0, 0.0),
        graphs={"gtcrn": graph.entry("gtcrn.onnx")},
        programs={"step": _program()},
    )
    return with_card(Draft(manifest, {"gtcrn.onnx": graph.bytes()}), ABOUT)


def _program() -> Program:
    transform = {"n_fft": N_FFT, "hop": HOP, "window": "sqrt_hann"}
    return Program(
        inputs=(ProgramInput("audio", "audio", (1, HOP)),),
        outputs=(ProgramOutput("audio_out", "audio", (1, HOP)),),
        ops=(
            Op("stft", ("audio",), ("spectrum",), params=transform),
            Op("graph", ("spectrum",), ("enhanced",), "gtcrn"),
            Op("istft", ("enhanced",), ("audio_out",), params=transform),
        ),
    )


def _build(named: Weights, order: InOrder) -> StepWriter:
    b = Build(StepWriter("gtcrn"), named, order)
    g = b.g
    spectrum = g.reshape(g.input("spectrum", (BINS, 1, 2)), -1, BINS, 2)
    parts = g.transpose(spectrum, 0, 2, 1)  # [B, 2, bins]
    x, skips = _encode(b, _features(b, parts))
    for index in (1, 2):
        x = dual_path(b, x, index)
    mask = _decode(b, x, skips)
    made = _masked(b, parts, mask)
    g.output("enhanced", g.reshape(g.transpose(made, 0, 2, 1), -1, BINS, 1, 2), (BINS, 1, 2))
    return g


def _features(b: Build, parts: str) -> str:
    """Get magnitude, real and imaginary part in bands with their neighbours, ``[B, 9, 129]``."""
    g = b.g
    power = g.node("ReduceSumSquare", parts, g.ints(1), keepdims=1)
    magnitude = g.node("Sqrt", g.node("Add", power, g.weight(np.float32(1e-12))))
    high = b.order.next("MatMul", (BINS - LOW, BANDS - LOW))[0]
    bands = np.zeros((BINS, BANDS), np.float32)
    bands[:LOW, :LOW] = np.eye(LOW)
    bands[LOW:, LOW:] = high
    x = g.node("MatMul", g.concat(magnitude, parts, axis=1), g.weight(bands))
    unfold = np.zeros((9, 3, 3), np.float32)
    for channel in range(3):
        for tap in range(3):
            unfold[3 * channel + tap, channel, tap] = 1
    return conv(g, x, unfold, None, pad=1)


def _encode(b: Build, x: str) -> tuple[str, list[str]]:
    g, skips = b.g, []
    for inputs in (9, C):
        weight, bias = b.order.next("Conv", (C, 9 if inputs == 9 else HALF, 1, 5), (C,))
        x = conv(g, x, weight[:, :, 0], bias, pad=2, stride=2, groups=1 if inputs == 9 else 2)
        x = prelu(b, x)
        skips.append(x)
    for index, dilation in enumerate(DILATIONS, 2):
        first = b.order.next("Conv", (C, 3 * HALF, 1, 1), (C,))
        alpha = slope_of(b)
        depth = b.order.next("Conv", (C, 1, 3, 3), (C,))
        deep_alpha = slope_of(b)
        last = b.order.next("Conv", (HALF, C, 1, 1), (HALF,))
        block = Temporal(f"encoder_{index}", dilation, alpha, deep_alpha,
                          first[0][:, :, 0, 0], first[1], depth[0][:, 0], depth[1],
                          last[0][:, :, 0, 0], last[1])  # fmt: skip
        x = temporal(b, x, block, b.named.get(f"encoder.en_convs.{index}.tra.att_fc.bias", HALF))
        skips.append(x)
    return x, skips


def _decode(b: Build, x: str, skips: list[str]) -> str:
    """Get the complex mask in ERB bands spread back to bins, ``[B, 2, 257]``."""
    g = b.g
    for index, dilation in enumerate(reversed(DILATIONS)):
        x = g.node("Add", x, skips.pop())
        x = temporal(b, x, mirrored(b, index, dilation),
                      b.named.get(f"decoder.de_convs.{index}.tra.att_fc.bias", HALF))  # fmt: skip
    for index, outputs in ((3, C), (4, 2)):
        name, groups = f"decoder.de_convs.{index}", 2 if index == 3 else 1
        weight = b.named.get(f"{name}.conv.weight", C, outputs // groups, 1, 5)[:, :, 0]
        gain, shift = norm(b.named, f"{name}.bn", outputs)
        scaled = weight.reshape(groups, C // groups, -1, 5) * gain.reshape(groups, 1, -1, 1)
        bias = b.named.get(f"{name}.conv.bias", outputs) * gain + shift
        x = g.node(
            "ConvTranspose", g.node("Add", x, skips.pop()),
            g.weight(scaled.reshape(weight.shape)), g.weight(bias),
            kernel_shape=[5], strides=[2], pads=[2, 2], group=groups,
        )  # fmt: skip
        x = prelu(b, x) if index == 3 else g.node("Tanh", x)
    high = b.order.next("MatMul", (BANDS - LOW, BINS - LOW), where=lambda a: a.shape[0] == 64)[0]
    bins = np.zeros((BANDS, BINS), np.float32)
    bins[:LOW, :LOW] = np.eye(LOW)
    bins[LOW:, LOW:] = high
    return g.node("MatMul", x, g.weight(bins))


def _masked(b: Build, parts: str, mask: str) -> str:
    """Get the complex product of spectrum and mask, both ``[B, 2, bins]``."""
    g = b.g
    real, imaginary = g.nodes("Split", mask, outputs=2, axis=1, num_outputs=2)
    turn = np.array([[0, -1], [1, 0]], np.float32)[:, :, None]  # times i
    turned = conv(g, parts, turn, None)
    return g.node("Add", g.node("Mul", parts, real), g.node("Mul", turned, imaginary))
