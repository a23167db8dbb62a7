"""Numbers of 1 to 32 bits packed without gaps, most significant bit first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ossicle.kernels import check, paths
from ossicle.kernels.errors import RangeError, ShapeError

Words = NDArray[np.uint32]

__all__ = ["pack", "unpack"]


def pack(values: Words, width: int, *, path: paths.Path | None = None) -> bytes:
    """``ceil(n * width / 8)`` bytes of ``n`` values; the spare bits of the last byte are 0.

    >>> pack(np.array([1, 2, 3], np.uint32), 4).hex()
    '1230'

    Raises:
        ShapeError, DtypeError, LayoutError: the array does not fit.
        RangeError: a value needs more than ``width`` bits, or ``width`` is not 1 to 32.
    """
    check.number("width", width, 1, 32)
    if isinstance(values, np.ndarray) and values.shape == (0,):
        return b""
    check.array("values", values, np.uint32, "[n]", None)
    top = int(values.max())
    if top >> width:
        raise RangeError(f"values hold {top}; {width} bits hold 0 to {(1 << width) - 1}")
    core = paths.core()
    if paths.choose(path) == "core" and core is not None:
        return bytes(core.pack_bits(values, width))
    shifts = np.arange(width - 1, -1, -1, dtype=np.uint32)
    return np.packbits(((values[:, None] >> shifts) & np.uint32(1)).astype(np.uint8)).tobytes()


def unpack(data: bytes, count: int, width: int, *, path: paths.Path | None = None) -> Words:
    """The ``count`` values that :func:`pack` packed.

    >>> unpack(bytes.fromhex("1230"), 3, 4).tolist()
    [1, 2, 3]

    Raises:
        ShapeError: the data are not exactly as long as the values need.
        RangeError: bits are set after the last value, or a number is out of range.
    """
    check.number("width", width, 1, 32)
    check.number("count", count, 0, len(data) * 8 // width, f"all that {len(data)} bytes hold")
    need = (count * width + 7) // 8
    if len(data) != need:
        raise ShapeError(f"data are {len(data)} bytes; {count} values of {width} bits are {need}")
    core = paths.core()
    if need and data[-1] & ((1 << (need * 8 - count * width)) - 1):
        raise RangeError("bits are set after the last value; were the count or the width others?")
    if paths.choose(path) == "core" and core is not None:
        words: Words = core.unpack_bits(data, count, width)
        return words
    bits = np.unpackbits(np.frombuffer(data, np.uint8))[: count * width].reshape(count, width)
    shifts = np.arange(width - 1, -1, -1, dtype=np.uint32)
    return np.asarray((bits.astype(np.uint32) << shifts).sum(1, dtype=np.uint32))
