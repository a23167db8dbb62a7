"""Transposed convolutions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ossicle.export.tflite.layout import grid_of, only
from ossicle.export.tflite.reader import Operator
from ossicle.export.tflite.walk import Array, Walk, converts
from ossicle.runtime.errors import ExportError


@converts("TRANSPOSE_CONV")
def _transpose_conv(w: Walk, op: Operator) -> None:
    """Append a transposed convolution; those on the parts of one SPLIT become one of groups."""
    if op.options["padding"] != "VALID":
        raise ExportError("TRANSPOSE_CONV with SAME padding is not converted")
    if op.outputs[0] in w.values:
        return  # came with the first of its group
    split, group = _siblings(w, op)
    if split is None:
        w.give(op, _spread(w, op.inputs[2], [op]))
        return
    value = _spread(w, split.inputs[1], group)
    outputs = [o.outputs[0] for o in group]
    if w.stored(outputs[0]):
        value = _rounded_per_channel(w, value, outputs)
    elif w.rounded(outputs[0]):
        value = w.hold(value, outputs)
    count = len(group)
    parts = w.out.nodes("Split", value, outputs=count, axis=1, num_outputs=count)
    for output, part in zip(outputs, parts, strict=True):
        if w.stored(output):
            w.floats[output] = part
            w.values[output] = w.out.node("QuantizeLinear", part, *w.scale(output))
        else:
            w.values[output] = part


def _siblings(w: Walk, op: Operator) -> tuple[Operator | None, list[Operator]]:
    """Get the SPLIT over channels that ``op`` reads a part of, and all that read the others."""
    made = {o: producer for producer in w.graph.operators for o in producer.outputs}
    split = made.get(op.inputs[2])
    if split is None or split.kind != "SPLIT" or op.options["activation"]:
        return None, [op]
    if int(w.constant(split.inputs[0])) % 4 != 3 or split.inputs[1] not in w.values:
        return None, [op]
    group = []
    for part in split.outputs:
        readers = [o for o in w.graph.operators if part in o.inputs]
        if len(readers) != 1 or readers[0].kind != op.kind or readers[0].options != op.options:
            return None, [op]
        group.append(readers[0])
    shapes = {w.tensor(o.inputs[1]).shape for o in group}
    return (split, group) if len(shapes) == 1 and len(op.inputs) == 4 else (None, [op])


def _spread(w: Walk, source: int, group: Sequence[Operator]) -> str:
    """Append the transposed convolutions of ``group`` on the channel groups of ``source``."""
    kernels = [w.constant(o.inputs[1]).transpose(3, 0, 1, 2) for o in group]
    biases = [w.constant(o.inputs[3]) for o in group if len(o.inputs) > 3]
    if w.stored(source):
        # Whole numbers, with the scale in the weights: next to a DequantizeLinear, ONNX
        # Runtime would round float weights and biases a second time.
        scale, zero = only(w.tensor(source)), int(grid_of(w.tensor(source)).zero[0])
        plain = w.out.node("Cast", w.values[source], to=1)
        value = w.out.node("Sub", plain, w.out.weight(np.float32(zero + 128)))
        kernels = [kernel * np.float32(scale) for kernel in kernels]
    else:
        value = w.real(source)
    options = group[0].options
    steps = w.tensor(group[0].inputs[2]).shape[1:3]
    two_strides = kernels[0].shape[2:] == (2 * options["stride_h"], 1) and steps[1] == 1
    if two_strides and steps[0] > 2 and biases:  # for one or two steps it does not pay
        return _spread_by_product(w, value, np.stack(kernels), np.concatenate(biases), steps[0])
    return w.out.node(
        "ConvTranspose", value, w.out.weight(np.concatenate(kernels)),
        *([w.out.weight(np.concatenate(biases))] if biases else []),
        kernel_shape=list(kernels[0].shape[2:]), group=len(group),
        strides=[options["stride_h"], options["stride_w"]],
    )  # fmt: skip


def _spread_by_product(w: Walk, value: str, kernels: Array, bias: Array, length: int) -> str:
    """Append a transposed convolution over time whose taps are two strides, as a product.

    ``kernels`` is ``[G, C, O, 2 s, 1]``. For a few steps of time this is quicker than ONNX
    Runtime's own transposed convolution. Each step gives a first and a second half; a
    stride of output is the first half of its step and the second half of the one before.
    """
    g, (groups, inputs, outputs, taps, _) = w.out, kernels.shape
    weight = np.ascontiguousarray(kernels[..., 0].transpose(0, 1, 3, 2))  # [G, C, taps, O]
    rows = g.transpose(g.reshape(value, -1, groups, inputs, length), 0, 1, 3, 2)
    weight = weight.reshape(groups, inputs, taps * outputs)
    made = g.node("MatMul", rows, g.weight(weight if groups > 1 else weight[0]))
    if length > 1:
        first, second = g.nodes("Split", made, outputs=2, axis=3, num_outputs=2)
        first = g.node("Pad", first, g.ints(0, 0, 0, 0, 0, 0, 1, 0))
        second = g.node("Pad", second, g.ints(0, 0, 1, 0, 0, 0, 0, 0))
        made = g.node("Add", first, second)
    time = (length + 1) * taps // 2
    made = g.transpose(g.reshape(made, -1, groups, time, outputs), 0, 1, 3, 2)
    made = g.reshape(made, -1, groups * outputs, time, 1)
    return g.node("Add", made, g.weight(bias.reshape(-1, 1, 1)))


def _rounded_per_channel(w: Walk, value: str, tensors: Sequence[int]) -> str:
    """Append quantisation and its inverse, with each tensor's scale on its channels."""
    wide = w.tensor(tensors[0]).shape[3]
    grids = [grid_of(w.tensor(i)) for i in tensors]
    scale = np.repeat([g.scale[0] for g in grids], wide).astype(np.float32)
    zero = np.repeat([int(g.zero[0]) + 128 for g in grids], wide).astype(np.uint8)
    names = w.out.weight(scale), w.out.weight(zero)
    stored = w.out.node("QuantizeLinear", value, *names, axis=1)
    return w.out.node("DequantizeLinear", stored, *names, axis=1)
