"""Overlapping frames out of hops, and hops out of overlapping frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ossicle.runtime.host.base import Array, HostState, Params, host_op


def frames_of(history: Array, fresh: Array, size: int, hop: int) -> Array:
    """Return frames ``[B, T, size]`` ending at each ``hop`` of ``fresh`` ``[B, T*hop]``.

    ``history`` ``[B, size - hop]`` is advanced in place. The frames are a view: do not write.
    """
    joined = np.concatenate([history, fresh], axis=1)
    history[:] = joined[:, joined.shape[1] - history.shape[1] :]
    if joined.shape[1] == size:
        return joined[:, None]
    view = np.lib.stride_tricks.sliding_window_view(joined, size, axis=1)
    return view[:, ::hop]


def overlap_add(tail: Array, frames: Array, hop: int) -> Array:
    """Add frames ``[B, T, n]`` at every ``hop`` and return the finished ``[B, T*hop]``.

    ``tail`` ``[B, n - hop]`` is the unfinished rest and is advanced in place.
    """
    batch, count, size = frames.shape
    if count == 1:
        whole = np.array(frames[:, 0], np.float32)
        whole[:, : size - hop] += tail
        tail[:] = whole[:, hop:]
        return whole[:, :hop]
    line = np.zeros((batch, size + hop * (count - 1)), np.float32)
    line[:, : size - hop] = tail
    for t in range(count):
        line[:, t * hop : t * hop + size] += frames[:, t]
    tail[:] = line[:, count * hop :]
    return line[:, : count * hop]


class Frame:
    """``[B, 1, T]`` -> ``[B, context + T]``: the hop behind ``context`` samples of history."""

    def __init__(self, context: int) -> None:
        self.context = context

    def open(self, batch: int) -> HostState:
        """Return silent history."""
        return {"history": np.zeros((batch, self.context), np.float32)}

    def run(self, state: HostState, inputs: Sequence[Array]) -> list[Array]:
        """Return history and hop joined."""
        joined = np.concatenate([state["history"], inputs[0][:, 0]], axis=1)
        state["history"][:] = joined[:, joined.shape[1] - self.context :]
        return [joined]


class Patch:
    """``[B, T, M]`` -> ``[B, frames, M]``: the newest ``frames`` rows, older ones from memory."""

    def __init__(self, frames: int, width: int, fill: float) -> None:
        self.frames, self.width, self.fill = frames, width, fill

    def open(self, batch: int) -> HostState:
        """Return a patch of ``fill``."""
        return {"patch": np.full((batch, self.frames, self.width), self.fill, np.float32)}

    def run(self, state: HostState, inputs: Sequence[Array]) -> list[Array]:
        """Shift the new rows in and return a copy."""
        held, fresh = state["patch"], inputs[0]
        joined = np.concatenate([held, fresh], axis=1)[:, -self.frames :]
        held[:] = joined
        return [joined]


class OverlapAdd:
    """``[B, T, n]`` -> ``[B, 1, T*hop]``; the output trails the input by ``n - hop``."""

    def __init__(self, size: int, hop: int) -> None:
        self.size, self.hop = size, hop

    def open(self, batch: int) -> HostState:
        """Return an empty tail."""
        return {"tail": np.zeros((batch, self.size - self.hop), np.float32)}

    def run(self, state: HostState, inputs: Sequence[Array]) -> list[Array]:
        """Return the finished samples."""
        return [overlap_add(state["tail"], inputs[0], self.hop)[:, None]]


@host_op("frame")
def _frame(params: Params) -> Frame:
    return Frame(params.integer("context", 1, 1 << 20))


@host_op("patch")
def _patch(params: Params) -> Patch:
    return Patch(
        params.integer("frames", 1, 1 << 16),
        params.integer("width", 1, 1 << 16),
        params.number("fill", -1e6, 1e6, 0.0),
    )


@host_op("overlap_add")
def _overlap_add(params: Params) -> OverlapAdd:
    size = params.integer("size", 1, 1 << 20)
    return OverlapAdd(size, params.integer("hop", 1, size))
