"""Checks at the door of every kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ossicle.kernels.errors import DtypeError, LayoutError, RangeError, ShapeError


def array(
    name: str, value: object, dtype: type[np.generic], shape: str, *sizes: int | None
) -> NDArray[Any]:
    """``value`` itself, if it is a C-contiguous array of that dtype and those sizes.

    Args:
        name: of the argument, for the error.
        value: what came.
        dtype: the one allowed.
        shape: the axes in words, such as ``"[T, D]"``, for the error.
        sizes: per axis; ``None`` allows any size from 1 up.

    Raises:
        DtypeError: not an array, or of another dtype.
        ShapeError: other axes or sizes, or an axis of size 0.
        LayoutError: not C-contiguous.
    """
    if type(value) is np.ndarray:  # what fits is let through before anything is put into words
        kind, flags = value.dtype, value.flags
        if kind.type is dtype and kind.isnative and flags.c_contiguous and value.ndim == len(sizes):
            for n, size in zip(value.shape, sizes, strict=True):
                if n != size and (size is not None or n == 0):
                    break
            else:
                if value.size:
                    return value
    if not isinstance(value, np.ndarray):
        raise DtypeError(f"{name} is a {type(value).__name__}; it must be a NumPy array {shape}")
    if value.dtype != dtype:
        want = np.dtype(dtype).name
        raise DtypeError(
            f"{name} is {value.dtype.name}; it must be {want}: use {name}.astype({want!r})"
        )
    fits = value.ndim == len(sizes) and all(
        n > 0 if want is None else n == want for n, want in zip(value.shape, sizes, strict=False)
    )
    if not fits:
        wanted = ", ".join(">= 1" if n is None else str(n) for n in sizes)
        raise ShapeError(f"{name} has shape {list(value.shape)}; it must be {shape} = [{wanted}]")
    if not value.flags.c_contiguous:
        raise LayoutError(
            f"{name} of shape {list(value.shape)} has strides {list(value.strides)}; it must be "
            f"C-contiguous: use numpy.ascontiguousarray({name})"
        )
    return value


def output(
    name: str, value: object | None, dtype: type[np.generic], shape: str, *sizes: int
) -> NDArray[Any]:
    """A checked and writable ``value``, or a new array where it is ``None``."""
    if value is None:
        return np.empty(sizes, dtype)
    checked = array(name, value, dtype, shape, *sizes)
    if not checked.flags.writeable:
        raise LayoutError(
            f"{name} is read-only; it is written to, so pass an array that owns its data"
        )
    return checked


def number(name: str, value: int, low: int, high: int, why: str = "") -> int:
    """``value`` if ``low <= value <= high``; :class:`RangeError` otherwise."""
    if not low <= value <= high:
        raise RangeError(f"{name} is {value}; it must be {low} to {high}{why and f' ({why})'}")
    return int(value)
