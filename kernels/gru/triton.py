"""One step of a gated recurrent unit on the GPU: products, gates and mix in one launch."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def cell_kernel(
    x, h, w_ih, w_hh, b_ih, b_hh, out, B, inputs, H,
    BB: tl.constexpr, BH: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """``out`` [B, H] from ``x`` [B, I], ``h`` [B, H]; weights turned: [I, 3 H], [H, 3 H]."""
    b = tl.program_id(0) * BB + tl.arange(0, BB)
    j = tl.program_id(1) * BH + tl.arange(0, BH)
    valid, fits = b < B, j < H
    r = tl.zeros([BB, BH], tl.float32)
    z = tl.zeros([BB, BH], tl.float32)
    n = tl.zeros([BB, BH], tl.float32)
    for i0 in range(0, inputs, BK):
        i = i0 + tl.arange(0, BK)
        a = tl.load(
            x + b[:, None] * inputs + i[None, :],
            mask=valid[:, None] & (i < inputs)[None, :],
            other=0.0,
        )
        w = w_ih + i[:, None] * (3 * H) + j[None, :]
        mask = (i < inputs)[:, None] & fits[None, :]
        r += tl.dot(a, tl.load(w, mask=mask, other=0.0), input_precision="ieee")
        z += tl.dot(a, tl.load(w + H, mask=mask, other=0.0), input_precision="ieee")
        n += tl.dot(a, tl.load(w + 2 * H, mask=mask, other=0.0), input_precision="ieee")
    hn = tl.zeros([BB, BH], tl.float32)
    for i0 in range(0, H, BK):
        i = i0 + tl.arange(0, BK)
        a = tl.load(
            h + b[:, None] * H + i[None, :], mask=valid[:, None] & (i < H)[None, :], other=0.0
        )
        w = w_hh + i[:, None] * (3 * H) + j[None, :]
        mask = (i < H)[:, None] & fits[None, :]
        r += tl.dot(a, tl.load(w, mask=mask, other=0.0), input_precision="ieee")
        z += tl.dot(a, tl.load(w + H, mask=mask, other=0.0), input_precision="ieee")
        hn += tl.dot(a, tl.load(w + 2 * H, mask=mask, other=0.0), input_precision="ieee")
    r += (tl.load(b_ih + j, mask=fits, other=0.0) + tl.load(b_hh + j, mask=fits, other=0.0))[
        None, :
    ]
    z += (
        tl.load(b_ih + H + j, mask=fits, other=0.0) + tl.load(b_hh + H + j, mask=fits, other=0.0)
    )[None, :]
    n += tl.load(b_ih + 2 * H + j, mask=fits, other=0.0)[None, :]
    hn += tl.load(b_hh + 2 * H + j, mask=fits, other=0.0)[None, :]
    r = 1.0 / (1.0 + tl.exp(-r))
    z = 1.0 / (1.0 + tl.exp(-z))
    n = 2.0 / (1.0 + tl.exp(-2.0 * (n + r * hn))) - 1.0
    both = valid[:, None] & fits[None, :]
    old = tl.load(h + b[:, None] * H + j[None, :], mask=both, other=0.0).to(tl.float32)
    tl.store(
        out + b[:, None] * H + j[None, :], (n + z * (old - n)).to(out.dtype.element_ty), mask=both
    )


def cell(
    x: torch.Tensor, h: torch.Tensor, w_ih: torch.Tensor, w_hh: torch.Tensor, b_ih: torch.Tensor,
    b_hh: torch.Tensor, out: torch.Tensor,
) -> None:  # fmt: skip
    """``out`` [B, H], another tensor than ``h``: every program still reads all of the old state."""
    if out.data_ptr() == h.data_ptr():
        raise ValueError(
            "out is h; use two tensors in turn, since the step reads h while it writes out"
        )
    B, inputs = x.shape
    H = h.shape[1]
    BB, BH, BK = 16, 16, 32
    cell_kernel[(triton.cdiv(B, BB), triton.cdiv(H, BH))](
        x, h, w_ih, w_hh, b_ih, b_hh, out, B, inputs, H, BB=BB, BH=BH, BK=BK, num_warps=4
    )
