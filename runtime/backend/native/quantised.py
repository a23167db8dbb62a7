"""Quantised graphs (QDQ): whole numbers are kept as floats, which hold them exactly.

Bytes exist only outside, in states, inputs and outputs; a step converts them at the door. Sums of
products are taken over the dequantised floats, as the operators are defined, so a value can differ
by one step from a runtime that sums integers where the two lie on different sides of a half.
"""

from __future__ import annotations

import itertools

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
