"""Float graphs whose dense layers round to 8 bits as they run, in XNNPACK's own order of sums.

TFLite's "dynamic range" kernels round each row or pixel of activations to 8 bits of its own range
next to int8 weights. A last bit that differs before such a rounding can move a value by 1/255 of
the row, and from there every layer behind: TFLite itself, given a log-mel whose last bits differ,
moves YAMNet's scores by up to 0.02. So everything between two roundings is summed here in the order
in which XNNPACK (the delegate that TFLite runs these graphs with) sums it: the bias first, then
one fused multiply-add after the other. With that the graphs are equal to the bit wherever ONNX
Runtime's kernels use fused multiply-add too, as they do on x86-64 with AVX2 and later.

A sum of that order is written as a convolution over an axis of terms: the bias as the first term,
next to a value of one, then the taps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ossicle.export.tflite.layout import channels_first_shape, never_negative
from ossicle.export.tflite.reader import Operator
from ossicle.export.tflite.walk import Array, Walk
from ossicle.runtime.errors import ExportError

ONE = np.float32(1)


def dynamic(w: Walk, op: Operator) -> bool:
    """Tell whether this operator's float input is to be rounded to 8 bits as it runs.

    TFLite does so in dense layers and pointwise convolutions whose weights are int8.
    """
    if not w.eight_bits or op.kind not in ("FULLY_CONNECTED", "CONV_2D"):
        return False
    value, weight = (w.tensor(i) for i in op.inputs[:2])
    pointwise = op.kind != "CONV_2D" or weight.shape[1:3] == (1, 1)
    return (
        pointwise
        and weight.data is not None
        and (value.dtype, weight.dtype)
        == (
            "float32",
            "int8",
        )
    )


def has_dynamic(w: Walk) -> bool:
    """Tell whether the order of sums matters in this graph."""
    return any(dynamic(w, op) for op in w.graph.operators)


def in_eight_bits(w: Walk, op: Operator) -> str:
    """Append a dense layer or pointwise convolution on activations rounded to 8 bits.

    The product is of whole numbers and exact in float32; scale and bias come in one fused
    multiply-add.
    """
    if not never_negative(w.graph, op.inputs[0]):
        raise ExportError(f"{op.kind} with int8 weights on values of both signs")
    g, weight = w.out, w.tensor(op.inputs[1])
    grid, shape = weight.quant, w.tensor(op.outputs[0]).shape
    if grid is None or grid.scale.size != 1 or grid.zero.any() or weight.data is None:
        raise ExportError(f"{op.kind}: int8 weights of one symmetric scale are converted")
    value = w.real(op.inputs[0])
    top = g.node("ReduceMax", value, g.ints(1), keepdims=1)  # over the channels
    top = g.node("Max", top, g.weight(np.float32(1e-30)))
    scale = g.node("Div", g.weight(np.float32(255)), top)
    rounded = g.node("Round", g.node("Mul", value, scale))
    whole = weight.data.astype(np.float32)
    if op.kind == "CONV_2D":
        strides = [op.options["stride_h"], op.options["stride_w"]]
        made = g.node("Conv", rounded, g.weight(whole.transpose(0, 3, 1, 2)), strides=strides)
    else:
        made = g.node("MatMul", rounded, g.weight(np.ascontiguousarray(whole.T)))
    made = g.node("Mul", made, g.node("Reciprocal", scale))
    bias = np.zeros(shape[-1], np.float32)
    if len(op.inputs) > 2 and op.inputs[2] >= 0:
        bias = w.constant(op.inputs[2])
    terms = g.reshape(made, -1, shape[-1], 1, int(np.prod(shape[1:-1])))
    made = _summed(w, terms, [bias, np.full(shape[-1], grid.scale[0])])
    return g.reshape(made, -1, *channels_first_shape(shape)[1:])


def depthwise_in_order(w: Walk, op: Operator, weight: Array, pads: Sequence[int]) -> str:
    """Append a depthwise convolution, bias first, then the taps column by column.

    ``weight`` is ``[1, kh, kw, C]``.
    """
    _, height, width, _ = weight.shape
    places = [(y, x) for x in range(width) for y in range(height)]
    taps = _taps(w, op, places, pads)
    channels, time, mels = channels_first_shape(w.tensor(op.outputs[0]).shape)[1:]
    rows = [w.out.reshape(tap, -1, channels, 1, time * mels) for tap in taps]
    weights = [w.constant(op.inputs[2]), *(weight[0, y, x] for y, x in places)]
    made = _summed(w, w.out.concat(*rows, axis=2), weights)
    return w.out.reshape(made, -1, channels, time, mels)


def first_in_order(w: Walk, op: Operator, weight: Array, pads: Sequence[int]) -> str:
    """Append a convolution of one channel, bias first, then the taps row by row.

    ``weight`` is ``[O, kh, kw, 1]``.
    """
    outputs, height, width, _ = weight.shape
    places = [(y, x) for y in range(height) for x in range(width)]
    time, mels = w.tensor(op.outputs[0]).shape[1:3]
    g = w.out
    rows = [g.reshape(tap, -1, 1, time * mels) for tap in _taps(w, op, places, pads)]
    line = _behind_one(w, g.concat(*rows, axis=1), 1, 3)
    terms = [w.constant(op.inputs[2]), *(weight[:, y, x, 0] for y, x in places)]
    made = g.node("MatMul", g.weight(np.stack(terms, axis=1).astype(np.float32)), line)
    return g.reshape(made, -1, outputs, time, mels)


def mean_in_order(w: Walk, op: Operator) -> str:
    """Append a mean over time and frequency: one place after the other, then the division."""
    g = w.out
    _, time, mels, channels = w.tensor(op.inputs[0]).shape
    line = g.reshape(w.real(op.inputs[0]), -1, channels, time * mels)
    parts = g.nodes("Split", line, outputs=time * mels, axis=2, num_outputs=time * mels)
    total = parts[0]
    for part in parts[1:]:
        total = g.node("Add", total, part)
    total = g.node("Mul", total, g.weight(np.float32(1 / (time * mels))))
    return g.reshape(total, -1, *channels_first_shape(w.tensor(op.outputs[0]).shape)[1:])


def _taps(
    w: Walk, op: Operator, places: Sequence[tuple[int, int]], pads: Sequence[int]
) -> list[str]:
    """Append, for each tap of a kernel, the values ``[B, C, H', W']`` it meets."""
    g, steps = w.out, [op.options["stride_h"], op.options["stride_w"]]
    shape = w.tensor(op.outputs[0]).shape[1:3]
    value = w.real(op.inputs[0])
    if any(pads):
        value = g.node("Pad", value, g.ints(0, 0, *pads[:2], 0, 0, *pads[2:]))
    reach = [(n - 1) * step + 1 for n, step in zip(shape, steps, strict=True)]
    return [
        g.node("Slice", value, g.ints(y, x), g.ints(y + reach[0], x + reach[1]), g.ints(2, 3),
               g.ints(*steps))
        for y, x in places
    ]  # fmt: skip


def _behind_one(w: Walk, value: str, axis: int, rank: int) -> str:
    """Append a one in front of ``value`` along ``axis``."""
    begin = [int(i == axis) for i in range(rank)]
    return w.out.node("Pad", value, w.out.ints(*begin, *[0] * rank), w.out.weight(ONE))


def _summed(w: Walk, terms: str, weights: Sequence[Array]) -> str:
    """Append the sum over axis 2 of ``[B, C, N, P]``, each term weighted, in order.

    The first of ``weights`` (each ``[C]``) is the bias and has no term.
    """
    kernel = np.stack(weights, axis=1).astype(np.float32)[:, None, :, None]  # [C, 1, N + 1, 1]
    line = _behind_one(w, terms, 2, 4)
    return w.out.node(
        "Conv", line, w.out.weight(kernel), group=len(kernel), kernel_shape=[kernel.shape[2], 1]
    )
