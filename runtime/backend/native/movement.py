"""Operators that move data: nearly all become views; what is left is copies."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ossicle.runtime.backend.native.lowering import Lowering, lowers
from ossicle.runtime.backend.native.onnxfile import Node
from ossicle.runtime.backend.native.views import Home, Shape, View, constant
from ossicle.runtime.errors import BackendError


@lowers("Identity", "Cast", "Dropout")
def _same(low: Lowering, node: Node) -> None:
    if node.op == "Cast" and node.integer("to", 1) != 1:
        raise BackendError("only casts to float32 are supported")
    name = node.inputs[0]
    if name in low.constants:
        low.constants[node.outputs[0]] = low.constants[name].astype(np.float32)
    else:
        low.values[node.outputs[0]] = low.value(name)


@lowers("Constant")
def _constant(low: Lowering, node: Node) -> None:
    value = node.attributes.get("value")
    for key, dtype in (("value_float", "f4"), ("value_floats", "f4"),
                       ("value_int", "i8"), ("value_ints", "i8")):  # fmt: skip
        if key in node.attributes:
            value = np.asarray(node.attributes[key], dtype)
    if not isinstance(value, np.ndarray):
        raise BackendError("no value")
    low.constants[node.outputs[0]] = value


@lowers("Shape")
def _shape(low: Lowering, node: Node) -> None:
    whole: tuple[int | None, ...] = (None, *low.value(node.inputs[0]).shape)
    start, end = node.integer("start", 0), node.integer("end", len(whole))
    low.shapes[node.outputs[0]] = whole[start:end]


@lowers("Expand")
def _expand(low: Lowering, node: Node) -> None:
    name, wanted = node.inputs
    shape = low.shapes.get(wanted)
    if shape is None:
        shape = tuple(int(n) for n in low.known(wanted).reshape(-1))
    if not shape or shape[0] not in (None, 1):
        raise BackendError(f"to {shape}: the batch stays as it is")
    sizes: Shape = tuple(n if n is not None else 1 for n in shape[1:])
    view = low.operand(name, len(shape))
    full = np.broadcast_shapes(view.shape, sizes)
    low.values[node.outputs[0]] = view.broadcast(tuple(full))


@lowers("Transpose")
def _transpose(low: Lowering, node: Node) -> None:
    view = low.value(node.inputs[0])
    rank = len(view.shape) + 1
    perm = node.integers("perm") or list(range(rank))[::-1]
    if sorted(perm) != list(range(rank)) or perm[0] != 0:
        raise BackendError(f"axes {perm}: the batch stays first")
    low.values[node.outputs[0]] = view.transpose(tuple(p - 1 for p in perm[1:]))


@lowers("Reshape", "Flatten")
def _reshape(low: Lowering, node: Node) -> None:
    view = low.value(node.inputs[0])
    if node.op == "Flatten":
        if node.integer("axis", 1) != 1:
            raise BackendError("flattened from the first axis on only")
        wanted = [-1, view.count]
    else:
        wanted = [int(n) for n in low.known(node.inputs[1]).reshape(-1)]
    low.values[node.outputs[0]] = low.reshape(view, _stream_shape(wanted, view, node))


def _stream_shape(wanted: list[int], view: View, node: Node) -> Shape:
    """Return the shape of one stream; the batch is the first axis, before and after."""
    if not wanted:
        raise BackendError("to a number: the batch stays first")
    if not node.integer("allowzero", 0):
        full = (0, *view.shape)
        wanted = [full[i] if n == 0 and i < len(full) else n for i, n in enumerate(wanted)]
    first, rest = wanted[0], wanted[1:]
    if first not in (-1, 0, 1) or (first == -1 and -1 in rest):
        raise BackendError(f"to {wanted}: the batch stays first")
    if -1 in rest:
        fixed = math.prod(n for n in rest if n != -1)
        if not fixed or view.count % fixed:
            raise BackendError(f"{view.shape} to {wanted}")
        rest = [view.count // fixed if n == -1 else n for n in rest]
    if math.prod(rest) != view.count or any(n < 1 for n in rest):
        raise BackendError(f"{view.shape} to {wanted}: the batch stays as it is")
    return tuple(rest)


def _axes(low: Lowering, node: Node, place: int, rank: int) -> list[int]:
    """Return the axes of a node, from its input or, as older files have it, its attribute."""
    if len(node.inputs) > place and node.inputs[place]:
        given = [int(n) for n in low.known(node.inputs[place]).reshape(-1)]
    else:
        given = node.integers("axes") or []
    return sorted(low.axis(a, rank) for a in given)


@lowers("Squeeze")
def _squeeze(low: Lowering, node: Node) -> None:
    view = low.value(node.inputs[0])
    axes = _axes(low, node, 1, len(view.shape) + 1)
    if not axes or any(view.shape[a] != 1 for a in axes):
        raise BackendError(f"axes {axes} of {view.shape}")
    for axis in reversed(axes):
        view = view.pick(axis, 0)
    low.values[node.outputs[0]] = view


@lowers("Unsqueeze")
def _unsqueeze(low: Lowering, node: Node) -> None:
    view = low.value(node.inputs[0])
    count = len(low.known(node.inputs[1]).reshape(-1)) if len(node.inputs) > 1 else len(
        node.integers("axes") or []
    )  # fmt: skip
    shape, strides = list(view.shape), list(view.strides)
    for axis in _axes(low, node, 1, len(shape) + 1 + count):
        shape.insert(axis, 1)
        strides.insert(axis, 1)
    low.values[node.outputs[0]] = View(view.buffer, view.offset, tuple(shape), tuple(strides))


@lowers("Slice")
def _slice(low: Lowering, node: Node) -> None:
    view = low.value(node.inputs[0])
    rank = len(view.shape) + 1
    given = [
        [int(n) for n in low.known(name).reshape(-1)] if name else [] for name in node.inputs[1:]
    ]
    starts, ends = given[0], given[1]
    axes = given[2] if len(given) > 2 and given[2] else list(range(len(starts)))
    steps = given[3] if len(given) > 3 and given[3] else [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if axis in (0, -rank) and start == 0 and end >= 1 << 31 and step == 1:
            continue  # the whole batch
        a = low.axis(axis, rank)
        if step < 1:
            raise BackendError(f"a step of {step}")
        places = range(view.shape[a])[start:end:step]
        if not places:
            raise BackendError(f"nothing is left of axis {axis}")
        view = view.slice(a, places[0], len(places), step)
    low.values[node.outputs[0]] = view


@lowers("Split")
def _split(low: Lowering, node: Node) -> None:
    view = low.value(node.inputs[0])
    axis = low.axis(node.integer("axis", 0), len(view.shape) + 1)
    count = len(node.outputs)
    if len(node.inputs) > 1 and node.inputs[1]:
        sizes = [int(n) for n in low.known(node.inputs[1]).reshape(-1)]
    else:
        each = -(-view.shape[axis] // count)
        sizes = [each] * (count - 1) + [view.shape[axis] - each * (count - 1)]
    if len(sizes) != count or sum(sizes) != view.shape[axis] or min(sizes) < 1:
        raise BackendError(f"{view.shape[axis]} places into {sizes}")
    at = 0
    for name, size in zip(node.outputs, sizes, strict=True):
        low.values[name] = view.slice(axis, at, size)
        at += size


@lowers("Concat")
def _concat(low: Lowering, node: Node) -> None:
    out = node.outputs[0]
    known = [n for n in node.inputs if n not in low.constants]
    ready = [low.values[n] for n in known if n in low.values]
    order = ready[-1].order() if ready else None
    views = [low.value(n, order) if n not in low.constants else None for n in node.inputs]
    ranks = {len(v.shape) for v in views if v is not None}
    if len(ranks) != 1:
        raise BackendError(f"ranks {sorted(ranks)}")
    rank = ranks.pop()
    parts = [
        v if v is not None else low.operand(n, rank + 1)
        for v, n in zip(views, node.inputs, strict=True)
    ]
    axis = low.axis(node.integer("axis", 0), rank + 1)
    _check_joint(parts, axis)
    uses = low.uses(out)
    if axis == rank - 1 and uses and out not in low.ends and all(
        n.op in ("MatMul", "Gemm") and n.inputs[0] == out and n.inputs[1] in low.constants
        for n in uses
    ):  # fmt: skip
        low.joined[out] = parts
        return
    shape = list(parts[0].shape)
    shape[axis] = sum(p.shape[axis] for p in parts)
    made = low.fresh(tuple(shape), parts[-1].order() if parts[-1].dense() else None)
    at = 0
    for part in parts:
        target = made.slice(axis, at, part.shape[axis])
        at += part.shape[axis]
        if not _adopt(part, target):
            low.copy(part, target)
    low.values[out] = made


def _check_joint(parts: list[View], axis: int) -> None:
    first = parts[0].shape
    for part in parts:
        rest = part.shape[:axis] + part.shape[axis + 1 :]
        if len(part.shape) != len(first) or rest != first[:axis] + first[axis + 1 :]:
            raise BackendError(f"shapes {[p.shape for p in parts]} along axis {axis + 1}")


def _adopt(part: View, target: View) -> bool:
    """Let a scratch buffer be made inside the joint one, where its layout allows it."""
    buffer = part.buffer
    if buffer.home is not Home.SCRATCH or buffer.parent is not None or not part.covers():
        return False
    for n, a, b in zip(part.shape, part.strides, target.strides, strict=True):
        if n != 1 and a != b:
            return False
    buffer.parent = target.buffer, target.offset
    return True


@lowers("Pad")
def _pad(low: Lowering, node: Node) -> None:
    if node.attributes.get("mode", "constant") != "constant":
        raise BackendError(f"mode {node.attributes['mode']!r}")
    view = low.value(node.inputs[0])
    rank = len(view.shape) + 1
    pads = [int(n) for n in low.known(node.inputs[1]).reshape(-1)]
    value: Any = 0.0
    if len(node.inputs) > 2 and node.inputs[2]:
        value = float(low.known(node.inputs[2]).reshape(-1)[0])
    if len(node.inputs) > 3 and node.inputs[3]:
        raise BackendError("padding of named axes")
    if len(pads) != 2 * rank or pads[0] or pads[rank]:
        raise BackendError(f"{pads}: the batch stays as it is")
    low.values[node.outputs[0]] = padded(low, view, pads[1:rank], pads[rank + 1 :], value)


def padded(low: Lowering, view: View, before: list[int], after: list[int], value: float) -> View:
    """Return the view with a border of ``value``."""
    if min(before + after) < 0:
        raise BackendError(f"padding of {before} and {after}")
    shape = tuple(b + n + a for b, n, a in zip(before, view.shape, after, strict=True))
    made = low.fresh(shape, view.order())
    low.copy(constant(np.full(1, value)).broadcast(shape), made)
    inner = made
    for axis, (start, count) in enumerate(zip(before, view.shape, strict=True)):
        inner = inner.slice(axis, start, count)
    low.copy(view, inner)
    return made
