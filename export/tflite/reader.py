"""A TFLite file as plain values: subgraphs of tensors and operators with named options.

Only the fields that conversion needs are read. Field numbers are those of the published
``schema.fbs`` (version 3) of TensorFlow Lite.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ossicle.export.tflite.flat import Table
from ossicle.runtime.errors import ExportError

# schema.fbs, enum BuiltinOperator: the operators this reader can name.
OPERATORS = {
    0: "ADD", 1: "AVERAGE_POOL_2D", 2: "CONCATENATION", 3: "CONV_2D", 4: "DEPTHWISE_CONV_2D",
    6: "DEQUANTIZE", 9: "FULLY_CONNECTED", 14: "LOGISTIC", 17: "MAX_POOL_2D", 18: "MUL",
    19: "RELU", 21: "RELU6", 22: "RESHAPE", 25: "SOFTMAX", 28: "TANH", 34: "PAD", 36: "GATHER",
    39: "TRANSPOSE", 40: "MEAN", 41: "SUB", 42: "DIV", 43: "SQUEEZE", 45: "STRIDED_SLICE",
    47: "EXP", 49: "SPLIT", 53: "CAST", 55: "MAXIMUM", 56: "ARG_MAX", 57: "MINIMUM", 58: "LESS",
    65: "SLICE", 67: "TRANSPOSE_CONV", 72: "NOT_EQUAL", 73: "LOG", 74: "SUM", 75: "SQRT",
    76: "RSQRT", 79: "ARG_MIN", 83: "PACK", 85: "ONE_HOT", 88: "UNPACK", 92: "SQUARE",
    98: "LEAKY_RELU", 99: "SQUARED_DIFFERENCE", 114: "QUANTIZE", 129: "CALL_ONCE",
    142: "VAR_HANDLE", 143: "READ_VARIABLE", 144: "ASSIGN_VARIABLE",
}  # fmt: skip

# schema.fbs, enum TensorType.
TYPES = {0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 7: "int16",
         9: "int8", 10: "float64", 13: "resource"}  # fmt: skip

ACTIVATIONS = {0: "", 1: "Relu", 3: "Relu6", 4: "Tanh"}
_PADDINGS = {0: "SAME", 1: "VALID"}

# Options per operator: name -> (field number, struct letter, default). "s" is a string.
_CONV = {"padding": (0, "b", 0), "stride_w": (1, "i", 0), "stride_h": (2, "i", 0)}
_OPTIONS: dict[str, dict[str, tuple[int, str, Any]]] = {
    "CONV_2D": _CONV
    | {"activation": (3, "b", 0), "dilation_w": (4, "i", 1), "dilation_h": (5, "i", 1)},
    "DEPTHWISE_CONV_2D": _CONV
    | {"multiplier": (3, "i", 0), "activation": (4, "b", 0)}
    | {"dilation_w": (5, "i", 1), "dilation_h": (6, "i", 1)},
    "TRANSPOSE_CONV": _CONV | {"activation": (3, "b", 0)},
    "FULLY_CONNECTED": {"activation": (0, "b", 0)},
    "CONCATENATION": {"axis": (0, "i", 0), "activation": (1, "b", 0)},
    "ADD": {"activation": (0, "b", 0)},
    "SUB": {"activation": (0, "b", 0)},
    "MUL": {"activation": (0, "b", 0)},
    "DIV": {"activation": (0, "b", 0)},
    "LEAKY_RELU": {"alpha": (0, "f", 0.0)},
    "STRIDED_SLICE": {
        "begin_mask": (0, "i", 0),
        "end_mask": (1, "i", 0),
        "ellipsis_mask": (2, "i", 0),
        "new_axis_mask": (3, "i", 0),
        "shrink_axis_mask": (4, "i", 0),
    },
    "SPLIT": {"splits": (0, "i", 0)},
    "GATHER": {"axis": (0, "i", 0)},
    "MEAN": {"keep_dims": (0, "?", False)},
    "SUM": {"keep_dims": (0, "?", False)},
    "VAR_HANDLE": {"shared_name": (1, "s", "")},
    "CALL_ONCE": {"subgraph": (0, "i", 0)},
}


@dataclass(frozen=True, slots=True)
class Quant:
    """Affine quantisation: real = (stored - zero) * scale, per tensor or along ``axis``."""

    scale: NDArray[np.float32]
    zero: NDArray[np.int64]
    axis: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """Shape and type of one tensor; ``data`` holds the value of a constant."""

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    quant: Quant | None
    data: NDArray[Any] | None


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator: tensor indices (-1 for an input left out) and its options by name."""

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Subgraph:
    """A list of operators in running order over numbered tensors."""

    name: str
    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: tuple[Operator, ...]


@dataclass(frozen=True, slots=True)
class TFLite:
    """All subgraphs of a file; ``signatures`` maps a signature's key to its subgraph."""

    subgraphs: tuple[Subgraph, ...]
    signatures: dict[str, int]


def read(path: str | Path) -> TFLite:
    """Get the content of a TFLite file; raises ``ExportError`` where it is not one."""
    try:
        data = Path(path).read_bytes()
    except OSError as err:
        raise ExportError(f"{Path(path).name} cannot be read: {err.strerror or err}") from err
    return parse(data)


def parse(data: bytes) -> TFLite:
    """Get the content of TFLite bytes."""
    try:
        model = Table.root(data, b"TFL3")
        codes = [_operator_name(code) for code in model.tables(1)]
        buffers = [buffer.array(0, "u1") for buffer in model.tables(4)]
        graphs = tuple(_subgraph(graph, codes, buffers) for graph in model.tables(2))
        keys = {s.text(2): int(s.scalar(4, "I")) for s in model.tables(7)}
    except (LookupError, ArithmeticError, ValueError) as err:
        raise ExportError(f"the TFLite file is damaged: {err}") from err
    if not graphs:
        raise ExportError("the TFLite file holds no subgraph; is it cut short?")
    return TFLite(graphs, keys)


def _operator_name(code: Table) -> str:
    number = max(int(code.scalar(0, "b")), int(code.scalar(3, "i")))
    if number == 32:
        return f"CUSTOM:{code.text(1)}"
    return OPERATORS.get(number, f"BUILTIN:{number}")


def _subgraph(graph: Table, codes: list[str], buffers: list[NDArray[Any]]) -> Subgraph:
    tensors = tuple(_tensor(i, t, buffers) for i, t in enumerate(graph.tables(0)))
    operators = tuple(_operator(op, codes) for op in graph.tables(3))
    bad = [i for op in operators for i in (*op.inputs, *op.outputs) if i >= len(tensors)]
    if bad:
        raise ExportError(f"an operator names tensor {bad[0]} of {len(tensors)}; damaged file")
    return Subgraph(graph.text(4), tensors, _ints(graph, 1), _ints(graph, 2), operators)


def _tensor(index: int, table: Table, buffers: list[NDArray[Any]]) -> Tensor:
    dtype = TYPES.get(int(table.scalar(1, "b")), "other")
    shape = _ints(table, 0)
    raw = buffers[int(table.scalar(2, "I"))]
    data = None
    if raw.size and dtype not in ("other", "resource"):
        data = raw.view(dtype).reshape(shape)
    return Tensor(index, table.text(3), shape, dtype, _quant(table.table(4)), data)


def _quant(table: Table | None) -> Quant | None:
    if table is None:
        return None
    scale = table.array(2, "<f4")
    if not scale.size:
        return None
    zero = table.array(3, "<i8")
    zeros = zero if zero.size == scale.size else np.zeros(scale.size, np.int64)
    return Quant(scale, zeros, int(table.scalar(6, "i")))


def _operator(table: Table, codes: list[str]) -> Operator:
    kind = codes[int(table.scalar(0, "I"))]
    options: dict[str, Any] = {}
    holder = table.table(4)
    for name, (number, code, default) in _OPTIONS.get(kind, {}).items():
        if code == "s":
            options[name] = holder.text(number) if holder else default
        else:
            options[name] = holder.scalar(number, code, default) if holder else default
    if "padding" in options:
        options["padding"] = _PADDINGS[options["padding"]]
    if "activation" in options:
        if options["activation"] not in ACTIVATIONS:
            raise ExportError(f"fused activation {options['activation']} of {kind} is not known")
        options["activation"] = ACTIVATIONS[options["activation"]]
    return Operator(kind, _ints(table, 1), _ints(table, 2), options)


def _ints(table: Table, index: int) -> tuple[int, ...]:
    return tuple(int(v) for v in table.array(index, "<i4"))
