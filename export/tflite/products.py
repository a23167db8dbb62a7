"""Dense layers, convolutions and means."""

from __future__ import annotations

import numpy as np

from ossicle.export.tflite.eightbit import (
    depthwise_in_order,
    dynamic,
    first_in_order,
    has_dynamic,
    in_eight_bits,
    mean_in_order,
)
from ossicle.export.tflite.layout import axis_in_onnx, full_integer, pads_of, scalar_or_vector
from ossicle.export.tflite.reader import Operator
from ossicle.export.tflite.walk import Walk, converts


@converts("FULLY_CONNECTED")
def _fully_connected(w: Walk, op: Operator) -> None:
    if dynamic(w, op):
        w.give(op, in_eight_bits(w, op))
        return
    weight = w.out.weight(np.ascontiguousarray(w.constant(op.inputs[1]).T))
    value = w.out.node("MatMul", w.real(op.inputs[0]), weight)
    if len(op.inputs) > 2 and op.inputs[2] >= 0:
        value = w.out.node("Add", value, w.real(op.inputs[2]))
    w.give(op, value)


@converts("CONV_2D")
def _conv_2d(w: Walk, op: Operator) -> None:
    weight = w.tensor(op.inputs[1])
    channels = w.tensor(op.inputs[0]).shape[3]
    if dynamic(w, op):
        w.give(op, in_eight_bits(w, op))
    elif channels == 1 and _in_order(w, op):
        w.give(op, first_in_order(w, op, w.constant(op.inputs[1]), _pads_of(w, op)))
    else:
        w.give(op, _convolved(w, op, (0, 3, 1, 2), channels // weight.shape[3]))


@converts("DEPTHWISE_CONV_2D")
def _depthwise_conv_2d(w: Walk, op: Operator) -> None:
    if op.options["multiplier"] == 1 and _in_order(w, op):
        w.give(op, depthwise_in_order(w, op, w.constant(op.inputs[1]), _pads_of(w, op)))
    else:
        w.give(op, _convolved(w, op, (3, 0, 1, 2), w.tensor(op.inputs[1]).shape[3]))


@converts("MEAN")
def _mean(w: Walk, op: Operator) -> None:
    rank = len(w.tensor(op.inputs[0]).shape)
    axes = sorted(axis_in_onnx(int(a), rank) for a in w.constant(op.inputs[1]).reshape(-1))
    if rank == 4 and axes == [2, 3] and has_dynamic(w):
        w.give(op, mean_in_order(w, op))
        return
    keep = int(bool(op.options["keep_dims"]))
    value = w.real(op.inputs[0])
    w.give(op, w.out.node("ReduceMean", value, w.out.ints(*axes), keepdims=keep))


def _in_order(w: Walk, op: Operator) -> bool:
    """Tell whether the last bit of a float convolution is rounded to 8 bits further on."""
    plain = op.options.get("dilation_h", 1) == op.options.get("dilation_w", 1) == 1
    return plain and len(op.inputs) > 2 and op.inputs[2] >= 0 and has_dynamic(w)


def _pads_of(w: Walk, op: Operator) -> list[int]:
    """Get the zeros before and behind both axes of an image, as ONNX orders them."""
    options = op.options
    return pads_of(
        options["padding"],
        w.tensor(op.inputs[0]).shape[1:3],
        w.tensor(op.inputs[1]).shape[1:3],
        [options["stride_h"], options["stride_w"]],
        [options.get("dilation_h", 1), options.get("dilation_w", 1)],
    )


def _convolved(w: Walk, op: Operator, perm: tuple[int, ...], groups: int) -> str:
    options = op.options
    return w.out.node(
        "Conv", w.real(op.inputs[0]), _kernel(w, op.inputs[1], perm), *_bias(w, op, 2),
        group=groups, kernel_shape=list(w.tensor(op.inputs[1]).shape[1:3]),
        strides=[options["stride_h"], options["stride_w"]],
        dilations=[options.get("dilation_h", 1), options.get("dilation_w", 1)],
        pads=_pads_of(w, op),
    )  # fmt: skip


def _kernel(w: Walk, index: int, perm: tuple[int, ...]) -> str:
    """Get a weight with its axes permuted, as int8 with its scales in a QDQ region."""
    tensor = w.tensor(index)
    if not (w.quantised and tensor.dtype == "int8" and full_integer(w.graph, index)):
        return w.out.weight(w.constant(index).transpose(perm))
    assert tensor.quant is not None
    assert tensor.data is not None
    scale = w.out.weight(scalar_or_vector(tensor.quant.scale))
    # ONNX Runtime makes both unsigned where that is exact, each once: neither may be shared
    zero = w.out.weight(scalar_or_vector(tensor.quant.zero.astype(np.int8)), own=True)
    stored = w.out.weight(np.ascontiguousarray(tensor.data.transpose(perm)), own=True)
    axis = perm.index(tensor.quant.axis) if tensor.quant.scale.size > 1 else 0
    return w.out.node("DequantizeLinear", stored, scale, zero, axis=axis)


def _bias(w: Walk, op: Operator, position: int) -> list[str]:
    if len(op.inputs) <= position or op.inputs[position] < 0:
        return []
    tensor = w.tensor(op.inputs[position])
    if not (w.quantised and tensor.dtype == "int32"):
        return [w.out.weight(w.constant(tensor.index))]
    assert tensor.quant is not None
    assert tensor.data is not None
    scale = w.out.weight(scalar_or_vector(tensor.quant.scale))
    return [w.out.node("DequantizeLinear", w.out.weight(tensor.data), scale, axis=0)]
