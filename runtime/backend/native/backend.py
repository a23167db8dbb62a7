"""The native step executor behind the backend seam: whole graphs in compiled code, on the CPU.

A graph is read from its ONNX file and lowered once, when a bundle is loaded; a step then runs
without the interpreter's lock, allocates nothing and costs nothing per node. States lie outside as
the manifest says (their axes may be strided), so that snapshots move between backends.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ossicle.runtime.backend.base import Array, initial_state
from ossicle.runtime.backend.joined import Joined
from ossicle.runtime.backend.native import arithmetic, gathers, movement, products, quantised
from ossicle.runtime.backend.native.lowering import Lowering
from ossicle.runtime.backend.native.onnxfile import read_onnx
from ossicle.runtime.backend.native.plan import write_plan
from ossicle.runtime.bundle import Bundle
from ossicle.runtime.errors import BackendError
from ossicle.runtime.manifest import Graph, State

OPERATORS = (arithmetic, gathers, movement, products, quantised)  # imported for what they register
MAX_SCRATCH = 1 << 24  # floats of one stream: 64 MiB


def _core() -> Any:
    try:
        from ossicle import _core
    except ImportError as error:
        raise BackendError(
            "the native backend needs the compiled part, and this install is pure Python; "
            "install a wheel built with a compiler, or use backend='ort'"
        ) from error
    if not hasattr(_core, "StepPlan"):
        raise BackendError("the compiled part is older than the native backend; build it again")
    return _core


class NativeBackend:
    """Runs float32 step graphs; ``half`` keeps their weights as bfloat16.

    Whole weights of more than a megabyte are kept to 2^-23 of the largest of their output, so that
    few streams can read 24 bits of each.
    """

    def __init__(self, half: bool = False) -> None:
        self.name = "native-bf16" if half else "native"
        self.half = half

    def load(self, bundle: Bundle, graph: str) -> NativeGraph:
        """Read and lower a graph; its bytes were checked against the manifest."""
        core, spec = _core(), bundle.manifest.graphs[graph]
        try:
            low = Lowering(read_onnx(bundle.read(spec.file)), spec)
            low.run()
            plan = write_plan(low, core, self.half)
        except BackendError as error:
            raise BackendError(f"{bundle.manifest.name}: {error}") from error
        except ValueError as error:  # a view or a size that the executor refuses
            raise BackendError(f"{bundle.manifest.name}: {spec.file}: {error}") from error
        if plan.arena > MAX_SCRATCH:
            raise BackendError(
                f"{bundle.manifest.name}: {spec.file} needs {plan.arena} floats a stream"
            )
        layouts = {s.input: low.states[s.input].order() for s in spec.states}
        return NativeGraph(core, plan, spec, bundle, layouts)


class NativeGraph:
    """One plan; every binding of it shares the weights."""

    def __init__(
        self, core: Any, plan: Any, spec: Graph, bundle: Bundle, layouts: dict[str, tuple[int, ...]]
    ) -> None:
        self.core, self.plan, self.spec, self.bundle, self.layouts = (
            core, plan, spec, bundle, layouts
        )  # fmt: skip

    @property
    def scratch(self) -> int:
        """Floats between the steps of one stream."""
        return int(self.plan.arena)

    def bind(self, batch: int) -> NativeBound:
        """Return the graph with fresh memory for ``batch`` rows."""
        return NativeBound(self, batch)

    def bind_joined(self, batch: int, joined: Joined) -> NativeBound:
        """Return the same with the quantiser at its edge inside each step."""
        bound = NativeBound(self, batch)
        bound.join(joined)
        return bound


class NativeBound:
    """Arrays of fixed addresses, and the plan bound to them."""

    def __init__(self, graph: NativeGraph, batch: int) -> None:
        self.spec, self.batch = graph.spec, batch
        self._inputs = {p.name: np.zeros((batch, *p.shape), p.dtype) for p in self.spec.inputs}
        self._outputs = {p.name: np.empty((batch, *p.shape), p.dtype) for p in self.spec.outputs}
        self._sides: list[dict[str, Array]] = []
        held: list[list[Array]] = []
        for _ in range(2):
            named, plain = {}, []
            for state in self.spec.states:
                order = (0, *(a + 1 for a in graph.layouts[state.input]))
                plain.append(_first(state, graph.bundle, batch, order))
                named[state.input] = plain[-1].transpose(np.argsort(order))
            self._sides.append(named)
            held.append(plain)
        self._run = graph.core.StepRun(
            graph.plan, batch, [*self._inputs.values()], [*self._outputs.values()], *held
        )
        self._now = 0
        self._joined: Joined | None = None

    def join(self, joined: Joined) -> None:
        """Give codes instead of an input, or take them beside an output."""
        self._joined = joined
        given, port = joined.before is not None, joined.port
        vectors = self._inputs.pop(port) if given else self._outputs[port]
        codes = np.full((self.batch, joined.depth, vectors.shape[1]), -1, np.int32)
        if given:
            self._inputs[joined.codes] = codes
            self._run.look_up(joined.books, vectors, codes)
            return
        layers = np.zeros((self.batch, 1), np.int32)
        if joined.layers is not None:
            self._inputs[joined.layers] = layers
        self._outputs[joined.codes] = codes
        self._run.search(joined.books, vectors, codes, layers)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Copy the inputs in, step, swap the states."""
        for name, held in self._inputs.items():
            given = inputs[name]
            if given.shape != held.shape:
                raise BackendError(f"input {name} has shape {given.shape}; {held.shape} expected")
            np.copyto(held, given, casting="same_kind")
        try:
            self._run.step(self._now)
        except ValueError:  # nothing has run: the states are as they were
            if self._joined is not None and self._joined.before is not None:
                self._joined.before.check(self._inputs[self._joined.codes])
            raise
        self._now ^= 1
        return self._outputs

    def profile(self) -> list[tuple[int, int]]:
        """Step with the inputs of the last run; return the kind and nanoseconds of every part.

        Kinds are those of the executor; -2 is looking codes up, -1 the search for them.
        """
        spent = self._run.profile(self._now)
        self._now ^= 1
        return [(int(kind), int(ns)) for kind, ns in spent]

    def states(self) -> dict[str, Array]:
        """Return the current states; they are the buffers themselves."""
        return self._sides[self._now]

    def previous(self) -> dict[str, Array]:
        """Return the states before the last run."""
        return self._sides[self._now ^ 1]

    def poison(self) -> None:
        """Fill what lies between steps with NaN: a step that reads it before writing shows it."""
        self._run.poison()


def _first(state: State, bundle: Bundle, batch: int, order: tuple[int, ...]) -> Array:
    """Return the first value of a state with its axes in another order, contiguous."""
    if state.init == "zeros":  # memory that is zero untouched: megabytes of it cost nothing here
        shape = (batch, *state.shape)
        return np.zeros([shape[axis] for axis in order], state.dtype)
    return np.ascontiguousarray(initial_state(state, bundle, batch).transpose(order))
