"""Torch modules to a streaming bundle, with parity proven and written down.

    export_bundle(place, manifest, steps, *, profile="cpu", files=None, golden_hops=8) -> Bundle

``steps`` maps each graph id of the bundle to a ``TorchStep``:

    TorchStep(
        module,                        # forward(*inputs, *states) -> (*outputs, *states')
        inputs=(Port("x", (1, 320)),), # shapes without the leading B; one per forward argument
        outputs=(Port("y", (64, 1)),),
        states=(State("s", "s_next", (64, 2)),),
        whole=None,                    # optional: see below
    )

``manifest`` is a ``Manifest`` whose ``graphs`` may be empty ({}): ``steps`` fills them. Its
``programs`` name the graph ids. ``files`` are further files by name (``books.npy`` and so on).

``whole(*inputs)`` runs the same weights over a whole sequence in one go: it gets, for each graph
input, a tensor ``[N, B, ...]`` of N hops, and gives the outputs as ``[N, B, ...]``. Where it is
given, the streamed module must equal it within ``tolerance``.

The module must be functional: no buffer may be written in ``forward``, every state comes in and
goes out with one shape, and nothing branches on data. Fixed lengths only; B is the one free axis.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import onnx
import torch
from torch import Tensor, nn

from ossicle.export import parity
from ossicle.export.golden import golden_vectors
from ossicle.export.onnxfile import check_graph, check_names, opset_of, tidy, to_bytes
from ossicle.export.profiles import Profile, profile_named
from ossicle.runtime.bundle import Bundle, write_bundle
from ossicle.runtime.errors import ExportError
from ossicle.runtime.manifest import Graph, Manifest, Port, State

METADATA_KEY = "ossicle.manifest"
Whole = Callable[..., tuple[Tensor, ...]]
_DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "int64": torch.int64,
    "int32": torch.int32,
    "int8": torch.int8,
    "uint8": torch.uint8,
    "bool": torch.bool,
}


@dataclass(frozen=True, slots=True)
class TorchStep:
    """One graph to export: a functional module and the names and shapes around it."""

    module: nn.Module
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    states: tuple[State, ...] = ()
    whole: Whole | None = None
    kind: str = "step"
    exactness: str = "tolerance"
    precision: str = "fp32"
    tolerance: float = 1e-4  # of ORT against torch, and of stream against whole
    inits: Mapping[str, Tensor] = field(default_factory=dict)  # states that do not start at zero


def export_bundle(
    place: str | Path,
    manifest: Manifest,
    steps: Mapping[str, TorchStep],
    *,
    profile: str = "cpu",
    files: Mapping[str, bytes] | None = None,
    golden_hops: int = 8,
    seed: int = 0,
) -> Bundle:
    """Write ``steps`` as a bundle at ``place`` and get it opened.

    The bundle holds one ONNX file per step, golden vectors of every program, and ``parity.json``.
    The same module gives the same bytes. Raises ``ExportError`` with what to change.
    """
    target = profile_named(profile)
    content = dict(files or {})
    graphs, report = dict(manifest.graphs), {}
    for name, step in steps.items():
        data = export_step(step, name, target)
        file = f"{name}.onnx"
        content[file] = data
        graphs[name] = _graph_entry(step, file, data, target)
        report[name] = parity.report(step, data, seed=seed)
    content["parity.json"] = _json({"profile": profile, "graphs": report})
    manifest = msgspec.structs.replace(manifest, graphs=graphs)
    return finish(place, manifest, content, golden_hops=golden_hops, seed=seed)


def finish(
    place: str | Path,
    manifest: Manifest,
    content: dict[str, bytes],
    *,
    golden_hops: int = 8,
    seed: int = 0,
    tolerance: float = 1e-4,
) -> Bundle:
    """Write a bundle with golden vectors of every program, made by running it once."""
    content = {**content, **_with_manifest(manifest, content)}
    if golden_hops:
        with tempfile.TemporaryDirectory() as scratch:
            draft = write_bundle(Path(scratch) / "draft", manifest, content)
            vectors, entries = golden_vectors(draft, golden_hops, seed, tolerance)
        content = {**content, **vectors}
        manifest = msgspec.structs.replace(manifest, golden=entries)
    return write_bundle(place, manifest, content)


def _with_manifest(manifest: Manifest, content: Mapping[str, bytes]) -> dict[str, bytes]:
    """Get the graphs with the manifest in their metadata, less what hashes them."""
    carried = msgspec.structs.replace(manifest, files={}, golden=(), metrics=())
    text = msgspec.json.encode(carried).decode()
    made = {}
    for graph in manifest.graphs.values():
        if graph.file in content:
            model = onnx.load_from_string(content[graph.file])
            del model.metadata_props[:]
            onnx.helper.set_model_props(model, {METADATA_KEY: text})
            made[graph.file] = to_bytes(model)
    return made


def export_step(step: TorchStep, name: str, profile: Profile) -> bytes:
    """Get the ONNX bytes of one step for ``profile``."""
    module = step.module.eval()
    _check_shapes(step, name)
    args = example(step, batch=2, seed=0)
    program = _exported(module, args, name)
    names_in = [p.name for p in step.inputs] + [s.input for s in step.states]
    names_out = [p.name for p in step.outputs] + [s.output for s in step.states]
    model = _to_onnx(program, names_in, names_out, profile, name)
    check_names(model, names_in, names_out)
    _name_batch(model)
    clean = tidy(model, name)
    check_graph(clean, profile, f"graph {name!r}")
    return to_bytes(clean)


def example(step: TorchStep, batch: int, seed: int) -> tuple[Tensor, ...]:
    """Get random inputs and initial states for ``step`` with ``batch`` rows."""
    generator = torch.Generator().manual_seed(seed)
    inputs = [_random(p, batch, generator) for p in step.inputs]
    return (*inputs, *initial_states(step, batch))


def initial_states(step: TorchStep, batch: int) -> list[Tensor]:
    """Get the states of new streams, ``[B, ...]``."""
    states = []
    for state in step.states:
        kind = _DTYPES[state.dtype]
        if state.input in step.inits:
            states.append(step.inits[state.input].to(kind).expand(batch, *state.shape).clone())
        elif state.init in ("zeros", "ones"):
            fill = float(state.init == "ones")
            states.append(torch.full((batch, *state.shape), fill, dtype=kind))
        else:
            raise ExportError(f"state {state.input!r} starts from {state.init!r}: give it in inits")
    return states


def _random(port: Port, batch: int, generator: torch.Generator) -> Tensor:
    kind = _DTYPES[port.dtype]
    shape = (batch, *port.shape)
    if any(n < 0 for n in port.shape):
        raise ExportError(f"input {port.name!r} has a free length; only B may be free")
    if kind.is_floating_point:
        return torch.randn(shape, generator=generator).to(kind) * 0.1
    return torch.randint(0, 2, shape, generator=generator).to(kind)


def _check_shapes(step: TorchStep, name: str) -> None:
    """Run once, eagerly, and refuse outputs or states that are not as declared."""
    before = _memory(step.module)
    with torch.no_grad():
        outputs = step.module(*example(step, batch=3, seed=1))
    after = _memory(step.module)
    changed = sorted(k for k in before.keys() | after.keys() if before.get(k) != after.get(k))
    if changed:
        raise ExportError(
            f"{name}: forward writes {', '.join(changed)}; a stream's memory must come in as a "
            "state input and go out as a state output, or streams would share it"
        )
    if isinstance(outputs, Tensor) or not isinstance(outputs, tuple | list):
        raise ExportError(f"{name}: forward must give a flat tuple (*outputs, *states')")
    ports: list[tuple[str, tuple[int, ...], str]] = [
        *((p.name, p.shape, p.dtype) for p in step.outputs),
        *((s.output, s.shape, s.dtype) for s in step.states),
    ]
    if len(outputs) != len(ports):
        raise ExportError(
            f"{name}: forward gives {len(outputs)} tensors; {len(step.outputs)} outputs and "
            f"{len(step.states)} states are declared"
        )
    for value, (label, shape, dtype) in zip(outputs, ports, strict=True):
        if tuple(value.shape) != (3, *shape) or value.dtype != _DTYPES[dtype]:
            raise ExportError(
                f"{name}: {label!r} comes out as {tuple(value.shape)} {value.dtype} for B = 3; "
                f"{(3, *shape)} {dtype} is declared. A state may never change its shape"
            )


def _memory(module: nn.Module) -> dict[str, tuple[int, int]]:
    """Get identity and write count of every tensor the module holds, by name."""
    held: dict[str, tuple[int, int]] = {}
    for prefix, part in module.named_modules():
        named = {**part._buffers, **part._parameters, **vars(part)}
        for key, value in named.items():
            if isinstance(value, Tensor):
                held[f"{prefix}.{key}".lstrip(".")] = (id(value), value._version)
    return held


def _exported(module: nn.Module, args: tuple[Tensor, ...], name: str) -> Any:
    batch = torch.export.Dim("B", min=1, max=4096)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.export(
                module, args, dynamic_shapes=_shapes(module, args, batch), strict=False
            )
    except Exception as err:  # torch raises a dozen unrelated types here
        raise ExportError(f"{name}: {_why(err)}") from err


def _shapes(module: nn.Module, args: tuple[Tensor, ...], batch: Any) -> Any:
    import inspect

    params = list(inspect.signature(module.forward).parameters.values())
    if len(params) == 1 and params[0].kind is inspect.Parameter.VAR_POSITIONAL:
        return (tuple({0: batch} for _ in args),)
    shapes: list[Any] = []
    for param in params:
        if param.kind is inspect.Parameter.VAR_POSITIONAL:
            shapes.append(tuple({0: batch} for _ in args[len(shapes) :]))
            break
        if len(shapes) < len(args):
            shapes.append({0: batch})
    return tuple(shapes)


def _why(err: Exception) -> str:
    text = f"{type(err).__name__}: {err}"
    first = text.splitlines()[0]
    data = ("data-dependent", "GuardOnDataDependent", "item()", "unbacked", "DataDependent")
    if any(word in text for word in data):
        return f"a branch or a shape depends on data ({first}); use torch.where and fixed shapes"
    if "Constraints violated" in text or "specializ" in text.lower():
        return f"the batch axis became a constant ({first}); write shapes with x.shape[0]"
    return f"torch.export refused the module ({first})"


def _to_onnx(
    program: Any, inputs: list[str], outputs: list[str], profile: Profile, name: str
) -> onnx.ModelProto:
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = torch.onnx.export(
                program,
                input_names=inputs,
                output_names=outputs,
                opset_version=profile.opset,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except Exception as err:  # as above
        raise ExportError(f"{name}: no ONNX form ({str(err).splitlines()[0]})") from err
    if made is None:
        raise ExportError(f"{name}: the ONNX exporter gave nothing back")
    model: onnx.ModelProto = made.model_proto
    return model


def _name_batch(model: onnx.ModelProto) -> None:
    """Call the first axis of every input and output ``B``; every other must be a number."""
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        if not dims:
            raise ExportError(f"{value.name!r} has no batch axis")
        dims[0].Clear()
        dims[0].dim_param = "B"
        for axis, dim in enumerate(dims[1:], 1):
            if not dim.HasField("dim_value"):
                raise ExportError(f"axis {axis} of {value.name!r} is free; only B may be")


def _graph_entry(step: TorchStep, file: str, data: bytes, profile: Profile) -> Graph:
    return Graph(
        file=file,
        inputs=step.inputs,
        outputs=step.outputs,
        states=step.states,
        kind=step.kind,
        exactness=step.exactness,
        opset=opset_of(onnx.load_from_string(data)),
        precision=step.precision,
        target=profile.target,
    )


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()
