"""What a host transform is, and the table of those that exist."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime.bundle import Bundle
from ossicle.runtime.errors import ManifestError
from ossicle.runtime.manifest import Op

Array = NDArray[Any]
HostState = dict[str, Array]


class HostOp(Protocol):
    """A batched transform. Rows never mix; what a row remembers is its row of the state."""

    def open(self, batch: int) -> HostState:
        """Return fresh memory, every array ``[B, ...]``; empty when nothing is remembered."""
        ...

    def run(self, state: HostState, inputs: Sequence[Array]) -> list[Array]:
        """Transform ``inputs`` (each ``[B, ...]``) and advance ``state`` in place."""
        ...


Builder = Callable[["Params"], HostOp]
_table: dict[str, Builder] = {}


def host_op(name: str) -> Callable[[Builder], Builder]:
    """Decorator: the builder of the host transform called ``name`` in manifests."""

    def register(builder: Builder) -> Builder:
        if name in _table:
            raise TypeError(f"host transform {name!r} exists already")
        _table[name] = builder
        return builder

    return register


def make_host_op(op: Op, bundle: Bundle) -> HostOp:
    """Return the transform that ``op`` names, with its parameters checked.

    Raises:
        ManifestError: unknown transform or parameter, or a value that cannot be.
    """
    builder = _table.get(op.op)
    if builder is None:
        raise ManifestError(
            f"operator {op.op!r} is unknown; 'graph' or one of {', '.join(sorted(_table))} expected"
        )
    params = Params(op, bundle)
    made = builder(params)
    params.done()
    return made


class Params:
    """The parameters of one operator, each asked for once; what nobody asked for is an error."""

    def __init__(self, op: Op, bundle: Bundle) -> None:
        self.name = op.op
        self._left = dict(op.params)
        self._bundle = bundle

    def integer(self, key: str, low: int, high: int, default: int | None = None) -> int:
        """Return a whole number in ``[low, high]``."""
        value = self._left.pop(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ManifestError(
                f"{self.name}.{key} is {value!r}; a whole number from {low} to {high} expected"
            )
        return value

    def number(self, key: str, low: float, high: float, default: float | None = None) -> float:
        """Return a number in ``[low, high]``."""
        value = self._left.pop(key, default)
        if not isinstance(value, int | float) or not low <= value <= high:
            raise ManifestError(
                f"{self.name}.{key} is {value!r}; a number from {low} to {high} expected"
            )
        return float(value)

    def choice(self, key: str, allowed: tuple[str, ...], default: str | None = None) -> str:
        """Return one of a few words."""
        value = self._left.pop(key, default)
        if value not in allowed:
            raise ManifestError(
                f"{self.name}.{key} is {value!r}; one of {', '.join(allowed)} expected"
            )
        return str(value)

    def integers(self, key: str) -> tuple[int, ...]:
        """Return a list of whole numbers."""
        value = self._left.pop(key, None)
        if not isinstance(value, list | tuple) or not all(isinstance(n, int) for n in value):
            raise ManifestError(f"{self.name}.{key} is {value!r}; a list of whole numbers expected")
        return tuple(value)

    def array(self, key: str) -> Array:
        """Return the array in the bundle's file that the parameter names."""
        name = self._left.pop(key, None)
        if not isinstance(name, str):
            raise ManifestError(f"{self.name}.{key} is {name!r}; the name of an .npy file expected")
        return self._bundle.array(name)

    def window(self, key: str, length: int, default: str = "hann") -> NDArray[np.float32]:
        """Return a window by name (periodic), or from an ``.npy`` file of ``length`` values."""
        value = self._left.get(key, default)
        if isinstance(value, str) and value.endswith(".npy"):
            held = self.array(key).astype(np.float32)
            if held.shape != (length,):
                raise ManifestError(f"{self.name}.{key}: window {held.shape}, ({length},) expected")
            return held
        return make_window(
            self.choice(key, ("hann", "sqrt_hann", "hamming", "rect"), default), length
        )

    def done(self) -> None:
        """Refuse parameters that nobody asked for."""
        if self._left:
            raise ManifestError(f"{self.name} has no parameter {sorted(self._left)}")


def make_window(name: str, length: int) -> NDArray[np.float32]:
    """Return a periodic window of ``length`` samples."""
    phase = 2 * np.pi * np.arange(length) / length
    values = {
        "hann": 0.5 - 0.5 * np.cos(phase),
        "sqrt_hann": np.sqrt(0.5 - 0.5 * np.cos(phase)),
        "hamming": 0.54 - 0.46 * np.cos(phase),
        "rect": np.ones(length),
    }[name]
    return np.asarray(values, np.float32)
