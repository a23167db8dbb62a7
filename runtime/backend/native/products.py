"""Matrix products and convolutions: all become one kernel that reads its rows where they lie.

A convolution over frames is a product whose row is several runs of floats, one a tap: nothing is
gathered, and a history in front of the new frames costs nothing. Channels lie innermost.
"""

from __future__ import annotations

import math

import numpy as np

from ossicle.runtime.backend.native.lowering import Lowering, lowers
from ossicle.runtime.backend.native.movement import padded
from ossicle.runtime.backend.native.onnxfile import Array, Node
from ossicle.runtime.backend.native.steps import Act, GemmStep, Map, MapStep, TapsStep
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
    name, act, alpha = low.activation(node.outputs[0])
    if groups == inputs * groups == outputs and groups > 1:
        depthwise(low, taps, weights, bias, made, act, alpha, [*kernel, *dilations])
        low.values[name] = logical
        return
    name, residual = low.residual(name, logical.shape)
    if residual is not None:
        residual = low.dense(residual.transpose((*range(1, dims + 1), 0)))
    each, of = inputs, outputs // groups
    for g in range(groups):
        parts = merged([low.dense(t.slice(dims, g * each, each)) for t in taps])
        rows = weights[g * of : (g + 1) * of].reshape(of, each, -1).transpose(2, 1, 0)
        low.steps.append(
            GemmStep(
                made.slice(dims, g * of, of),
                tuple(parts),
                rows.reshape(-1, of),
                bias[g * of : (g + 1) * of],
                act,
                alpha,
                None if residual is None else residual.slice(dims, g * of, of),
            )
        )
    low.values[name] = logical


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


def depthwise(
    low: Lowering,
    taps: list[View],
    weights: Array,
    bias: Array,
    made: View,
    act: Act,
    alpha: float,
    grid: list[int],
) -> None:
    """Filter each channel alone; a kernel of two axes is a sum of filters of even taps."""
    table = weights.reshape(weights.shape[0], -1).T  # [taps, C]
    run = _run(taps)
    lines = [(taps[i : i + run], table[i : i + run]) for i in range(0, len(taps), run)]
    total: View | None = None
    for index, (views, rows) in enumerate(lines):
        first = views[0]
        step = views[1].offset - first.offset if len(views) > 1 else 0
        x = View(first.buffer, first.offset, (len(views), *first.shape),
                 (step, *first.strides[:-1], 1))  # fmt: skip
        alone = len(lines) == 1
        out = made if alone else low.fresh(made.shape)
        start = constant(bias if index == 0 else np.zeros_like(bias))
        low.steps.append(TapsStep(out, x, constant(rows), start, act if alone else Act.NONE, alpha))
        if alone:
            return
        if total is not None:
            summed = made if index == len(lines) - 1 and act is Act.NONE else low.fresh(made.shape)
            low.steps.append(MapStep(Map.ADD, summed, total, out))
            total = summed
        else:
            total = out
    if total is not None and act is not Act.NONE:
        low.steps.append(MapStep(_AS_MAP[act], made, total, None, alpha))


_AS_MAP = {
    Act.RELU: Map.RELU, Act.LEAKY: Map.LEAKY, Act.SILU: Map.SILU, Act.SIGMOID: Map.SIGMOID,
    Act.TANH: Map.TANH, Act.GELU: Map.GELU,
}  # fmt: skip


def _run(taps: list[View]) -> int:
    """Return how many taps from the first lie evenly apart, a divisor of all of them."""
    if len(taps) < 2:
        return 1
    step = taps[1].offset - taps[0].offset
    run = 1
    while run < len(taps) and taps[run].offset == taps[0].offset + run * step:
        run += 1
    return math.gcd(run, len(taps)) if step >= 0 else 1


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
