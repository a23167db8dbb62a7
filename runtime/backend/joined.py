"""What a backend may take into a graph's own step: the quantiser before or behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ossicle.runtime.backend.base import BoundGraph

if TYPE_CHECKING:
    from ossicle.runtime.host.quantise import RvqDecode, RvqEncode


@dataclass(frozen=True, slots=True)
class Joined:
    """The quantisers at a graph's edges, and what the codes are called in its inputs and outputs.

    With ``before``, the run is given codes ``[B, K, T]`` named ``codes`` instead of the input
    ``port``; with ``after`` it gives them beside the output ``port``, and takes ``layers``
    ``[B, 1]`` where that is named.
    """

    port: str
    codes: str
    before: RvqDecode | None = None
    after: RvqEncode | None = None
    layers: str | None = None

    @property
    def books(self) -> Any:
        """The compiled books."""
        op = self.before or self.after
        assert op is not None
        return op.packed.compiled

    @property
    def depth(self) -> int:
        """``K``."""
        op = self.before or self.after
        assert op is not None
        return op.depth


@runtime_checkable
class Joinable(Protocol):
    """A loaded graph that can."""

    def bind_joined(self, batch: int, joined: Joined) -> BoundGraph:
        """Return the graph with its quantiser, with fresh memory for ``batch`` rows."""
        ...
