"""One functional torch module as the bytes of one ONNX graph."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx
import onnxscript
import torch
from torch import Tensor, nn

from ossicle.export.neutral import shield_small_constants
from ossicle.export.onnxfile import check_graph, check_names, tidy, to_bytes
from ossicle.export.profiles import Profile
from ossicle.runtime.errors import ExportError
from ossicle.runtime.manifest import Port, State

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
                optimize=False,
            )
            if made is not None:
                onnxscript.optimizer.fold_constants(made.model)
                shield_small_constants(made.model)
                made.optimize()
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
