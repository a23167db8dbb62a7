"""The edges of regions in full int8, kept as QDQ pairs."""

from __future__ import annotations

import numpy as np

from ossicle.export.tflite.layout import axis_in_onnx, only, same_grid
from ossicle.export.tflite.reader import Operator
from ossicle.export.tflite.walk import Walk, converts


@converts("QUANTIZE")
def _quantize(w: Walk, op: Operator) -> None:
    parts = w.joined.get(op.inputs[0])
    grid = w.tensor(op.outputs[0])
    if parts and all(
        part in w.bytes and same_grid(w.tensor(w.bytes[part]), grid) for part in parts
    ):
        rank = len(grid.shape)
        axis = axis_in_onnx(w.join_axis[op.inputs[0]], rank)
        if w.rounded(op.outputs[0]):
            w.values[op.outputs[0]] = w.real(op.inputs[0])
            w.on_grid[w.values[op.outputs[0]]] = w.on(op.outputs[0])
            return
        bytes_ = [w.stored_values[part] for part in parts]
        w.values[op.outputs[0]] = w.out.concat(*bytes_, axis=axis)
        return
    w.give(op, w.real(op.inputs[0]))


@converts("DEQUANTIZE")
def _dequantize(w: Walk, op: Operator) -> None:
    if w.tensor(op.inputs[0]).data is not None:
        w.constants[op.outputs[0]] = w.constant(op.inputs[0])
    else:
        w.values[op.outputs[0]] = w.real(op.inputs[0])
        if w.stored(op.inputs[0]):
            w.bytes[op.outputs[0]] = op.inputs[0]
            w.stored_values[op.outputs[0]] = w.values[op.inputs[0]]
        elif w.rounded(op.inputs[0]):
            w.bytes[op.outputs[0]] = op.inputs[0]


@converts("LEAKY_RELU")
def _leaky_relu(w: Walk, op: Operator) -> None:
    alpha = float(op.options["alpha"])
    source, result = op.inputs[0], op.outputs[0]
    both = all(w.stored(i) or w.rounded(i) for i in (source, result))
    if not both:
        w.give(op, w.out.node("LeakyRelu", w.real(source), alpha=alpha))
        return
    ratio = only(w.tensor(source)) / only(w.tensor(result))
    slope, alpha = _xnnpack_slopes(ratio, alpha)
    if w.rounded(source):
        w.give(op, w.out.node("LeakyRelu", w.real(source), alpha=alpha), slope / ratio)
        return
    scale = w.out.weight(np.float32(slope * only(w.tensor(result))))
    zero = w.scale(source)[1]
    value = w.out.node("DequantizeLinear", w.values[source], scale, zero)
    w.give(op, w.out.node("LeakyRelu", value, alpha=alpha))


def _xnnpack_slopes(ratio: float, alpha: float) -> tuple[float, float]:
    """Get the slope above zero, and that below as a share of it, as TFLite's kernels have them.

    XNNPACK, the delegate with which TFLite runs int8, keeps both slopes in 1/256 and rounds halves
    up; the runtimes here round halves to even. A nudge of 1e-6 puts each half on XNNPACK's side.
    """
    above, below = (np.rint(256 * v) / 256 for v in (ratio, ratio * alpha))
    return float(above * (1 + 1e-6)), float(below / above * (1 - 2e-6))
