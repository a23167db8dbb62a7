"""Attention steps without the compiled part."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ossicle.kernels.attention.reference import rotate, softmax

GROUP = 16  # keys side by side in the packed layout


def put_keys(
    keys: NDArray[np.float32], b: int, slots: NDArray[np.int64], rows: NDArray[np.float32]
) -> None:
    """Writes rows ``[T, H, W]`` to ring slots of stream ``b`` of the packed keys."""
    for slot, row in zip(slots, rows, strict=True):
        keys[b, :, slot // GROUP, :, slot % GROUP] = row


def get_keys(keys: NDArray[np.float32], b: int, slots: NDArray[np.int64]) -> NDArray[np.float32]:
    """Rows ``[n, H, W]`` of ring slots of stream ``b``."""
    return np.asarray(keys[b][:, slots // GROUP, :, slots % GROUP])


def attend(
    q: NDArray[np.float32], k: NDArray[np.float32], v: NDArray[np.float32], scale: float
) -> NDArray[np.float32]:
    """One query ``[H, W]`` on ``k`` ``[n, KV, W]`` and ``v`` ``[KV, n, W]``: ``[H, W]``."""
    if not len(k):
        return np.zeros_like(q)
    share = q.shape[0] // k.shape[1]
    kk, vv = np.repeat(k, share, 1), np.repeat(v, share, 0)
    score = np.einsum("hw,nhw->hn", q, kk).astype(np.float64) * scale
    return np.asarray(np.einsum("hn,hnw->hw", softmax(score).astype(np.float32), vv))


def ring_step(
    q: NDArray[np.float32], k: NDArray[np.float32], v: NDArray[np.float32], state: Any,
    window: int, scale: float, base: float | None, interleaved: bool,
    active: NDArray[np.bool_] | None, out: NDArray[np.float32],
) -> None:  # fmt: skip
    """The plain twin of the compiled step; see :func:`ossicle.kernels.attention.step`."""
    B, T = q.shape[:2]
    cap = state.values.shape[2]
    for b in range(B):
        if active is not None and not active[b]:
            out[b] = 0.0
            continue
        position = state.position[b] + np.arange(T)
        qq, kk = q[b], k[b]
        if base is not None:
            qq, kk = (
                rotate(a.astype(np.float64), position, base, interleaved).astype(np.float32)
                for a in (qq, kk)
            )
        slots = position % cap
        put_keys(state.keys, b, slots, kk)
        state.values[b][:, slots] = v[b].transpose(1, 0, 2)
        for t in range(T):
            seen = np.arange(max(0, position[t] - window + 1), position[t] + 1) % cap
            out[b, t] = attend(
                qq[t], get_keys(state.keys, b, seen), state.values[b][:, seen], scale
            )
        state.position[b] += T


def cross_step(q: NDArray[np.float32], memory: Any, scale: float, out: NDArray[np.float32]) -> None:
    """The plain twin of the compiled step; see :func:`ossicle.kernels.attention.cross`."""
    for b, n in enumerate(memory.lengths):
        slots = np.arange(n)
        k, v = get_keys(memory.keys, b, slots), memory.values[b][:, :n]
        for t in range(q.shape[1]):
            out[b, t] = attend(q[b, t], k, v, scale)
