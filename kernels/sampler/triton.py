"""A sampling step on the GPU: guidance, next sample and kept values in one launch.

The weights of all calls and the number of the call lie in device memory, so a captured graph can be
replayed for every call and nothing is read back.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def step_kernel(
    x, m, u, h1, h2, last, noise, weights, call, guidance, following, kept, aside, n,
    GUIDED: tl.constexpr, NOISY: tl.constexpr, KEEPS: tl.constexpr, ASIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """``weights`` [calls, 3, 6] with the columns of ``plan.py``; ``call``, ``guidance`` [1]."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < n
    w = weights + tl.load(call) * 18
    vx = tl.load(x + i, mask=inside, other=0.0).to(tl.float32)
    vm = tl.load(m + i, mask=inside, other=0.0).to(tl.float32)
    if GUIDED:
        vu = tl.load(u + i, mask=inside, other=0.0).to(tl.float32)
        vm = vu + tl.load(guidance) * (vm - vu)
    v1 = tl.load(h1 + i, mask=inside, other=0.0)
    v2 = tl.load(h2 + i, mask=inside, other=0.0)
    vl = tl.load(last + i, mask=inside, other=0.0)
    y = (
        tl.load(w) * vx
        + tl.load(w + 1) * vm
        + tl.load(w + 2) * v1
        + tl.load(w + 3) * v2
        + tl.load(w + 4) * vl
    )
    if NOISY:
        y += tl.load(w + 5) * tl.load(noise + i, mask=inside, other=0.0).to(tl.float32)
    tl.store(following + i, y.to(following.dtype.element_ty), mask=inside)
    if KEEPS:
        y = tl.load(w + 6) * vx + tl.load(w + 7) * vm + tl.load(w + 8) * v1 + tl.load(w + 9) * v2
        tl.store(kept + i, y + tl.load(w + 10) * vl, mask=inside)
    if ASIDE:
        y = (
            tl.load(w + 12) * vx
            + tl.load(w + 13) * vm
            + tl.load(w + 14) * v1
            + tl.load(w + 15) * v2
        )
        tl.store(aside + i, y + tl.load(w + 16) * vl, mask=inside)


def step(
    x: torch.Tensor, m: torch.Tensor, h1: torch.Tensor, h2: torch.Tensor, last: torch.Tensor,
    weights: torch.Tensor, call: torch.Tensor, following: torch.Tensor, kept: torch.Tensor,
    aside: torch.Tensor, *, unconditional: torch.Tensor | None = None,
    guidance: torch.Tensor | None = None, noise: torch.Tensor | None = None,
    keeps: bool = True, sets_aside: bool = True,
) -> None:  # fmt: skip
    """One call; ``following``, ``kept``, ``aside`` are separate outputs shaped as ``x``."""
    n = x.numel()
    guided = unconditional is not None and guidance is not None
    step_kernel[(triton.cdiv(n, 1024),)](
        x, m, unconditional if guided else x, h1, h2, last,
        noise if noise is not None else x, weights,
        call, guidance if guided else weights, following, kept, aside, n, GUIDED=guided,
        NOISY=noise is not None, KEEPS=keeps, ASIDE=sets_aside, BLOCK=1024, num_warps=4,
    )  # fmt: skip
