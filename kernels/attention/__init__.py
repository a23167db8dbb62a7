"""Attention of new tokens to a ring of past ones, and to a fixed memory.

Each stream has its own position; nothing is rebuilt between steps: no masks, no tables, no
concatenation. Keys are stored turned by their position. A step may bring several tokens: token
``t`` sees the ``window - 1`` tokens before it and itself, so the ring holds ``window + T - 1``;
fewer would overwrite what ``t = 0`` sees.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ossicle.kernels import check, memory, paths
from ossicle.kernels.attention import cpu
from ossicle.kernels.attention.cpu import GROUP
from ossicle.kernels.errors import RangeError, ShapeError

Floats = NDArray[np.float32]

__all__ = ["AttentionState", "Memory", "cross", "fresh", "remember", "step"]


@dataclass(slots=True)
class AttentionState:
    """What streams remember: copy it, stack it, save it. Fresh is all zeros."""

    keys: Floats  # [B, H, capacity / 16, W, 16]
    values: Floats  # [B, H, capacity, W]; token a lies at a % capacity
    position: NDArray[np.int64]  # [B] tokens seen


@dataclass(frozen=True, slots=True)
class Memory:
    """Keys and values to attend to across, laid out as a ring's."""

    keys: Floats  # [B, H, capacity / 16, W, 16]
    values: Floats  # [B, H, capacity, W]
    lengths: NDArray[np.int64]  # [B] rows that count


def fresh(
    window: int, heads: int, width: int, *, batch: int = 1, tokens: int = 1
) -> AttentionState:
    """The state of ``batch`` streams for steps of up to ``tokens`` tokens.

    Raises:
        RangeError: a number is out of range; ``width`` may be 256 at most.
    """
    for name, n, top in (
        ("window", window, 1 << 20), ("heads", heads, 4096), ("width", width, 256),
        ("batch", batch, 1 << 20), ("tokens", tokens, 1 << 20),
    ):  # fmt: skip
        check.number(name, n, 1, top)
    capacity = -(-(window + tokens - 1) // GROUP) * GROUP
    keys, values = memory.zeros((2, batch, heads, capacity * width), np.float32)
    return AttentionState(
        keys.reshape(batch, heads, capacity // GROUP, width, GROUP),
        values.reshape(batch, heads, capacity, width),
        np.zeros(batch, np.int64),
    )


def step(
    q: Floats,
    k: Floats,
    v: Floats,
    state: AttentionState,
    window: int,
    *,
    scale: float | None = None,
    rotary_base: float | None = None,
    interleaved: bool = False,
    active: NDArray[np.bool_] | None = None,
    out: Floats | None = None,
    path: paths.Path | None = None,
) -> Floats:
    """``[B, T, H, W]`` for new tokens; the state moves on in place.

    Args:
        q: ``[B, T, H, W]``.
        k: ``[B, T, KV, W]`` where ``KV`` divides ``H``.
        v: as ``k``.
        state: from :func:`fresh`, for ``KV`` heads.
        window: tokens seen, the new one included.
        scale: of the scores; ``W ** -0.5`` by default.
        rotary_base: of the angles (often 10000); ``None`` turns nothing.
        interleaved: pairs ``(2 i, 2 i + 1)`` instead of ``(i, i + W / 2)``.
        active: ``[B]``; a stream that is not active keeps its state and gets zeros.
        out: caller's array.
        path: of the computation.

    Raises:
        ShapeError, DtypeError, LayoutError: an array does not fit, or the ring is too small for
        ``T``.
        RangeError: the window is below 1, or ``W`` is odd where it is to be turned.
    """
    core = paths.core() if paths.choose(path) == "core" else None
    if core is not None and out is not None:
        # The compiled part checks as much before it touches anything; what it refuses is put into
        # words below.
        with suppress(TypeError, ValueError, AttributeError, IndexError, ZeroDivisionError):
            if out.size:
                core.attention_step(
                    q, k, v, state.keys, state.values, state.position, window,
                    q.shape[3] ** -0.5 if scale is None else scale, rotary_base or 0.0, interleaved,
                    active, out,
                )  # fmt: skip
                return out
    check.array("q", q, np.float32, "[B, T, H, W]", None, None, None, None)
    B, T, H, W = q.shape
    check.array("k", k, np.float32, "[B, T, KV, W]", B, T, None, W)
    KV = k.shape[2]
    check.array("v", v, np.float32, "[B, T, KV, W]", B, T, KV, W)
    _heads(H, KV)
    check.number("window", window, 1, 1 << 20)
    if rotary_base is not None and (W % 2 or not rotary_base > 0.0):
        raise RangeError(
            f"rotary_base is {rotary_base} for W = {W}; it must be positive and W even"
        )
    check.output(
        "state.values",
        state.values,
        np.float32,
        "[B, KV, capacity, W]",
        B,
        KV,
        len(state.values[0, 0]),
        W,
    )
    cap = state.values.shape[2]
    if cap < window + T - 1:
        raise ShapeError(
            f"state holds {cap} tokens; window {window} and {T} new ones need {window + T - 1}: "
            f"make it with fresh(..., tokens={T})"
        )
    check.output(
        "state.keys",
        state.keys,
        np.float32,
        "[B, KV, capacity / 16, W, 16]",
        B,
        KV,
        cap // GROUP,
        W,
        GROUP,
    )
    check.output("state.position", state.position, np.int64, "[B]", B)
    if active is not None:
        check.array("active", active, np.bool_, "[B]", B)
    y = check.output("out", out, np.float32, "[B, T, H, W]", B, T, H, W)
    s = W**-0.5 if scale is None else scale
    if core is not None:
        core.attention_step(
            q, k, v, state.keys, state.values, state.position, window, s, rotary_base or 0.0,
            interleaved, active, y,
        )  # fmt: skip
    else:
        cpu.ring_step(q, k, v, state, window, s, rotary_base, interleaved, active, y)
    return y


def remember(k: Floats, v: Floats, lengths: NDArray[np.int64] | None = None) -> Memory:
    """A memory of rows ``[B, S, KV, W]``, of which the first ``lengths[b]`` count (all by default).

    Raises:
        ShapeError, DtypeError, LayoutError: an array does not fit.
        RangeError: a length is below 0 or above ``S``.
    """
    check.array("k", k, np.float32, "[B, S, KV, W]", None, None, None, None)
    check.array("v", v, np.float32, "[B, S, KV, W]", *k.shape)
    B, S, KV, W = k.shape
    check.number("W", W, 1, 256)
    counts = np.full(B, S, np.int64) if lengths is None else lengths
    check.array("lengths", counts, np.int64, "[B]", B)
    if counts.min() < 0 or counts.max() > S:
        raise RangeError(f"lengths are {counts.min()} to {counts.max()}; they must lie in 0 to {S}")
    groups = -(-S // GROUP)
    spare = ((0, 0), (0, groups * GROUP - S), (0, 0), (0, 0))
    keys = np.pad(k, spare).reshape(B, groups, GROUP, KV, W).transpose(0, 3, 1, 4, 2)
    values = np.pad(v, spare).transpose(0, 2, 1, 3)
    return Memory(np.ascontiguousarray(keys), np.ascontiguousarray(values), counts.copy())


def cross(
    q: Floats,
    memory: Memory,
    *,
    scale: float | None = None,
    out: Floats | None = None,
    path: paths.Path | None = None,
) -> Floats:
    """``[B, T, H, W]`` of queries ``[B, T, H, W]`` over a memory; zeros where it is empty.

    Raises:
        ShapeError, DtypeError, LayoutError: an array does not fit.
    """
    B, KV, _, W = memory.values.shape
    check.array("q", q, np.float32, "[B, T, H, W]", B, None, None, W)
    T, H = q.shape[1:3]
    _heads(H, KV)
    y = check.output("out", out, np.float32, "[B, T, H, W]", B, T, H, W)
    s = W**-0.5 if scale is None else scale
    core = paths.core()
    if paths.choose(path) == "core" and core is not None:
        core.cross_step(q, memory.keys, memory.values, memory.lengths, s, y)
    else:
        cpu.cross_step(q, memory, s, y)
    return y


def _heads(H: int, KV: int) -> None:
    if H % KV:
        raise ShapeError(
            f"q has {H} heads and k has {KV}; the heads of q must be a multiple of k's"
        )
