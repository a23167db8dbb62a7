"""The layers of EnCodec, each with its state, in the numbering of the transformers library."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ossicle.export.graph import StepWriter
from ossicle.export.importers.source import Array, Weights


@dataclass(frozen=True, slots=True)
class Config:
    """The sizes that a checkpoint's ``config.json`` names."""

    rate_hz: int
    filters: int
    ratios: tuple[int, ...]
    kernel: int
    last_kernel: int
    residual_kernel: int
    compress: int
    lstm_layers: int
    width: int
    codes: int

    @property
    def stride(self) -> int:
        """Samples in one codec frame."""
        return int(np.prod(self.ratios))


class Net:
    """Writes the layers of one side, each with its state, in the checkpoint's numbering."""

    def __init__(self, g: StepWriter, w: Weights, side: str) -> None:
        self.g, self.w, self.side = g, w, side
        fresh = g.state("fresh", (1, 1), init="ones")  # 1 until the first hop is over
        self.fresh = g.node("Greater", fresh, g.weight(np.float32(0.5)))
        self._old = g.node("Mul", fresh, g.weight(np.float32(0)))

    def done(self) -> None:
        """Close the list of states."""
        self.g.keep("fresh", self._old)

    def elu(self, x: str) -> str:
        """Append an ELU."""
        return self.g.node("Elu", x)

    def _kernel(self, name: str, shape: tuple[int, int, int]) -> Array:
        """Get a weight under weight normalisation: gain times direction, along the first axis."""
        gain, direction = f"{name}.weight_g", f"{name}.weight_v"
        if gain not in self.w:
            gain, direction = (f"{name}.parametrizations.weight.original{i}" for i in (0, 1))
        g = self.w.get(gain, shape[0], 1, 1).astype(np.float64)
        v = self.w.get(direction, *shape).astype(np.float64)
        norm = np.sqrt((v * v).sum(axis=(1, 2), keepdims=True))
        return np.asarray(g * v / np.maximum(norm, 1e-30), np.float32)

    def conv(
        self, x: str, layer: int | str, shape: tuple[int, int, int], *, stride: int = 1
    ) -> str:
        """Append a causal convolution; ``shape`` is input, output channels and taps."""
        inputs, outputs, taps = shape
        name = f"{self.side}.layers.{layer}.conv"
        weight = self._kernel(name, (outputs, inputs, taps))
        bias = self.w.get(f"{name}.bias", outputs)
        if taps > stride:
            x = self._behind(x, f"past_{layer}".replace(".", "_"), inputs, taps - stride)
        g = self.g
        return g.node(
            "Conv", x, g.weight(weight), g.weight(bias), kernel_shape=[taps], strides=[stride]
        )

    def _behind(self, x: str, name: str, channels: int, length: int) -> str:
        """Get ``x`` behind its past: of a new stream the mirror image of its beginning."""
        g = self.g
        past = g.state(name, (channels, length))
        mirror = g.node("Gather", x, g.weight(np.arange(length, 0, -1)), axis=2)
        line = g.concat(g.node("Where", self.fresh, mirror, past), x, axis=2)
        g.keep(past, g.slice(line, -length, np.iinfo(np.int64).max, 2))
        return line

    def residual(self, x: str, layer: int, dim: int, config: Config) -> str:
        """Append a residual unit with its shortcut convolution."""
        hidden = dim // config.compress
        inner = self.conv(self.elu(x), f"{layer}.block.1", (dim, hidden, config.residual_kernel))
        inner = self.conv(self.elu(inner), f"{layer}.block.3", (hidden, dim, 1))
        return self.g.node("Add", self.conv(x, f"{layer}.shortcut", (dim, dim, 1)), inner)

    def transposed(self, x: str, layer: int, shape: tuple[int, int, int], stride: int) -> str:
        """Append a transposed convolution; what reaches past the hop is added to the next one."""
        _, outputs, taps = shape
        g, name = self.g, f"{self.side}.layers.{layer}.conv"
        weight = self._kernel(name, shape)
        spread = g.node("ConvTranspose", x, g.weight(weight), kernel_shape=[taps], strides=[stride])
        rest = g.state(f"rest_{layer}", (outputs, taps - stride))
        head = g.node("Add", g.slice(spread, 0, taps - stride, 2), rest)
        middle = g.slice(spread, taps - stride, stride - taps, 2)
        g.keep(rest, g.slice(spread, stride - taps, np.iinfo(np.int64).max, 2))
        bias = self.w.get(f"{name}.bias", outputs).reshape(-1, 1)
        return g.node("Add", g.concat(head, middle, axis=2), g.weight(bias))

    def lstm(self, x: str, layer: int, width: int, depth: int) -> str:
        """Append LSTM layers over the frames of the hop, with their input added at the end."""
        g, name = self.g, f"{self.side}.layers.{layer}.lstm"
        line = g.transpose(x, 2, 0, 1)  # [T, B, width]
        value = line
        for index in range(depth):
            kernels = [self.w.get(f"{name}.weight_{k}_l{index}", 4 * width, width)
                       for k in ("ih", "hh")]  # fmt: skip
            biases = [self.w.get(f"{name}.bias_{k}_l{index}", 4 * width) for k in ("ih", "hh")]
            w, r = (_onnx_gates(k)[None] for k in kernels)
            bias = np.concatenate([_onnx_gates(b) for b in biases])[None]
            states = [g.state(f"lstm_{index}_{k}", (width,)) for k in "hc"]
            rows = [g.node("Unsqueeze", s, g.ints(0)) for s in states]
            out, h, c = g.nodes(
                "LSTM", value, g.weight(w), g.weight(r), g.weight(bias), "", *rows,
                outputs=3, hidden_size=width,
            )  # fmt: skip
            for state, fresh in zip(states, (h, c), strict=True):
                g.keep(state, g.node("Squeeze", fresh, g.ints(0)))
            value = g.node("Squeeze", out, g.ints(1))
        return g.transpose(g.node("Add", value, line), 1, 2, 0)


def _onnx_gates(weight: Array) -> Array:
    """Get torch's gates (input, forget, cell, output) as ONNX has them (i, o, f, c)."""
    i, f, c, o = np.split(weight, 4, axis=0)
    return np.concatenate([i, o, f, c], axis=0)
