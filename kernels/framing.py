"""Frames of a stream, each with the samples before it, and their overlap-add."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ossicle.kernels import check, paths
from ossicle.kernels.errors import ShapeError

Floats = NDArray[np.float32]

__all__ = ["frame", "overlap_add"]


def frame(
    history: Floats,
    x: Floats,
    hop: int,
    *,
    out: Floats | None = None,
    path: paths.Path | None = None,
) -> Floats:
    """``[hops, C, context + hop]``: every hop of ``x`` ``[C, T]`` behind the samples before it.

    ``history`` ``[C, context]`` holds the samples before ``x`` and moves on in place; ``context``
    may be 0.

    Raises:
        ShapeError, DtypeError, LayoutError: an array does not fit, or ``T`` is not whole hops.
    """
    check.number("hop", hop, 1, 1 << 24)
    check.array("x", x, np.float32, "[C, T]", None, None)
    C, T = x.shape
    if T % hop:
        raise ShapeError(f"x has T = {T} samples; it must be whole hops of {hop}")
    context = history.shape[-1] if isinstance(history, np.ndarray) and history.ndim else 0
    if context:
        check.output("history", history, np.float32, "[C, context]", C, context)
    y = check.output("out", out, np.float32, "[hops, C, context + hop]", T // hop, C, context + hop)
    core = paths.core()
    if paths.choose(path) == "core" and core is not None:
        core.frame(history, x, hop, y)
        return y
    whole = np.concatenate([history, x], 1)
    for i in range(T // hop):
        y[i] = whole[:, i * hop : (i + 1) * hop + context]
    history[:] = whole[:, whole.shape[1] - context :]
    return y


def overlap_add(
    tail: Floats,
    frames: Floats,
    hop: int,
    *,
    out: Floats | None = None,
    path: paths.Path | None = None,
) -> Floats:
    """``[C, hops * hop]``: frames ``[hops, C, n]`` added up, each ``hop`` after the one before.

    ``tail`` ``[C, n - hop]`` holds what reaches past the end and moves on in place.

    Raises:
        ShapeError, DtypeError, LayoutError: an array does not fit.
    """
    check.array("frames", frames, np.float32, "[hops, C, n]", None, None, None)
    hops, C, n = frames.shape
    check.number("hop", hop, 1, n, "the length of a frame")
    if n > hop:
        check.output("tail", tail, np.float32, "[C, n - hop]", C, n - hop)
    y = check.output("out", out, np.float32, "[C, hops * hop]", C, hops * hop)
    core = paths.core()
    if paths.choose(path) == "core" and core is not None:
        core.overlap_add(tail, frames, hop, y)
        return y
    total = np.zeros((C, hops * hop + n - hop), np.float32)
    total[:, : n - hop] = tail
    for i in range(hops):
        total[:, i * hop : i * hop + n] += frames[i]
    y[:] = total[:, : hops * hop]
    tail[:] = total[:, hops * hop :]
    return y
