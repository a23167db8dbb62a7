"""Every GPU kernel on Triton's interpreter against its reference; prints one JSON line a case.

Run in a process of its own with TRITON_INTERPRET=1: the interpreter is chosen when Triton is
imported. Grids
are tiny, since an operation costs tens of microseconds there. bf16 is left out: the interpreter's
is wrong.
With ``cuda`` as its argument the same cases run on a GPU.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from ossicle.kernels import sampler, tolerance
from ossicle.kernels.attention import reference as attention_reference
from ossicle.kernels.attention import triton as attention
from ossicle.kernels.conv import reference as conv_reference
from ossicle.kernels.conv import triton as conv
from ossicle.kernels.gru import reference as gru_reference
from ossicle.kernels.gru import triton as gru
from ossicle.kernels.kmeans import reference as kmeans_reference
from ossicle.kernels.kmeans import triton as kmeans
from ossicle.kernels.logmel import reference as mel_reference
from ossicle.kernels.logmel import triton as logmel
from ossicle.kernels.rvq import reference as rvq_reference
from ossicle.kernels.rvq import triton as rvq
from ossicle.kernels.sampler import triton as sampler_triton
from ossicle.kernels.snake import reference as snake_reference
from ossicle.kernels.snake import triton as snake

Result = tuple[float, float]  # error, allowed
Dtype = torch.dtype
DEVICE = sys.argv[1] if len(sys.argv) > 1 else "cpu"
RNG = np.random.default_rng()


def floats(*shape: int, dtype: Dtype = torch.float32) -> torch.Tensor:
    return torch.from_numpy(RNG.standard_normal(shape)).to(DEVICE, dtype)


def poisoned(*shape: int, dtype: Dtype = torch.float32) -> torch.Tensor:
    return torch.full(shape, float("nan"), dtype=dtype, device=DEVICE)


def plain(t: torch.Tensor) -> NDArray[np.float64]:
    return np.asarray(t.double().cpu().numpy())


def judged(operator: str, got: torch.Tensor, want: NDArray[np.float64], dtype: Dtype) -> Result:
    name = str(dtype).removeprefix("torch.")
    return tolerance.error(plain(got), want), tolerance.allowed(operator, name)


def rvq_encode() -> Result:
    books, x = floats(3, 40, 20), floats(5, 20)
    x[2, 3] = float("nan")
    codes = torch.full((3, 5), -7, dtype=torch.int32, device=DEVICE)
    rvq.encode(x, books, rvq.half_norms(books), codes)
    want = rvq_reference.encode(x.cpu().numpy(), books.cpu().numpy())
    return float((codes.cpu().numpy() != want).sum()), 0.0


def rvq_ties() -> Result:
    books = floats(2, 80, 16).round()
    books[:, 40:] = books[:, :40]  # in another run of rows than the first time
    x = floats(4, 16).round()
    codes = torch.full((2, 4), -7, dtype=torch.int32, device=DEVICE)
    rvq.encode(x, books, rvq.half_norms(books), codes)
    want = rvq_reference.encode(x.cpu().numpy(), books.cpu().numpy())
    return float((codes.cpu().numpy() != want).sum()), 0.0


def rvq_decode() -> Result:
    books = floats(3, 20, 24)
    codes = torch.randint(-1, 20, (3, 9), dtype=torch.int32, device=DEVICE)
    out = poisoned(9, 24)
    rvq.decode(codes, books, out)
    want = rvq_reference.decode(codes.cpu().numpy(), books.cpu().numpy()).astype(np.float64)
    return tolerance.error(plain(out), want), 2 * tolerance.allowed("rvq.decode", "float32")


def kmeans_assign() -> Result:
    c, x = floats(150, 40), floats(18, 40)
    out = torch.full((18,), -7, dtype=torch.int64, device=DEVICE)
    kmeans.assign(x, c, rvq.half_norms(c), out)
    want = kmeans_reference.assign(x.cpu().numpy(), c.cpu().numpy())
    return float((out.cpu().numpy() != want).sum()), 0.0


def conv_step(dtype: Dtype, stride: int, dilation: int) -> Result:
    C, M, k, B = 20, 33, 3, 2
    history = (k - 1) * dilation + 1 - stride
    weight, bias = floats(M, C, k, dtype=dtype), floats(M, dtype=dtype)
    x = floats(B, 8 * stride, C, dtype=dtype)
    turned = weight.permute(2, 1, 0).contiguous()
    ring = torch.zeros(B, history, C, dtype=dtype, device=DEVICE)
    position = torch.zeros(B, dtype=torch.int64, device=DEVICE)
    parts, at = [], 0
    for n in (stride, 5 * stride, 2 * stride):
        out = poisoned(B, n // stride, M, dtype=dtype)
        conv.step(
            x[:, at : at + n].contiguous(), ring, position, turned, bias, out, stride, dilation
        )
        parts.append(out)
        at += n
    want = conv_reference.causal(
        plain(x), plain(weight), plain(bias), stride=stride, dilation=dilation
    )
    return judged("conv", torch.cat(parts, 1), want, dtype)


def attention_step(dtype: Dtype, base: float | None, T: int) -> Result:
    B, H, KV, W, window, steps = 2, 4, 2, 12, 5, 4
    q = floats(B, T * steps, H, W, dtype=dtype)
    k, v = (floats(B, T * steps, KV, W, dtype=dtype) for _ in range(2))
    keys, values = (
        torch.zeros(B, KV, window + T - 1, W, dtype=dtype, device=DEVICE) for _ in range(2)
    )
    start = 2**31 - 3
    position = torch.full((B,), start, dtype=torch.int64, device=DEVICE)
    turns = None if base is None else attention.rates(W, base, DEVICE)
    # A late start sees zeros behind it, so both sides see a window of zeros first.
    pad = torch.zeros(B, window, KV, W, dtype=dtype, device=DEVICE)
    parts = []
    for i in range(steps):
        run = slice(i * T, (i + 1) * T)
        out = poisoned(B, T, H, W, dtype=dtype)
        attention.step(
            *(a[:, run].contiguous() for a in (q, k, v)), keys, values, position, window, out, turns
        )
        parts.append(out)
    want = attention_reference.windowed(
        np.concatenate([np.zeros((B, window, H, W)), plain(q)], 1),
        np.concatenate([plain(pad), plain(k)], 1),
        np.concatenate([plain(pad), plain(v)], 1),
        window, base=base, start=start - window,
    )  # fmt: skip
    return judged("attention", torch.cat(parts, 1), want[:, window:], dtype)


def gru_cell(dtype: Dtype) -> Result:
    B, inputs, H = 3, 10, 20
    w = floats(3 * H, inputs, dtype=dtype), floats(3 * H, H, dtype=dtype)
    b = floats(3 * H, dtype=dtype), floats(3 * H, dtype=dtype)
    x, h, out = (
        floats(B, inputs, dtype=dtype),
        floats(B, H, dtype=dtype),
        poisoned(B, H, dtype=dtype),
    )
    gru.cell(x, h, w[0].T.contiguous(), w[1].T.contiguous(), *b, out)
    _, want = gru_reference.gru(plain(x)[:, None], plain(h), *map(plain, w), *map(plain, b))
    return judged("gru", out, want, dtype)


def snake_step(dtype: Dtype) -> Result:
    x = (floats(3, 7) * 20).to(dtype)
    alpha = torch.rand(7, device=DEVICE).to(dtype) + 0.1
    inverse = (1.0 / (alpha.float() + 1e-9)).to(dtype)
    out = poisoned(3, 7, dtype=dtype)
    snake.snake(x, alpha, inverse, out)
    want = plain(x) + plain(inverse) * np.sin(plain(alpha) * plain(x)) ** 2
    if dtype == torch.float32:
        want = snake_reference.snake(x.cpu().numpy(), alpha.cpu().numpy())
    return judged("snake", out, want, dtype)


def log_mel(power: int) -> Result:
    frames, window = RNG.standard_normal((3, 64)), np.hanning(64)
    dense = mel_reference.filters(16000, 64, 10, 50.0, 8000.0)
    spectrum = np.fft.rfft(frames * window).astype(np.complex64)
    real = torch.view_as_real(torch.from_numpy(spectrum)).contiguous().to(DEVICE)
    out = poisoned(3, 10)
    filters = torch.from_numpy(dense.T.astype(np.float32)).contiguous().to(DEVICE)
    logmel.log_mel(real, filters, out, power=power, offset=0.0, floor=1e-6, log_scale=1.0)
    want = mel_reference.log_mel(
        frames, window, dense, power=power, offset=0.0, floor=1e-6, decimal=False
    )
    return judged("logmel", out, want, torch.float32)


def sampler_run(solver: sampler.Solver, dtype: Dtype) -> Result:
    """A whole run, buffers changing places between calls."""
    half = np.linspace(-1.0, 2.0, 5)
    alpha = 1.0 / np.sqrt(1.0 + np.exp(-2.0 * half))
    plan = sampler.plan(solver, sampler.Schedule(half, alpha, np.sqrt(1.0 - alpha**2)))
    weights = torch.from_numpy(plan.weights).to(DEVICE)
    call = torch.zeros(1, dtype=torch.int32, device=DEVICE)
    guidance = torch.full((1,), 2.5, device=DEVICE)
    x = floats(37, dtype=dtype)
    want, (h1, h2, last, kept, aside) = plain(x), (torch.zeros(37, device=DEVICE) for _ in range(5))
    w1 = w2 = wl = np.zeros(37)
    for i in range(plan.calls):
        m, u, following = (
            floats(37, dtype=dtype),
            floats(37, dtype=dtype),
            poisoned(37, dtype=dtype),
        )
        sampler_triton.step(
            x,
            m,
            h1,
            h2,
            last,
            weights,
            call,
            following,
            kept,
            aside,
            unconditional=u,
            guidance=guidance,
        )
        mixed = plain(u) + 2.5 * (plain(m) - plain(u))
        columns = (want, mixed, w1, w2, wl)
        rows = [
            sum(float(w) * c for w, c in zip(row, columns, strict=False)) for row in plan.weights[i]
        ]
        want, w1, w2, wl = np.asarray(rows[0]), np.asarray(rows[1]), w1, np.asarray(rows[2])
        h1, h2, kept = kept, h1, h2
        last, aside = aside, last
        call += 1
        x = following
    error, allowed = judged("sampler", x, want, dtype)
    return error, allowed * plan.calls


def cases() -> Iterator[tuple[str, Callable[[], Result]]]:
    f32, f16 = torch.float32, torch.float16
    yield "rvq.encode", rvq_encode
    yield "rvq.ties", rvq_ties
    yield "rvq.decode", rvq_decode
    yield "kmeans.assign", kmeans_assign
    yield "conv.f32", lambda: conv_step(f32, 1, 2)
    yield "conv.f32.strided", lambda: conv_step(f32, 2, 1)
    yield "conv.f16", lambda: conv_step(f16, 1, 1)
    yield "attention.f32", lambda: attention_step(f32, None, 1)
    yield "attention.f32.rotary", lambda: attention_step(f32, 100.0, 3)
    yield "attention.f16.rotary", lambda: attention_step(f16, 100.0, 2)
    yield "gru.f32", lambda: gru_cell(f32)
    yield "gru.f16", lambda: gru_cell(f16)
    yield "snake.f32", lambda: snake_step(f32)
    yield "snake.f16", lambda: snake_step(f16)
    yield "logmel.power1", lambda: log_mel(1)
    yield "logmel.power2", lambda: log_mel(2)
    yield "sampler.unipc.f32", lambda: sampler_run("unipc", f32)
    yield "sampler.heun.f32", lambda: sampler_run("heun", f32)
    yield "sampler.dpmpp_2m.f16", lambda: sampler_run("dpmpp_2m", f16)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name, case in cases():
        error, allowed = case()
        print(json.dumps({"case": name, "error": error, "allowed": allowed}), flush=True)
