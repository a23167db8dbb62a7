"""An ONNX file as plain nodes and arrays: the part of the format that step graphs use."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime.backend.native.wire import (
    Value,
    fields,
    integers,
    part,
    real,
    signed,
    text,
    whole,
)
from ossicle.runtime.errors import BackendError

Array = NDArray[Any]
MAX_RANK = 8
_DTYPES: Final = {1: "<f4", 2: "u1", 3: "i1", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2", 11: "<f8"}
_NARROW: Final = {2, 3, 6, 9, 10}  # kept in int32_data where they are not raw


@dataclass(frozen=True, slots=True)
class Node:
    """One operator: the names it reads and makes, and its attributes."""

    op: str
    inputs: tuple[str, ...]  # "" where an optional one was left out
    outputs: tuple[str, ...]
    attributes: dict[str, Any]

    def integer(self, name: str, default: int) -> int:
        """Return a whole-number attribute."""
        value = self.attributes.get(name, default)
        if not isinstance(value, int):
            raise BackendError(f"{self.op}.{name} is {value!r}; a whole number expected")
        return value

    def number(self, name: str, default: float) -> float:
        """Return a number attribute."""
        value = self.attributes.get(name, default)
        if not isinstance(value, int | float):
            raise BackendError(f"{self.op}.{name} is {value!r}; a number expected")
        return float(value)

    def integers(self, name: str, default: list[int] | None = None) -> list[int] | None:
        """Return a list of whole numbers, or ``default``."""
        value = self.attributes.get(name, default)
        if value is not None and not isinstance(value, list):
            raise BackendError(f"{self.op}.{name} is {value!r}; a list expected")
        return value


@dataclass(frozen=True, slots=True)
class OnnxGraph:
    """Nodes in running order, constants by name, and the names at both ends."""

    nodes: tuple[Node, ...]
    constants: dict[str, Array]
    inputs: tuple[str, ...]  # without constants
    outputs: tuple[str, ...]


def read_onnx(data: bytes) -> OnnxGraph:
    """Return the graph in an ONNX file.

    Raises:
        BackendError: not an ONNX file, a damaged one, or one with parts elsewhere.
    """
    graph = None
    for number, value in fields(memoryview(data)):
        if number == 7:
            graph = part(value)
    if graph is None:
        raise BackendError("no graph in the file: not an ONNX file, or a damaged one")
    return _graph(graph)


def _graph(data: memoryview) -> OnnxGraph:
    nodes: list[Node] = []
    constants: dict[str, Array] = {}
    inputs: list[str] = []
    outputs: list[str] = []
    for number, value in fields(data):
        if number == 1:
            nodes.append(_node(part(value)))
        elif number == 5:
            name, array = _tensor(part(value))
            constants[name] = array
        elif number in (11, 12):
            (inputs if number == 11 else outputs).append(_name(part(value)))
        elif number == 15:
            raise BackendError("sparse constants are not supported; export them dense")
    given = tuple(name for name in inputs if name not in constants)
    return OnnxGraph(tuple(nodes), constants, given, tuple(outputs))


def _name(data: memoryview) -> str:
    return next((text(value) for number, value in fields(data) if number == 1), "")


def _node(data: memoryview) -> Node:
    inputs: list[str] = []
    outputs: list[str] = []
    op = domain = ""
    attributes: dict[str, Any] = {}
    for number, value in fields(data):
        if number == 1:
            inputs.append(text(value))
        elif number == 2:
            outputs.append(text(value))
        elif number == 4:
            op = text(value)
        elif number == 5:
            name, held = _attribute(part(value))
            attributes[name] = held
        elif number == 7:
            domain = text(value)
    if domain not in ("", "ai.onnx"):
        op = f"{domain}::{op}"
    return Node(op, tuple(inputs), tuple(outputs), attributes)


def _attribute(data: memoryview) -> tuple[str, Any]:
    name, held = "", cast("Any", None)
    several: list[Any] = []
    kind = 0
    for number, value in fields(data):
        if number == 1:
            name = text(value)
        elif number == 2:
            held = real(value)
        elif number == 3:
            held = signed(value)
        elif number == 4:
            held = bytes(part(value)).decode("utf-8", "replace")
        elif number == 5:
            held = _tensor(part(value))[1]
        elif number == 7:
            several += _floats(value)
        elif number == 8:
            several += integers(value)
        elif number == 9:
            several.append(bytes(part(value)).decode("utf-8", "replace"))
        elif number == 20:
            kind = whole(value)
        elif number in (6, 10, 11):
            raise BackendError(f"attribute {name!r} holds a graph; step graphs are straight lines")
    if kind in (6, 7, 8):
        return name, several
    return name, several or held


def _floats(value: Value) -> list[float]:
    data = part(value)
    if len(data) % 4:
        raise BackendError(f"{len(data)} bytes of floats")
    return [float(x) for x in np.frombuffer(data, "<f4")]


def _tensor(data: memoryview) -> tuple[str, Array]:
    dims: list[int] = []
    name, kind, raw = "", 0, None
    listed: list[Array] = []
    for number, value in fields(data):
        if number == 1:
            dims += integers(value)
        elif number == 2:
            kind = whole(value)
        elif number == 8:
            name = text(value)
        elif number == 9:
            raw = part(value)
        elif number in (4, 5, 7, 10):
            listed.append(_listed(number, value))
        elif number == 13 or (number == 14 and whole(value)):
            raise BackendError(f"constant {name!r} lies in another file; keep it in the graph")
    if kind not in _DTYPES:
        raise BackendError(f"constant {name!r} has element type {kind}, which is not supported")
    dtype = np.dtype(_DTYPES[kind])
    count = _count(name, dims)
    if raw is None:
        found = np.concatenate(listed) if listed else np.zeros(0)
        if kind == 10:
            found = found.astype("<u2").view("<f2")
    elif len(raw) % dtype.itemsize:
        raise BackendError(f"constant {name!r}: {len(raw)} bytes of {dtype}")
    else:
        found = np.frombuffer(raw, dtype)
    if found.size != count:
        raise BackendError(f"constant {name!r} of shape {dims} comes with {found.size} values")
    with np.errstate(all="ignore"):  # floats where whole numbers belong: garbage, but no warning
        return name, found.astype(dtype.newbyteorder("="), copy=False).reshape(dims)


def _count(name: str, dims: list[int]) -> int:
    if len(dims) > MAX_RANK or any(n < 0 or n > 1 << 31 for n in dims):
        raise BackendError(f"constant {name!r} has the impossible shape {dims[:MAX_RANK]}")
    return math.prod(dims)


def _listed(number: int, value: Value) -> Array:
    if number == 4:
        return np.asarray(_floats(value))
    if number == 10:
        data = part(value)
        if len(data) % 8:
            raise BackendError(f"{len(data)} bytes of doubles")
        return np.frombuffer(data, "<f8")
    return np.asarray(integers(value), np.int64)
