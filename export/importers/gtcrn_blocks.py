"""The blocks that GTCRN is made of, each as nodes with states of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ossicle.export.graph import StepWriter
from ossicle.export.importers.cells import gru_cell
from ossicle.export.importers.source import Array, InOrder, Weights

C, HALF, WIDE, F = 16, 8, 65, 33  # channels, half of them, bands after one and two convolutions
DILATIONS = (1, 2, 5)
EPS = 1e-5  # torch BatchNorm


@dataclass(frozen=True, slots=True)
class Build:
    """What every block needs: where to write, and where the weights come from."""

    g: StepWriter
    named: Weights
    order: InOrder


@dataclass(frozen=True, slots=True)
class Temporal:
    """Weights of one grouped temporal block, batch norms folded."""

    name: str
    dilation: int
    alpha: float
    deep_alpha: float
    first: Array  # [16, 24]: channel, neighbour
    first_bias: Array
    depth: Array  # [16, 3, 3]: time, band
    depth_bias: Array
    last: Array  # [8, 16]
    last_bias: Array


def mirrored(b: Build, index: int, dilation: int) -> Temporal:
    """Get a decoder block: transposed convolutions of stride 1 are ones with mirrored taps."""
    name, w = f"decoder.de_convs.{index}", b.named
    gain1, shift1 = norm(w, f"{name}.point_bn1", C)
    gain2, shift2 = norm(w, f"{name}.depth_bn", C)
    gain3, shift3 = norm(w, f"{name}.point_bn2", HALF)
    first = w.get(f"{name}.point_conv1.weight", 3 * HALF, C, 1, 1)[:, :, 0, 0].T
    # The streaming module mirrors time itself; its kernel is given for a plain walk over bands.
    depth = w.get(f"{name}.depth_conv.ConvTranspose2d.weight", C, 1, 3, 3)[:, 0, ::-1, ::-1]
    last = w.get(f"{name}.point_conv2.weight", C, HALF, 1, 1)[:, :, 0, 0].T
    return Temporal(
        f"decoder_{index}", dilation, slope_of(b), slope_of(b),
        first * gain1[:, None],
        w.get(f"{name}.point_conv1.bias", C) * gain1 + shift1,
        np.ascontiguousarray(depth * gain2[:, None, None]),
        w.get(f"{name}.depth_conv.ConvTranspose2d.bias", C) * gain2 + shift2,
        last * gain3[:, None],
        w.get(f"{name}.point_conv2.bias", HALF) * gain3 + shift3,
    )  # fmt: skip


def temporal(b: Build, x: str, block: Temporal, fc_bias: Array) -> str:
    """Append one grouped temporal block on ``x`` ``[B, 16, 33]``.

    The lower half of the channels is worked on, the upper half passes; then both are interleaved.
    """
    g = b.g
    first = np.zeros((C, C, 3), np.float32)
    first[:, :HALF] = block.first.reshape(C, HALF, 3)
    h = g.node("LeakyRelu", conv(g, x, first, block.first_bias, pad=1), alpha=block.alpha)
    h = g.node("LeakyRelu", _depth(b, h, block), alpha=block.deep_alpha)
    h = conv(g, h, block.last[:, :, None], block.last_bias)
    h = g.node("Mul", h, _attention(b, h, block.name, fc_bias))
    mixed = np.stack([np.arange(HALF), np.arange(HALF) + C], axis=1).reshape(-1)
    return g.node("Gather", g.concat(h, x, axis=1), g.weight(mixed), axis=1)


def _depth(b: Build, h: str, block: Temporal) -> str:
    """Append the depthwise convolution over time and bands, its past kept as channels."""
    g, d = b.g, block.dilation
    past = g.state(f"{block.name}_past", (2 * d * C, F))
    line = g.concat(past, h, axis=1)  # [B, (2d + 1) * 16, 33], oldest first
    g.keep(past, g.slice(line, C, (2 * d + 1) * C, 1))
    if d > 1:
        taps = (np.arange(3)[:, None] * d * C + np.arange(C)).reshape(-1)
        line = g.node("Gather", line, g.weight(taps), axis=1)
    dense = np.zeros((C, 3, C, 3), np.float32)
    for channel in range(C):
        dense[channel, :, channel] = block.depth[channel]
    return conv(g, line, dense.reshape(C, 3 * C, 3), block.depth_bias, pad=1)


def _attention(b: Build, h: str, name: str, fc_bias: Array) -> str:
    """Get one gain per channel, from the energies of the past: ``[B, 8, 1]``."""
    g = b.g
    w, r, bias = b.order.next("GRU", (1, 48, HALF), (1, 48, C), (1, 96))
    fc = b.order.next("MatMul", (C, HALF), where=lambda a: a.shape == (C, HALF))[0]
    energy = g.node("ReduceSumSquare", h, g.ints(2), keepdims=0)
    memory = g.state(f"{name}_gain", (C,))
    fresh = gru_cell(g, energy, memory, w[0] / F, r[0], bias[0, :48], bias[0, 48:])
    g.keep(memory, fresh)
    gain = g.node("Sigmoid", g.node("Gemm", fresh, g.weight(fc), g.weight(fc_bias)))
    return g.node("Unsqueeze", gain, g.ints(2))


def dual_path(b: Build, x: str, index: int) -> str:
    """Append one recurrent block: along the bands both ways, then along time, ``[B, 16, 33]``."""
    g, name = b.g, f"dpgrnn{index}"
    rows = g.transpose(x, 0, 2, 1)  # [B, 33, 16]
    rows = _normed(b, rows, _along_bands(b, rows), f"{name}.intra")
    rows = _normed(b, rows, _along_time(b, rows, name), f"{name}.inter")
    return g.transpose(rows, 0, 2, 1)


def _normed(b: Build, rows: str, change: str, name: str) -> str:
    fc = b.order.next("MatMul", (C, C), where=lambda a: a.shape == (C, C))[0]
    change = b.g.node("MatMul", change, b.g.weight(fc))
    change = b.g.node("Add", change, b.g.weight(b.named.get(f"{name}_fc.bias", C)))
    scale = b.g.weight(b.named.get(f"{name}_ln.weight", F, C))
    shift = b.g.weight(b.named.get(f"{name}_ln.bias", F, C))
    normed = b.g.node("LayerNormalization", change, scale, shift, axis=-2, epsilon=1e-8)
    return b.g.node("Add", rows, normed)


def _along_bands(b: Build, rows: str) -> str:
    """Append two bidirectional GRUs of 4 units as one of 16 over 33 bands.

    Its input is the row and the row read backwards; groups and directions are diagonal blocks.
    """
    g, hidden = b.g, 4
    pair = [
        b.order.next(
            "GRU", (2, 3 * hidden, HALF), (2, 3 * hidden, hidden), (2, 6 * hidden), (2, 1, hidden)
        )[:3]
        for _ in range(2)
    ]
    w, r, bias = np.zeros((3, C, 2 * C)), np.zeros((3, C, C)), np.zeros((2, 3, C))
    for group, (kernel, recur, shift) in enumerate(pair):
        for way in range(2):
            unit = slice(hidden * (2 * group + way), hidden * (2 * group + way + 1))
            source = slice(C * way + HALF * group, C * way + HALF * (group + 1))
            w[:, unit, source] = kernel[way].reshape(3, hidden, HALF)
            r[:, unit, unit] = recur[way].reshape(3, hidden, hidden)
            bias[:, :, unit] = shift[way].reshape(2, 3, hidden)
    line = g.transpose(rows, 1, 0, 2)  # [33, B, 16]
    backwards = g.weight(np.arange(F)[::-1].copy())
    both = g.concat(line, g.node("Gather", line, backwards, axis=0), axis=2)
    out = g.node(
        "GRU", both, g.weight(w.reshape(1, 3 * C, 2 * C).astype(np.float32)),
        g.weight(r.reshape(1, 3 * C, C).astype(np.float32)),
        g.weight(bias.reshape(1, 6 * C).astype(np.float32)),
        hidden_size=C, linear_before_reset=1,
    )  # fmt: skip
    out = g.transpose(g.node("Squeeze", out, g.ints(1)), 1, 0, 2)  # [B, 33, 16]
    turned = g.node("Gather", out, backwards, axis=1)
    forward = np.array([unit // hidden % 2 == 0 for unit in range(C)])
    return g.node("Where", g.weight(forward), out, turned)


def _along_time(b: Build, rows: str, name: str) -> str:
    """Append two GRUs of 8 units, one step each, as one of 16 on every band."""
    g = b.g
    w, r, bias = np.zeros((3, C, C)), np.zeros((3, C, C)), np.zeros((2, 3, C))
    for group in range(2):
        part = slice(HALF * group, HALF * (group + 1))
        kernel, recur, shift = b.order.next("GRU", (1, 24, HALF), (1, 24, HALF), (1, 48))
        w[:, part, part] = kernel.reshape(3, HALF, HALF)
        r[:, part, part] = recur.reshape(3, HALF, HALF)
        bias[:, :, part] = shift.reshape(2, 3, HALF)
    memory = g.state(f"{name}_time", (F, C))
    flat = [v.astype(np.float32) for v in (w.reshape(48, C), r.reshape(48, C), bias.reshape(2, 48))]
    x, h = g.reshape(rows, -1, C), g.reshape(memory, -1, C)
    fresh = g.reshape(gru_cell(g, x, h, flat[0], flat[1], flat[2][0], flat[2][1]), -1, F, C)
    g.keep(memory, fresh)
    return fresh


def conv(
    g: StepWriter, x: str, weight: Array, bias: Array | None,
    *, pad: int = 0, stride: int = 1, groups: int = 1,
) -> str:  # fmt: skip
    """Append a convolution over bands of ``[B, C, F]``; ``weight`` is ``[O, C / groups, taps]``."""
    weight = np.ascontiguousarray(weight, np.float32)
    extra = [] if bias is None else [g.weight(bias.astype(np.float32))]
    return g.node(
        "Conv", x, g.weight(weight), *extra,
        kernel_shape=[weight.shape[2]], pads=[pad, pad], strides=[stride], group=groups,
    )  # fmt: skip


def slope_of(b: Build) -> float:
    """Get the slope below zero of the next PReLU."""
    return float(b.order.next("PRelu", (1, 1, 1))[0].reshape(()))


def prelu(b: Build, x: str) -> str:
    """Append a PReLU of one parameter, which is a leaky ReLU."""
    return b.g.node("LeakyRelu", x, alpha=slope_of(b))


def norm(w: Weights, name: str, size: int) -> tuple[Array, Array]:
    """Get gain and shift of a folded batch norm."""
    gain = w.get(f"{name}.weight", size) / np.sqrt(w.get(f"{name}.running_var", size) + EPS)
    return gain, w.get(f"{name}.bias", size) - w.get(f"{name}.running_mean", size) * gain
