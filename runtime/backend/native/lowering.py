"""From an ONNX step graph to steps over views: the frame that every operator's lowering works in.

Operators register with :func:`lowers`. A lowering sees one node; it may absorb nodes that follow
(a bias, an activation, a residual) and then says so, and they are skipped when their turn comes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from ossicle.runtime.backend.native.onnxfile import Node, OnnxGraph
from ossicle.runtime.backend.native.steps import Act, ConvertStep, Map, MapStep, Step
from ossicle.runtime.backend.native.views import (
    Buffer,
    Home,
    Item,
    Shape,
    View,
    constant,
    ordered,
    rows_first,
)
from ossicle.runtime.errors import BackendError
from ossicle.runtime.manifest import Graph, Port, State

Array = NDArray[Any]
Lower = Callable[["Lowering", Node], None]
_table: dict[str, Lower] = {}

ITEMS = {"float32": Item.FLOAT32, "uint8": Item.UINT8, "int8": Item.INT8}
ACTS = {
    "Relu": Act.RELU, "LeakyRelu": Act.LEAKY, "Sigmoid": Act.SIGMOID, "Tanh": Act.TANH,
    "Gelu": Act.GELU,
}  # fmt: skip


def lowers(*ops: str) -> Callable[[Lower], Lower]:
    """Decorator: the lowering of these operators."""

    def register(lower: Lower) -> Lower:
        for op in ops:
            _table[op] = lower
        return lower

    return register


def supported() -> tuple[str, ...]:
    """Return the operators that can be run."""
    return tuple(sorted(_table))


class Lowering:
    """One graph on its way to a plan."""

    def __init__(self, graph: OnnxGraph, spec: Graph) -> None:
        self.spec = spec
        self.constants = dict(graph.constants)
        self.whole: dict[str, tuple[Array, Array]] = {}  # whole numbers, scales: of 8-bit constants
        self.values: dict[str, View] = {}
        self.shapes: dict[str, tuple[int | None, ...]] = {}  # made by Shape; None is the batch
        self.joined: dict[str, list[View]] = {}  # concatenations that only products read
        self.steps: list[Step] = []
        self.states: dict[str, View] = {}  # as they lie outside
        self.ends = {p.name for p in spec.outputs} | {s.output for s in spec.states}
        self._nodes = graph.nodes
        self._done: set[int] = set()
        self._ports = {p.name: (k, p) for k, p in enumerate(spec.inputs)}
        self._held = {s.input: (k, s) for k, s in enumerate(spec.states)}
        self._uses: dict[str, list[Node]] = {}
        for node in graph.nodes:
            for name in node.inputs:
                self._uses.setdefault(name, []).append(node)

    def run(self) -> None:
        """Lower every node, then bring outputs and states home.

        Raises:
            BackendError: operators that are not supported, by name, or a graph that contradicts
                its manifest.
        """
        strange = sorted({n.op for n in self._nodes if n.op not in _table})
        if strange:
            raise BackendError(
                f"{self.spec.file}: no native step for {', '.join(strange)}; "
                "load it with backend='ort'"
            )
        for node in self._nodes:
            if id(node) in self._done:
                continue
            try:
                _table[node.op](self, node)
            except BackendError as error:
                raise BackendError(f"{self.spec.file}: {node.op}: {error}") from error
            except (ValueError, IndexError, TypeError, OverflowError, KeyError) as error:
                raise BackendError(
                    f"{self.spec.file}: {node.op} on {list(node.inputs)} cannot be read: {error}"
                ) from error
        self._finish()

    def value(self, name: str, order: Shape | None = None) -> View:
        """Return a tensor; one from outside is laid out in ``order`` if it is seen first."""
        if name in self.values:
            return self.values[name]
        if name in self.joined:
            made = self.fresh(_joined_shape(self.joined[name]))
            at = 0
            for view in self.joined[name]:
                self.copy(view, made.slice(len(made.shape) - 1, at, view.shape[-1]))
                at += view.shape[-1]
            self.values[name] = made
            return made
        if name in self._held:
            place, state = self._held[name]
            self.states[name] = self._outside(Home.STATE_IN, place, state, order)
            self.values[name] = self._floats(self.states[name])
            return self.values[name]
        if name in self._ports:
            place, port = self._ports[name]
            self.values[name] = self._floats(self._outside(Home.INPUT, place, port, None))
            return self.values[name]
        raise BackendError(f"{name!r} is read before it is made")

    def known(self, name: str) -> Array:
        """Return a constant.

        Raises:
            BackendError: the tensor is not constant.
        """
        if name not in self.constants:
            raise BackendError(f"{name!r} must be constant here")
        return self.constants[name]

    def operand(self, name: str, rank: int) -> View:
        """Return a tensor, or a constant as one stream of a batch of ``rank`` axes sees it."""
        if name not in self.constants:
            return self.value(name)
        array = self.constants[name]
        if array.dtype.kind not in "fiub":
            raise BackendError(f"{name!r} is {array.dtype}")
        if array.ndim > rank:
            if array.shape[0] != 1:
                raise BackendError(f"{name!r} of shape {array.shape} tells streams apart")
            array = array[0]
        return constant(array) if array.ndim else constant(array[None])

    def fresh(self, shape: Shape, order: Shape | None = None) -> View:
        """Return new scratch memory."""
        strides = rows_first(shape) if order is None else ordered(shape, order)
        count = math.prod(shape)
        if not 1 <= count <= 1 << 24:
            raise BackendError(f"a tensor of shape {shape}")
        return View(Buffer(Home.SCRATCH, count), 0, shape, strides)

    def copy(self, source: View, target: View) -> None:
        """Add a copy."""
        self.steps.append(MapStep(Map.COPY, target, source))

    def dense(self, view: View) -> View:
        """Return the view with its last axis side by side, copied if need be."""
        if view.unit():
            return view
        made = self.fresh(view.shape)
        self.copy(view, made)
        return made

    def reshape(self, view: View, shape: Shape) -> View:
        """Return the view in another shape, copied if need be."""
        made = view.reshape(shape)
        if made is not None:
            return made
        plain = self.fresh(view.shape)
        self.copy(view, plain)
        again = plain.reshape(shape)
        if again is None:
            raise BackendError(f"{view.shape} does not reshape to {shape}")
        return again

    def axis(self, axis: int, rank: int) -> int:
        """Return an axis of the graph's as one of a stream's; ``rank`` counts the batch."""
        found = axis + rank if axis < 0 else axis
        if not 1 <= found < rank:
            raise BackendError(f"axis {axis} of {rank}: the batch stays as it is")
        return found - 1

    def only_use(self, name: str) -> Node | None:
        """Return the one node that reads a tensor, or ``None`` if there are others or it ends."""
        uses = self._uses.get(name, [])
        return uses[0] if len(uses) == 1 and name not in self.ends else None

    def uses(self, name: str) -> list[Node]:
        """Return the nodes that read a tensor."""
        return self._uses.get(name, [])

    def absorb(self, *nodes: Node) -> None:
        """Skip nodes whose work another step does."""
        self._done.update(id(n) for n in nodes)

    def waiting(self, node: Node) -> bool:
        """Whether a node's turn is still to come."""
        return id(node) not in self._done

    def activation(self, name: str) -> tuple[str, Act, float]:
        """Absorb an activation that alone reads ``name``; return the name of what it makes."""
        uses = self._uses.get(name, [])
        if name in self.ends:
            return name, Act.NONE, 0.0
        if len(uses) == 1 and uses[0].op in ACTS:
            node = uses[0]
            if node.op == "Gelu" and node.attributes.get("approximate", "none") != "none":
                return name, Act.NONE, 0.0
            self.absorb(node)
            alpha = node.number("alpha", 0.01) if node.op == "LeakyRelu" else 0.0
            return node.outputs[0], ACTS[node.op], alpha
        if len(uses) == 2 and {n.op for n in uses} == {"Sigmoid", "Mul"}:
            gate, times = sorted(uses, key=lambda n: n.op, reverse=True)
            gated = gate.outputs[0]
            if set(times.inputs) == {name, gated} and self.only_use(gated) is times:
                self.absorb(gate, times)
                return times.outputs[0], Act.SILU, 0.0
        return name, Act.NONE, 0.0

    def residual(self, name: str, shape: Shape) -> tuple[str, View | None]:
        """Absorb an addition of a tensor that is already there; return what it makes, and it."""
        node = self.only_use(name)
        if node is None or node.op != "Add" or len(node.inputs) != 2 or not self.waiting(node):
            return name, None
        other = node.inputs[0] if node.inputs[1] == name else node.inputs[1]
        if other == name or other not in self.values or self.values[other].shape != shape:
            return name, None
        self.absorb(node)
        return node.outputs[0], self.values[other]

    def _outside(self, home: Home, place: int, port: Port | State, order: Shape | None) -> View:
        shape = tuple(port.shape)
        if port.dtype not in ITEMS or any(n < 1 for n in shape):
            raise BackendError(f"{port.dtype} {list(shape)}; float32 or bytes of fixed shape run")
        strides = ordered(shape, order) if order and len(order) == len(shape) else rows_first(shape)
        buffer = Buffer(home, math.prod(shape), place, item=ITEMS[port.dtype])
        return View(buffer, 0, shape, strides)

    def _floats(self, view: View) -> View:
        """Return bytes from outside as floats; floats as they are."""
        if view.buffer.item is Item.FLOAT32:
            return view
        made = View(Buffer(Home.SCRATCH, view.count), 0, view.shape, view.strides)
        self.steps.append(ConvertStep(made, view))
        return made

    def _finish(self) -> None:
        for place, state in enumerate(self.spec.states):
            self.value(state.input)
            order = self.states[state.input].order()
            self._bring(state.output, self._outside(Home.STATE_OUT, place, state, order))
        for place, port in enumerate(self.spec.outputs):
            self._bring(port.name, self._outside(Home.OUTPUT, place, port, None))

    def _bring(self, name: str, wanted: View) -> None:
        """Let a tensor be made where it is wanted, or copy it there."""
        shape = wanted.shape
        if name in self.constants:
            made = self.operand(name, len(shape) + 1).broadcast(shape)
        else:
            made = self.value(name)
        if made.shape != shape:
            raise BackendError(
                f"{self.spec.file}: {name} comes as {made.shape}; the manifest says {shape}"
            )
        if wanted.buffer.item is not Item.FLOAT32:
            self.steps.append(ConvertStep(wanted, made))
            return
        buffer = made.buffer
        whole = made.covers() and all(
            n == 1 or a == b for n, a, b in zip(shape, made.strides, wanted.strides, strict=True)
        )
        if whole and buffer.home is Home.SCRATCH and buffer.parent is None:
            buffer.home, buffer.place = wanted.buffer.home, wanted.buffer.place
            return
        self.copy(made, wanted)


def _joined_shape(views: list[View]) -> Shape:
    return (*views[0].shape[:-1], sum(v.shape[-1] for v in views))
