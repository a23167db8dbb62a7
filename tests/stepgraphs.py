"""Small ONNX step graphs made on the spot, and two backends side by side on them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ossicle.kernels.tolerance import allowed, error
from ossicle.runtime.backend import Backend
from ossicle.runtime.backend.native import NativeBackend
from ossicle.runtime.backend.ort import OrtBackend
from ossicle.runtime.bundle import Bundle
from ossicle.runtime.manifest import FileEntry, Graph, Manifest, Port, State

Array = NDArray[Any]
Shapes = Mapping[str, Sequence[int]]


class Sketch:
    """A graph in the making: ``sketch("Conv", "x", weights)`` adds a node and returns its name."""

    def __init__(self, inputs: Shapes, states: Shapes | None = None) -> None:
        self.inputs, self.states = dict(inputs), dict(states or {})
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.ends: dict[str, Sequence[int]] = {}

    def constant(self, value: Any) -> str:
        """Return the name of a new constant."""
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def __call__(self, op: str, *inputs: Any, outputs: int = 1, **attributes: Any) -> Any:
        names = [i if isinstance(i, str) else self.constant(i) for i in inputs]
        made = [f"v{len(self.nodes)}_{k}" for k in range(outputs)]
        self.nodes.append(helper.make_node(op, names, made, **attributes))
        return made[0] if outputs == 1 else made

    def end(self, name: str, value: str, shape: Sequence[int]) -> None:
        """Make ``value`` an output called ``name``; ``STATE_next`` ends a state."""
        self.nodes.append(helper.make_node("Identity", [value], [name]))
        self.ends[name] = shape

    def onnx(self) -> bytes:
        """Return the file."""

        def value(name: str, shape: Sequence[int]) -> Any:
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", *shape])

        graph = helper.make_graph(
            self.nodes,
            "sketch",
            [value(n, s) for n, s in {**self.inputs, **self.states}.items()],
            [value(n, s) for n, s in self.ends.items()],
            self.constants,
        )
        opsets = [helper.make_opsetid("", 20)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        return bytes(model.SerializeToString())

    def bundle(self) -> Bundle:
        """Return a bundle of this graph alone, in memory."""
        outputs = [n for n in self.ends if n.removesuffix("_next") not in self.states]
        graph = Graph(
            file="sketch.onnx",
            inputs=[Port(n, tuple(s), "float32") for n, s in self.inputs.items()],
            outputs=[Port(n, tuple(self.ends[n]), "float32") for n in outputs],
            states=[State(n, f"{n}_next", tuple(s), "float32") for n, s in self.states.items()],
        )
        return in_memory(graph, self.onnx())


class HeldBundle(Bundle):
    """A bundle whose one file is bytes in memory."""

    held: bytes

    def read(self, name: str) -> bytes:
        return self.held


def in_memory(graph: Graph, data: bytes) -> Bundle:
    """Return a bundle of one graph, nothing of it on disk."""
    entry = FileEntry(hashlib.sha256(data).hexdigest(), len(data))
    manifest = Manifest(
        schema=1, name="sketch", version="1", task="enhance", license="MIT",
        license_class="permissive", source="tests", sample_rate_hz=16_000, hop=16, latency=16,
        graphs={"step": graph}, programs={}, files={graph.file: entry},
    )  # fmt: skip
    bundle = object.__new__(HeldBundle)
    object.__setattr__(bundle, "root", Path())
    object.__setattr__(bundle, "manifest", manifest)
    object.__setattr__(bundle, "held", data)
    return bundle


def side_by_side(
    bundle: Bundle,
    graph: str = "step",
    batch: int = 3,
    steps: int = 6,
    backends: tuple[Backend, Backend] | None = None,
    dtype: str = "float32",
    make: Callable[[str, tuple[int, ...]], Array] | None = None,
) -> float:
    """Step both backends on the same noise; check outputs and states, return the worst error."""
    spec = bundle.manifest.graphs[graph]
    native, ort = backends or (NativeBackend(), OrtBackend())
    mine, theirs = native.load(bundle, graph).bind(batch), ort.load(bundle, graph).bind(batch)
    rng = np.random.default_rng(3)
    worst = 0.0
    for _ in range(steps):
        given = {
            p.name: make(p.name, (batch, *p.shape))
            if make
            else rng.standard_normal((batch, *p.shape)).astype(np.float32)
            for p in spec.inputs
        }
        if hasattr(mine, "poison"):
            mine.poison()
        got, want = dict(mine.run(given)), theirs.run(given)
        got.update({f"state {n}": a for n, a in mine.states().items()})
        want = {**want, **{f"state {n}": a for n, a in theirs.states().items()}}
        assert got.keys() == want.keys()
        for name, array in want.items():
            wrong = error(got[name], array)
            assert wrong <= allowed("step", dtype), f"{name}: {wrong}"
            worst = max(worst, wrong)
    return worst
