"""Axes, paddings and quantisation grids of TFLite tensors, as plain functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ossicle.export.tflite.reader import Quant, Subgraph, Tensor
from ossicle.runtime.errors import ExportError

Array = NDArray[Any]


def axis_in_onnx(axis: int, rank: int) -> int:
    """Get where an axis of ``[B, H, W, C]`` lies in ``[B, C, H, W]``; other ranks keep theirs."""
    axis %= rank
    return (0, 2, 3, 1)[axis] if rank == 4 else axis


def channels_first_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """Get ``[B, H, W, C]`` as ``[B, C, H, W]``; other ranks stay as they are."""
    if len(shape) == 4:
        return (shape[0], shape[3], shape[1], shape[2])
    return tuple(shape)


def channels_first(value: Array, rank: int) -> Array:
    """Get a constant that broadcasts against ``[B, C, H, W]`` as it did against ``[..., C]``."""
    if value.ndim == 4:
        return np.ascontiguousarray(value.transpose(0, 3, 1, 2))
    if rank == 4 and value.ndim == 1:
        return value.reshape(-1, 1, 1)
    return value


def pads_of(
    padding: str,
    sizes: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> list[int]:
    """Get the zeros at the begin and then at the end of each axis, as TFLite splits them."""
    if padding == "VALID":
        return [0, 0, 0, 0]
    begin, end = [], []
    for size, taps, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        reach = (taps - 1) * dilation + 1
        total = max(0, (-(-size // stride) - 1) * stride + reach - size)
        begin.append(total // 2)
        end.append(total - total // 2)
    return [*begin, *end]


def pieces_of(pieces: Sequence[tuple[str, int]], start: int, stop: int) -> list[str]:
    """Get the parts that make up ``start:stop`` exactly, or none."""
    begin, found = 0, []
    for value, length in pieces:
        if start <= begin and begin + length <= stop:
            found.append((value, length))
        begin += length
    return [value for value, _ in found] if sum(n for _, n in found) == stop - start else []


def grid_of(tensor: Tensor) -> Quant:
    """Get the quantisation of a tensor that must have one."""
    if tensor.quant is None:
        raise ExportError(f"tensor {tensor.name!r} has no quantisation")
    return tensor.quant


def same_grid(one: Tensor, two: Tensor) -> bool:
    """Tell whether two int8 tensors have the same scale and zero point."""
    if one.quant is None or two.quant is None or one.dtype != two.dtype:
        return False
    same_scale = np.array_equal(one.quant.scale, two.quant.scale)
    return same_scale and np.array_equal(one.quant.zero, two.quant.zero)


def dequantised(tensor: Tensor) -> Array:
    """Get the float value of a quantised constant."""
    assert tensor.quant is not None
    assert tensor.data is not None
    shape = [1] * tensor.data.ndim
    if tensor.quant.scale.size > 1:
        shape[tensor.quant.axis] = -1
    scale, zero = (v.reshape(shape or [-1]) for v in (tensor.quant.scale, tensor.quant.zero))
    return ((tensor.data.astype(np.float64) - zero) * scale).astype(np.float32)


def only(tensor: Tensor) -> float:
    """Get the scale of a tensor that has one."""
    assert tensor.quant is not None
    return float(tensor.quant.scale[0])


def scalar_or_vector(values: Array) -> Array:
    """Get one value without axes, and more as they are: ONNX's two forms of scales."""
    return values.reshape(()) if values.size == 1 else values


def never_negative(graph: Subgraph, index: int) -> bool:
    """Tell whether a tensor is a ReLU's result, or the mean of one."""
    for op in graph.operators:
        if index in op.outputs:
            if op.kind == "MEAN":
                return never_negative(graph, op.inputs[0])
            return op.kind == "RELU" or op.options.get("activation") in ("Relu", "Relu6")
    return False


def full_integer(graph: Subgraph, weight: int) -> bool:
    """Tell whether the operator that reads ``weight`` also reads int8 activations."""
    for op in graph.operators:
        if weight in op.inputs:
            return any(graph.tensors[i].dtype == "int8" for i in op.inputs if i not in (weight, -1))
    return False
