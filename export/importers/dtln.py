"""DTLN: two LSTM masks, one on magnitudes and one on a learned basis.

Source: N. L. Westhausen and B. T. Meyer, "Dual-signal Transformation LSTM Network for Real-time
Noise Suppression", Interspeech 2020. The two ONNX graphs are rewritten with a free batch axis and
states as rows; transforms and overlap-add run on the host.

The program ``as_published`` is the authors' own loop. It was trained near one loudness and is poor
far from it, so ``step`` brings its input there, slowly, and what comes out back to where it was.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from ossicle.export.graph import StepWriter
from ossicle.export.importers.cells import gates_in_order, lstm_cell
from ossicle.export.importers.enhancer_card import with_card
from ossicle.export.importers.source import Array, Draft, Weights, folder_of, load_onnx, source_line
from ossicle.runtime.errors import ExportError
from ossicle.runtime.manifest import Manifest, Op, Program, ProgramInput, ProgramOutput

FRAME, HOP, WIDTH, BINS, BASIS = 512, 128, 128, 257, 256
LEVEL = {"target_dbfs": -26.0, "attack_hops": 12.0, "release_hops": 400.0, "max_gain_db": 40.0}
UPSTREAM = "https://github.com/breizhn/DTLN"
ABOUT = (
    "DTLN (N. L. Westhausen and B. T. Meyer, Interspeech 2020): two LSTM masks in a row, trained "
    "by its authors on the DNS challenge. `step` brings its input to the loudness that it was "
    "trained at, and back; `as_published` does not."
)


def draft(path: Path) -> Draft:
    """Get the bundle of the folder that holds ``model_1.onnx`` and ``model_2.onnx``."""
    folder = folder_of(path)
    files = [folder / "model_1.onnx", folder / "model_2.onnx"]
    for file in files:
        if not file.is_file():
            raise ExportError(f"{folder} has no {file.name}; DTLN is two ONNX files")
    first = _magnitude_mask(Weights.of_onnx(load_onnx(files[0]), files[0].name, "DTLN"))
    second = _basis_mask(Weights.of_onnx(load_onnx(files[1]), files[1].name, "DTLN"))
    manifest = Manifest(
        schema=1,
        name="dtln",
        version="1",
        task="enhance",
        license="MIT",
        license_class="permissive",
        source=source_line(UPSTREAM, files),
        sample_rate_hz=16000,
        hop=HOP,
        latency=FRAME,
        lookahead=FRAME - HOP,
        latency_class="talk",
        level_range_dbfs=(-65.0, 0.0),
        graphs={"magnitude": first.entry("magnitude.onnx"), "basis": second.entry("basis.onnx")},
        programs={"step": _levelled(_program()), "as_published": _program()},
    )
    content = {"magnitude.onnx": first.bytes(), "basis.onnx": second.bytes()}
    return with_card(Draft(manifest, content), ABOUT)


def _program() -> Program:
    size = {"n_fft": FRAME}
    return Program(
        inputs=(ProgramInput("audio", "audio", (1, HOP)),),
        outputs=(ProgramOutput("audio_out", "audio", (1, HOP)),),
        ops=(
            Op("stft", ("audio",), ("spectrum",), params={**size, "hop": HOP, "window": "rect"}),
            Op("magnitude", ("spectrum",), ("magnitude",)),
            Op("graph", ("magnitude",), ("mask",), "magnitude"),
            Op("apply_mask", ("spectrum", "mask"), ("masked",)),
            Op("irfft", ("masked",), ("frame",), params=size),
            Op("graph", ("frame",), ("cleaned",), "basis"),
            Op("overlap_add", ("cleaned",), ("audio_out",), params={"hop": HOP, "size": FRAME}),
        ),
    )


def _levelled(line: Program) -> Program:
    """The same between a gain towards one loudness and its inverse, as late as the output is."""
    renamed = {"audio": "levelled", "audio_out": "cleaned_audio"}
    ops = [
        msgspec.structs.replace(
            op,
            inputs=tuple(renamed.get(name, name) for name in op.inputs),
            outputs=tuple(renamed.get(name, name) for name in op.outputs),
        )
        for op in line.ops
    ]
    up = Op("level", ("audio",), ("levelled", "gain"), params=LEVEL)
    down = Op("unlevel", ("cleaned_audio", "gain"), ("audio_out",), params={"delay": FRAME - HOP})
    return msgspec.structs.replace(line, ops=(up, *ops, down))


def _lstm(g: StepWriter, x: str, name: str, kernel: Array, bias: Array) -> str:
    """Append an LSTM with its two states and get its output."""
    h, c = g.state(f"{name}_h", (WIDTH,)), g.state(f"{name}_c", (WIDTH,))
    h_next, c_next = lstm_cell(g, x, h, c, kernel, bias)
    g.keep(h, h_next)
    g.keep(c, c_next)
    return h_next


def _magnitude_mask(w: Weights) -> StepWriter:
    """Get the first graph: magnitude ``[B, 1, 257]`` to mask ``[B, 1, 257]``."""
    g = StepWriter("dtln_magnitude")
    x = g.reshape(g.input("magnitude", (1, BINS)), -1, BINS)
    for name, size in (("lstm_4", BINS), ("lstm_5", WIDTH)):
        forward = w.get(f"{name}_W", 1, 4 * WIDTH, size)[0]
        back = w.get(f"{name}_R", 1, 4 * WIDTH, WIDTH)[0]
        bias = w.get(f"{name}_B", 1, 8 * WIDTH)[0].reshape(2, -1).sum(axis=0)
        kernel = np.concatenate([forward, back], axis=1).T
        # ONNX keeps the gates as input, output, forget, cell.
        x = _lstm(g, x, name, gates_in_order(kernel, "iofc"), gates_in_order(bias, "iofc"))
    dense = w.get("dense_2/kernel:0", WIDTH, BINS), w.get("dense_2/bias:0", BINS)
    mask = g.node("Sigmoid", g.node("Gemm", x, g.weight(dense[0]), g.weight(dense[1])))
    g.output("mask", g.reshape(mask, -1, 1, BINS), (1, BINS))
    return g


def _basis_mask(w: Weights) -> StepWriter:
    """Get the second graph: frame ``[B, 1, 512]`` to frame ``[B, 1, 512]``."""
    g = StepWriter("dtln_basis")
    resource = "ReadVariableOp/resource:0"
    frame = g.reshape(g.input("frame", (1, FRAME)), -1, FRAME)
    encode = w.get("conv1d_2/kernel:0", BASIS, FRAME, 1)[:, :, 0].T
    basis = g.node("MatMul", frame, g.weight(np.ascontiguousarray(encode)))
    norm = "model_2/instant_layer_normalization_1"
    x = g.node(
        "LayerNormalization", basis,
        g.weight(w.get(f"{norm}/mul/{resource}", BASIS)),
        g.weight(w.get(f"{norm}/add_1/{resource}", BASIS)),
        axis=-1, epsilon=float(w.get(f"{norm}/add/y:0")),
    )  # fmt: skip
    for name, size in (("lstm_6", BASIS), ("lstm_7", WIDTH)):
        forward = w.get(f"model_2/{name}/MatMul/{resource}", size, 4 * WIDTH)
        back = w.get(f"model_2/{name}/MatMul_1/{resource}", WIDTH, 4 * WIDTH)
        bias = w.get(f"model_2/{name}/BiasAdd/{resource}", 4 * WIDTH)
        kernel = np.concatenate([forward, back], axis=0)
        # Keras keeps the gates as input, forget, cell, output.
        x = _lstm(g, x, name, gates_in_order(kernel, "ifco"), gates_in_order(bias, "ifco"))
    dense = w.get("model_2/dense_3/Tensordot/Reshape_1:0", WIDTH, BASIS)
    bias = w.get(f"model_2/dense_3/BiasAdd/{resource}", BASIS)
    mask = g.node("Sigmoid", g.node("Gemm", x, g.weight(dense), g.weight(bias)))
    decode = w.get("conv1d_3/kernel:0", FRAME, BASIS, 1)[:, :, 0].T
    masked = g.node("Mul", basis, mask)
    made = g.node("MatMul", masked, g.weight(np.ascontiguousarray(decode)))
    g.output("cleaned", g.reshape(made, -1, 1, FRAME), (1, FRAME))
    return g
