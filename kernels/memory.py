"""Zeroed arrays on a cache line: a register load that straddles two lines costs two."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

LINE: Final = 64  # bytes


def zeros(shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
    """``numpy.zeros`` whose first element lies on a multiple of 64 bytes.

    >>> zeros((3, 5), np.float32).ctypes.data % 64
    0
    """
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.zeros(size + LINE, np.uint8)
    start = -raw.ctypes.data % LINE
    return raw[start : start + size].view(dtype).reshape(shape)
