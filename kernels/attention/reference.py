"""Windowed causal attention of whole sequences, and cross-attention, in fp64."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


def rotate(x: F64, position: NDArray[np.int64], base: float, interleaved: bool = False) -> F64:
    """``x`` ``[..., T, H, W]`` turned by its positions ``[..., T]`` (Su et al. 2021).

    Pair ``i`` of ``W / 2`` turns by ``position * base^(-2 i / W)``; pairs are ``(i, i + W / 2)``,
    or ``(2 i, 2 i + 1)`` if interleaved.
    """
    W = x.shape[-1]
    angle = position[..., None, None] * base ** (-2.0 * np.arange(W // 2) / W)
    c, s = np.cos(angle), np.sin(angle)
    out = np.empty_like(x)
    first, second = (
        (np.s_[..., 0::2], np.s_[..., 1::2])
        if interleaved
        else (np.s_[..., : W // 2], np.s_[..., W // 2 :])
    )
    out[first] = x[first] * c - x[second] * s
    out[second] = x[first] * s + x[second] * c
    return out


def softmax(x: F64) -> F64:
    """Over the last axis; a row of -inf alone gives zeros."""
    top = x.max(-1, keepdims=True)
    e = np.exp(x - np.where(np.isfinite(top), top, 0.0))
    return np.asarray(e / np.maximum(e.sum(-1, keepdims=True), 1e-300))


def windowed(
    q: NDArray[np.floating],
    k: NDArray[np.floating],
    v: NDArray[np.floating],
    window: int,
    *,
    scale: float | None = None,
    base: float | None = None,
    interleaved: bool = False,
    start: int = 0,
) -> F64:
    """``[B, T, H, W]``: each token attends to itself and the ``window - 1`` tokens before it.

    ``q`` is ``[B, T, H, W]``; ``k`` and ``v`` may have fewer heads, each shared by ``H / heads`` of
    ``q``.
    """
    wide = [a.astype(np.float64) for a in (q, k, v)]
    T, H, W = q.shape[1:]
    if base is not None:
        at = start + np.arange(T)
        wide[:2] = [rotate(a, at, base, interleaved) for a in wide[:2]]
    qq, kk, vv = wide
    kk, vv = (np.repeat(a, H // a.shape[2], 2) for a in (kk, vv))
    score = np.einsum("bthw,bshw->bhts", qq, kk) * (W**-0.5 if scale is None else scale)
    gap = np.arange(T)[:, None] - np.arange(T)[None]
    score = np.where((gap >= 0) & (gap < window), score, -np.inf)
    return np.asarray(np.einsum("bhts,bshw->bthw", softmax(score), vv))


def cross(
    q: NDArray[np.floating],
    k: NDArray[np.floating],
    v: NDArray[np.floating],
    lengths: NDArray[np.int64],
    scale: float | None = None,
) -> F64:
    """``[B, T, H, W]`` over the first ``lengths[b]`` memory rows; zeros where that is 0."""
    qq, kk, vv = (a.astype(np.float64) for a in (q, k, v))
    H, W = q.shape[2:]
    kk, vv = (np.repeat(a, H // a.shape[2], 2) for a in (kk, vv))
    score = np.einsum("bthw,bshw->bhts", qq, kk) * (W**-0.5 if scale is None else scale)
    inside = np.arange(k.shape[1])[None] < lengths[:, None]
    score = np.where(inside[:, None, None], score, -np.inf)
    return np.asarray(np.einsum("bhts,bshw->bthw", softmax(score), vv))
