"""The seam between programs and the libraries that run their graphs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime.bundle import Bundle
from ossicle.runtime.errors import BackendError
from ossicle.runtime.manifest import State

Array = NDArray[Any]


class BoundGraph(Protocol):
    """One graph for ``B`` rows, with the rows' memory: current and next, swapped by each run."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Step all rows and return the outputs, which stay valid until the next run."""
        ...

    def states(self) -> dict[str, Array]:
        """Return the current states ``[B, ...]`` by input name; writing to them is allowed."""
        ...

    def previous(self) -> dict[str, Array]:
        """Return the states before the last run; writing to them is pointless."""
        ...


class LoadedGraph(Protocol):
    """One graph, loaded once and shared by all who bind it."""

    def bind(self, batch: int) -> BoundGraph:
        """Return the graph with fresh memory for ``batch`` rows."""
        ...


class Backend(Protocol):
    """Loads graphs."""

    name: str

    def load(self, bundle: Bundle, graph: str) -> LoadedGraph:
        """Load one graph of a bundle.

        Raises:
            BackendError: the library is missing, or refuses the graph.
        """
        ...


def initial_state(state: State, bundle: Bundle, batch: int) -> Array:
    """Return the first value of one state for ``batch`` rows, contiguous and owned."""
    shape = (batch, *state.shape)
    if state.init == "zeros":
        return np.zeros(shape, state.dtype)
    if state.init == "ones":
        return np.ones(shape, state.dtype)
    held = bundle.array(state.init)
    if held.shape != state.shape:
        raise BackendError(
            f"{state.init} has shape {held.shape}; state {state.input} has {state.shape}"
        )
    return np.array(np.broadcast_to(held.astype(state.dtype), shape), order="C")
