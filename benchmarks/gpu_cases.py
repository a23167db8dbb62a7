"""What is timed on a GPU: Triton kernels at the sizes of streaming audio, and their eager forms."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from ossicle.kernels.attention import triton as attention
from ossicle.kernels.conv import triton as conv
from ossicle.kernels.gru import triton as gru
from ossicle.kernels.kmeans import triton as kmeans
from ossicle.kernels.logmel import triton as logmel
from ossicle.kernels.rvq import triton as rvq
from ossicle.kernels.sampler import triton as sampler
from ossicle.kernels.snake import triton as snake

Action = Callable[[], Any]


@dataclass(slots=True)
class Case:
    """An operator at one size: ours, the eager form, how to compare them, and what they move."""

    kernel: str
    size: str
    ours: Action
    eager: Action  # returns what ours wrote
    result: Action  # what ours wrote
    bytes_moved: int
    flops: int
    exact: bool = False  # codes: equal but for near ties
    recorded: bool = False  # ours is a CUDA graph as it is


def normal(device: str, *shape: int) -> torch.Tensor:
    return torch.randn(shape, device=device)


def rvq_case(device: str, K: int, N: int, D: int, T: int) -> Case:
    books, x = normal(device, K, N, D), normal(device, T, D)
    half = rvq.half_norms(books)
    codes = torch.empty(K, T, dtype=torch.int32, device=device)

    def eager() -> torch.Tensor:
        found, r = [], x
        for book, h in zip(books, half, strict=True):
            code = (h - r @ book.T).argmin(-1)
            found.append(code)
            r = r - book[code]
        return torch.stack(found).int()

    return Case(
        "rvq.encode", f"{K} x {N} x {D}, {T} vectors", lambda: rvq.encode(x, books, half, codes),
        eager,        lambda: codes, 4 * K * N * D, 2 * K * N * D * T, exact=True,
    )  # fmt: skip


def kmeans_case(device: str, N: int, D: int, T: int) -> Case:
    c, x = normal(device, N, D), normal(device, T, D)
    half = rvq.half_norms(c)
    out = torch.empty(T, dtype=torch.int64, device=device)
    return Case(
        "kmeans.assign", f"{N} x {D}, {T} rows", lambda: kmeans.assign(x, c, half, out),
        lambda: (half - x @ c.T).argmin(-1), lambda: out, 4 * N * D, 2 * N * D * T, exact=True,
    )  # fmt: skip


def conv_case(device: str, C: int, taps: int, B: int, T: int) -> Case:
    weight, bias = normal(device, C, C, taps) / (C * taps) ** 0.5, normal(device, C)
    x = normal(device, B, T, C)
    turned = weight.permute(2, 1, 0).contiguous()
    ring = torch.zeros(B, taps - 1, C, device=device)
    position = torch.zeros(B, dtype=torch.int64, device=device)
    out = torch.empty(B, T, C, device=device)
    past = torch.zeros(B, C, taps - 1, device=device)

    def ours() -> None:
        ring.zero_()
        conv.step(x, ring, position, turned, bias, out)

    def eager() -> torch.Tensor:
        padded = torch.cat([past, x.transpose(1, 2)], 2)
        return torch.nn.functional.conv1d(padded, weight, bias).transpose(1, 2)

    return Case(
        "conv.step", f"{C} -> {C}, k {taps}, {B} streams x {T}", ours, eager, lambda: out,
        4 * C * C * taps, 2 * C * C * taps * B * T,
    )  # fmt: skip


def attention_case(device: str, B: int, H: int, W: int, window: int) -> Case:
    q, k, v = (normal(device, B, 1, H, W) for _ in range(3))
    keys, values = (normal(device, B, H, window, W) for _ in range(2))
    position = torch.full((B,), 10 * window, dtype=torch.int64, device=device)
    out = torch.empty(B, 1, H, W, device=device)

    def ours() -> None:
        attention.step(q, k, v, keys, values, position, window, out)
        position.fill_(10 * window)  # slot 0, so that both sides see the same ring

    def eager() -> torch.Tensor:
        keys[:, :, 0], values[:, :, 0] = k[:, 0], v[:, 0]
        return torch.nn.functional.scaled_dot_product_attention(
            q.transpose(1, 2), keys, values
        ).transpose(1, 2)

    return Case(
        "attention.step", f"{B} streams, {H} x {W}, window {window}", ours, eager, lambda: out,
        8 * B * H * W * window, 4 * B * H * W * window,
    )  # fmt: skip


def gru_case(device: str, B: int, H: int) -> Case:
    w_ih, w_hh = (normal(device, 3 * H, H) / H**0.5 for _ in range(2))
    b_ih, b_hh = (normal(device, 3 * H) for _ in range(2))
    x, h, out = normal(device, B, H), normal(device, B, H), torch.empty(B, H, device=device)
    turned = w_ih.T.contiguous(), w_hh.T.contiguous()
    return Case(
        "gru.cell", f"{B} streams, width {H}", lambda: gru.cell(x, h, *turned, b_ih, b_hh, out),
        lambda: torch.gru_cell(x, h, w_ih, w_hh, b_ih, b_hh), lambda: out,
        24 * H * H, 12 * B * H * H,
    )  # fmt: skip


def snake_case(device: str, rows: int, C: int) -> Case:
    x, alpha = normal(device, rows, C), torch.rand(C, device=device) + 0.5
    inverse, out = 1.0 / (alpha + 1e-9), torch.empty(rows, C, device=device)
    return Case(
        "snake", f"{rows} x {C}", lambda: snake.snake(x, alpha, inverse, out),
        lambda: x + inverse * torch.sin(alpha * x) ** 2, lambda: out, 8 * rows * C, 20 * rows * C,
    )  # fmt: skip


def mel_case(device: str, T: int, F: int, M: int) -> Case:
    spectrum, filters = normal(device, T, F, 2), torch.rand(F, M, device=device)
    out = torch.empty(T, M, device=device)

    def ours() -> None:
        logmel.log_mel(spectrum, filters, out, power=2, offset=0.0, floor=1e-8, log_scale=1.0)

    return Case(
        "logmel", f"{T} x {F} -> {M}", ours,
        lambda: torch.log(torch.clamp(spectrum.square().sum(-1) @ filters, min=1e-8)), lambda: out,
        4 * (2 * T * F + F * M), 2 * T * F * M,
    )  # fmt: skip


def sampler_case(device: str, n: int) -> Case:
    x, m, u, h1, h2, last = (normal(device, n) for _ in range(6))
    weights = torch.rand(1, 3, 6, device=device)
    call = torch.zeros(1, dtype=torch.int32, device=device)
    guidance = torch.full((1,), 3.0, device=device)
    following, kept, aside = (torch.empty(n, device=device) for _ in range(3))
    w = weights[0].tolist()

    def eager() -> torch.Tensor:
        mixed = u + 3.0 * (m - u)
        rows = [r[0] * x + r[1] * mixed + r[2] * h1 + r[3] * h2 + r[4] * last for r in w]
        return torch.stack(rows)

    def ours() -> None:
        sampler.step(
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

    return Case(
        "sampler.step", f"{n} elements, guided", ours, eager,
        lambda: torch.stack([following, kept, aside]), 36 * n, 33 * n,
    )  # fmt: skip


def cases(device: str, tiny: bool) -> Iterator[Case]:
    """Streaming sizes: what one step of one to 64 streams asks for."""
    if tiny:
        yield rvq_case(device, 2, 20, 16, 3)
        yield kmeans_case(device, 70, 20, 5)
        yield conv_case(device, 16, 3, 2, 2)
        yield attention_case(device, 2, 2, 8, 6)
        yield gru_case(device, 2, 8)
        yield snake_case(device, 3, 5)
        yield mel_case(device, 3, 17, 6)
        yield sampler_case(device, 40)
        return
    for T in (1, 4, 64):
        yield rvq_case(device, 8, 1024, 128, T)
    for T in (1, 8, 512):
        yield kmeans_case(device, 8192, 768, T)
    for B in (1, 16, 64):
        yield conv_case(device, 512, 3, B, 2)
        yield attention_case(device, B, 8, 64, 250)
        yield gru_case(device, B, 256)
    yield snake_case(device, 1920, 64)
    yield mel_case(device, 64, 257, 64)
    yield sampler_case(device, 32768)
