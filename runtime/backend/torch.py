"""The reference backend: the torch modules that a bundle was exported from, run as they are.

It exists so that an exported graph can be held against the module it came from through the very
same program; it is not meant to serve.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ossicle.runtime.backend.base import Array, initial_state
from ossicle.runtime.bundle import Bundle
from ossicle.runtime.errors import BackendError
from ossicle.runtime.manifest import Graph


class TorchBackend:
    """Runs ``modules[graph]``, called with inputs then states in the manifest's order.

    A module returns its outputs and then its next states, as one flat tuple.
    """

    name = "torch"

    def __init__(self, modules: Mapping[str, Any]) -> None:
        self.modules = modules

    def load(self, bundle: Bundle, graph: str) -> TorchGraph:
        """Return the module that stands for ``graph``."""
        if graph not in self.modules:
            raise BackendError(f"no torch module for graph {graph!r}; got {sorted(self.modules)}")
        return TorchGraph(self.modules[graph], bundle.manifest.graphs[graph], bundle)


class TorchGraph:
    """One module, shared."""

    def __init__(self, module: Any, spec: Graph, bundle: Bundle) -> None:
        self.module, self.spec, self.bundle = module.eval(), spec, bundle

    def bind(self, batch: int) -> TorchBound:
        """Return the module with fresh memory for ``batch`` rows."""
        return TorchBound(self, batch)


class TorchBound:
    """One module and its rows' memory."""

    def __init__(self, graph: TorchGraph, batch: int) -> None:
        self.graph = graph
        first = {s.input: initial_state(s, graph.bundle, batch) for s in graph.spec.states}
        self._sides = [first, {k: v.copy() for k, v in first.items()}]
        self._now = 0

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Step the module once."""
        import torch

        spec = self.graph.spec
        held = self._sides[self._now]
        given = [inputs[p.name] for p in spec.inputs] + [held[s.input] for s in spec.states]
        with torch.inference_mode():
            made = self.graph.module(*(torch.from_numpy(np.ascontiguousarray(a)) for a in given))
        flat = made if isinstance(made, tuple | list) else (made,)
        arrays = [np.asarray(t.numpy()) for t in flat]
        after = self._sides[self._now ^ 1]
        for state, array in zip(spec.states, arrays[len(spec.outputs) :], strict=True):
            np.copyto(after[state.input], array)
        self._now ^= 1
        return {p.name: a for p, a in zip(spec.outputs, arrays, strict=False)}

    def states(self) -> dict[str, Array]:
        """Return the current states."""
        return self._sides[self._now]

    def previous(self) -> dict[str, Array]:
        """Return the states before the last run."""
        return self._sides[self._now ^ 1]
