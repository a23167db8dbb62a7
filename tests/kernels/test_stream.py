"""Bits, frames and rings."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ossicle.kernels import bits, framing, paths, ring
from ossicle.kernels.errors import MissingError, RangeError, ShapeError

pytestmark = pytest.mark.usefixtures("variant")


@settings(max_examples=40, deadline=None)
@given(width=st.integers(1, 32), count=st.integers(0, 70), seed=st.integers(0, 2**32 - 1))
def test_bits_come_back(width: int, count: int, seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 2**width, count, np.uint32)
    data = bits.pack(values, width)
    text = "".join(format(v, f"0{width}b") for v in values.tolist())
    assert len(data) == (count * width + 7) // 8
    assert "".join(format(b, "08b") for b in data) == text.ljust(len(data) * 8, "0")
    assert (bits.unpack(data, count, width) == values).all()


def test_bad_bits_are_named() -> None:
    with pytest.raises(RangeError, match="values hold 16; 4 bits hold 0 to 15"):
        bits.pack(np.array([3, 16], np.uint32), 4)
    with pytest.raises(RangeError, match="width is 33"):
        bits.pack(np.zeros(1, np.uint32), 33)
    with pytest.raises(
        RangeError, match=r"count is 3; it must be 0 to 2 \(all that 2 bytes hold\)"
    ):
        bits.unpack(b"ab", 3, 8)
    with pytest.raises(ShapeError, match="data are 2 bytes; 1 values of 8 bits are 1"):
        bits.unpack(b"ab", 1, 8)
    with pytest.raises(RangeError, match="after the last value"):
        bits.unpack(b"\x01", 1, 4)


@settings(max_examples=40, deadline=None)
@given(
    hop=st.integers(1, 9), context=st.integers(0, 20), channels=st.integers(1, 3),
    cuts=st.lists(st.integers(1, 5), min_size=1, max_size=5), seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_frames_hold_the_samples_before_them(
    hop: int, context: int, channels: int, cuts: list[int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((channels, sum(cuts) * hop)).astype(np.float32)
    past = rng.standard_normal((channels, context)).astype(np.float32)
    whole = np.concatenate([past, x], 1)
    history, at = past.copy(), 0
    for n in cuts:
        out = np.full((n, channels, context + hop), np.nan, np.float32)
        framing.frame(history, np.ascontiguousarray(x[:, at : at + n * hop]), hop, out=out)
        for i in range(n):
            assert (out[i] == whole[:, at + i * hop : at + (i + 1) * hop + context]).all()
        at += n * hop
    assert (history == whole[:, at:]).all()


@settings(max_examples=40, deadline=None)
@given(
    hop=st.integers(1, 8), more=st.integers(0, 20), channels=st.integers(1, 2),
    cuts=st.lists(st.integers(1, 5), min_size=1, max_size=5), seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_overlap_add(hop: int, more: int, channels: int, cuts: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    hops = sum(cuts)
    frames = rng.integers(-9, 9, (hops, channels, hop + more)).astype(np.float32)  # sums are exact
    want = np.zeros((channels, hops * hop + more), np.float32)
    for i in range(hops):
        want[:, i * hop : (i + 1) * hop + more] += frames[i]
    tail, at = np.zeros((channels, more), np.float32), 0
    for n in cuts:
        out = np.full((channels, n * hop), np.nan, np.float32)
        framing.overlap_add(tail, np.ascontiguousarray(frames[at : at + n]), hop, out=out)
        assert (out == want[:, at * hop : (at + n) * hop]).all()
        at += n
    assert (tail == want[:, hops * hop :]).all()


def test_bad_frames_are_named() -> None:
    x = np.zeros((1, 10), np.float32)
    with pytest.raises(ShapeError, match="T = 10 samples; it must be whole hops of 4"):
        framing.frame(np.zeros((1, 3), np.float32), x, 4)
    with pytest.raises(ShapeError, match="tail has shape"):
        framing.overlap_add(np.zeros((1, 3), np.float32), np.zeros((2, 1, 8), np.float32), 4)


def test_a_full_ring_refuses_and_counts() -> None:
    r = ring.ring(5, 2)
    assert r.capacity == 8
    x = np.arange(22, dtype=np.float32).reshape(11, 2)
    assert r.push(x) == 8
    assert (len(r), r.dropped) == (8, 3)
    out = np.full((3, 2), np.nan, np.float32)
    assert r.pop(out) == 3
    assert (out == x[:3]).all()
    assert r.push(x[:2].copy()) == 2
    rest = np.full((9, 2), np.nan, np.float32)
    assert r.pop(rest) == 7
    assert (rest[:7] == np.concatenate([x[3:8], x[:2]])).all()
    assert np.isnan(rest[7:]).all()
    with pytest.raises(RangeError, match="samples is 0"):
        ring.ring(0, 1)


def test_two_threads_lose_and_reorder_nothing() -> None:
    r, total = ring.ring(64, 1), 3000
    got: list[float] = []

    def produce() -> None:
        x, at = np.arange(total, dtype=np.float32)[:, None], 0
        while at < total:
            free = r.capacity - len(r)
            if free:
                at += r.push(x[at : at + min(17, free)].copy())

    thread = threading.Thread(target=produce)
    thread.start()
    out = np.empty((13, 1), np.float32)
    while len(got) < total:
        got.extend(out[: r.pop(out), 0].tolist())
    thread.join()
    assert got == list(range(total))
    assert r.dropped == 0


def test_a_path_that_is_not_installed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "installed", lambda: ("numpy",))
    with pytest.raises(MissingError, match="kernel path 'core' cannot run here"):
        ring.ring(4, 1, path="core")
