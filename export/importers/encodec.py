"""EnCodec, 24 kHz, from the layout of the transformers library: streamed, and equal to a whole run.

Source: A. Defossez et al., "High Fidelity Neural Audio Compression", 2022. The first convolution
inputs of a stream are padded with their own mirror image, which reaches up to eight values ahead:
so a hop is eight codec frames (2560 samples, 107 ms), and a state says whether a stream is new.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ossicle.export.graph import StepWriter
from ossicle.export.importers.encodec_net import Config, Net
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


def _config(folder: Path) -> Config:
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
    return Config(
        int(c["sampling_rate"]), int(c["num_filters"]),
        tuple(int(r) for r in c["upsampling_ratios"]),
        int(c["kernel_size"]), int(c["last_kernel_size"]), int(c["residual_kernel_size"]),
        int(c["compress"]), int(c["num_lstm_layers"]), int(c["hidden_size"]),
        int(c["codebook_size"]),
    )  # fmt: skip


def _books(w: Weights, config: Config) -> Array:
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
            inputs=(
                ProgramInput("audio", "audio", (1, hop)),
                ProgramInput("layers", "condition", (1,), "int32", "zeros"),  # 0: all
            ),
            outputs=(ProgramOutput(*codes),),
            ops=(
                Op("graph", ("audio",), ("features",), "encoder"),
                Op("rvq_encode", ("features", "layers"), ("codes",), params=books),
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


def _encoder(w: Weights, config: Config) -> StepWriter:
    net = Net(StepWriter("encodec_encoder"), w, "encoder")
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


def _decoder(w: Weights, config: Config) -> StepWriter:
    net = Net(StepWriter("encodec_decoder"), w, "decoder")
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
