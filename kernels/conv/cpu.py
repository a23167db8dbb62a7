"""Convolution steps without the compiled part, and the number formats of the ring."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray


def to_bf16(x: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The upper half of each float, rounded to nearest even; NaN stays NaN."""
    u = np.ascontiguousarray(x).view(np.uint32)
    rounded = (u + np.uint32(0x7FFF) + ((u >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    bits = np.where(np.isnan(x), (u >> np.uint32(16)) | np.uint32(0x40), rounded)
    return np.asarray(bits, np.uint16)


def from_bf16(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Exact widening."""
    wide: NDArray[np.float32] = (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return wide


def fixed24(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """What fixed24 keeps of the weights ``[M, K]``: whole numbers of 24 bits in a unit of each row.

    The unit is 2^(e - 23), the largest weight of the row being below 2^e, and e at least -94: a
    weight changes by 2^(e - 24) at most, which is 2^-23 of the largest. A row with anything that is
    not finite becomes NaN.
    """
    finite = np.isfinite(rows).all(1, keepdims=True)
    peak = np.abs(np.where(finite, rows, 0)).max(1, keepdims=True, initial=0.0)
    unit = np.maximum(np.frexp(peak)[1], -94) - 23
    whole = np.rint(np.ldexp(np.where(finite, rows, 0).astype(np.float64), -unit))
    kept = np.ldexp(np.minimum(whole, 2**23 - 1), unit).astype(np.float32)
    return np.where(finite, kept, np.float32(np.nan))


def to_int8(x: NDArray[np.float32], inverse: float) -> NDArray[np.int8]:
    """``x * inverse`` rounded to nearest even within +-127; NaN becomes 0."""
    scaled: NDArray[np.float32] = np.nan_to_num(
        x * np.float32(inverse), nan=0.0, posinf=127.0, neginf=-127.0
    )
    return np.asarray(np.rint(np.clip(scaled, -127.0, 127.0)), np.int8)


def rows(
    fresh: NDArray[Any],
    ring: NDArray[Any],
    position: NDArray[np.int64],
    taps: int,
    stride: int,
    dilation: int,
) -> NDArray[Any]:
    """The inputs ``[B, frames, taps, C]`` under the taps of every new output."""
    B, T = fresh.shape[:2]
    history = ring.shape[1]
    frames = np.arange(T // stride)[:, None] * stride + stride - 1
    at = frames - (taps - 1 - np.arange(taps))[None] * dilation  # [frames, taps]
    now = fresh[:, np.maximum(at, 0)]
    if history == 0:
        return np.asarray(now)
    slot = (position[:, None, None] + at[None]) % history
    then = ring[np.arange(B)[:, None, None], slot]
    return np.where((at >= 0)[None, :, :, None], now, then)


def remember(fresh: NDArray[Any], ring: NDArray[Any], position: NDArray[np.int64]) -> None:
    """Writes the newest rows into the ring and moves the positions on, in place."""
    T, history = fresh.shape[1], ring.shape[1]
    if history:
        t = np.arange(max(0, T - history), T)
        slot = (position[:, None] + t[None]) % history
        ring[np.arange(len(ring))[:, None], slot] = fresh[:, t]
    position += T


@cache
def _numba_gemm() -> Callable[..., None]:
    import numba

    @numba.njit(cache=False, nogil=True)
    def gemm(x, turned, out):  # type: ignore[no-untyped-def]
        for f in range(x.shape[0]):
            for m in range(out.shape[1]):
                out[f, m] = 0
            for k in range(x.shape[1]):
                v = x[f, k]
                line = turned[k]
                for m in range(out.shape[1]):
                    out[f, m] += v * line[m]

    return gemm


def gemm(x: NDArray[Any], turned: NDArray[Any], numba: bool) -> NDArray[Any]:
    """``x`` ``[F, K]`` times ``turned`` ``[K, M]``; by numba the order of additions is fixed."""
    if not numba:
        return np.asarray(x @ turned)
    out = np.empty((len(x), turned.shape[1]), turned.dtype)
    _numba_gemm()(x, turned, out)
    return out
