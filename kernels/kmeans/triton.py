"""Nearest centroids on the GPU: split over programs, joined by a second launch."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def assign_kernel(
    x, centroids, half, scores, labels, T, N, span,
    D: tl.constexpr, BT: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """Best of rows ``s * span`` to ``(s + 1) * span``: ``scores``, ``labels`` [splits, T]."""
    t = tl.program_id(0) * BT + tl.arange(0, BT)
    s = tl.program_id(1)
    best = tl.full([BT], float("inf"), tl.float32)
    label = tl.zeros([BT], tl.int32)
    for n0 in range(s * span, tl.minimum((s + 1) * span, N), BN):
        n = n0 + tl.arange(0, BN)
        valid = (n < N) & (n < (s + 1) * span)
        dots = tl.zeros([BT, BN], tl.float32)
        for d0 in range(0, D, BD):
            d = d0 + tl.arange(0, BD)
            a = tl.load(
                x + t[:, None] * D + d[None, :], mask=(t < T)[:, None] & (d < D)[None, :], other=0.0
            )
            a = tl.where((a - a) == 0.0, a, 0.0)
            c = tl.load(
                centroids + n[None, :] * D + d[:, None],
                mask=valid[None, :] & (d < D)[:, None],
                other=0.0,
            )
            dots += tl.dot(a, c, input_precision="ieee")
        score = tl.load(half + n, mask=valid, other=float("inf"))[None, :] - dots
        low = tl.min(score, axis=1)
        here = tl.min(tl.where(score == low[:, None], n[None, :], 2147483647), axis=1)
        label = tl.where(low < best, here, label)
        best = tl.minimum(best, low)
    tl.store(scores + s * T + t, best, mask=t < T)
    tl.store(labels + s * T + t, label, mask=t < T)


@triton.jit
def join_kernel(scores, labels, out, T, splits, BT: tl.constexpr, BS: tl.constexpr):
    """``out`` [T] int64: the label of the best split, the first one if they tie."""
    t = tl.program_id(0) * BT + tl.arange(0, BT)
    s = tl.arange(0, BS)
    inside = (s < splits)[:, None] & (t < T)[None, :]
    score = tl.load(scores + s[:, None] * T + t[None, :], mask=inside, other=float("inf"))
    label = tl.load(labels + s[:, None] * T + t[None, :], mask=inside, other=2147483647)
    low = tl.min(score, axis=0)
    best = tl.min(tl.where(score == low[None, :], label, 2147483647), axis=0)
    tl.store(out + t, best.to(tl.int64), mask=t < T)


def assign(x: torch.Tensor, centroids: torch.Tensor, half: torch.Tensor, out: torch.Tensor) -> None:
    """``out`` [T] (int64) for ``x`` [T, D], ``centroids`` [N, D] and ``half`` [N] = |c|^2 / 2."""
    T, D = x.shape
    N = len(centroids)
    BT, BN, BD = 16, 64, min(64, max(16, triton.next_power_of_2(D)))
    tiles = triton.cdiv(T, BT)
    splits = max(1, min(64, 128 // tiles, triton.cdiv(N, BN)))
    span = triton.cdiv(triton.cdiv(N, splits), BN) * BN
    splits = triton.cdiv(N, span)
    scores = torch.empty(splits, T, device=x.device)
    labels = torch.empty(splits, T, dtype=torch.int32, device=x.device)
    assign_kernel[(tiles, splits)](
        x, centroids, half, scores, labels, T, N, span, D=D, BT=BT, BN=BN, BD=BD, num_warps=4
    )
    join_kernel[(triton.cdiv(T, 16),)](
        scores, labels, out, T, splits, BT=16, BS=triton.next_power_of_2(splits), num_warps=1
    )
