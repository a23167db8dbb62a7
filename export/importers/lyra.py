"""Lyra v2: Google's causal SoundStream codec, three TFLite files as one batchable bundle.

Source: N. Zeghidour et al., "SoundStream: An End-to-End Neural Audio Codec", 2021, and the weights
of google/lyra 1.3. Encoder and decoder keep their convolution history in resource variables, which
become states; the quantiser is 46 codebooks of 16 vectors, searched by this package's kernel.

Part of both networks is full int8 (trained quantisation). The programs ``encode`` and ``decode``
keep it, as QDQ; ``encode-float`` and ``decode-float`` are floats alone, which is what engines
without unsigned 8-bit activations need, and round where the int8 regions do: both give TFLite's
codes. Floats that are not rounded give other codes and sound better: over 64 utterances at 3.2
kbps PESQ is 0.043 (95 %: 0.023 to 0.064) above TFLite's, of which 0.034 is the decoder's on the
same codes. Holding them to the int8 ranges changes nothing. Rounding costs little natively; on ONNX
Runtime it makes the float graphs take more than twice their time: there the first pair is faster.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ossicle.export.graph import StepWriter
from ossicle.export.importers.source import Array, Draft, checked, folder_of, npy, source_line
from ossicle.export.tflite.convert import Feed, convert
from ossicle.export.tflite.reader import TFLite, read
from ossicle.runtime.errors import ExportError
from ossicle.runtime.manifest import Manifest, Op, Program, ProgramInput, ProgramOutput

HOP, WIDTH, LAYERS, CODES = 320, 64, 46, 16
UPSTREAM = "https://github.com/google/lyra"
FILES = ("soundstream_encoder.tflite", "quantizer.tflite", "lyragan.tflite")


def draft(path: Path) -> Draft:
    """Get the bundle of the folder that holds the three TFLite files."""
    folder = folder_of(path)
    files = [folder / name for name in FILES]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise ExportError(f"{folder} has no {', '.join(missing)}; Lyra is {', '.join(FILES)}")
    encoder, quantiser, decoder = (read(file) for file in files)
    content = {"books.npy": npy(codebooks(quantiser, files[1].name))}
    graphs = {}
    for suffix, quantised in (("", True), ("-float", False)):
        precision = "mixed" if quantised else "fp32"
        for name, step in (
            (f"encoder{suffix}", encoder_step(encoder, files[0].name, quantised)),
            (f"decoder{suffix}", decoder_step(decoder, files[2].name, quantised)),
        ):
            content[f"{name}.onnx"] = step.bytes()
            content |= {file: npy(value) for file, value in step.inits.items()}
            graphs[name] = step.entry(f"{name}.onnx", precision=precision)
    manifest = Manifest(
        schema=1,
        name="lyra",
        version="2",
        task="encode",
        license="Apache-2.0",
        license_class="permissive",
        source=source_line(UPSTREAM, files),
        sample_rate_hz=16000,
        hop=HOP,
        latency=HOP,
        latency_class="talk",
        graphs=graphs,
        programs={
            name + suffix: program
            for suffix in ("", "-float")
            for name, program in _programs(suffix).items()
        },
        extra={"layers_by_bps": {"3200": 16, "6000": 30, "9200": 46}},
    )
    return Draft(manifest, content, tolerance=1e-3)


def _programs(suffix: str) -> dict[str, Program]:
    books = {"books": "books.npy"}
    encode = Program(
        inputs=(
            ProgramInput("audio", "audio", (1, HOP)),
            ProgramInput("layers", "condition", (1,), "int32", "zeros"),  # 0: all
        ),
        outputs=(ProgramOutput("codes", "frame", (LAYERS, 1), "int32"),),
        ops=(
            Op("graph", ("audio",), ("features",), f"encoder{suffix}"),
            Op("rvq_encode", ("features", "layers"), ("codes",), params=books),
        ),
    )
    decode = Program(
        inputs=(ProgramInput("codes", "frame", (LAYERS, 1), "int32"),),
        outputs=(ProgramOutput("audio", "audio", (1, HOP)),),
        ops=(
            Op("rvq_decode", ("codes",), ("features",), params=books),
            Op("graph", ("features",), ("audio",), f"decoder{suffix}"),
        ),
    )
    return {"encode": encode, "decode": decode}


def encoder_step(model: TFLite, label: str, quantised: bool) -> StepWriter:
    """Get the step from ``[B, 1, 320]`` audio to ``[B, 1, 64]`` features."""
    given, made = _ports(model, label, (1, HOP), (1, 1, WIDTH))
    feeds = [Feed(given, "audio", (1, HOP))], [Feed(made, "features", (1, WIDTH))]
    return convert(model, 0, "lyra_encoder", *feeds, quantised=quantised, grids=True)


def decoder_step(model: TFLite, label: str, quantised: bool) -> StepWriter:
    """Get the step from ``[B, 1, 64]`` features to ``[B, 1, 320]`` audio."""
    given, made = _ports(model, label, (1, 1, WIDTH), (1, HOP))
    feeds = [Feed(given, "features", (1, WIDTH))], [Feed(made, "audio", (1, HOP))]
    return convert(model, 0, "lyra_decoder", *feeds, quantised=quantised, grids=True)


def _ports(
    model: TFLite, label: str, given: tuple[int, ...], made: tuple[int, ...]
) -> tuple[int, int]:
    graph = model.subgraphs[0]
    shapes = [[graph.tensors[i].shape for i in side] for side in (graph.inputs, graph.outputs)]
    if shapes != [[given], [made]]:
        raise ExportError(
            f"{label} maps {shapes[0]} to {shapes[1]}; Lyra v2 maps {given} to {made}. "
            "Are the files in each other's place, or of another version?"
        )
    return graph.inputs[0], graph.outputs[0]


def codebooks(model: TFLite, label: str) -> Array:
    """Get the codebooks ``[46, 16, 64]`` in the order of their layers."""
    graph = model.subgraphs[model.signatures.get("encode", -1)]
    found = [
        graph.tensors[i].data
        for op in graph.operators
        if op.kind == "SQUARED_DIFFERENCE"
        for i in op.inputs
        if graph.tensors[i].data is not None
    ]
    if len(found) != LAYERS:
        raise ExportError(f"{label} holds {len(found)} codebooks; Lyra v2 has {LAYERS}")
    books = [checked(np.asarray(b), (1, CODES, WIDTH), "codebook", label)[0] for b in found]
    return np.stack(books)
