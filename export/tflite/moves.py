"""Operators that move values and change none."""

from __future__ import annotations

from ossicle.export.tflite.layout import axis_in_onnx, channels_first_shape, pieces_of
from ossicle.export.tflite.reader import Operator
from ossicle.export.tflite.walk import Walk, converts
from ossicle.runtime.errors import ExportError


def _raw(w: Walk, index: int) -> str:
    return w.values[index] if index in w.values else w.real(index)


@converts("RESHAPE")
def _reshape(w: Walk, op: Operator) -> None:
    source, target = (w.tensor(i).shape for i in (op.inputs[0], op.outputs[0]))
    value = _raw(w, op.inputs[0])
    if len(source) == 4 and sum(n > 1 for n in source[1:]) > 1:
        value = w.out.transpose(value, 0, 2, 3, 1)
    if len(target) == 4 and sum(n > 1 for n in target[1:]) > 1:
        value = w.out.reshape(value, -1, *target[1:])
        w.values[op.outputs[0]] = w.out.transpose(value, 0, 3, 1, 2)
    else:
        shape = channels_first_shape(target)[1:]
        w.values[op.outputs[0]] = w.out.reshape(value, -1, *shape)


@converts("CONCATENATION")
def _concatenation(w: Walk, op: Operator) -> None:
    rank = len(w.tensor(op.outputs[0]).shape)
    axis = axis_in_onnx(int(op.options["axis"]), rank)
    w.joined[op.outputs[0]] = op.inputs
    w.join_axis[op.outputs[0]] = int(op.options["axis"])
    if _is_padded_state(w, op):
        state = op.inputs[0]
        length = w.tensor(state).shape[int(op.options["axis"])]
        w.tails[op.outputs[0]] = (w.values[state], length)
        return
    parts = [_rowed(w, i) for i in op.inputs]
    w.give(op, w.out.concat(*parts, axis=axis))


def _is_padded_state(w: Walk, op: Operator) -> bool:
    """Tell whether this is a state, then zeros, on their way to be added to something."""
    if len(op.inputs) != 2 or len(w.tensor(op.outputs[0]).shape) != 4:
        return False
    rest = w.tensor(op.inputs[1]).data
    readers = [o for o in w.graph.operators if op.outputs[0] in o.inputs]
    return (
        rest is not None
        and not rest.any()
        and w.tensor(op.inputs[0]).data is None
        and int(op.options["axis"]) == 1
        and [o.kind for o in readers] == ["ADD"]
        and not readers[0].options["activation"]
    )


def add_tail(w: Walk, op: Operator) -> bool:
    """Add a state to the front of a longer value, where that is what an ADD does."""
    padded = next((i for i in op.inputs if i in w.tails), None)
    if padded is None:
        return False
    state, length = w.tails[padded]
    other = next(i for i in op.inputs if i != padded)
    total = w.tensor(op.outputs[0]).shape[1]
    sizes = [length, total - 2 * length, length] if total > 2 * length else [length] * 2
    if sum(sizes) != total:
        sizes = [length, total - length]
    count = w.out.ints(*sizes)
    parts = w.out.nodes("Split", w.real(other), count, outputs=len(sizes), axis=2)
    parts[0] = w.out.node("Add", parts[0], state)
    w.pieces[op.outputs[0]] = tuple(zip(parts, sizes, strict=True))
    w.give(op, w.out.concat(*parts, axis=2))
    return True


def _rowed(w: Walk, index: int) -> str:
    """Get a value with its B rows, also where it is a constant."""
    value = w.real(index)
    if w.tensor(index).data is None:
        return value
    like = next(i for i in w.out.states)
    lead = w.out.slice(w.out.node("Shape", like.input), 0, 1, 0)
    shape = channels_first_shape(w.tensor(index).shape)
    full = w.out.concat(lead, w.out.ints(*shape[1:]), axis=0)
    return w.out.node("Expand", value, full)


@converts("STRIDED_SLICE")
def _strided_slice(w: Walk, op: Operator) -> None:
    shape = w.tensor(op.inputs[0]).shape
    begin, end, step = (w.constant(i).tolist() for i in op.inputs[1:4])
    masks = op.options
    if masks["ellipsis_mask"] or masks["new_axis_mask"] or masks["shrink_axis_mask"]:
        raise ExportError("STRIDED_SLICE with ellipsis, new or shrunk axes is not converted")
    value = _raw(w, op.inputs[0])
    pieces = w.pieces.get(op.inputs[0], ())
    for axis, size in enumerate(shape):
        start = 0 if masks["begin_mask"] >> axis & 1 else begin[axis]
        stop = size if masks["end_mask"] >> axis & 1 else end[axis]
        start, stop = (n + size if n < 0 else n for n in (start, stop))
        if step[axis] != 1:
            raise ExportError(f"STRIDED_SLICE with step {step[axis]} is not converted")
        found = pieces_of(pieces, start, stop) if axis == 1 else []
        if found:
            value = found[0] if len(found) == 1 else w.out.concat(*found, axis=2)
        elif (start, stop) != (0, size):
            value = w.out.slice(value, start, stop, axis_in_onnx(axis, len(shape)))
    w.values[op.outputs[0]] = value


@converts("SPLIT")
def _split(w: Walk, op: Operator) -> None:
    source = op.inputs[1]
    axis = axis_in_onnx(int(w.constant(op.inputs[0])), len(w.tensor(source).shape))
    count = len(op.outputs)
    parts = w.out.nodes("Split", _raw(w, source), outputs=count, axis=axis, num_outputs=count)
    w.values.update(zip(op.outputs, parts, strict=True))
