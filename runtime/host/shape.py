"""Reshape and transpose, for graphs that want their axes otherwise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ossicle.runtime.host.base import Array, HostState, Params, host_op
from ossicle.runtime.host.spectrum import Stateless


class Reshape(Stateless):
    """``[B, ...]`` -> ``[B, *shape]``."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def run(self, state: HostState, inputs: Sequence[Array]) -> list[Array]:
        """Return the same values in another shape."""
        return [inputs[0].reshape(inputs[0].shape[0], *self.shape)]


class Transpose(Stateless):
    """``[B, ...]`` with the axes behind ``B`` in another order, counted from 0."""

    def __init__(self, axes: tuple[int, ...]) -> None:
        self.axes = (0, *(axis + 1 for axis in axes))

    def run(self, state: HostState, inputs: Sequence[Array]) -> list[Array]:
        """Return the transposed values, contiguous."""
        return [np.ascontiguousarray(inputs[0].transpose(self.axes))]


@host_op("reshape")
def _reshape(params: Params) -> Reshape:
    return Reshape(params.integers("shape"))


@host_op("transpose")
def _transpose(params: Params) -> Transpose:
    return Transpose(params.integers("axes"))
