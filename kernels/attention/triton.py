"""Windowed attention of new tokens to a ring on the GPU: one launch writes the ring, one reads it.

Angles are reduced to a fraction of a turn in fp64 and then evaluated by polynomials: late positions
keep their precision, and nothing needs the stack.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def turn_angles(position, rates, i, HALF: tl.constexpr):
    """Cosine and sine of ``2 pi position rates[i]``."""
    turns = position.to(tl.float64) * tl.load(rates + i, mask=i < HALF, other=0.0)
    f = (turns - tl.floor(turns)).to(tl.float32)
    n = tl.floor(2.0 * f + 0.5)  # half turns: 0, 1 or 2
    y = (f - 0.5 * n) * 6.283185307179586
    sign = 1.0 - 2.0 * (n - 2.0 * tl.floor(0.5 * n))
    z = y * y
    s = 1.60590438e-10
    s = s * z - 2.50521084e-08
    s = s * z + 2.75573192e-06
    s = s * z - 1.98412698e-04
    s = s * z + 8.33333333e-03
    s = s * z - 1.66666667e-01
    c = 2.08767570e-09
    c = c * z - 2.75573192e-07
    c = c * z + 2.48015873e-05
    c = c * z - 1.38888889e-03
    c = c * z + 4.16666667e-02
    c = c * z - 0.5
    return sign * (1.0 + z * c), sign * (y + y * z * s)


@triton.jit
def write_kernel(
    k, v, keys, values, position, rates, T, KV, capacity,
    W: tl.constexpr, HALF: tl.constexpr, BH: tl.constexpr, ROTARY: tl.constexpr,
):  # fmt: skip
    """Program (b, t, h) writes token ``t`` of stream ``b``, head ``h``, into the ring."""
    b, t, h = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    at = tl.load(position + b) + t
    i = tl.arange(0, BH)
    fits = i < HALF
    source = ((b * T + t) * KV + h) * W
    target = ((b * KV + h) * capacity + (at % capacity)) * W
    x = tl.load(k + source + i, mask=fits, other=0.0).to(tl.float32)
    y = tl.load(k + source + HALF + i, mask=fits, other=0.0).to(tl.float32)
    if ROTARY:
        c, s = turn_angles(at, rates, i, HALF)
        x, y = x * c - y * s, x * s + y * c
    tl.store(keys + target + i, x.to(keys.dtype.element_ty), mask=fits)
    tl.store(keys + target + HALF + i, y.to(keys.dtype.element_ty), mask=fits)
    tl.store(values + target + i, tl.load(v + source + i, mask=fits), mask=fits)
    tl.store(values + target + HALF + i, tl.load(v + source + HALF + i, mask=fits), mask=fits)


@triton.jit
def read_kernel(
    q, keys, values, position, rates, out, T, H, KV, capacity, window,
    W: tl.constexpr, HALF: tl.constexpr, BH: tl.constexpr, BK: tl.constexpr, SCALE: tl.constexpr,
    ROTARY: tl.constexpr,
):  # fmt: skip
    """Softmax of one query over its window, with a running maximum."""
    b, t, h = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    at = tl.load(position + b) + t
    i = tl.arange(0, BH)
    fits = i < HALF
    place = ((b * T + t) * H + h) * W
    x = tl.load(q + place + i, mask=fits, other=0.0).to(tl.float32)
    y = tl.load(q + place + HALF + i, mask=fits, other=0.0).to(tl.float32)
    if ROTARY:
        c, s = turn_angles(at, rates, i, HALF)
        x, y = x * c - y * s, x * s + y * c
    first = tl.maximum(at - window + 1, 0)
    base = (b * KV + h // (H // KV)) * capacity
    top = tl.full([1], float("-inf"), tl.float32)
    total = tl.zeros([1], tl.float32)
    left = tl.zeros([BH], tl.float32)
    right = tl.zeros([BH], tl.float32)
    for n0 in range(0, window, BK):
        n = first + n0 + tl.arange(0, BK)
        seen = n <= at
        row = (base + n % capacity)[:, None] * W + i[None, :]
        mask = seen[:, None] & fits[None, :]
        kl = tl.load(keys + row, mask=mask, other=0.0).to(tl.float32)
        kr = tl.load(keys + row + HALF, mask=mask, other=0.0).to(tl.float32)
        score = tl.sum(kl * x[None, :] + kr * y[None, :], axis=1) * SCALE
        score = tl.where(seen, score, float("-inf"))
        new = tl.maximum(top, tl.max(score, axis=0))
        finite = tl.where(new == float("-inf"), 0.0, new)
        shrink = tl.exp(top - finite)
        p = tl.exp(score - finite)
        vl = tl.load(values + row, mask=mask, other=0.0).to(tl.float32)
        vr = tl.load(values + row + HALF, mask=mask, other=0.0).to(tl.float32)
        left = left * shrink + tl.sum(p[:, None] * vl, axis=0)
        right = right * shrink + tl.sum(p[:, None] * vr, axis=0)
        total = total * shrink + tl.sum(p, axis=0)
        top = new
    tl.store(out + place + i, (left / total).to(out.dtype.element_ty), mask=fits)
    tl.store(out + place + HALF + i, (right / total).to(out.dtype.element_ty), mask=fits)


def rates(width: int, base: float, device: torch.device | str) -> torch.Tensor:
    """Turns per token [W / 2] in fp64: ``base^(-2 i / W) / (2 pi)``."""
    i = torch.arange(width // 2, dtype=torch.float64, device=device)
    return base ** (-2.0 * i / width) / (2.0 * torch.pi)


def step(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, keys: torch.Tensor, values: torch.Tensor,
    position: torch.Tensor, window: int, out: torch.Tensor, turns: torch.Tensor | None = None,
) -> None:  # fmt: skip
    """One step, states in place: ``keys``, ``values`` [B, KV, capacity, W], ``position`` [B] int64.

    ``turns`` comes from :func:`rates`; capacity must be at least ``window + T - 1``; ``W`` even.
    """
    B, T, H, W = q.shape
    KV, capacity = keys.shape[1:3]
    if capacity < window + T - 1 or W % 2:
        raise ValueError(f"capacity {capacity} must be >= {window + T - 1}, and W = {W} even")
    half = W // 2
    BH = triton.next_power_of_2(half)
    rotary = turns is not None
    table = turns if turns is not None else position
    write_kernel[(B, T, KV)](
        k, v, keys, values, position, table, T, KV, capacity,
        W=W, HALF=half, BH=BH, ROTARY=rotary, num_warps=1,
    )  # fmt: skip
    read_kernel[(B, T, H)](
        q, keys, values, position, table, out, T, H, KV, capacity, window,
        W=W, HALF=half, BH=BH, BK=32, SCALE=W**-0.5, ROTARY=rotary, num_warps=4,
    )  # fmt: skip
    position += T
