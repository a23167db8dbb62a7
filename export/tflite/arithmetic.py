"""Operators on single values."""

from __future__ import annotations

from ossicle.export.tflite.moves import add_tail
from ossicle.export.tflite.reader import Operator
from ossicle.export.tflite.walk import Walk, converts

_BINARY = {"ADD": "Add", "SUB": "Sub", "MUL": "Mul", "DIV": "Div"}
_UNARY = {"RELU": "Relu", "LOGISTIC": "Sigmoid", "TANH": "Tanh", "SQRT": "Sqrt", "LOG": "Log"}


@converts("ADD", "SUB", "MUL", "DIV")
def _binary(w: Walk, op: Operator) -> None:
    if op.kind == "ADD" and add_tail(w, op):
        return
    rank = len(w.tensor(op.outputs[0]).shape)
    w.give(op, w.out.node(_BINARY[op.kind], *(w.real(i, rank) for i in op.inputs)))


@converts("RELU", "LOGISTIC", "TANH", "SQRT", "LOG")
def _unary(w: Walk, op: Operator) -> None:
    w.give(op, w.out.node(_UNARY[op.kind], w.real(op.inputs[0])))
