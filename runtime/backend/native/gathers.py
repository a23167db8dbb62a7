"""Gathers: evenly spaced places are a view, and taps gathered to be summed are one filter."""

from __future__ import annotations

from typing import Any

import numpy as np

from ossicle.runtime.backend.native.lowering import Lowering, lowers
from ossicle.runtime.backend.native.onnxfile import Node
from ossicle.runtime.backend.native.steps import TapsStep
from ossicle.runtime.backend.native.views import View, constant
from ossicle.runtime.errors import BackendError


@lowers("Gather")
def _gather(low: Lowering, node: Node) -> None:
    view = low.value(node.inputs[0])
    axis = low.axis(node.integer("axis", 0), len(view.shape) + 1)
    index = low.known(node.inputs[1]).astype(np.int64)
    size = view.shape[axis]
    if index.size == 0 or index.min() < -size or index.max() >= size:
        raise BackendError(f"places {index.reshape(-1)[:4]} of {size}")
    index = np.where(index < 0, index + size, index)
    if _filter(low, node, view, axis, index):
        return
    steps = affine(index)
    if steps is not None:
        shape = view.shape[:axis] + index.shape + view.shape[axis + 1 :]
        unit = view.strides[axis]
        strides = view.strides[:axis] + tuple(s * unit for s in steps) + view.strides[axis + 1 :]
        offset = view.offset + int(index.reshape(-1)[0]) * unit
        low.values[node.outputs[0]] = View(view.buffer, offset, shape, strides)
        return
    flat = index.reshape(-1)
    rest = (*view.shape[:axis], flat.size, *view.shape[axis + 1 :])
    made = low.fresh(rest)
    for at, place in enumerate(flat):
        low.copy(view.slice(axis, int(place), 1), made.slice(axis, at, 1))
    low.values[node.outputs[0]] = low.reshape(
        made, view.shape[:axis] + index.shape + view.shape[axis + 1 :]
    )


def affine(index: np.ndarray[Any, Any]) -> tuple[int, ...] | None:
    """Return the step of each axis if ``index`` is a start plus whole steps forward."""
    steps, expected = [], np.full((), index.reshape(-1)[0])
    for axis, n in enumerate(index.shape):
        here = np.moveaxis(index, axis, 0).reshape(n, -1)[:, 0]
        step = int(here[1] - here[0]) if n > 1 else 0
        if step < 0:
            return None
        steps.append(step)
        expected = expected[..., None] + step * np.arange(n)
    return tuple(steps) if np.array_equal(expected, index) else None


def _filter(low: Lowering, node: Node, view: View, axis: int, index: np.ndarray[Any, Any]) -> bool:
    """A gather of taps, times a matrix, summed over the taps: one depthwise filter."""
    if len(view.shape) != 2 or axis != 0 or index.ndim != 1 or view.strides[1] != 1:
        return False
    names = [node.outputs[0]]
    chain: list[Node] = []
    for op in ("Reshape", "Mul", "ReduceSum"):
        follower = low.only_use(names[-1])
        if follower is None or follower.op != op:
            return False
        chain.append(follower)
        names.append(follower.outputs[0])
    shape, times, total = chain
    weights = next((low.constants[n] for n in times.inputs if n in low.constants), None)
    wanted = low.constants.get(shape.inputs[1])
    axes = low.constants.get(total.inputs[1]) if len(total.inputs) > 1 else None
    if weights is None or wanted is None or axes is None or weights.ndim != 2:
        return False
    taps, width = weights.shape
    frames = index.size // taps
    steps = affine(index.reshape(frames, taps)) if frames * taps == index.size else None
    fits = (
        steps is not None
        and list(wanted.reshape(-1)) in ([-1, frames, taps, width], [0, frames, taps, width])
        and list(axes.reshape(-1)) in ([2], [-2])
        and not total.integer("keepdims", 1)
        and width == view.shape[1]
    )
    if not fits or steps is None:
        return False
    low.absorb(*chain)
    unit = view.strides[0]
    x = View(
        view.buffer,
        view.offset + int(index[0]) * unit,
        (taps, frames, width),
        (steps[1] * unit, steps[0] * unit, 1),
    )
    out = low.fresh((frames, width))
    name, act, alpha = low.activation(names[-1])
    low.steps.append(TapsStep(out, x, constant(weights), constant(np.zeros(width)), act, alpha))
    low.values[name] = out
    return True
