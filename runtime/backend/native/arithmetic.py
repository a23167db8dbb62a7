"""Element-wise operators, reductions and norms."""

from __future__ import annotations

import math

import numpy as np

from ossicle.runtime.backend.native.lowering import Lowering, lowers
from ossicle.runtime.backend.native.onnxfile import Array, Node
from ossicle.runtime.backend.native.steps import Map, MapStep, Row, RowStep
from ossicle.runtime.backend.native.views import Shape, View, constant
from ossicle.runtime.errors import BackendError

_TWO = {
    "Add": Map.ADD, "Sub": Map.SUB, "Mul": Map.MUL, "Div": Map.DIV, "Min": Map.LEAST,
    "Max": Map.MOST, "Pow": Map.POW,
}  # fmt: skip
_ONE = {
    "Neg": Map.NEG, "Abs": Map.ABS, "Sqrt": Map.SQRT, "Reciprocal": Map.RECIPROCAL,
    "Exp": Map.EXP, "Log": Map.LOG, "Sigmoid": Map.SIGMOID, "Tanh": Map.TANH, "Relu": Map.RELU,
    "LeakyRelu": Map.LEAKY, "Gelu": Map.GELU, "Round": Map.ROUND,
}  # fmt: skip
_FOLDS = {
    Map.ADD: np.add, Map.SUB: np.subtract, Map.MUL: np.multiply, Map.DIV: np.divide,
    Map.LEAST: np.minimum, Map.MOST: np.maximum, Map.POW: np.power,
}  # fmt: skip


def like(low: Lowering, shape: Shape, *operands: View) -> View:
    """Return fresh memory laid out as the first operand that has the whole shape."""
    for view in operands:
        if view.shape == shape and view.buffer.held is None:
            return low.fresh(shape, view.order())
    return low.fresh(shape)


def unary(low: Lowering, op: Map, x: View, p: float = 0.0, q: float = 0.0) -> View:
    """Return ``op(x)``."""
    made = like(low, x.shape, x)
    low.steps.append(MapStep(op, made, x, None, p, q))
    return made


@lowers(*_ONE)
def _one(low: Lowering, node: Node) -> None:
    name = node.inputs[0]
    alpha = node.number("alpha", 0.01) if node.op == "LeakyRelu" else 0.0
    if node.op == "Gelu" and node.attributes.get("approximate", "none") != "none":
        raise BackendError("only the exact form is supported")
    silu = _silu(low, node) if node.op == "Sigmoid" else None
    if silu is not None:
        low.values[silu] = unary(low, Map.SILU, low.value(name))
        return
    low.values[node.outputs[0]] = unary(low, _ONE[node.op], low.value(name), alpha)


def _silu(low: Lowering, gate: Node) -> str | None:
    times = low.only_use(gate.outputs[0])
    if times is None or times.op != "Mul":
        return None
    if set(times.inputs) != {gate.inputs[0], gate.outputs[0]}:
        return None
    low.absorb(times)
    return times.outputs[0]


@lowers(*_TWO)
def _two(low: Lowering, node: Node) -> None:
    op, (first, second) = _TWO[node.op], node.inputs
    if first in low.constants and second in low.constants:
        folded = _FOLDS[op](low.constants[first], low.constants[second])
        low.constants[node.outputs[0]] = folded
        return
    power = low.constants.get(second) if op is Map.POW else None
    if power is not None and power.size == 1 and float(power.reshape(-1)[0]) in (2.0, 0.5):
        kind = Map.SQUARE if float(power.reshape(-1)[0]) == 2.0 else Map.SQRT
        low.values[node.outputs[0]] = unary(low, kind, low.value(first))
        return
    rank = max(len(low.value(n).shape) for n in node.inputs if n not in low.constants)
    a, b = low.operand(first, rank), low.operand(second, rank)
    for view, name in ((a, first), (b, second)):
        if name not in low.constants and len(view.shape) != rank:
            raise BackendError(f"ranks differ: {a.shape} and {b.shape}")
    shape = tuple(np.broadcast_shapes(a.shape, b.shape))
    made = like(low, shape, a, b)
    low.steps.append(MapStep(op, made, a.broadcast(shape), b.broadcast(shape)))
    low.values[node.outputs[0]] = made


@lowers("Clip")
def _clip(low: Lowering, node: Node) -> None:
    bounds = [-math.inf, math.inf]
    for place, name in enumerate(node.inputs[1:3]):
        if name:
            bounds[place] = float(low.known(name).reshape(-1)[0])
    low.values[node.outputs[0]] = unary(low, Map.CLIP, low.value(node.inputs[0]), *bounds)


_REDUCE = {
    "ReduceSum": (Row.SUM, Map.ADD), "ReduceMean": (Row.MEAN, Map.ADD),
    "ReduceMax": (Row.MOST, Map.MOST), "ReduceSumSquare": (Row.SUM_SQUARE, None),
}  # fmt: skip


@lowers(*_REDUCE)
def _reduce(low: Lowering, node: Node) -> None:
    view = low.value(node.inputs[0])
    rank = len(view.shape) + 1
    given = low.known(node.inputs[1]).reshape(-1) if len(node.inputs) > 1 else None
    axes = [int(n) for n in given] if given is not None else node.integers("axes") or []
    places = sorted({low.axis(a, rank) for a in axes}, reverse=True)
    if not places:
        raise BackendError("over every axis: the batch stays as it is")
    row, pair = _REDUCE[node.op]
    for place in places:
        size = view.shape[place]
        few = len(view.shape) > 1 and (size <= 4 or (size <= 16 and view.strides[place] != 1))
        if pair is not None and few:
            view = _folded(low, view, place, row, pair)
        else:
            others = tuple(a for a in range(len(view.shape)) if a != place)
            turned = view.transpose((*others, place))
            made = low.fresh(turned.shape[:-1], View(
                view.buffer, 0, turned.shape[:-1], turned.strides[:-1]).order())  # fmt: skip
            low.steps.append(RowStep(row, made, turned))
            view = made
        if row is Row.SUM_SQUARE:
            row, pair = Row.SUM, Map.ADD
    if node.integer("keepdims", 1):
        shape, strides = list(view.shape), list(view.strides)
        for place in reversed(places):
            shape.insert(place, 1)
            strides.insert(place, 1)
        view = View(view.buffer, view.offset, tuple(shape), tuple(strides))
    low.values[node.outputs[0]] = view


def _folded(low: Lowering, view: View, place: int, row: Row, pair: Map) -> View:
    """Reduce a short axis whose neighbours lie far apart, one place after the other."""
    total = view.pick(place, 0)
    for index in range(1, view.shape[place]):
        made = like(low, total.shape, total)
        low.steps.append(MapStep(pair, made, total, view.pick(place, index)))
        total = made
    if row is Row.MEAN:
        share = constant(np.full(1, 1.0 / view.shape[place])).broadcast(total.shape)
        made = like(low, total.shape, total)
        low.steps.append(MapStep(Map.MUL, made, total, share))
        total = made
    return total


@lowers("LayerNormalization")
def _norm(low: Lowering, node: Node) -> None:
    view = low.value(node.inputs[0])
    rank = len(view.shape) + 1
    axis = low.axis(node.integer("axis", -1), rank)
    if len(node.outputs) > 1 and any(low.uses(n) for n in node.outputs[1:]):
        raise BackendError("the mean and deviation are not given out")
    size = math.prod(view.shape[axis:])
    flat = low.dense(low.reshape(view, (*view.shape[:axis], size)))
    vectors = [low.known(n).reshape(-1) for n in node.inputs[1:] if n]
    if any(v.size != size for v in vectors):
        raise BackendError(f"scale and bias of {[v.size for v in vectors]} for {size}")
    scale, bias = (_unless(vectors, 0, 1.0), _unless(vectors, 1, 0.0))
    made = low.fresh(flat.shape)
    epsilon = node.number("epsilon", 1e-5)
    low.steps.append(RowStep(Row.NORM, made, flat, epsilon, scale, bias))
    low.values[node.outputs[0]] = low.reshape(made, view.shape)


def _unless(vectors: list[Array], place: int, plain: float) -> View | None:
    if place >= len(vectors) or np.all(vectors[place] == plain):
        return None
    return constant(vectors[place])


@lowers("Softmax")
def _softmax(low: Lowering, node: Node) -> None:
    view = low.value(node.inputs[0])
    if low.axis(node.integer("axis", -1), len(view.shape) + 1) != len(view.shape) - 1:
        raise BackendError("only over the last axis")
    made = low.fresh(view.shape)
    low.steps.append(RowStep(Row.SOFTMAX, made, low.dense(view)))
    low.values[node.outputs[0]] = made
