"""The same work as it is usually done: torch, and ONNX Runtime with a session of one thread."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from ossicle.kernels.bench.timing import Action, Floats


def torch_or_none() -> Any | None:
    """PyTorch on one thread, where it is installed."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(1)
    return torch


def torch_cdist(torch: Any, x: Any, books: Any) -> Any:
    """Codes by distances, as most codecs write it."""
    codes = []
    for book in books:
        code = torch.cdist(x[None], book[None])[0].argmin(-1)
        codes.append(code)
        x = x - book[code]
    return torch.stack(codes)


def torch_addmm(torch: Any, x: Any, books: Any, norms: Any) -> Any:
    """Codes by one product a layer, the norms of the rows kept."""
    codes = []
    for book, norm in zip(books, norms, strict=True):
        code = torch.addmm(norm, x, book.T, alpha=-2.0).argmin(-1)
        codes.append(code)
        x = x - book[code]
    return torch.stack(codes)


def torch_nearest(torch: Any, x: Any, book: Any) -> Any:
    """The nearest rows of one book by distances."""
    return torch.cdist(x, book).argmin(1)


def conv_session(weight: Floats, x: Floats) -> Action | None:
    """A convolution ``[C_out, C_in, k]`` of ``x [1, C, T]`` in ONNX Runtime, where installed."""
    try:
        import onnxruntime
    except ImportError:
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(
        conv_model(weight, x.shape[2]), options, providers=["CPUExecutionProvider"]
    )
    return lambda: session.run(None, {"x": x})


def conv_model(weight: Floats, length: int) -> bytes:
    """An ONNX file of one ``Conv`` node whose weights are a constant, written by hand.

    Fields are numbered as in ``onnx.proto3``, so that an install without the ``onnx`` package can
    measure too.
    """
    M, C, k = weight.shape
    node = _text(1, "x") + _text(1, "w") + _text(2, "y") + _text(4, "Conv")
    dims = b"".join(_number(1, n) for n in weight.shape)
    data = np.ascontiguousarray(weight, "<f4").tobytes()
    initializer = dims + _number(2, 1) + _text(8, "w") + _bytes(9, data)  # data type 1: float
    graph = (
        _bytes(1, node) + _text(2, "conv") + _bytes(5, initializer)
        + _bytes(11, _port("x", (1, C, length)))
        + _bytes(12, _port("y", (1, M, length - k + 1)))
    )  # fmt: skip
    opset = _text(1, "") + _number(2, 17)
    return _number(1, 9) + _bytes(7, graph) + _bytes(8, opset)


def _port(name: str, shape: tuple[int, ...]) -> bytes:
    axes = b"".join(_bytes(1, _number(1, n)) for n in shape)
    return _text(1, name) + _bytes(2, _bytes(1, _number(1, 1) + _bytes(2, axes)))


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += struct.pack("B", value & 127 | 128)
        value >>= 7
    return out + struct.pack("B", value)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())
