"""Smaller numbers for a bundle, and a refusal where they cost too much quality.

Three kinds, each an artefact of its own: ``int8`` for CPUs (unsigned activations, signed weights
per channel, QDQ, calibrated), ``int8-trt`` for TensorRT (both signed, symmetric: slower than fp32
on a CPU), and ``fp16`` for GPUs. Ports and states keep their types, so programs stay as they are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from ossicle.export.finish import finish, scratch_folder
from ossicle.export.onnxfile import tidy, to_bytes
from ossicle.runtime.backend import BoundGraph, LoadedGraph
from ossicle.runtime.backend.ort import OrtBackend
from ossicle.runtime.bundle import Bundle
from ossicle.runtime.errors import ExportError
from ossicle.runtime.manifest import Graph, Manifest, Metric
from ossicle.runtime.model import Model

Arrays = Mapping[str, NDArray[Any]]
Feed = dict[str, NDArray[Any]]
Quality = Callable[[Model], float]
KINDS = ("int8", "int8-trt", "fp16")
MAX_SAMPLES = 256
OPERATORS = ("Conv", "MatMul", "Gemm")


def quantise_bundle(
    bundle: Bundle,
    place: str | Path,
    *,
    kind: str,
    calibration: Iterable[Arrays],
    quality: Quality,
    bound: float,
    quality_name: str = "quality",
    program: str = "step",
    graphs: Iterable[str] | None = None,
) -> Bundle:
    """Write ``bundle`` in smaller numbers, unless quality falls by more than ``bound``.

    Args:
        bundle: what to quantise; it stays as it is.
        place: where the new bundle goes.
        kind: ``int8``, ``int8-trt`` or ``fp16``.
        calibration: inputs ``[1, ...]`` of consecutive hops of ``program``; unused by ``fp16``.
        quality: a figure of a model, higher is better, on data that is not the calibration's.
        bound: the largest loss that is shipped.
        quality_name: what the figure is called in the manifest.
        program: what calibrates and is timed.
        graphs: ids to quantise; all by default.

    Raises:
        ExportError: unknown kind, no calibration, or a loss past ``bound``; nothing is written.
    """
    if kind not in KINDS:
        raise ExportError(f"kind {kind!r}; one of {', '.join(KINDS)} expected")
    chosen = list(bundle.manifest.graphs) if graphs is None else list(graphs)
    feeds = {} if kind == "fp16" else record(bundle, calibration, program)
    content = {name: bundle.read(name) for name in bundle.manifest.files}
    content = {n: data for n, data in content.items() if not n.startswith("golden/")}
    entries = dict(bundle.manifest.graphs)
    for name in chosen:
        entry = entries[name]
        if kind != "fp16" and not feeds.get(name):
            raise ExportError(f"calibration never ran graph {name!r}; give it inputs that do")
        data = content[entry.file]
        made = to_fp16(data) if kind == "fp16" else to_int8(data, feeds[name], kind == "int8-trt")
        content[entry.file] = made
        entries[name] = _entry(entry, kind)
    manifest = msgspec.structs.replace(
        bundle.manifest, name=f"{bundle.manifest.name}-{kind}", graphs=entries, golden=()
    )
    return _judged(bundle, place, manifest, content, quality, bound, quality_name, program)


def _entry(entry: Graph, kind: str) -> Graph:
    precision = "fp16" if kind == "fp16" else "int8"
    target = {"fp16": "cuda", "int8": "cpu", "int8-trt": "trt10"}[kind]
    return msgspec.structs.replace(
        entry, precision=precision, target=target, exactness="approximate"
    )


def _judged(
    before: Bundle,
    place: str | Path,
    manifest: Manifest,
    content: dict[str, bytes],
    quality: Quality,
    bound: float,
    label: str,
    program: str,
) -> Bundle:
    """Measure both, refuse a loss past ``bound``, and write with the figures in the manifest."""
    with scratch_folder() as scratch:
        draft = finish(Path(scratch) / "draft", manifest, content, golden_hops=0)
        models = {"before": Model.load(before), "after": Model.load(draft)}
        figures = {when: float(quality(model)) for when, model in models.items()}
        lost = figures["before"] - figures["after"]
        if not lost <= bound:
            raise ExportError(
                f"{manifest.name}: {label} falls from {figures['before']:.4g} to "
                f"{figures['after']:.4g}, by {lost:.4g}; at most {bound:.4g} is allowed, "
                "so nothing was written"
            )
        metrics = [Metric(f"{label} {when}", value) for when, value in figures.items()]
        metrics += [
            Metric(f"step {when}", step_us(model, program), "us") for when, model in models.items()
        ]
    manifest = msgspec.structs.replace(manifest, metrics=(*manifest.metrics, *metrics))
    return finish(place, manifest, content, tolerance=0.05)


def step_us(model: Model, program: str = "step", steps: int = 200) -> float:
    """Get the median time of one hop of one stream, in microseconds."""
    line, state = model.program(program), model.open(1, program)
    inputs = {p.name: np.zeros((1, *p.shape), p.dtype) for p in line.inputs}
    times = []
    for _ in range(steps):
        start = time.perf_counter_ns()
        model.step(state, inputs)
        times.append(time.perf_counter_ns() - start)
    return float(np.median(times)) / 1e3


# Calibration: what goes into each graph while a program runs.


def record(bundle: Bundle, hops: Iterable[Arrays], program: str = "step") -> dict[str, list[Feed]]:
    """Get the inputs and states of every graph call while ``hops`` run through ``program``."""
    backend = _Recorder()
    model = Model.load(bundle, backend)
    state = model.open(1, program)
    for hop in hops:
        model.step(state, hop)
    return {name: _thinned(feeds) for name, feeds in backend.feeds.items()}


def _thinned(feeds: list[Feed]) -> list[Feed]:
    stride = max(1, -(-len(feeds) // MAX_SAMPLES))
    return feeds[::stride]


class _Recorder:
    """ONNX Runtime, with a copy of everything that goes in."""

    name = "ort"

    def __init__(self) -> None:
        self.feeds: dict[str, list[Feed]] = {}

    def load(self, bundle: Bundle, graph: str) -> LoadedGraph:
        return _RecordedGraph(OrtBackend().load(bundle, graph), self.feeds.setdefault(graph, []))


class _RecordedGraph:
    def __init__(self, inner: LoadedGraph, feeds: list[Feed]) -> None:
        self.inner, self.feeds = inner, feeds

    def bind(self, batch: int) -> BoundGraph:
        return _RecordedBound(self.inner.bind(batch), self.feeds)


class _RecordedBound:
    def __init__(self, inner: BoundGraph, feeds: list[Feed]) -> None:
        self.inner, self.feeds = inner, feeds

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        both = {**inputs, **self.inner.states()}
        self.feeds.append({name: np.array(value) for name, value in both.items()})
        return self.inner.run(inputs)

    def states(self) -> dict[str, NDArray[Any]]:
        return self.inner.states()

    def previous(self) -> dict[str, NDArray[Any]]:
        return self.inner.previous()


# The conversions.


def to_int8(data: bytes, feeds: list[Feed], symmetric: bool = False) -> bytes:
    """Get a QDQ graph: per-channel int8 weights, activations uint8 or (symmetric) int8."""
    from onnxruntime import quantization as q

    class Reader(q.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left = iter(feeds)

        def get_next(self) -> Feed | None:
            return next(self._left, None)

    model = onnx.load_from_string(data)
    with scratch_folder() as scratch:
        source, target = Path(scratch) / "in.onnx", Path(scratch) / "out.onnx"
        source.write_bytes(data)
        q.quantize_static(
            source, target, Reader(),
            quant_format=q.QuantFormat.QDQ, per_channel=True, op_types_to_quantize=list(OPERATORS),
            activation_type=q.QuantType.QInt8 if symmetric else q.QuantType.QUInt8,
            weight_type=q.QuantType.QInt8,
            extra_options={"ActivationSymmetric": symmetric, "WeightSymmetric": True},
        )  # fmt: skip
        made = onnx.load(target)
    return _settled(made, model)


def to_fp16(data: bytes) -> bytes:
    """Get the graph with half-precision weights and arithmetic; ports stay as they are."""
    from onnxruntime.transformers import float16

    model = onnx.load_from_string(data)
    made = float16.convert_float_to_float16(onnx.load_from_string(data), keep_io_types=True)
    return _settled(made, model)


def _settled(made: onnx.ModelProto, before: onnx.ModelProto) -> bytes:
    if any(n.domain not in ("", "ai.onnx") for n in made.graph.node):
        raise ExportError("the quantiser made operators outside ONNX; the graph was left as it is")
    return to_bytes(tidy(made, before.graph.name))
