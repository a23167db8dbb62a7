"""How fast the CPU kernels are: each against its usual opponents, in one run, on one thread.

``python -m benchmarks.kernels [--json PLACE] [--quick]``

A time counts only if the kernel agrees with its fp64 reference in the same process (codes all
equal, numbers
within the table of ``ossicle.kernels.tolerance``). Kernel and opponents are timed in turn, round
after round;
the least CPU time per call of each is taken, so that what else runs on the machine falls out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.machine import RESULTS, describe, one_thread, save

one_thread()

import numpy as np  # noqa: E402 - after the thread counts are set
from numpy.typing import NDArray  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from ossicle.kernels import attention, conv, kmeans, paths, rvq, sampler  # noqa: E402
from ossicle.kernels.attention import reference as attention_reference  # noqa: E402
from ossicle.kernels.conv import reference as conv_reference  # noqa: E402
from ossicle.kernels.kmeans import reference as kmeans_reference  # noqa: E402
from ossicle.kernels.rvq import reference as rvq_reference  # noqa: E402
from ossicle.kernels.tolerance import close  # noqa: E402

Floats = NDArray[np.float32]
Action = Callable[[], object]


@dataclass(slots=True)
class Row:
    """One kernel at one size, its opponents, and whether it was right."""

    kernel: str
    size: str
    us: float  # per unit
    unit: str
    opponents: dict[str, float] = field(default_factory=dict)  # us per unit
    correct: bool = False
    bar: str = ""
    reached: bool | None = None


def least(actions: Mapping[str, Action], quick: bool) -> dict[str, float]:
    """Microseconds of CPU time a call of each, the least over rounds taken in turn."""
    counts = {}
    for name, action in actions.items():
        action()
        begin = time.perf_counter()
        action()
        action()
        counts[name] = max(1, int((0.002 if quick else 0.01) / ((time.perf_counter() - begin) / 2)))
    found = dict.fromkeys(actions, np.inf)
    for _ in range(3 if quick else 25):
        for name, action in actions.items():
            begin = time.thread_time_ns()
            for _ in range(counts[name]):
                action()
            found[name] = min(found[name], (time.thread_time_ns() - begin) / 1e3 / counts[name])
    return found


def floats(rng: np.random.Generator, *shape: int) -> Floats:
    return rng.standard_normal(shape).astype(np.float32)


def rvq_rows(rng: np.random.Generator, torch: Any, quick: bool) -> Iterator[Row]:
    bars = {1: 40.0, 4: 14.0, 64: 12.0}
    K, N, D = 8, 1024, 128
    books = (floats(rng, K, N, D) * (0.8 ** np.arange(K))[:, None, None]).astype(np.float32)
    packed = rvq.pack(books)
    for T, bar in bars.items():
        x = floats(rng, T, D)
        out = np.empty((K, T), np.int32)
        actions: dict[str, Action] = {"ours": lambda x=x, out=out: rvq.encode(x, packed, out=out)}
        if torch is not None:
            tx, tb = torch.from_numpy(x), torch.from_numpy(books)
            norms = (tb * tb).sum(-1)
            actions["torch cdist"] = lambda tx=tx, tb=tb: torch_cdist(torch, tx, tb)
            actions["torch addmm"] = lambda tx=tx, tb=tb, n=norms: torch_addmm(torch, tx, tb, n)
        for other in ("numba", "numpy"):
            if other in paths.installed():
                plain = rvq.pack(books, path=other)  # type: ignore[arg-type]
                actions[other] = lambda x=x, out=out, plain=plain: rvq.encode(x, plain, out=out)
        us = least(actions, quick)
        rvq.encode(x, packed, out=out)
        right = bool((out == rvq_reference.encode(x, books)).all())
        yield made("rvq encode", f"{K} x {N} x {D}, {T} vectors", us, T, "vector", right, bar)
    books, x = floats(rng, 46, 16, 64), floats(rng, 1, 64)
    packed, out = rvq.pack(books), np.empty((46, 1), np.int32)
    us = least({"ours": lambda: rvq.encode(x, packed, out=out)}, quick)
    right = bool((out == rvq_reference.encode(x, books)).all())
    yield made("rvq encode", "46 x 16 x 64 (Lyra), 1 vector", us, 1, "vector", right, 5.0)


def torch_cdist(torch: Any, x: Any, books: Any) -> Any:
    codes = []
    for book in books:
        code = torch.cdist(x[None], book[None])[0].argmin(-1)
        codes.append(code)
        x = x - book[code]
    return torch.stack(codes)


def torch_addmm(torch: Any, x: Any, books: Any, norms: Any) -> Any:
    codes = []
    for book, norm in zip(books, norms, strict=True):
        code = torch.addmm(norm, x, book.T, alpha=-2.0).argmin(-1)
        codes.append(code)
        x = x - book[code]
    return torch.stack(codes)


def kmeans_rows(rng: np.random.Generator, torch: Any, quick: bool) -> Iterator[Row]:
    N, D = 8192, 768
    centroids = floats(rng, N, D)
    packed = kmeans.pack(centroids)
    for T in (1, 8, 64) if quick else (1, 8, 512):
        x, out = floats(rng, T, D), np.empty(T, np.int64)
        actions: dict[str, Action] = {
            "ours": lambda x=x, out=out: kmeans.assign(x, packed, out=out)
        }
        if torch is not None:
            tx, tc = torch.from_numpy(x), torch.from_numpy(centroids)

            def usual(tx: Any = tx, tc: Any = tc) -> Any:
                """As commonly written: every norm anew at every call."""
                distance = (tx**2).sum(1, keepdim=True) - 2.0 * tx @ tc.T + (tc**2).sum(1)
                return distance.argmin(1)

            actions["torch as usual"] = usual
            actions["torch cdist"] = lambda tx=tx, tc=tc: torch.cdist(tx, tc).argmin(1)
        us = least(actions, quick)
        right = bool((out[:8] == kmeans_reference.assign(x[:8], centroids)).all())
        row = made("k-means assign", f"{N} x {D}, {T} rows", us, T, "row", right)
        if T == 8 and "torch as usual" in row.opponents:
            versus(row, "torch as usual", 10.0)
        yield row


def conv_rows(rng: np.random.Generator, torch: Any, quick: bool) -> Iterator[Row]:
    C, k = 512, 3
    weight = floats(rng, C, C, k) / np.float32(np.sqrt(C * k))
    bars = {2: 4.0, 8: 2.0}
    for T in (1, 2, 4, 8):
        x = np.clip(floats(rng, 1, T, C), -4, 4)
        whole = np.ascontiguousarray(np.pad(x, ((0, 0), (k - 1, 0), (0, 0))).transpose(0, 2, 1))
        others: dict[str, Action] = {}
        session = onnx_conv(weight, T + k - 1)
        if session is not None:
            others["onnxruntime"] = lambda s=session, w=whole: s.run(None, {"x": w})
        if torch is not None:
            tw, tx = torch.from_numpy(weight), torch.from_numpy(whole)
            others["torch"] = lambda tw=tw, tx=tx: torch.nn.functional.conv1d(tx, tw)
        out = np.empty((1, T, C), np.float32)
        runs: dict[str, Action] = {}
        right = {}
        want = conv_reference.causal(x, weight)
        for dtype in conv.KINDS:
            scale = 4.0 / 127 if dtype == "int8" else None
            packed = conv.pack(weight, dtype=dtype, input_scale=scale)  # type: ignore[arg-type]
            right[dtype] = close("conv", conv.step(packed, conv.fresh(packed), x), want, dtype)
            state = conv.fresh(packed)
            runs[dtype] = lambda p=packed, s=state, x=x, out=out: conv.step(p, s, x, out=out)
        us = least(runs | others, quick)
        for dtype in conv.KINDS:
            mine = {"ours": us[dtype]} | {name: us[name] for name in others}
            row = made(
                f"conv {dtype}", f"{C} -> {C}, k {k}, {T} frames", mine, 1, "step", right[dtype]
            )
            if T in bars and "onnxruntime" in row.opponents:
                versus(row, "onnxruntime", bars[T])
            yield row


def onnx_conv(weight: Floats, length: int) -> Any | None:
    """The same convolution as a session of one thread, or ``None`` without ONNX."""
    try:
        import onnx
        import onnxruntime
    except ImportError:
        return None
    helper, f32 = onnx.helper, onnx.TensorProto.FLOAT
    M, C, k = weight.shape
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        "conv",
        [helper.make_tensor_value_info("x", f32, [1, C, length])],
        [helper.make_tensor_value_info("y", f32, [1, M, length - k + 1])],
        [helper.make_tensor("w", f32, weight.shape, weight.tobytes(), raw=True)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def attention_rows(rng: np.random.Generator, torch: Any, quick: bool) -> Iterator[Row]:
    window, H, W, total = 250, 8, 64, 300
    q, k, v = (floats(rng, 1, total, H, W) for _ in range(3))
    state = attention.fresh(window, H, W)
    got = np.concatenate(
        [
            attention.step(
                *(np.ascontiguousarray(a[:, t : t + 1]) for a in (q, k, v)), state, window,
                           rotary_base=1e4)
            for t in range(total)
        ],
        1,
    )  # fmt: skip
    right = close("attention", got, attention_reference.windowed(q, k, v, window, base=1e4))
    one = [np.ascontiguousarray(a[:, :1]) for a in (q, k, v)]
    out = np.empty_like(one[0])
    actions: dict[str, Action] = {
        "ours": lambda: attention.step(*one, state, window, rotary_base=1e4, out=out)
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


def made(
    kernel: str, size: str, us: Mapping[str, float], per: int, unit: str, correct: bool,
    at_most: float | None = None,
) -> Row:  # fmt: skip
    """A row whose times are divided by ``per``, held to a bar in microseconds if there is one."""
    own = round(us["ours"] / per, 2)
    others = {name: round(v / per, 2) for name, v in us.items() if name != "ours"}
    row = Row(kernel, size, own, unit, others, correct)
    if at_most is not None:
        row.bar, row.reached = f"<= {at_most:g} us", correct and own <= at_most
    return row


def versus(row: Row, opponent: str, factor: float) -> None:
    """Holds a row to a multiple of an opponent's speed."""
    row.bar = f">= {factor:g} x {opponent}"
    row.reached = row.correct and row.opponents[opponent] >= factor * row.us


def run(json_path: str | Path | None = None, quick: bool = False) -> list[dict[str, Any]]:
    """All rows; with a path they are written there as JSON, and as a table beside it."""
    try:
        import torch
    except ImportError:
        torch = None  # type: ignore[assignment]
    if torch is not None:
        torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    rows: list[Row] = []
    for make in (rvq_rows, kmeans_rows, conv_rows, attention_rows, sampler_rows):
        with torch.inference_mode() if torch is not None else nullcontext():
            rows += make(rng, torch, quick)
    plain = [asdict(row) for row in rows]
    if json_path is not None:
        core = paths.core()
        place = save("kernels", {"isa": core.isa() if core else "none", "rows": plain}, json_path)
        place.with_suffix(".md").write_text(markdown(plain))
    return plain


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    others = ", ".join(
        f"{name} {us:g} ({us / row['us']:.1f} x)" for name, us in row["opponents"].items()
    )
    verdict = "" if row["reached"] is None else "reached" if row["reached"] else "missed"
    return (
        row["kernel"], row["size"], f"{row['us']:g} us a {row['unit']}", others,
        f"{row['bar']} {verdict}".strip(), "equal" if row["correct"] else "WRONG",
    )  # fmt: skip


HEAD = ("kernel", "size", "ours", "opponents (ours is faster by)", "bar", "check")


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table with the machine under it."""
    machine = describe()
    lines = ["| " + " | ".join(HEAD) + " |", "|" + " --- |" * len(HEAD)]
    lines += ["| " + " | ".join(cells(row)) + " |" for row in rows]
    core = paths.core()
    return "\n".join(lines) + (
        f"\n\n{machine['cpu']}, instruction set {core.isa() if core else 'none'}, one thread, "
        f"least CPU time a call, load average {machine['load_average']}; "
        f"commit {machine['commit']}; `{machine['command']}`\n"
    )


def main() -> int:
    """Print the table; fail if any kernel is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", default=str(RESULTS / "kernels.json"))
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    rows = run(options.json, options.quick)
    table = Table(*HEAD)
    for row in rows:
        table.add_row(*cells(row))
    Console(width=170).print(table)
    return 0 if all(row["correct"] for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
