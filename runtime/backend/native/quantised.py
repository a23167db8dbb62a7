"""Quantised graphs (QDQ): whole numbers are kept as floats, which hold them exactly.

Bytes exist only outside, in states, inputs and outputs; a step converts them at the door. Where a
convolution reads 8-bit values against 8-bit weights, its sums are of whole numbers and exact; other
sums are taken over the dequantised floats, as the operators are defined, so a value can differ by
one step from a runtime that sums integers where the two lie on different sides of a half.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np

from ossicle.runtime.backend.native.arithmetic import like
from ossicle.runtime.backend.native.lowering import Lowering, lowers
from ossicle.runtime.backend.native.onnxfile import Array, Node
from ossicle.runtime.backend.native.steps import Map, MapStep
from ossicle.runtime.errors import BackendError


def _scales(low: Lowering, node: Node) -> tuple[Array, Array]:
    """Return scale and zero point, flat and of one size."""
    scale = low.known(node.inputs[1]).astype(np.float32).reshape(-1)
    zero = np.zeros(scale.size, np.uint8)
    if len(node.inputs) > 2 and node.inputs[2]:
        zero = low.known(node.inputs[2]).reshape(-1)
    if zero.size != scale.size or scale.size == 0 or not np.all(scale > 0):
        raise BackendError(f"{scale.size} scales and {zero.size} zero points")
    if node.integer("block_size", 0):
        raise BackendError("scales by block are not supported")
    return scale, zero


def integers(low: Lowering, node: Node) -> tuple[Array, Array] | None:
    """Return weights as whole numbers and the scale of each output's sums, where both exist.

    So it is where a convolution alone reads dequantised values with one scale, and its weights are
    8-bit with a scale for each output. The values are then left as whole numbers too: products and
    sums are exact, as in a runtime of integers, and the weights are half as many bytes.
    """
    weights = low.whole.get(node.inputs[1])
    if weights is None or low.only_use(node.inputs[0]) is not node:
        return None
    rows, scale = weights
    if node.integer("group", 1) == rows.shape[0]:
        return None  # each channel alone: a filter, whose weights are few
    outputs = rows.shape[0]
    if scale.size not in (1, outputs) or scale.shape[:1] not in ((), (scale.size,)):
        return None
    made = low.values.get(node.inputs[0])
    for place in range(len(low.steps) - 1, -1, -1):
        step = low.steps[place]
        if isinstance(step, MapStep) and made is not None and step.out == made:
            if step.op is not Map.DEQUANTISE:
                return None
            low.steps[place] = replace(step, p=1.0)
            each = scale.reshape(-1).astype(np.float64) * step.p
            return rows, np.broadcast_to(each, (outputs,)).astype(np.float32)
    return None


@lowers("QuantizeLinear")
def _quantise(low: Lowering, node: Node) -> None:
    _, zero = _scales(low, node)
    if zero.dtype not in (np.uint8, np.int8):
        raise BackendError(f"to {zero.dtype}; 8 bits are supported")
    op = Map.QUANTISE_U8 if zero.dtype == np.uint8 else Map.QUANTISE_I8
    _by_channel(low, node, op)


@lowers("DequantizeLinear")
def _dequantise(low: Lowering, node: Node) -> None:
    name = node.inputs[0]
    if name not in low.constants:
        _by_channel(low, node, Map.DEQUANTISE)
        return
    scale, zero = _scales(low, node)
    held = low.constants[name]
    if scale.size > 1:
        axis = node.integer("axis", 1) % held.ndim
        if held.shape[axis] != scale.size:
            raise BackendError(f"{scale.size} scales for {held.shape}")
        shape = [-1 if a == axis else 1 for a in range(held.ndim)]
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    else:
        scale, zero = scale[0], zero[0]
    whole = held.astype(np.int64) - zero.astype(np.int64)
    if held.dtype in (np.int8, np.uint8):
        low.whole[node.outputs[0]] = whole, np.asarray(scale)
    low.constants[node.outputs[0]] = (whole.astype(np.float32) * scale).astype(np.float32)


def _by_channel(low: Lowering, node: Node, op: Map) -> None:
    """Add one step for each run of channels that share scale and zero point."""
    scale, zero = _scales(low, node)
    view = low.value(node.inputs[0])
    made = like(low, view.shape, view)
    axis = 0
    if scale.size == 1:
        runs = [(0, view.shape[0] if view.shape else 1)]
    else:
        axis = low.axis(node.integer("axis", 1), len(view.shape) + 1)
        if view.shape[axis] != scale.size:
            raise BackendError(f"{scale.size} scales for {view.shape}")
        changes = np.flatnonzero((np.diff(scale) != 0) | (np.diff(zero.astype(np.int64)) != 0)) + 1
        edges = [0, *(int(c) for c in changes), scale.size]
        runs = list(itertools.pairwise(edges))
    for first, end in runs:
        out, x = made, view
        if len(runs) > 1:
            out, x = (v.slice(axis, first, end - first) for v in (made, view))
        low.steps.append(MapStep(op, out, x, None, float(scale[first]), float(zero[first])))
    low.values[node.outputs[0]] = made
