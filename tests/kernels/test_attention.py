from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ossicle.kernels import attention
from ossicle.kernels.attention import reference
from ossicle.kernels.errors import DtypeError, RangeError, ShapeError
from ossicle.kernels.tolerance import close

pytestmark = pytest.mark.usefixtures("variant")
Floats = NDArray[np.float32]


def floats(rng: np.random.Generator, *shape: int) -> Floats:
    return rng.standard_normal(shape).astype(np.float32)


def three(rng: np.random.Generator, *shape: int) -> tuple[Floats, Floats, Floats]:
    return floats(rng, *shape), floats(rng, *shape), floats(rng, *shape)


def run(
    qkv: tuple[Floats, Floats, Floats], window: int, cuts: list[int],
    state: attention.AttentionState,    base: float | None = None, interleaved: bool = False,
) -> Floats:  # fmt: skip
    parts, at = [], 0
    for n in cuts:
        q, k, v = (np.ascontiguousarray(a[:, at : at + n]) for a in qkv)
        out = np.full(q.shape, np.nan, np.float32)
        attention.step(q, k, v, state, window, rotary_base=base, interleaved=interleaved, out=out)
        parts.append(out)
        at += n
    return np.concatenate(parts, 1)


@pytest.mark.parametrize(
    ("H", "KV", "W"), [(2, 2, 64), (4, 1, 16), (3, 3, 10), (2, 1, 32), (1, 1, 128), (4, 2, 8)]
)
@pytest.mark.parametrize("base", [None, 10000.0])
def test_a_stream_equals_the_whole_sequence(
    H: int, KV: int, W: int, base: float | None, rng: np.random.Generator
) -> None:
    T, window = 45, 21
    qkv = floats(rng, 2, T, H, W), floats(rng, 2, T, KV, W), floats(rng, 2, T, KV, W)
    state = attention.fresh(window, KV, W, batch=2, tokens=9)
    got = run(qkv, window, [1, 9, 4, 1, 1, 9, 9, 9, 2], state, base)
    assert close("attention", got, reference.windowed(*qkv, window, base=base))


@pytest.mark.parametrize("T", [*range(1, 9)])
def test_every_chunk_size_from_one_to_past_the_window(T: int, rng: np.random.Generator) -> None:
    window, total = 5, 8 * T
    qkv = three(rng, 1, total, 2, 16)
    state = attention.fresh(window, 2, 16, tokens=T)
    got = run(qkv, window, [T] * 8, state)
    assert close("attention", got, reference.windowed(*qkv, window))


def test_more_than_one_chunk_of_keys(rng: np.random.Generator) -> None:
    """700 keys cross the inner chunk of 256, and the ring wraps."""
    window, total = 700, 900
    q, k, v = (floats(rng, 1, total, 1, 16) for _ in range(3))
    state = attention.fresh(window, 1, 16, tokens=100)
    got = run((q * 4, k, v), window, [100] * 9, state, 500.0)
    assert close("attention", got, reference.windowed(q * 4, k, v, window, base=500.0))


@settings(max_examples=20, deadline=None)
@given(
    cuts=st.lists(st.integers(1, 8), min_size=1, max_size=8), window=st.integers(1, 40),
    seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_output_does_not_depend_on_the_cut(cuts: list[int], window: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    qkv = tuple(floats(rng, 1, sum(cuts), 2, 16) for _ in range(3))
    a, b = (attention.fresh(window, 2, 16, tokens=8) for _ in range(2))
    one = run(qkv, window, cuts, a, 100.0)
    two = run(qkv, window, [1] * sum(cuts), b, 100.0)
    assert (one == two).all()


def test_each_stream_has_its_own_position(rng: np.random.Generator) -> None:
    window, W = 6, 16
    state = attention.fresh(window, 1, W, batch=2)
    q, k, v = (floats(rng, 2, 12, 1, W) for _ in range(3))
    seen = [0, 0]
    parts: list[list[Floats]] = [[], []]
    for step in range(18):
        active = np.array([step < 12, step % 2 == 0 and seen[1] < 12])
        pick = [np.stack([a[b, min(seen[b], 11)] for b in range(2)])[:, None] for a in (q, k, v)]
        before = state.position.copy()
        out = attention.step(
            pick[0], pick[1], pick[2], state, window, rotary_base=50.0, active=active
        )
        assert (state.position - before == active).all()
        assert (out[~active] == 0).all()
        for b in np.flatnonzero(active).tolist():
            parts[b].append(out[b])
            seen[b] += 1
    for b in range(2):
        n = seen[b]
        want = reference.windowed(
            q[b : b + 1, :n], k[b : b + 1, :n], v[b : b + 1, :n], window, base=50.0
        )
        assert close("attention", np.concatenate(parts[b])[None], want)


def test_late_positions_keep_their_angles(rng: np.random.Generator) -> None:
    start, window = 2**31 - 7, 9
    qkv = three(rng, 1, 14, 1, 8)
    state = attention.fresh(window, 1, 8)
    state.position[:] = start
    got = run(qkv, window, [1] * 14, state, 10000.0)[:, window:]
    assert close(
        "attention", got, reference.windowed(*qkv, window, base=10000.0, start=start)[:, window:]
    )


@pytest.mark.parametrize("interleaved", [False, True])
def test_rotation_multiplies_by_complex_numbers(
    interleaved: bool, rng: np.random.Generator
) -> None:
    x, at = rng.standard_normal((5, 2, 12)), np.array([0, 1, 7, 300, 2**31])
    pair = np.s_[..., 0::2], np.s_[..., 1::2]
    if not interleaved:
        pair = np.s_[..., :6], np.s_[..., 6:]
    rate = 1e4 ** (-np.arange(6) / 6)
    want = (x[pair[0]] + 1j * x[pair[1]]) * np.exp(1j * at[:, None, None] * rate)
    got = reference.rotate(x, at, 1e4, interleaved)
    np.testing.assert_allclose(got[pair[0]], want.real, atol=1e-6)
    np.testing.assert_allclose(got[pair[1]], want.imag, atol=1e-6)


def test_interleaved_pairs(rng: np.random.Generator) -> None:
    qkv = three(rng, 1, 7, 2, 12)
    state = attention.fresh(4, 2, 12, tokens=7)
    got = run(qkv, 4, [7], state, 100.0, True)
    assert close("attention", got, reference.windowed(*qkv, 4, base=100.0, interleaved=True))


def test_large_scores_stay_finite(rng: np.random.Generator) -> None:
    q, k, v = (floats(rng, 1, 6, 1, 16) for _ in range(3))
    got = run((q * 1e4, k * 1e4, v), 4, [6], attention.fresh(4, 1, 16, tokens=6))
    assert close("attention", got, reference.windowed(q * 1e4, k * 1e4, v, 4))


def test_scores_that_fall_by_hundreds_from_key_to_key() -> None:
    """The largest score is among the first keys, which are summed apart from the last."""
    rng = np.random.default_rng(8)
    q, k, v = (floats(rng, 1, 300, 1, 16) for _ in range(3))
    q[:], k[:] = 1.0, -np.arange(300)[:, None, None]
    got = run((q, k, v), 300, [100] * 3, attention.fresh(300, 1, 16, tokens=100))
    assert close("attention", got, reference.windowed(q, k, v, 300))


def test_keys_whose_scores_are_minus_inf_count_for_nothing() -> None:
    rng = np.random.default_rng(9)
    q, k, v = (floats(rng, 1, 200, 1, 16) for _ in range(3))
    q[:], k[:, :150] = 1e30, -1e30
    k[:, 150:] = 0.0
    with np.errstate(over="ignore"):
        got = run((q, k, v), 140, [50] * 4, attention.fresh(140, 1, 16, tokens=50))
    assert (got[:, :150] == 0).all()
    for t in (150, 199):
        np.testing.assert_allclose(got[0, t], v[0, 150 : t + 1].mean(0), atol=1e-6)


@pytest.mark.parametrize(("H", "KV"), [(4, 4), (6, 2)])
def test_cross_attention(H: int, KV: int, rng: np.random.Generator) -> None:
    q, k, v = floats(rng, 3, 2, H, 24), floats(rng, 3, 19, KV, 24), floats(rng, 3, 19, KV, 24)
    lengths = np.array([19, 0, 7])
    memory = attention.remember(k, v, lengths)
    out = np.full(q.shape, np.nan, np.float32)
    attention.cross(q, memory, out=out)
    assert close("attention", out, reference.cross(q, k, v, lengths))
    assert (out[1] == 0).all()


def test_bad_input_is_named(rng: np.random.Generator) -> None:
    q = floats(rng, 1, 4, 2, 8)
    state = attention.fresh(14, 2, 8)
    with pytest.raises(ShapeError, match=r"window 14 and 4 new ones need 17.*tokens=4"):
        attention.step(q, q, q, state, 14)
    state = attention.fresh(4, 2, 8, tokens=4)
    with pytest.raises(ShapeError, match=r"k has shape \[1, 4, 2, 6\]"):
        attention.step(q, np.ascontiguousarray(q[..., :6]), q, state, 4)
    more = floats(rng, 1, 4, 3, 8)
    with pytest.raises(ShapeError, match="q has 2 heads and k has 3"):
        attention.step(q, more, more, attention.fresh(4, 3, 8, tokens=4), 4)
    with pytest.raises(RangeError, match="window is 0"):
        attention.step(q, q, q, state, 0)
    odd = floats(rng, 1, 1, 1, 7)
    with pytest.raises(RangeError, match="W = 7"):
        attention.step(odd, odd, odd, attention.fresh(4, 1, 7), 4, rotary_base=10.0)
    with pytest.raises(DtypeError, match="active"):
        attention.step(q, q, q, state, 4, active=np.ones(1, np.int64))
    with pytest.raises(RangeError, match="lengths are 5 to 5"):
        attention.remember(q, q, np.array([5]))
    with pytest.raises(RangeError, match="width is 300"):
        attention.fresh(4, 1, 300)
