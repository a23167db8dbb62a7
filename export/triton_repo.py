"""Bundles as model repositories of NVIDIA Triton Inference Server.

Each graph becomes one model with sequence batching and implicit state: the server keeps the states
of a stream (a *sequence*, opened by START and closed by END) and batches ready streams, as the
engine here does. Host transforms stay with the client; ``ossicle.json`` beside the models is the
manifest that says which.

Batch axes: the server adds one to every ``dims``, so the manifest's shapes go in as they are.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np

from ossicle.runtime.bundle import Bundle
from ossicle.runtime.errors import ExportError
from ossicle.runtime.manifest import Graph, State

_TYPES = {
    "float32": "TYPE_FP32",
    "float16": "TYPE_FP16",
    "int64": "TYPE_INT64",
    "int32": "TYPE_INT32",
    "int8": "TYPE_INT8",
    "uint8": "TYPE_UINT8",
    "bool": "TYPE_BOOL",
}
IDLE_US = 10_000_000  # a stream silent for this long loses its state


def write_repository(bundle: Bundle, out: Path) -> Path:
    """Write every graph of ``bundle`` as a model below ``out``; whole or not at all."""
    if not bundle.manifest.graphs:
        raise ExportError(f"{bundle.manifest.name} has no graphs; there is nothing to serve")
    if out.exists():
        raise ExportError(f"{out} exists; give a folder that does not")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as err:
        raise ExportError(f"{out} was not written: {err.strerror or err}") from err
    try:
        for name, graph in bundle.manifest.graphs.items():
            _write_model(bundle, name, graph, scratch / "repository")
        (scratch / "repository" / "ossicle.json").write_bytes(bundle.manifest.to_json())
        (scratch / "repository").rename(out)
    except OSError as err:
        raise ExportError(f"{out} was not written: {err.strerror or err}") from err
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return out


def model_name(bundle: Bundle, graph: str) -> str:
    """Get the server's name of a graph."""
    return f"{bundle.manifest.name}_{graph}".replace("-", "_")


def _write_model(bundle: Bundle, name: str, graph: Graph, root: Path) -> None:
    folder = root / model_name(bundle, name)
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.onnx").write_bytes(bundle.read(graph.file))
    (folder / "config.pbtxt").write_text(config_text(bundle, name), encoding="utf-8")
    for state in graph.states:
        if state.init != "zeros":
            (folder / "initial_state").mkdir(exist_ok=True)
            data = _initial(bundle, state)
            (folder / "initial_state" / f"{state.input}.bin").write_bytes(data)


def _initial(bundle: Bundle, state: State) -> bytes:
    if state.init == "ones":
        return np.ones(state.shape, state.dtype).tobytes()
    return bundle.array(state.init).astype(state.dtype).tobytes()


def config_text(bundle: Bundle, name: str) -> str:
    """Get ``config.pbtxt`` of one graph in protobuf's text format."""
    graph = bundle.manifest.graphs[name]
    largest = max(bundle.manifest.batch)
    device = "KIND_CPU" if graph.target == "cpu" else "KIND_GPU"
    lines = [
        f'name: "{model_name(bundle, name)}"',
        'backend: "onnxruntime"',
        f"max_batch_size: {largest}",
        *(_port("input", p.name, p.dtype, p.shape) for p in graph.inputs),
        *(_port("output", p.name, p.dtype, p.shape) for p in graph.outputs),
        _sequences(graph, largest),
        f"instance_group [ {{ count: 1 kind: {device} }} ]",
        'parameters: { key: "intra_op_thread_count" value: { string_value: "1" } }',
    ]
    return "\n".join(lines) + "\n"


def _dims(shape: tuple[int, ...]) -> str:
    return "[ " + ", ".join(str(n) for n in shape or (1,)) + " ]"


def _port(side: str, name: str, dtype: str, shape: tuple[int, ...]) -> str:
    return f'{side} [ {{ name: "{name}" data_type: {_TYPES[dtype]} dims: {_dims(shape)} }} ]'


def _sequences(graph: Graph, largest: int) -> str:
    states = "\n".join(_state(state) for state in graph.states)
    return (
        "sequence_batching {\n"
        f"  max_sequence_idle_microseconds: {IDLE_US}\n"
        f"  oldest {{ max_candidate_sequences: {largest} }}\n"
        f"{states}\n}}"
    )


def _state(state: State) -> str:
    data = "zero_data: true"
    if state.init != "zeros":
        data = f'data_file: "{state.input}.bin"'
    initial = (
        f'initial_state: {{ name: "initial" data_type: {_TYPES[state.dtype]} '
        f"dims: {_dims(state.shape)} {data} }}"
    )
    return (
        f'  state [ {{ input_name: "{state.input}" output_name: "{state.output}" '
        f"data_type: {_TYPES[state.dtype]} dims: {_dims(state.shape)} {initial} }} ]"
    )
