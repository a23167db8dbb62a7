"""Residual vector quantisation on the GPU: all layers of a tile of vectors in one launch.

The first pass and the decision are fp32, so codes equal the fp64 reference wherever the best two
rows differ by more than fp32 rounding; ties go to the lower index.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl


@triton.jit
def encode_kernel(
    x, books, half, codes, T, layers, N,
    D: tl.constexpr, BT: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """``x`` [T, D]; ``books`` [K, N, D]; ``half`` [K, N] = |c|^2 / 2; ``codes`` [layers, T]."""
    t = tl.program_id(0) * BT + tl.arange(0, BT)
    d = tl.arange(0, BD)
    inside = (t < T)[:, None] & (d < D)[None, :]
    r = tl.load(x + t[:, None] * D + d[None, :], mask=inside, other=0.0)
    r = tl.where((r - r) == 0.0, r, 0.0)  # NaN and Inf count as 0
    for k in range(layers):
        best = tl.full([BT], float("inf"), tl.float32)
        code = tl.zeros([BT], tl.int32)
        for n0 in range(0, N, BN):
            n = n0 + tl.arange(0, BN)
            row = (k * N + n)[None, :] * D + d[:, None]
            c = tl.load(books + row, mask=(n < N)[None, :] & (d < D)[:, None], other=0.0)
            h = tl.load(half + k * N + n, mask=n < N, other=float("inf"))
            score = h[None, :] - tl.dot(r, c, input_precision="ieee")
            low = tl.min(score, axis=1)
            here = tl.min(tl.where(score == low[:, None], n[None, :], 2147483647), axis=1)
            code = tl.where(low < best, here, code)
            best = tl.minimum(best, low)
        tl.store(codes + k * T + t, code, mask=t < T)
        taken = (k * N + code)[:, None] * D + d[None, :]
        r -= tl.load(books + taken, mask=inside, other=0.0)


@triton.jit
def decode_kernel(
    codes, books, out, T, layers, N, D: tl.constexpr, BT: tl.constexpr, BD: tl.constexpr
):
    """``out`` [T, D]: the sum of the rows named; -1 adds nothing."""
    t = tl.program_id(0) * BT + tl.arange(0, BT)
    d = tl.arange(0, BD)
    inside = (t < T)[:, None] & (d < D)[None, :]
    total = tl.zeros([BT, BD], tl.float32)
    for k in range(layers):
        code = tl.load(codes + k * T + t, mask=t < T, other=-1)
        row = (k * N + code)[:, None] * D + d[None, :]
        total += tl.load(books + row, mask=inside & (code >= 0)[:, None], other=0.0)
    tl.store(out + t[:, None] * D + d[None, :], total, mask=inside)


def encode(x: torch.Tensor, books: torch.Tensor, half: torch.Tensor, codes: torch.Tensor) -> None:
    """``codes`` [layers, T] (int32) of ``x`` [T, D]; ``half`` [K, N] from :func:`half_norms`."""
    _same_device(x, books, half, codes)
    T, D = x.shape
    BT = 16
    encode_kernel[(triton.cdiv(T, BT),)](
        x, books, half, codes, T, codes.shape[0], books.shape[1],
        D=D, BT=BT, BN=32, BD=max(16, triton.next_power_of_2(D)), num_warps=4,
    )  # fmt: skip


def decode(codes: torch.Tensor, books: torch.Tensor, out: torch.Tensor) -> None:
    """``out`` [T, D] of ``codes`` [layers, T]."""
    _same_device(codes, books, out)
    T, D = out.shape
    BT = 8
    decode_kernel[(triton.cdiv(T, BT),)](
        codes, books, out, T, codes.shape[0], books.shape[1],
        D=D, BT=BT, BD=triton.next_power_of_2(D), num_warps=4,
    )  # fmt: skip


def half_norms(books: torch.Tensor) -> torch.Tensor:
    """``|c|^2 / 2`` [K, N], summed in fp64."""
    return (books.double().square().sum(-1) * 0.5).float()


def _same_device(*tensors: Any) -> None:
    devices = {str(t.device) for t in tensors}
    if len(devices) != 1 or not all(t.is_contiguous() for t in tensors):
        raise ValueError(f"tensors lie on {sorted(devices)}; all must be contiguous on one device")
