"""Streaming convolution on the GPU: one launch reads ring and input, one writes the ring."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def step_kernel(
    x, ring, position, weight, bias, out, B, T, frames, C, M,
    TAPS: tl.constexpr, STRIDE: tl.constexpr, DILATION: tl.constexpr, HISTORY: tl.constexpr,
    BF: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """``x`` [B, T, C]; ``ring`` [B, HISTORY, C]; ``weight`` [TAPS, C, M]; ``out`` [B, F, M]."""
    f = tl.program_id(0) * BF + tl.arange(0, BF)
    m = tl.program_id(1) * BM + tl.arange(0, BM)
    valid = f < B * frames
    b = f // frames
    newest = (f % frames) * STRIDE + STRIDE - 1
    start = tl.load(position + b, mask=valid, other=0)
    acc = tl.zeros([BF, BM], tl.float32)
    for i in range(TAPS):
        at = newest - (TAPS - 1 - i) * DILATION
        slot = ((start + at + HISTORY) % tl.maximum(HISTORY, 1)).to(tl.int32)
        for c0 in range(0, C, BC):
            c = c0 + tl.arange(0, BC)
            fits = (c < C)[None, :]
            now = tl.load(
                x + (b * T + at)[:, None] * C + c[None, :],
                mask=(valid & (at >= 0))[:, None] & fits,
                other=0.0,
            )
            then = tl.load(
                ring + (b * HISTORY + slot)[:, None] * C + c[None, :],
                mask=(valid & (at < 0))[:, None] & fits,
                other=0.0,
            )
            w = tl.load(
                weight + (i * C + c)[:, None] * M + m[None, :],
                mask=(c < C)[:, None] & (m < M)[None, :],
                other=0.0,
            )
            acc += tl.dot(tl.where((at >= 0)[:, None], now, then), w, input_precision=PRECISION)
    acc += tl.load(bias + m, mask=m < M, other=0.0).to(tl.float32)[None, :]
    tl.store(
        out + f[:, None] * M + m[None, :],
        acc.to(out.dtype.element_ty),
        mask=valid[:, None] & (m < M)[None, :],
    )


@triton.jit
def remember_kernel(x, ring, position, T, C, HISTORY: tl.constexpr, BC: tl.constexpr):
    """Writes input frame ``program_id(1)`` from the end into the ring; positions stay."""
    b = tl.program_id(0)
    t = T - 1 - tl.program_id(1)
    c = tl.program_id(2) * BC + tl.arange(0, BC)
    slot = (tl.load(position + b) + t) % HISTORY
    row = tl.load(x + (b * T + t) * C + c, mask=c < C, other=0.0)
    tl.store(ring + (b * HISTORY + slot) * C + c, row, mask=c < C)


def step(
    x: torch.Tensor, ring: torch.Tensor, position: torch.Tensor, weight: torch.Tensor,
    bias: torch.Tensor,    out: torch.Tensor, stride: int = 1, dilation: int = 1,
) -> None:  # fmt: skip
    """One step, states in place: ``weight`` [taps, C, M], ``position`` [B] int64; fp32 or fp16."""
    B, T, C = x.shape
    taps, _, M = weight.shape
    history, frames = ring.shape[1], T // stride
    BF, BM, BC = 16, 32, 32
    step_kernel[(triton.cdiv(B * frames, BF), triton.cdiv(M, BM))](
        x, ring, position, weight, bias, out, B, T, frames, C, M,
        TAPS=taps, STRIDE=stride, DILATION=dilation, HISTORY=history, BF=BF, BM=BM, BC=BC,
        PRECISION="ieee", num_warps=4,
    )  # fmt: skip
    if history:
        remember_kernel[(B, min(T, history), triton.cdiv(C, 128))](
            x, ring, position, T, C, HISTORY=history, BC=128, num_warps=1
        )
    position += T
