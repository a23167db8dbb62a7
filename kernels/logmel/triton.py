"""Log mel energies from a spectrum on the GPU: power, product and logarithm in one launch."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def log_mel_kernel(
    spectrum, filters, out, T, F, M,
    POWER: tl.constexpr, OFFSET: tl.constexpr, FLOOR: tl.constexpr, SCALE: tl.constexpr,
    BT: tl.constexpr, BM: tl.constexpr, BF: tl.constexpr,
):  # fmt: skip
    """``spectrum`` [T, F, 2]; ``filters`` [F, M]; ``out`` [T, M]."""
    t = tl.program_id(0) * BT + tl.arange(0, BT)
    m = tl.program_id(1) * BM + tl.arange(0, BM)
    acc = tl.zeros([BT, BM], tl.float32)
    for f0 in range(0, F, BF):
        f = f0 + tl.arange(0, BF)
        inside = (t < T)[:, None] & (f < F)[None, :]
        at = spectrum + (t[:, None] * F + f[None, :]) * 2
        re = tl.load(at, mask=inside, other=0.0)
        im = tl.load(at + 1, mask=inside, other=0.0)
        p = re * re + im * im
        if POWER == 1:
            p = tl.sqrt(p)
        w = tl.load(
            filters + f[:, None] * M + m[None, :],
            mask=(f < F)[:, None] & (m < M)[None, :],
            other=0.0,
        )
        acc += tl.dot(p, w, input_precision="ieee")
    y = tl.log(tl.maximum(acc + OFFSET, FLOOR)) * SCALE
    tl.store(out + t[:, None] * M + m[None, :], y, mask=(t < T)[:, None] & (m < M)[None, :])


def log_mel(
    spectrum: torch.Tensor, filters: torch.Tensor, out: torch.Tensor, *, power: int, offset: float,
    floor: float, log_scale: float,
) -> None:  # fmt: skip
    """``spectrum`` is the real view [T, F, 2] of a complex one."""
    T, F, _ = spectrum.shape
    M = filters.shape[1]
    log_mel_kernel[(triton.cdiv(T, 16), triton.cdiv(M, 16))](
        spectrum, filters, out, T, F, M, POWER=power, OFFSET=offset, FLOOR=floor, SCALE=log_scale,
        BT=16, BM=16, BF=32, num_warps=4,
    )  # fmt: skip
