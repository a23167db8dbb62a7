"""Resource variables as explicit states; one that only ever holds int8 values stays bytes."""

from __future__ import annotations

import numpy as np

from ossicle.export.tflite.layout import channels_first_shape, grid_of, same_grid
from ossicle.export.tflite.reader import Operator
from ossicle.export.tflite.walk import Walk, converts


@converts("VAR_HANDLE")
def _var_handle(w: Walk, op: Operator) -> None:
    w.handles[op.outputs[0]] = str(op.options["shared_name"])


@converts("READ_VARIABLE")
def _read_variable(w: Walk, op: Operator) -> None:
    """Append a state; one that only ever holds int8 values is kept as bytes."""
    index = op.outputs[0]
    shape = channels_first_shape(w.tensor(index).shape)[1:]
    name = _plain(w.handles[op.inputs[0]])
    grid = _grid_of_state(w, index)
    if grid is None or not w.quantised:
        w.values[index] = w.out.state(name, shape)
        if grid is not None:
            w.bytes[index] = grid
        return
    zero = np.uint8(int(grid_of(w.tensor(grid)).zero[0]) + 128)
    init = f"{name}.npy"
    w.out.inits[init] = np.full(shape, zero)
    value = w.out.state(name, shape, "uint8", init)
    w.bytes[index] = grid
    w.values[index] = w.out.node("DequantizeLinear", value, *w.scale(grid))
    w.stored_values[index] = value


def _grid_of_state(w: Walk, index: int) -> int | None:
    """Get the int8 tensor whose scale a state's values keep, if they keep one.

    That is so where the state and dequantised values are joined and quantised again, all with
    one scale and zero point.
    """
    readers = [op for op in w.graph.operators if index in op.inputs]
    if not (w.quantised or w.grids) or [op.kind for op in readers] != ["CONCATENATION"]:
        return None
    after = [op for op in w.graph.operators if readers[0].outputs[0] in op.inputs]
    if [op.kind for op in after] != ["QUANTIZE"]:
        return None
    made = {o: op for op in w.graph.operators for o in op.outputs}
    grid = after[0].outputs[0]
    for part in readers[0].inputs:
        source = made.get(part)
        if part != index and (
            source is None
            or source.kind != "DEQUANTIZE"
            or not same_grid(w.tensor(source.inputs[0]), w.tensor(grid))
        ):
            return None
    return grid


@converts("ASSIGN_VARIABLE")
def _assign_variable(w: Walk, op: Operator) -> None:
    name = _plain(w.handles[op.inputs[0]])
    kept = {s.input: s.dtype for s in w.out.states}
    if kept.get(name) == "uint8":
        w.out.keep(name, w.stored_values[op.inputs[1]])
    else:
        w.out.keep(name, w.real(op.inputs[1]))


def _plain(name: str) -> str:
    """Get a state's name: ``encoder_0/simpleconv/states`` becomes ``encoder_0_simpleconv``."""
    return name.removesuffix("/states").replace("/", "_")
