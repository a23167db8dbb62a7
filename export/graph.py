"""Writing an ONNX step by hand: values by name, weights as arrays, states as pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ossicle.export.onnxfile import check_graph, check_names, tidy, to_bytes
from ossicle.export.profiles import profile_named
from ossicle.runtime.manifest import Graph, Port, State

_TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "int64": TensorProto.INT64,
    "int32": TensorProto.INT32,
    "int8": TensorProto.INT8,
    "uint8": TensorProto.UINT8,
}


class StepWriter:
    """Collects the nodes of one step; every input, output and state has a leading ``B``.

    Outputs and new states keep the names under which the manifest lists them.
    """

    def __init__(self, name: str, opset: int = 20) -> None:
        self.name = name
        self.opset = opset
        self.inputs: list[Port] = []
        self.outputs: list[Port] = []
        self.states: list[State] = []
        self.inits: dict[str, NDArray[Any]] = {}  # first values of states, by file name
        self._nodes: list[onnx.NodeProto] = []
        self._weights: dict[str, onnx.TensorProto] = {}
        self._known: dict[tuple[Any, ...], str] = {}
        self._count = 0

    def fresh(self) -> str:
        """Get a name that no value has yet."""
        self._count += 1
        return f"t{self._count}"

    def input(self, name: str, shape: Sequence[int], dtype: str = "float32") -> str:
        """Declare an input of ``shape`` (without B)."""
        self.inputs.append(Port(name, tuple(shape), dtype))
        return name

    def state(
        self, name: str, shape: Sequence[int], dtype: str = "float32", init: str = "zeros"
    ) -> str:
        """Declare a state of ``shape`` (without B); its next value is set by ``keep``."""
        self.states.append(State(name, f"{name}_next", tuple(shape), dtype, init))
        return name

    def keep(self, state: str, value: str) -> None:
        """Make ``value`` the next value of ``state``."""
        self._nodes.append(helper.make_node("Identity", [value], [f"{state}_next"]))

    def output(self, name: str, value: str, shape: Sequence[int], dtype: str = "float32") -> None:
        """Make ``value`` the output ``name`` of ``shape`` (without B)."""
        self.outputs.append(Port(name, tuple(shape), dtype))
        self._nodes.append(helper.make_node("Identity", [value], [name]))

    def weight(
        self, value: NDArray[Any] | np.generic, name: str | None = None, own: bool = False
    ) -> str:
        """Get the name of a constant; equal ones are stored once, but for its ``own``."""
        array = np.ascontiguousarray(value)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key in self._known and not own:
            return self._known[key]
        label = name or f"c{len(self._weights)}"
        if not own:
            self._known[key] = label
        self._weights[label] = numpy_helper.from_array(array.reshape(np.shape(value)), label)
        return label

    def ints(self, *values: int) -> str:
        """Get the name of a constant int64 vector."""
        return self.weight(np.array(values, np.int64))

    def node(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """Append an operator and get the name of its (first) output."""
        return self.nodes(op, *inputs, outputs=outputs, **attributes)[0]

    def nodes(self, op: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """Append an operator and get the names of its outputs."""
        names = [self.fresh() for _ in range(outputs)]
        self._nodes.append(helper.make_node(op, list(inputs), names, **attributes))
        return names

    # Frequent operators, in the letters of the ONNX reference.

    def slice(self, value: str, start: int, stop: int, axis: int) -> str:
        """Get ``value[start:stop]`` along ``axis``."""
        return self.node("Slice", value, self.ints(start), self.ints(stop), self.ints(axis))

    def concat(self, *values: str, axis: int) -> str:
        """Get ``values`` one after the other along ``axis``."""
        return self.node("Concat", *values, axis=axis)

    def reshape(self, value: str, *shape: int) -> str:
        """Get ``value`` in another shape; -1 is worked out, 0 kept."""
        return self.node("Reshape", value, self.ints(*shape))

    def transpose(self, value: str, *perm: int) -> str:
        """Get ``value`` with its axes in the order ``perm``."""
        return self.node("Transpose", value, perm=list(perm))

    def model(self) -> onnx.ModelProto:
        """Get the graph, with pass-through nodes removed and names made canonical."""
        nodes = _shortened(_live(self._nodes))
        inputs = [*self.inputs, *(Port(s.input, s.shape, s.dtype) for s in self.states)]
        outputs = [*self.outputs, *(Port(s.output, s.shape, s.dtype) for s in self.states)]
        graph = helper.make_graph(
            nodes, self.name, [_info(p) for p in inputs], [_info(p) for p in outputs],
            list(self._weights.values()),
        )  # fmt: skip
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)])
        check_names(made, [p.name for p in inputs], [p.name for p in outputs])
        return tidy(made, self.name)

    def bytes(self, profile: str = "cpu") -> bytes:
        """Get the checked ONNX bytes for ``profile``."""
        made = self.model()
        check_graph(made, profile_named(profile), f"graph {self.name!r}")
        return to_bytes(made)

    def entry(self, file: str, **settings: Any) -> Graph:
        """Get the manifest entry of this graph."""
        return Graph(
            file=file,
            inputs=tuple(self.inputs),
            outputs=tuple(self.outputs),
            states=tuple(self.states),
            opset=self.opset,
            **settings,
        )


def _live(nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Drop nodes that nothing reads; outputs and new states are written by ``Identity``."""
    read: set[str] = set()
    kept = []
    for node in reversed(nodes):
        if node.op_type == "Identity" or any(name in read for name in node.output):
            kept.append(node)
            read.update(node.input)
    return kept[::-1]


def _info(port: Port) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(port.name, _TYPES[port.dtype], ["B", *port.shape])


def _shortened(nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Let a producer write an output under its final name where nothing else does."""
    made = {out for node in nodes if node.op_type != "Identity" for out in node.output}
    renames: dict[str, str] = {}
    kept = []
    for node in nodes:
        source, target = (node.input[0], node.output[0]) if node.input else ("", node.output[0])
        if node.op_type == "Identity" and source in made and source not in renames:
            renames[source] = target
        else:
            kept.append(node)
    fresh = []
    for node in kept:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        for field in (copy.input, copy.output):
            names = [renames.get(n, n) for n in field]
            del field[:]
            field.extend(names)
        fresh.append(copy)
    return fresh
