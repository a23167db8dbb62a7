"""Matrix products and convolutions: all become one kernel that reads its rows where they lie.

A convolution over frames is a product whose row is several runs of floats, one a tap: nothing is
gathered, and a history in front of the new frames costs nothing. Channels lie innermost.
"""

from __future__ import annotations

import numpy as np

from ossicle.runtime.backend.native.arithmetic import like
from ossicle.runtime.backend.native.filters import depthwise
from ossicle.runtime.backend.native.lowering import Lowering, lowers
from ossicle.runtime.backend.native.movement import padded
from ossicle.runtime.backend.native.onnxfile import Array, Node
from ossicle.runtime.backend.native.quantised import integers
from ossicle.runtime.backend.native.steps import GemmStep, Map, MapStep
from ossicle.runtime.backend.native.views import Shape, View, constant
from ossicle.runtime.errors import BackendError


def _parts(low: Lowering, name: str) -> list[View]:
    """Return the runs that make up a row: those of a concatenation, or the tensor itself."""
    views = low.joined.get(name) or [low.value(name)]
    return merged([low.dense(v) for v in views])


def merged(parts: list[View]) -> list[View]:
    """Return the parts with those joined that follow each other in memory."""
    found: list[View] = []
    for part in parts:
        last = found[-1] if found else None
        if (
            last is not None
            and last.buffer is part.buffer
            and last.offset + last.shape[-1] == part.offset
            and last.strides[:-1] == part.strides[:-1]
        ):
            shape = (*last.shape[:-1], last.shape[-1] + part.shape[-1])
            found[-1] = View(last.buffer, last.offset, shape, (*last.strides[:-1], 1))
        else:
            found.append(View(part.buffer, part.offset, part.shape, (*part.strides[:-1], 1)))
    return found


@lowers("MatMul", "Gemm")
def _matmul(low: Lowering, node: Node) -> None:
    weights = low.known(node.inputs[1])
    while weights.ndim > 2 and weights.shape[0] == 1:
        weights = weights[0]
    if weights.ndim != 2:
        raise BackendError(f"a right side of shape {weights.shape}")
    bias: Array | None = None
    if node.op == "Gemm":
        if node.integer("transA", 0) or node.number("alpha", 1.0) != 1.0:
            raise BackendError("only alpha = 1 and a left side as it is")
        weights = weights.T if node.integer("transB", 0) else weights
        if len(node.inputs) > 2 and node.inputs[2]:
            bias = low.known(node.inputs[2]) * np.float32(node.number("beta", 1.0))
    parts = _parts(low, node.inputs[0])
    width = sum(p.shape[-1] for p in parts)
    if width != weights.shape[0]:
        raise BackendError(f"{width} columns for weights of shape {weights.shape}")
    columns = weights.shape[1]
    out = low.fresh((*parts[0].shape[:-1], columns))
    name = node.outputs[0]
    if bias is None:
        name, bias = _bias(low, name, columns)
    bias = None if bias is None else np.broadcast_to(bias.reshape(-1), (columns,))
    name, act, alpha = low.activation(name)
    name, residual = low.residual(name, out.shape)
    if residual is not None:
        residual = low.dense(residual)
    low.steps.append(GemmStep(out, tuple(parts), weights, bias, act, alpha, residual))
    low.values[name] = out


def _bias(low: Lowering, name: str, columns: int) -> tuple[str, Array | None]:
    """Absorb the addition of one number a column."""
    node = low.only_use(name)
    if node is None or node.op != "Add" or len(node.inputs) != 2:
        return name, None
    other = node.inputs[0] if node.inputs[1] == name else node.inputs[1]
    held = low.constants.get(other)
    if held is None or held.size != columns or held.shape[-1:] != (columns,):
        return name, None
    low.absorb(node)
    return node.outputs[0], held.reshape(-1)


@lowers("Conv")
def _conv(low: Lowering, node: Node) -> None:
    whole = integers(low, node)
    x, weights, bias, groups = _read_conv(low, node)
    outputs, inputs, *kernel = weights.shape
    dims = len(kernel)
    if outputs % groups or x.shape[0] != inputs * groups or len(x.shape) != dims + 1:
        raise BackendError(f"{x.shape} and weights {weights.shape} in {groups} groups")
    strides = node.integers("strides") or [1] * dims
    dilations = node.integers("dilations") or [1] * dims
    frames = [
        (n - (k - 1) * d - 1) // s + 1
        for n, k, s, d in zip(x.shape[1:], kernel, strides, dilations, strict=True)
    ]
    if min(frames) < 1:
        raise BackendError(f"a kernel of {kernel} over {x.shape[1:]}")
    taps = _taps(x, kernel, strides, dilations, frames)
    shape = (*frames, outputs)
    made = low.fresh(shape)
    logical = made.transpose((dims, *range(dims)))  # channels first, as the graph has it
    if whole is not None:
        _sum_integers(low, taps, whole, bias, made, groups)
        low.values[node.outputs[0]] = logical
        return
    name, act, alpha = low.activation(node.outputs[0])
    if groups == inputs * groups == outputs and groups > 1:
        depthwise(low, taps, weights, bias, made, act, alpha, [*kernel, *dilations])
        low.values[name] = logical
        return
    name, residual = low.residual(name, logical.shape)
    if residual is not None:
        residual = low.dense(residual.transpose((*range(1, dims + 1), 0)))
    of = outputs // groups
    for g in range(groups):
        parts, rows = _group(low, taps, weights, g, of)
        beside = None if residual is None else residual.slice(dims, g * of, of)
        out, start = made.slice(dims, g * of, of), bias[g * of : (g + 1) * of]
        low.steps.append(GemmStep(out, parts, rows, start, act, alpha, beside))
    low.values[name] = logical


def _sum_integers(
    low: Lowering,
    taps: list[View],
    whole: tuple[Array, Array],
    bias: Array,
    made: View,
    groups: int,
) -> None:
    """Sum products of whole numbers, then scale each channel."""
    weights, scale = whole
    dims, of = len(made.shape) - 1, made.shape[-1] // groups
    start = (bias.astype(np.float64) / scale).astype(np.float32)
    sums = like(low, made.shape, made)
    for g in range(groups):
        parts, rows = _group(low, taps, weights, g, of)
        out = sums.slice(dims, g * of, of)
        low.steps.append(GemmStep(out, parts, rows, start[g * of : (g + 1) * of], whole=True))
    low.steps.append(MapStep(Map.MUL, made, sums, constant(scale).broadcast(made.shape)))


def _group(
    low: Lowering, taps: list[View], weights: Array, g: int, of: int
) -> tuple[tuple[View, ...], Array]:
    """Return what the ``of`` outputs of group ``g`` see, and their weights ``[K, of]``."""
    each = weights.shape[1]
    parts = merged([low.dense(t.slice(len(t.shape) - 1, g * each, each)) for t in taps])
    rows = weights[g * of : (g + 1) * of].reshape(of, each, -1).transpose(2, 1, 0)
    return tuple(parts), rows.reshape(-1, of).astype(np.float32)


def _read_conv(low: Lowering, node: Node) -> tuple[View, Array, Array, int]:
    """Return input with its padding, weights, bias (or zeros) and groups."""
    weights = low.known(node.inputs[1])
    outputs = weights.shape[0] if node.op == "Conv" else weights.shape[1] * node.integer("group", 1)
    bias = np.zeros(outputs, np.float32)
    if len(node.inputs) > 2 and node.inputs[2]:
        bias = low.known(node.inputs[2]).reshape(-1)
    if bias.size != outputs or weights.ndim < 3:
        raise BackendError(f"weights of shape {weights.shape} with {bias.size} biases")
    x = low.value(node.inputs[0])
    if node.attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise BackendError("padding must be explicit")
    pads = node.integers("pads") or []
    if any(pads):
        half = len(pads) // 2
        if node.op != "Conv" or half != len(x.shape) - 1:
            raise BackendError(f"padding of {pads}")
        x = padded(low, x, [0, *pads[:half]], [0, *pads[half:]], 0.0)
    groups = node.integer("group", 1)
    if groups < 1 or min(weights.shape) < 1:
        raise BackendError(f"{groups} groups")
    if x.shape[0] > 1 and x.strides[0] != 1:  # channels innermost
        last = (*range(1, len(x.shape)), 0)
        plain = low.fresh(tuple(x.shape[a] for a in last))
        low.copy(x.transpose(last), plain)
        x = plain.transpose((len(last) - 1, *range(len(last) - 1)))
    return x, weights, bias, groups


def _taps(
    x: View, kernel: list[int], strides: list[int], dilations: list[int], frames: list[int]
) -> list[View]:
    """Return, for each tap in order, what all frames see through it: ``[frames..., C]``."""
    found = []
    for place in np.ndindex(*kernel):
        view = x
        for axis, (k, s, d, n) in enumerate(
            zip(place, strides, dilations, frames, strict=True), start=1
        ):
            view = view.slice(axis, k * d, n, s)
        found.append(view.transpose((*range(1, len(x.shape)), 0)))
    return found


@lowers("ConvTranspose")
def _transposed(low: Lowering, node: Node) -> None:
    """``out[s j + r] = sum_i x[j - i] W[s i + r]``: products over rows with zeros around them."""
    x, weights, bias, groups = _read_conv(low, node)
    inputs, of, *kernel = weights.shape
    strides = node.integers("strides") or [1] * len(kernel)
    plain = any(n != 1 for n in node.integers("dilations") or []) or any(
        node.integers("output_padding") or []
    )
    if plain or node.integers("output_shape") or any(k != 1 for k in kernel[1:]):
        raise BackendError("only a plain one over one axis is supported")
    if any(s != 1 for s in strides[1:]) or kernel[0] % strides[0] or any(
        n != 1 for n in x.shape[2:]
    ) or x.shape[0] != inputs or inputs % groups:  # fmt: skip
        raise BackendError(f"a kernel of {kernel} and strides {strides} over {x.shape}")
    stride, frames, each = strides[0], x.shape[1], inputs // groups
    count = kernel[0] // stride  # inputs that one output sees
    rest = len(kernel) - 1
    line = View(x.buffer, x.offset, x.shape[:2], x.strides[:2]).transpose((1, 0))  # [T, C]
    if count > 1:
        line = padded(low, line, [count - 1, 0], [count - 1, 0], 0.0)
    rows = frames + count - 1
    shape: Shape = (rows, stride, groups * of)
    made = low.fresh(shape)
    for g in range(groups):
        seen = [low.dense(line.slice(0, j, rows).slice(1, g * each, each)) for j in range(count)]
        held = weights[g * each : (g + 1) * each, :, :].reshape(each, of, count, stride)
        table = held[:, :, ::-1].transpose(2, 0, 3, 1).reshape(count * each, stride * of)
        offset = bias[g * of : (g + 1) * of]
        if groups == 1:
            out = low.reshape(made, (rows, stride * of))
            tiled = np.tile(offset, stride)
            low.steps.append(GemmStep(out, tuple(merged(seen)), table, tiled))
            continue
        for r in range(stride):
            out = made.pick(1, r).slice(1, g * of, of)
            columns = table[:, r * of : (r + 1) * of]
            low.steps.append(GemmStep(out, tuple(merged(seen)), columns, offset))
    flat = low.reshape(made, (rows * stride, groups * of))
    out = flat.transpose((1, 0))
    ones: Shape = (1,) * rest
    low.values[node.outputs[0]] = View(
        out.buffer, out.offset, (*out.shape, *ones), (*out.strides, *ones)
    )
