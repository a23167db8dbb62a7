"""YAMNet: 521 classes of sound every 0.48 s, log-mel in host code, MobileNet in the graph.

Source: M. Plakal and D. Ellis, YAMNet, TensorFlow models; the TFLite file, whose first fifteen
operators (framing, a DFT as int8 matrices, mel) become the host's log-mel, arithmetic included.

TFLite rounds the activations of most layers to 8 bits as it runs. The program ``step`` does the
same, to the last bit; ``step-float`` leaves the rounding out: four times faster, and within 0.01 of
the same scores over a clip.

"As TFLite" means with XNNPACK, its default on processors: from TFLite's own log-mel every score is
equal to 1e-6. The log-mel itself is off by what XNNPACK's square root and logarithm, which differ
from processor to processor, are off by; where that tips an 8-bit rounding, a frame's score moved by
up to 0.022 over ten clips, and a clip's by 0.005. TFLite's other kernels (no delegate) are no
reference: they are up to 0.99 a frame and 0.87 a clip away from its default on the same clips.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from ossicle.export.importers.source import Draft, file_in, npy, source_line
from ossicle.export.tflite.convert import Feed, convert
from ossicle.export.tflite.reader import Operator, Subgraph, read
from ossicle.runtime.errors import ExportError
from ossicle.runtime.manifest import Manifest, Op, Program, ProgramInput, ProgramOutput

HOP, PATCH, MELS, CLASSES, EMBEDDING = 7680, 96, 64, 521, 1024
WINDOW, STRIDE, N_FFT, BINS, OFFSET = 400, 160, 512, 257, 0.001
UPSTREAM = "https://github.com/tensorflow/models/tree/master/research/audioset/yamnet"


def draft(path: Path) -> Draft:
    """Get the bundle of ``yamnet.tflite`` (and ``yamnet_class_map.csv`` beside it)."""
    file = file_in(path, "yamnet.tflite")
    model = read(file)
    patch, embedding, scores = _landmarks(model.subgraphs[0], file.name)
    front, arrays = _front_end(model.subgraphs[0], file.name)
    ends = (
        [Feed(patch, "patch", (PATCH, MELS))],
        [Feed(scores, "scores", (CLASSES,)), Feed(embedding, "embedding", (EMBEDDING,))],
    )
    graph = convert(model, 0, "yamnet", *ends)
    plain = convert(model, 0, "yamnet", *ends, eight_bits=False)
    manifest = Manifest(
        schema=1,
        name="yamnet",
        version="1",
        task="tag",
        license="Apache-2.0",
        license_class="permissive",
        source=source_line(UPSTREAM, [file]),
        sample_rate_hz=16000,
        hop=HOP,
        latency=HOP,
        latency_class="caption",
        labels=_labels(file.parent / "yamnet_class_map.csv"),
        graphs={
            "yamnet": graph.entry("yamnet.onnx"),
            "yamnet-float": plain.entry("yamnet-float.onnx"),
        },
        programs={
            "step": _program(front, "yamnet"),
            "step-float": _program(front, "yamnet-float"),
        },
    )
    graphs = {"yamnet.onnx": graph.bytes(), "yamnet-float.onnx": plain.bytes()}
    return Draft(manifest, {**graphs, **arrays}, tolerance=1e-3)


def _front_end(graph: Subgraph, label: str) -> tuple[dict[str, object], dict[str, bytes]]:
    """Get the parameters and matrices of the 8-bit log-mel that the file starts with."""
    dense = [op for op in graph.operators if op.kind == "FULLY_CONNECTED"][:3]
    weights = [graph.tensors[op.inputs[1]] for op in dense]
    shapes = [w.shape for w in weights]
    if shapes != [(BINS, N_FFT), (BINS, N_FFT), (MELS, BINS)] or any(
        w.data is None or w.quant is None or w.dtype != "int8" for w in weights
    ):
        raise ExportError(f"{label}: front end of {shapes}; two int8 DFT matrices and mel expected")
    cosine, sine, mel = (np.asarray(w.data) for w in weights)
    steps = [float(w.quant.scale[0]) for w in weights if w.quant is not None]
    if steps[0] != steps[1]:
        raise ExportError(f"{label}: cosines and sines have different steps {steps[:2]}")
    lead = _padding(graph, label)
    wave = np.concatenate([cosine, sine])[:, lead : lead + WINDOW]  # the rest meets zeros
    params: dict[str, object] = {
        "win": WINDOW, "hop": STRIDE, "window": "hann", "offset": OFFSET,
        "wave": "wave.npy", "mel": "mel.npy", "wave_step": steps[0], "mel_step": steps[2],
    }  # fmt: skip
    return params, {"wave.npy": npy(wave), "mel.npy": npy(mel)}


def _padding(graph: Subgraph, label: str) -> int:
    """Get how many zeros the file puts before each window."""
    pad = next((op for op in graph.operators if op.kind == "PAD"), None)
    amounts = None if pad is None else graph.tensors[pad.inputs[1]].data
    if amounts is None or amounts.shape != (2, 2) or int(amounts[1].sum()) != N_FFT - WINDOW:
        raise ExportError(f"{label}: windows of {WINDOW} samples padded to {N_FFT} are expected")
    return int(amounts[1, 0])


def _program(front: dict[str, object], graph: str) -> Program:
    fill = float(np.log(OFFSET))
    return Program(
        inputs=(ProgramInput("audio", "audio", (1, HOP)),),
        outputs=(
            ProgramOutput("scores", "frame", (CLASSES,)),
            ProgramOutput("embedding", "frame", (EMBEDDING,)),
        ),
        ops=(
            Op("integer_log_mel", ("audio",), ("mel",), params=front),
            Op("patch", ("mel",), ("patch",),
               params={"frames": PATCH, "width": MELS, "fill": fill}),
            Op("graph", ("patch",), ("scores", "embedding"), graph),
        ),
    )  # fmt: skip


def _landmarks(graph: Subgraph, label: str) -> tuple[int, int, int]:
    """Get the tensors of the mel patch, the embedding and the scores."""
    made = {o: op for op in graph.operators for o in op.outputs}
    first = next((op for op in graph.operators if op.kind == "CONV_2D"), None)
    scores = next((o for o in graph.outputs if graph.tensors[o].shape[-1:] == (CLASSES,)), None)
    if first is None or scores is None:
        raise ExportError(f"{label} has no convolution with {CLASSES} scores; it is not YAMNet")
    patch = first.inputs[0]
    if graph.tensors[patch].shape != (1, PATCH, MELS, 1):
        raise ExportError(
            f"{label}: the first convolution reads {graph.tensors[patch].shape}; YAMNet's reads "
            f"{(1, PATCH, MELS, 1)}"
        )
    return patch, _before(made, made[scores]), scores


def _before(made: dict[int, Operator], op: Operator) -> int:
    """Get the input of the last dense layer."""
    while op.kind != "FULLY_CONNECTED":
        op = made[op.inputs[0]]
    return op.inputs[0]


def _labels(path: Path) -> tuple[str, ...] | None:
    if not path.is_file():
        return None
    with path.open(newline="", encoding="utf-8") as file:
        names = tuple(row["display_name"] for row in csv.DictReader(file))
    if len(names) != CLASSES:
        raise ExportError(f"{path.name} names {len(names)} classes; {CLASSES} are expected")
    return names
