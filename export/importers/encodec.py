"""EnCodec, 24 kHz, from the layout of the transformers library: streamed, and equal to a whole run.

Source: A. Defossez et al., "High Fidelity Neural Audio Compression", 2022. The first convolution
inputs of a stream are padded with their own mirror image, which reaches up to eight values ahead:
so a hop is eight codec frames (2560 samples, 107 ms), and a state says whether a stream is new.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ossicle.export.graph import StepWriter
from ossicle.export.importers.source import Array, Draft, Weights, folder_of, npy, source_line
from ossicle.export.importers.tensors import read_tensors
from ossicle.runtime.errors import ExportError
from ossicle.runtime.manifest import Manifest, Op, Program, ProgramInput, ProgramOutput

FRAMES = 8  # codec frames in a hop
UPSTREAM = "https://huggingface.co/facebook/encodec_24khz"
# What this importer is written for; other values are refused by name.
_FIXED = {
    "audio_channels": 1,
    "use_causal_conv": True,
    "pad_mode": "reflect",
    "norm_type": "weight_norm",
    "normalize": False,
    "use_conv_shortcut": True,
    "trim_right_ratio": 1.0,
    "num_residual_layers": 1,
}
_DEFAULTS = {
    **_FIXED, "sampling_rate": 24000, "num_filters": 32, "upsampling_ratios": [8, 5, 4, 2],
    "kernel_size": 7, "last_kernel_size": 7, "residual_kernel_size": 3, "compress": 2,
    "num_lstm_layers": 2, "hidden_size": 128, "codebook_size": 1024,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Config:
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


def draft(path: Path) -> Draft:
    """Get the bundle of a folder with ``config.json`` and ``model.safetensors``."""
    folder = folder_of(path)
    config = _config(folder)
    file = next(
        (folder / n for n in ("model.safetensors", "pytorch_model.bin") if (folder / n).is_file()),
        None,
    )
    if file is None:
        raise ExportError(f"{folder} has no model.safetensors and no pytorch_model.bin")
    weights = Weights(file.name, "EnCodec", read_tensors(file))
    books = _books(weights, config)
    encoder, decoder = _encoder(weights, config), _decoder(weights, config)
    hop = FRAMES * config.stride
    manifest = Manifest(
        schema=1,
        name="encodec",
        version="1",
        task="encode",
        license="CC-BY-NC-4.0",
        license_class="non-commercial",
        source=source_line(UPSTREAM, [file]),
        sample_rate_hz=config.rate_hz,
        hop=hop,
        latency=hop,
        latency_class="caption",
        graphs={"encoder": encoder.entry("encoder.onnx"), "decoder": decoder.entry("decoder.onnx")},
        programs=_programs(hop, len(books)),
    )
    files = {
        "encoder.onnx": encoder.bytes(),
        "decoder.onnx": decoder.bytes(),
        "books.npy": npy(books),
    }
    return Draft(manifest, files, tolerance=1e-3)


def _config(folder: Path) -> _Config:
    try:
        given = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except OSError as err:
        raise ExportError(f"{folder} has no readable config.json") from err
    except ValueError as err:
        raise ExportError(f"config.json is not JSON: {err}") from err
    if not isinstance(given, dict) or given.get("model_type") != "encodec":
        raise ExportError("config.json is not of an EnCodec model (model_type is not 'encodec')")
    c: Mapping[str, Any] = {**_DEFAULTS, **given}
    for key, wanted in _FIXED.items():
        if c[key] != wanted:
            raise ExportError(f"config.json: {key} is {c[key]!r}; only {wanted!r} is imported")
    return _Config(
        int(c["sampling_rate"]), int(c["num_filters"]),
        tuple(int(r) for r in c["upsampling_ratios"]),
        int(c["kernel_size"]), int(c["last_kernel_size"]), int(c["residual_kernel_size"]),
        int(c["compress"]), int(c["num_lstm_layers"]), int(c["hidden_size"]),
        int(c["codebook_size"]),
    )  # fmt: skip


def _books(w: Weights, config: _Config) -> Array:
    books: list[Array] = []
    while f"quantizer.layers.{len(books)}.codebook.embed" in w:
        name = f"quantizer.layers.{len(books)}.codebook.embed"
        books.append(w.get(name, config.codes, config.width))
    if not books:
        raise ExportError(f"{w.label} has no codebooks; it is not an EnCodec checkpoint")
    return np.stack(books)


def _programs(hop: int, layers: int) -> dict[str, Program]:
    books = {"books": "books.npy"}
    codes = ("codes", "frame", (layers, FRAMES), "int32")
    return {
        "encode": Program(
            inputs=(ProgramInput("audio", "audio", (1, hop)),),
            outputs=(ProgramOutput(*codes),),
            ops=(
                Op("graph", ("audio",), ("features",), "encoder"),
                Op("rvq_encode", ("features",), ("codes",), params=books),
            ),
        ),
        "decode": Program(
            inputs=(ProgramInput(*codes),),
            outputs=(ProgramOutput("audio", "audio", (1, hop)),),
            ops=(
                Op("rvq_decode", ("codes",), ("features",), params=books),
                Op("graph", ("features",), ("audio",), "decoder"),
            ),
        ),
    }


def _encoder(w: Weights, config: _Config) -> StepWriter:
    net = _Net(StepWriter("encodec_encoder"), w, "encoder")
    x = net.g.input("audio", (1, FRAMES * config.stride))
    dim = config.filters
    x = net.conv(x, 0, (1, dim, config.kernel))
    layer = 1
    for ratio in reversed(config.ratios):
        x = net.residual(x, layer, dim, config)
        x = net.conv(net.elu(x), layer + 2, (dim, 2 * dim, 2 * ratio), stride=ratio)
        dim, layer = 2 * dim, layer + 3
    x = net.lstm(x, layer, dim, config.lstm_layers)
    x = net.conv(net.elu(x), layer + 2, (dim, config.width, config.last_kernel))
    net.done()
    made = net.g.transpose(x, 0, 2, 1)
    net.g.output("features", made, (FRAMES, config.width))
    return net.g


def _decoder(w: Weights, config: _Config) -> StepWriter:
    net = _Net(StepWriter("encodec_decoder"), w, "decoder")
    dim = config.filters * 2 ** len(config.ratios)
    x = net.g.transpose(net.g.input("features", (FRAMES, config.width)), 0, 2, 1)
    x = net.conv(x, 0, (config.width, dim, config.kernel))
    x = net.lstm(x, 1, dim, config.lstm_layers)
    layer = 2
    for ratio in config.ratios:
        x = net.transposed(net.elu(x), layer + 1, (dim, dim // 2, 2 * ratio), ratio)
        dim //= 2
        x = net.residual(x, layer + 2, dim, config)
        layer += 3
    x = net.conv(net.elu(x), layer + 1, (dim, 1, config.last_kernel))
    net.done()
    net.g.output("audio", x, (1, FRAMES * config.stride))
    return net.g


class _Net:
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

    def residual(self, x: str, layer: int, dim: int, config: _Config) -> str:
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
