"""What holds for every operator: bad arrays are named, outputs are filled, the lock is let go."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ossicle.kernels import attention, conv, gru, kmeans, logmel, paths, rvq, sampler, snake
from ossicle.kernels.errors import KernelError

F32 = NDArray[np.float32]
Run = Callable[[F32, Any], object]  # (input, out)
RNG = np.random.default_rng(7)


def floats(*shape: int) -> F32:
    return RNG.standard_normal(shape).astype(np.float32)


def operators(large: int = 1) -> dict[str, tuple[Run, F32, Any]]:
    """A call, an input and an output that fit it, by operator; ``large`` makes a call take long."""
    books, weight, gates = floats(3, 70, 20), floats(6, 20, 3), floats(15, 20)
    packed, rows = rvq.pack(books), kmeans.pack(floats(90, 20))
    filters = conv.pack(weight)
    cell = gru.pack(gates, floats(15, 5), floats(15), floats(15))
    mel = logmel.filters(16_000, np.hanning(64).astype(np.float32), 8)
    T = 9 * large

    def rotate(x: F32, out: Any) -> object:
        state = attention.fresh(5, 2, 8, batch=2, tokens=T)
        return attention.step(x, x, x, state, 5, rotary_base=100.0, out=out)

    def mix(x: F32, out: Any) -> object:
        run = sampler.plan("dpmpp_2m", sampler.variance_preserving(4))
        return sampler.step(run, sampler.fresh((T, 20)), x, x, out=out)

    memory = attention.remember(floats(2, 40, 2, 8), floats(2, 40, 2, 8))
    alpha = np.ones(20, np.float32)
    return {
        "rvq": (lambda x, o: rvq.encode(x, packed, out=o), floats(T, 20), codes(3, T)),
        "kmeans": (lambda x, o: kmeans.assign(x, rows, out=o), floats(T, 20), longs(T)),
        "conv": (
            lambda x, o: conv.step(filters, conv.fresh(filters, 2), x, out=o),
            floats(2, T, 20), empty(2, T, 6),
        ),
        "gru": (
            lambda x, o: gru.step(cell, gru.fresh(cell, 2), x, out=o),
            floats(2, T, 20), empty(2, T, 5),
        ),
        "attention": (rotate, floats(2, T, 2, 8), empty(2, T, 2, 8)),
        "cross": (
            lambda x, o: attention.cross(x, memory, out=o), floats(2, T, 2, 8), empty(2, T, 2, 8)
        ),
        "sampler": (mix, floats(T, 20), empty(T, 20)),
        "snake": (lambda x, o: snake.snake(x, alpha, out=o), floats(T, 20), empty(T, 20)),
        "logmel": (lambda x, o: logmel.log_mel(x, mel, out=o), floats(T, 64), empty(T, 8)),
    }  # fmt: skip


def empty(*shape: int) -> F32:
    return np.full(shape, np.nan, np.float32)


def codes(*shape: int) -> NDArray[np.int32]:
    return np.full(shape, -7, np.int32)


def longs(*shape: int) -> NDArray[np.int64]:
    return np.full(shape, -7, np.int64)


NAMES = list(operators())


@pytest.mark.usefixtures("variant")
@pytest.mark.parametrize("name", NAMES)
def test_every_output_is_written_and_is_the_callers(name: str) -> None:
    run, x, out = operators()[name]
    assert run(x, out) is out
    assert np.isfinite(out).all()
    if out.dtype != np.float32:
        assert (out != -7).all()


def spoiled(x: F32) -> Iterator[tuple[str, Any]]:
    yield "a list", x.tolist()
    yield "another dtype", x.astype(np.float64)
    yield "another byte order", x.astype(">f4")
    yield "every other column", np.repeat(x, 2, -1)[..., ::2]
    yield "Fortran order", np.asfortranarray(x)
    yield "one axis more", x[None]
    yield "one axis fewer", x[0]
    yield "no rows", x[..., :0]
    yield "an empty batch", x[:0]
    yield "one column more", np.concatenate([x, x[..., :1]], -1)


FREE = {("snake", "one axis more"), ("snake", "one axis fewer")}  # any leading axes will do


@pytest.mark.usefixtures("variant")
@pytest.mark.parametrize("name", NAMES)
def test_inputs_that_do_not_fit_are_named_and_change_nothing(name: str) -> None:
    run, x, out = operators()[name]
    for what, bad in spoiled(x):
        for given in (out, None):
            if (name, what) in FREE and given is None:
                continue
            with pytest.raises(KernelError) as caught:
                run(bad, given)
            assert str(caught.value), what
    assert (np.isnan(out) if out.dtype == np.float32 else out == -7).all()


@pytest.mark.usefixtures("variant")
@pytest.mark.parametrize("name", NAMES)
def test_outputs_that_do_not_fit_are_named(name: str) -> None:
    run, x, out = operators()[name]
    sealed = out.copy()
    sealed.flags.writeable = False
    strided = np.repeat(out, 2, -1)[..., ::2]
    for bad in (out[:-1].copy(), out.astype(np.float16), strided, sealed, out[None], "no array"):
        with pytest.raises(KernelError, match="out"):
            run(x, bad)


@pytest.mark.usefixtures("variant")
@pytest.mark.parametrize("name", NAMES)
def test_zeros_give_finite_numbers(name: str) -> None:
    run, x, out = operators()[name]
    run(np.zeros_like(x), out)
    assert np.isfinite(out).all()


@pytest.mark.skipif(paths.core() is None, reason="the compiled part is not installed")
@pytest.mark.parametrize("name", [n for n in NAMES if n != "logmel"])  # its transform is NumPy's
def test_the_lock_is_let_go(name: str) -> None:
    """Another thread wakes during the call: with switches off it can only do so if let.

    The call is repeated, since the system may take longer to wake a thread than a call lasts.
    """
    run, x, out = operators(large=2000)[name]
    inside, seen, stop = [False], [False], threading.Event()
    go = threading.Semaphore(0)

    def watch() -> None:
        while not stop.is_set():
            go.acquire()
            seen[0] |= inside[0]

    before = sys.getswitchinterval()
    thread = threading.Thread(target=watch)
    thread.start()
    with paths.use("core"):
        run(x, out)
        sys.setswitchinterval(1000.0)
        try:
            for _ in range(200):
                inside[0] = True
                go.release()
                run(x, out)
                inside[0] = False
                if seen[0]:
                    break
        finally:
            sys.setswitchinterval(before)
            stop.set()
            go.release()
            thread.join()
    assert seen[0]
