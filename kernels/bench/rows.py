"""What is measured: each kernel at the sizes of streaming audio, checked against its reference."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from ossicle.kernels import attention, conv, kmeans, paths, rvq, sampler
from ossicle.kernels.attention import reference as attention_reference
from ossicle.kernels.bench.opponents import conv_session, torch_addmm, torch_cdist, torch_nearest
from ossicle.kernels.bench.timing import Action, Row, floats, least, made, versus
from ossicle.kernels.conv import reference as conv_reference
from ossicle.kernels.kmeans import reference as kmeans_reference
from ossicle.kernels.rvq import reference as rvq_reference
from ossicle.kernels.tolerance import close


def rvq_rows(rng: np.random.Generator, torch: Any, quick: bool) -> Iterator[Row]:
    """Search of residual books, against distances and products in torch."""
    bars = {1: 40.0, 4: 14.0, 64: 12.0}
    K, N, D = 8, 1024, 128
    books = (floats(rng, K, N, D) * (0.8 ** np.arange(K))[:, None, None]).astype(np.float32)
    packed = rvq.pack(books)
    for T, bar in bars.items():
        x = floats(rng, T, D)
        out = np.empty((K, T), np.int32)
        actions: dict[str, Action] = {"ours": partial(rvq.encode, x, packed, out=out)}
        if torch is not None:
            tx, tb = torch.from_numpy(x), torch.from_numpy(books)
            norms = (tb * tb).sum(-1)
            actions["torch cdist"] = partial(torch_cdist, torch, tx, tb)
            actions["torch addmm"] = partial(torch_addmm, torch, tx, tb, norms)
        for other in paths.installed():
            if other != "core":
                plain = rvq.pack(books, path=other)
                actions[other] = partial(rvq.encode, x, plain, out=out)
        us = least(actions, quick)
        rvq.encode(x, packed, out=out)
        right = bool((out == rvq_reference.encode(x, books)).all())
        yield made("rvq encode", f"{K} x {N} x {D}, {T} vectors", us, T, "vector", right, bar)
    books, x = floats(rng, 46, 16, 64), floats(rng, 1, 64)
    packed, out = rvq.pack(books), np.empty((46, 1), np.int32)
    us = least({"ours": lambda: rvq.encode(x, packed, out=out)}, quick)
    right = bool((out == rvq_reference.encode(x, books)).all())
    yield made("rvq encode", "46 x 16 x 64 (Lyra), 1 vector", us, 1, "vector", right, 5.0)


def kmeans_rows(rng: np.random.Generator, torch: Any, quick: bool) -> Iterator[Row]:
    """Search of one large book."""
    N, D = 8192, 768
    centroids = floats(rng, N, D)
    packed = kmeans.pack(centroids)
    for T in (1, 8, 64) if quick else (1, 8, 512):
        x, out = floats(rng, T, D), np.empty(T, np.int64)
        actions: dict[str, Action] = {"ours": partial(kmeans.assign, x, packed, out=out)}
        if torch is not None:
            tx, tc = torch.from_numpy(x), torch.from_numpy(centroids)

            def usual(tx: Any = tx, tc: Any = tc) -> Any:
                """As commonly written: every norm anew at every call."""
                distance = (tx**2).sum(1, keepdim=True) - 2.0 * tx @ tc.T + (tc**2).sum(1)
                return distance.argmin(1)

            actions["torch as usual"] = usual
            actions["torch cdist"] = partial(torch_nearest, torch, tx, tc)
        us = least(actions, quick)
        right = bool((out[:8] == kmeans_reference.assign(x[:8], centroids)).all())
        row = made("k-means assign", f"{N} x {D}, {T} rows", us, T, "row", right)
        if T == 8 and "torch as usual" in row.opponents:
            versus(row, "torch as usual", 10.0)
        yield row


def conv_rows(rng: np.random.Generator, torch: Any, quick: bool) -> Iterator[Row]:
    """A streaming convolution in each precision, against whole ones."""
    C, k = 512, 3
    weight = floats(rng, C, C, k) / np.float32(np.sqrt(C * k))
    bars = {2: 4.0, 8: 2.0}
    for T in (1, 2, 4, 8):
        x = np.clip(floats(rng, 1, T, C), -4, 4)
        whole = np.ascontiguousarray(np.pad(x, ((0, 0), (k - 1, 0), (0, 0))).transpose(0, 2, 1))
        others: dict[str, Action] = {}
        session = conv_session(weight, whole)
        if session is not None:
            others["onnxruntime"] = session
        if torch is not None:
            tw, tx = torch.from_numpy(weight), torch.from_numpy(whole)
            others["torch"] = partial(torch.nn.functional.conv1d, tx, tw)
        out = np.empty((1, T, C), np.float32)
        runs: dict[str, Action] = {}
        right = {}
        want = conv_reference.causal(x, weight)
        for dtype in conv.KINDS:
            scale = 4.0 / 127 if dtype == "int8" else None
            packed = conv.pack(weight, dtype=dtype, input_scale=scale)  # type: ignore[arg-type]
            right[dtype] = close("conv", conv.step(packed, conv.fresh(packed), x), want, dtype)
            state = conv.fresh(packed)
            runs[dtype] = partial(conv.step, packed, state, x, out=out)
        us = least(runs | others, quick)
        for dtype in conv.KINDS:
            mine = {"ours": us[dtype]} | {name: us[name] for name in others}
            row = made(
                f"conv {dtype}", f"{C} -> {C}, k {k}, {T} frames", mine, 1, "step", right[dtype]
            )
            if T in bars and "onnxruntime" in row.opponents:
                versus(row, "onnxruntime", bars[T])
            yield row


def cold_conv_row(rng: np.random.Generator, torch: Any, quick: bool) -> Iterator[Row]:
    """A convolution of two frames with a megabyte of something else read before each call.

    Called again and again it finds most of its weights in the second cache, since it passes over
    them to and fro; between other layers it finds fewer.
    """
    C, k, T = 512, 3, 2
    weight = floats(rng, C, C, k) / np.float32(np.sqrt(C * k))
    x, other = floats(rng, 1, T, C), np.ones(1 << 17)
    want, out = conv_reference.causal(x, weight), np.empty((1, T, C), np.float32)
    dtypes: tuple[conv.Dtype, ...] = ("float32", "fixed24")
    actions: dict[str, Action] = {"other": other.sum}
    right = {}
    for dtype in dtypes:
        packed = conv.pack(weight, dtype=dtype)
        right[dtype] = close("conv", conv.step(packed, conv.fresh(packed), x), want, dtype)
        step = partial(conv.step, packed, conv.fresh(packed), x, out=out)
        actions[dtype] = lambda step=step: (other.sum(), step())  # type: ignore[misc]
    session = conv_session(weight, np.ascontiguousarray(np.pad(x, ((0, 0), (2, 0), (0, 0))).mT))
    if session is not None:
        actions["onnxruntime"] = lambda: (other.sum(), session())
    us = least(actions, quick)
    size = f"{C} -> {C}, k {k}, {T} frames, 1 MB read between calls"
    for dtype in dtypes:
        alone = {"ours": us[dtype] - us["other"]}
        if session is not None:
            alone["onnxruntime"] = us["onnxruntime"] - us["other"]
        yield made(f"conv {dtype}", size, alone, 1, "step", right[dtype])


def attention_rows(rng: np.random.Generator, torch: Any, quick: bool) -> Iterator[Row]:
    """One token over a full ring, against the product alone in torch."""
    window, H, W, total = 250, 8, 64, 300
    q, k, v = (floats(rng, 1, total, H, W) for _ in range(3))
    state = attention.fresh(window, H, W)
    ones = [[np.ascontiguousarray(a[:, t : t + 1]) for a in (q, k, v)] for t in range(total)]
    steps = [attention.step(a, b, c, state, window, rotary_base=1e4) for a, b, c in ones]
    got = np.concatenate(steps, 1)
    right = close("attention", got, attention_reference.windowed(q, k, v, window, base=1e4))
    a, b, c = ones[0]
    out = np.empty_like(a)
    actions: dict[str, Action] = {
        "ours": lambda: attention.step(a, b, c, state, window, rotary_base=1e4, out=out)
    }
    if torch is not None:
        tq = torch.from_numpy(q[:, :1].copy()).transpose(1, 2)
        tk, tv = (
            torch.from_numpy(a[:, :window].copy()).transpose(1, 2).contiguous() for a in (k, v)
        )
        actions["torch SDPA alone"] = lambda: torch.nn.functional.scaled_dot_product_attention(
            tq, tk, tv
        )
    us = least(actions, quick)
    yield made(
        "attention step",
        f"{H} x {W}, window {window}, rotary, 1 token",
        us,
        1,
        "token",
        right,
        16.0,
    )


def sampler_rows(rng: np.random.Generator, torch: Any, quick: bool) -> Iterator[Row]:
    """One fused step, against eager torch."""
    n = 32768
    plan = sampler.plan("dpmpp_2m", sampler.variance_preserving(50_000))
    x, m, out = floats(rng, n), floats(rng, n), np.empty(n, np.float32)
    state = sampler.fresh((n,))
    first = sampler.step(plan, state, x, m)
    kept = state.h1.copy()
    second = sampler.step(plan, state, x, m, out=out)
    w = plan.weights[:2].astype(np.float64)
    right = close("sampler", first, w[0, 0, 0] * x + w[0, 0, 1] * m)
    right &= close("sampler", second, w[1, 0, 0] * x + w[1, 0, 1] * m + w[1, 0, 2] * kept)
    actions: dict[str, Action] = {"ours": lambda: sampler.step(plan, state, x, m, out=out)}
    if torch is not None:
        tx, tm, th = (torch.from_numpy(a.copy()) for a in (x, m, kept))
        a, b, c, d, e = (float(v) for v in (*w[1, 0, :3], *w[1, 1, :2]))
        actions["torch eager"] = lambda: (a * tx + b * tm + c * th, d * tx + e * tm)
    us = least(actions, quick)
    yield made("sampler step", f"DPM-Solver++(2M), {n} elements", us, 1, "step", right)
