from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ossicle.runtime.errors import AudioError
from ossicle.streaming.separation.chunked import Windows, separate_windows


def noise(length: int, channels: int = 1) -> NDArray[np.float32]:
    rng = np.random.default_rng(length)
    return rng.standard_normal((channels, length)).astype(np.float32)


@given(
    st.integers(0, 700), st.integers(20, 200), st.integers(0, 9), st.integers(0, 5),
    st.integers(1, 2),
)  # fmt: skip
def test_a_network_that_changes_nothing_leaves_no_seam(
    length: int, window: int, fade: int, margin: int, channels: int
) -> None:
    x = noise(length, channels)
    y = separate_windows(x, lambda piece: piece, Windows(window, fade, margin))
    assert y.shape == x.shape
    np.testing.assert_allclose(y, x, atol=1e-6)


@given(st.integers(1, 100))
def test_what_fits_in_a_window_is_one_call_and_exact(length: int) -> None:
    calls = []

    def network(piece: NDArray[np.float32]) -> NDArray[np.float32]:
        calls.append(piece.shape)
        return np.flip(piece, axis=1) * 0.3

    x = noise(length)
    y = separate_windows(x, network, Windows(100, 10))
    assert calls == [(1, length)]
    np.testing.assert_array_equal(y, np.flip(x, axis=1) * np.float32(0.3))


@given(st.integers(101, 5000))
def test_no_second_is_computed_more_often_than_the_fade_needs(length: int) -> None:
    windows = Windows(100, 10)
    fed = 0

    def network(piece: NDArray[np.float32]) -> NDArray[np.float32]:
        nonlocal fed
        fed += piece.shape[1]
        return piece

    separate_windows(noise(length), network, windows)
    assert fed == round(windows.work(length) * length)
    assert fed <= length / windows.stride * 100 + 100


def test_margins_hide_what_a_network_does_at_its_edges() -> None:
    def network(piece: NDArray[np.float32]) -> NDArray[np.float32]:
        out = piece.copy()
        out[:, :5] = 100.0
        out[:, -5:] = 100.0
        return out

    x = noise(300)
    y = separate_windows(x, network, Windows(60, 10, 5))
    np.testing.assert_allclose(y[:, 5:-5], x[:, 5:-5], atol=1e-6)


def test_two_windows_that_disagree_are_cross_faded_without_a_click() -> None:
    values = iter([0.0, 1.0])
    y = separate_windows(noise(180), lambda p: np.full_like(p, next(values)), Windows(100, 20))
    assert np.all(np.diff(y[0]) >= 0)
    assert np.abs(np.diff(y[0])).max() < 0.09


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(AudioError, match="longer than fade"):
        Windows(20, 10, 5)
    with pytest.raises(AudioError, match="negative"):
        Windows(20, -1)
    with pytest.raises(AudioError, match="same T"):
        separate_windows(noise(50), lambda p: p[:, :-1], Windows(20, 2))
    with pytest.raises(AudioError, match=r"\[C, T\]"):
        separate_windows(noise(5)[0], lambda p: p, Windows(20, 2))
