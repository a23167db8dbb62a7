from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ossicle.runtime import snapshot
from ossicle.streaming.separation.buzz import BuzzGuard, BuzzState

Signal = NDArray[np.float32]


def buzz(pitch_hz: float, seconds: float = 1.024, seed: int = 0) -> Signal:
    """Every harmonic between 250 Hz and 5 kHz, at random phases."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * 16_000)) / 16_000
    x = np.zeros(len(t))
    for k in range(int(250 / pitch_hz) + 1, int(5000 / pitch_hz)):
        x += rng.uniform(0.3, 1) * np.sin(2 * np.pi * pitch_hz * k * t + rng.uniform(0, 6.28))
    return (0.05 * x / x.std()).astype(np.float32)


def behind(dry: Signal, wet: Signal) -> Signal:
    guard = BuzzGuard()
    state = guard.open()
    cuts = range(0, len(dry), 128)
    parts = [guard.step(state, dry[a : a + 128], dry[a : a + 128], wet[a : a + 128]) for a in cuts]
    return np.concatenate(parts)


def kept_db(y: Signal, x: Signal) -> float:
    """Level of what is left of ``x`` in ``y``."""
    return float(20 * np.log10(abs(np.dot(y, x)) / np.dot(x, x) + 1e-9))


@settings(max_examples=12, deadline=None)
@given(st.floats(49.0, 61.2) | st.floats(98.0, 122.4), st.integers(0, 99))
def test_a_buzzer_survives_an_enhancer_that_deletes_everything(pitch_hz: float, seed: int) -> None:
    x = buzz(pitch_hz, seed=seed)
    x = (x + 0.002 * np.random.default_rng(seed).standard_normal(len(x))).astype(np.float32)
    y = behind(x, np.zeros_like(x))
    assert kept_db(y, x) > -4.0
    assert kept_db(y[4096:], x[4096:]) > -2.6  # once it is believed: the amount, and no phase


def test_what_the_enhancer_kept_is_left_alone() -> None:
    x = buzz(50.0)
    np.testing.assert_allclose(behind(x, x), x, atol=1e-6)


@pytest.mark.parametrize("kind", ["noise", "tone", "voice", "silence"])
def test_what_is_no_buzzer_is_not_given_back(kind: str) -> None:
    t = np.arange(32_768) / 16_000
    if kind == "noise":
        x = 0.05 * np.random.default_rng(0).standard_normal(len(t))
    elif kind == "tone":
        x = 0.05 * np.sin(2 * np.pi * 880 * t)
    elif kind == "voice":  # a pitch that falls as in speech
        turn = np.cumsum(2 * np.pi * (120 - 15 * t) / 16_000)
        x = sum((0.02 * np.sin(k * turn) / k for k in range(1, 30)), np.zeros(len(t)))
    else:
        x = np.zeros(len(t))
    x = x.astype(np.float32)
    y = behind(x, np.zeros_like(x))
    assert float(np.square(y).mean()) <= 10**-1.5 * float(np.square(x).mean())


def test_it_ends_with_the_buzzer() -> None:
    x = np.concatenate([buzz(60.0, 0.512), np.zeros(8192, np.float32)])
    y = behind(x, np.zeros_like(x))
    assert float(np.abs(y[8192 + 4096 :]).max()) == 0.0


def test_the_state_travels() -> None:
    x, guard = buzz(100.0), BuzzGuard()
    state, nothing = guard.open(), np.zeros(128, np.float32)
    for at in range(0, 8192, 128):
        guard.step(state, x[at : at + 128], x[at : at + 128], nothing)
    copy = snapshot.load(snapshot.dump(state))
    assert isinstance(copy, BuzzState)
    rest = x[8192:8320]
    a, b = guard.step(state, rest, rest, nothing), guard.step(copy, rest, rest, nothing)
    np.testing.assert_array_equal(a, b)
    assert a.any()
